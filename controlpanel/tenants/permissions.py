"""The one permission check: which role may do which verb (verbs.py), where it holds, and which of it a token or certificate was made for.
Nothing else in the panel decides this.

A tenant's own roles (tenants.roles) are other sets of the same verbs. A role holds in the whole tenant or in one project, and what an actor
may do is the union of all that it has (Actor.held). Who asks ``require(actor, verb)`` learns that there is a place where it may; whoever
then finds the object asks ``sight`` for which ones the actor knows of, and ``check_place`` whether the verb holds where this one is.
So the projections of containers, volumes and networks do it once for every door.

Nothing is read for it: 1 µs for who has one of the five roles, 50 with a hundred grants [m].
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from controlpanel.tenants import attempts
from controlpanel.tenants.actor import Actor, Held, Role
from controlpanel.tenants.verbs import IN_PERSON, OF_TENANT, PLATFORM_VERBS, VERBS, some, verbs_of_role
from engine.errors import InvalidArgument, PermissionDenied

LABEL: Final = "com.docker.compose.project"  # puts an object into a project (tenants.projects)
_SHOWN: Final = 4  # roles in a sentence

Places = frozenset[str]  # names of projects


def where(actor: Actor, verb: str) -> Places | None:
    """The projects in which the actor may do it; None: in the whole tenant, whatever belongs to a project or to none."""
    if actor.tenant is None or not _is_left(actor, verb):
        return frozenset()
    whole = actor.role in VERBS[verb] or any(not each.project and verb in each.verbs for each in actor.held)
    if whole and not actor.project:
        return None
    if verb in OF_TENANT:
        return frozenset()
    if whole:
        return frozenset((actor.project,))
    places = frozenset(each.project for each in actor.held if each.project and verb in each.verbs)
    return places & {actor.project} if actor.project else places


def may(actor: Actor, verb: str, project: str | None = None) -> bool:
    """``project``: where; "" = of none; None: anywhere."""
    if verb in PLATFORM_VERBS:
        return actor.operator
    places = where(actor, verb)
    return places is None or (bool(places) if project is None else project in places)


def require(actor: Actor, verb: str, project: str | None = None) -> None:
    """PermissionDenied, naming the rule and whose it is, unless the actor may. An unknown verb is our mistake: KeyError."""
    attempts.begin(actor, verb)
    if not may(actor, verb, project):
        raise refusal(actor, verb, project)


def sight(actor: Actor, kind: str) -> Callable[[str], bool] | None:
    """Whether the actor knows of a container, volume or network (``kind``) in the project of that name; None: of all. What may be done
    to a thing may be looked up for it."""
    if actor.is_plain:
        return None
    seen, verb = where(actor, f"{kind}.view"), attempts.verb()
    acted = where(actor, verb) if _is_act(verb) else frozenset()
    return None if seen is None or acted is None else (seen | acted).__contains__


def check_place(actor: Actor, project: str) -> None:
    """Of an object that was found for what the request tries: PermissionDenied unless that holds in its project, too."""
    if not actor.is_plain and _is_act(verb := attempts.verb()) and not may(actor, verb, project):
        raise refusal(actor, verb, project)


def _is_act(verb: str) -> bool:
    return verb in VERBS and not verb.endswith(".view")


def verbs_of(actor: Actor) -> frozenset[str]:
    """Everything that the actor may do in the whole tenant."""
    return frozenset(verb for verb in VERBS if where(actor, verb) is None)


def loses(before: Actor, now: Actor) -> bool:
    """Whether there is anything that one could do and the other can't, anywhere."""
    for verb in VERBS:
        was, places = where(before, verb), where(now, verb)
        if places is not None and (was is None or not was <= places):
            return True
    return False


def check_no_more(actor: Actor, verbs: Iterable[str], what: str) -> None:
    """Nobody gives what he has not: PermissionDenied for verbs that the actor may not do in the whole tenant."""
    if more := sorted(set(verbs) - verbs_of(actor)):
        raise PermissionDenied(f"{what} would have more than {actor.label} may: {some(frozenset(more))}", rule="role.more")


