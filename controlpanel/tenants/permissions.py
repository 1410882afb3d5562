"""The one permission check: which role may do which verb, and which of them a token or certificate was made for. Nothing else in the
panel decides this.

viewer     sees everything in the tenant, changes nothing
operator   keeps what is there running: start, stop, kill; makes and removes nothing
developer  makes and removes containers, images and networks
admin      people, tokens, certificates
owner      everything in the tenant; only owners make owners
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from controlpanel.tenants import attempts
from controlpanel.tenants.actor import Actor, Role
from engine.errors import InvalidArgument, PermissionDenied

_OWNER: Final = frozenset({Role.OWNER})
_ADMINS: Final = _OWNER | {Role.ADMIN}
_DEVELOPERS: Final = _ADMINS | {Role.DEVELOPER}
_OPERATORS: Final = _DEVELOPERS | {Role.OPERATOR}
_EVERYONE: Final = _OPERATORS | {Role.VIEWER}

VERBS: Final[dict[str, frozenset[Role]]] = {
    "tenant.view": _EVERYONE,
    "project.view": _EVERYONE,
    "project.quota": _ADMINS,
    "container.view": _EVERYONE,  # list, inspect, logs, stats, top, events, wait
    "container.create": _DEVELOPERS,
    "container.start": _OPERATORS,
    "container.stop": _OPERATORS,
    "container.pause": _OPERATORS,
    "container.update": _DEVELOPERS,
    "container.rules": _DEVELOPERS,  # allow-lists
    "container.bandwidth": _DEVELOPERS,
    "container.restart": _OPERATORS,
    "container.kill": _OPERATORS,
    "container.rename": _DEVELOPERS,
    "container.remove": _DEVELOPERS,
    "container.prune": _DEVELOPERS,
    "container.attach": _DEVELOPERS,  # writing to its terminal is running commands in it
    "container.exec": _DEVELOPERS,
    "container.files_read": _DEVELOPERS,  # cp out, export, changes, diff: files hold secrets that a log does not
    "container.files_write": _DEVELOPERS,
    "container.commit": _DEVELOPERS,
    "image.view": _EVERYONE,
    "image.load": _DEVELOPERS,
    "image.build": _DEVELOPERS,
    "image.pull": _DEVELOPERS,
    "image.push": _DEVELOPERS,
    "image.save": _DEVELOPERS,  # an image's files, as container.files_read
    "image.tag": _DEVELOPERS,
    "image.remove": _DEVELOPERS,
    "image.prune": _DEVELOPERS,
    "network.view": _EVERYONE,
    "network.create": _DEVELOPERS,
    "network.remove": _DEVELOPERS,
    "network.connect": _DEVELOPERS,  # and disconnect
    "network.rules": _DEVELOPERS,
    "network.prune": _DEVELOPERS,
    "volume.view": _EVERYONE,
    "volume.create": _DEVELOPERS,
    "volume.remove": _DEVELOPERS,
    "volume.rename": _DEVELOPERS,
    "volume.clone": _DEVELOPERS,
    "volume.resize": _DEVELOPERS,
    "volume.snapshot": _DEVELOPERS,  # take one, return to one, remove one
    "volume.files_read": _DEVELOPERS,  # as container.files_read
    "volume.files_write": _DEVELOPERS,
    "volume.prune": _DEVELOPERS,
    "member.view": _EVERYONE,
    "member.add": _ADMINS,
    "member.remove": _ADMINS,
    "token.view": _ADMINS,
    "token.create": _ADMINS,
    "token.revoke": _ADMINS,
    "certificate.view": _ADMINS,
    "certificate.create": _ADMINS,
    "certificate.revoke": _ADMINS,
    "audit.view": _ADMINS,
}

PLATFORM_VERBS: Final = frozenset(
    {
        "tenant.create",
        "tenant.delete",
        "tenant.restore",
        "tenant.limits",
        "tenant.policy",
        "tenant.list",
        "user.create",
        "user.password",
        "user.list",
        "host.view",
        "audit.all",
        "tenant.impersonate",
    }
)


IN_PERSON: Final = frozenset(
    {"member.add", "member.remove", "token.create", "token.revoke", "certificate.create", "certificate.revoke"}
)  # it would outlast an operator's visit


def may(actor: Actor, verb: str) -> bool:
    if verb in PLATFORM_VERBS:
        return actor.operator
    if actor.behind is not None and verb in IN_PERSON:
        return False
    return actor.tenant is not None and actor.role in VERBS[verb] and (actor.verbs is None or verb in actor.verbs)


def require(actor: Actor, verb: str) -> None:
    """PermissionDenied, naming the rule, unless the actor may. An unknown verb is our mistake: KeyError."""
    attempts.begin(actor, verb)
    if may(actor, verb):
        return
    if verb in PLATFORM_VERBS:
        raise PermissionDenied(f"only operators of the platform may do {verb}", rule=verb)
    if actor.behind is not None and verb in IN_PERSON:
        raise PermissionDenied(f"an operator who acts as a member may not do {verb}: it would outlast the visit", rule="impersonation")
    if actor.verbs is not None and actor.role in VERBS[verb]:
        raise PermissionDenied(f"{actor.name} may not do {verb}: it was made for {_some(actor.verbs)} alone", rule=verb)
    allowed = ", ".join(role.value for role in Role if role in VERBS[verb])
    role = actor.role.value if actor.role else "nobody"
    raise PermissionDenied(f"role {role} may not do {verb}: it takes one of {allowed}", rule=verb, role=role)


def verbs_of(actor: Actor) -> frozenset[str]:
    """Everything that the actor may do in the tenant."""
    return frozenset(verb for verb in VERBS if may(actor, verb))


def parse_verbs(words: Iterable[str], role: Role) -> list[str]:
    """Sorted; ``container.*`` is all of a kind that the role may do. InvalidArgument for what is not there, or not the role's."""
    found: set[str] = set()
    for word in words:
        kind, _, rest = word.partition(".")
        if rest == "*" and (those := {verb for verb, roles in VERBS.items() if verb.startswith(f"{kind}.") and role in roles}):
            found |= those
        elif word not in VERBS:
            raise InvalidArgument(f"there is no verb {word!r}: there are {', '.join(sorted(VERBS))}; and container.* for all of a kind")
        elif role not in VERBS[word]:
            raise InvalidArgument(f"role {role.value} may not do {word}: give a role that may, or leave the verb out")
        else:
            found.add(word)
    return sorted(found)


def _some(verbs: frozenset[str]) -> str:
    shown = sorted(verbs)[:8]
    return ", ".join(shown) + (f" and {len(verbs) - len(shown)} more" if len(verbs) > len(shown) else "")