# -- why ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Verdict:
    """``by``: the roles that allow it there, or of a refusal all that the actor has."""

    allowed: bool
    sentence: str
    by: tuple[Held, ...]


def explain(actor: Actor, verb: str, project: str | None = None) -> Verdict:
    """Which role allows it, or the sentence of the refusal. InvalidArgument for a verb that there is not."""
    if verb not in VERBS:
        raise InvalidArgument(f"there is no verb {verb!r}: there are {', '.join(sorted(VERBS))}")
    if not may(actor, verb, project):
        return Verdict(False, refusal(actor, verb, project).message, _all(actor))
    by = tuple(each for each in _all(actor) if _gives(each, verb) and project in (None, each.project or project))
    return Verdict(True, f"allowed: rule {verb} of {_listed(actor, by)}", by)


def refusal(actor: Actor, verb: str, project: str | None = None) -> PermissionDenied:
    """Why ``may`` says no, for whoever asked and whoever can change it."""
    if verb in PLATFORM_VERBS:
        return PermissionDenied(f"only operators of the platform may do {verb}", rule=verb)
    if actor.behind is not None and verb in IN_PERSON:
        return PermissionDenied(f"an operator who acts as a member may not do {verb}: it would outlast the visit", rule="impersonation")
    has = _all(actor)
    giving = tuple(each for each in has if verb in each.verbs)
    role = ", ".join(sorted({each.role for each in has})) or "nobody"
    return PermissionDenied(f"denied: rule {verb}{_reason(actor, verb, project, has, giving)}", rule=verb, role=role)


def _reason(actor: Actor, verb: str, project: str | None, has: tuple[Held, ...], giving: tuple[Held, ...]) -> str:
    tenant = actor.tenant.name if actor.tenant is not None else "none"
    if not has:
        return f": {actor.label} holds no role in tenant {tenant}"
    if not giving:
        fits = ", ".join(role.value for role in Role if role in VERBS[verb])
        return f" of {_listed(actor, has)}: it takes one of {fits}, or a role with this verb"
    if actor.verbs is not None and verb not in actor.verbs:
        return f" of {actor.name}: it was made for {some(actor.verbs)} alone"
    if actor.project and (verb in OF_TENANT or project != actor.project):
        there = "" if verb in OF_TENANT else _cure(verb, {actor.project})
        return f" of {actor.name}: it was made for project {actor.project} alone{there}"
    if verb in OF_TENANT:
        return f" of {_listed(actor, giving)}: it concerns the whole tenant, and takes a role there"
    return f" of {_listed(actor, giving)}: it holds there alone{_cure(verb, {each.project for each in giving})}"


def _cure(verb: str, projects: set[str]) -> str:
    """What is made belongs to a project by its label, which somebody may just have left out."""
    if not verb.endswith((".create", ".build")):
        return ""
    return f"; what is made there carries the label {' or '.join(f'{LABEL}={name}' for name in sorted(projects))}"


def _is_left(actor: Actor, verb: str) -> bool:
    """After what a key, or a visit, takes away."""
    return (actor.verbs is None or verb in actor.verbs) and not (actor.behind is not None and verb in IN_PERSON)


def _gives(held: Held, verb: str) -> bool:
    return verb in held.verbs and not (held.project and verb in OF_TENANT)


def _all(actor: Actor) -> tuple[Held, ...]:
    if actor.tenant is None:
        return ()
    own = (Held(role=actor.role.value, verbs=verbs_of_role(actor.role)),) if actor.role is not None else ()
    return own + actor.held


def _listed(actor: Actor, held: Iterable[Held]) -> str:
    """``role viewer (granted to group students at project web)``."""
    tenant, held, words = actor.tenant.name if actor.tenant is not None else "", tuple(held), []
    for each in held[:_SHOWN]:
        whom = f"group {each.group}" if each.group else actor.user.username if actor.user is not None else actor.label
        words.append(f"role {each.role} (granted to {whom} at {f'project {each.project}' if each.project else f'tenant {tenant}'})")
    more = len(held) - _SHOWN
    return " and of ".join(words) + (f" and of {more} more" if more > 0 else "")
