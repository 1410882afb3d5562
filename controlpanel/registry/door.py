"""Who may what, for each request: the table of tenants.permissions, in the tenant that the repository's name begins with.

    who asks                                   reading                     pushing, deleting
    a member whose role may                    yes                         yes
    a member whose role may not                403 DENIED, with the rule   403 DENIED, with the rule
    somebody else, known                       404 NAME_UNKNOWN            404 NAME_UNKNOWN
    nobody in particular                       401                         401
    any of them, of a public repository        yes                         as above

    a member with a token of the service that was not given for it: 401, so that the client asks for another

The third and fourth line hold whether the repository is there or not, and for tenants that are not: the same work is done, and the same
words are said.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from controlpanel.base import database, precedence
from controlpanel.registry import queries, tokens
from controlpanel.registry.call import Call
from controlpanel.registry.errors import Refused
from controlpanel.registry.names import is_name, tenant_of
from controlpanel.registry.subjects import Subject
from controlpanel.tenants import rates, under_way
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.permissions import may, require
from engine.errors import PermissionDenied

T = TypeVar("T")

PULL: Final = "registry.pull"
PUSH: Final = "registry.push"
DELETE: Final = "registry.delete"
_SCOPES: Final = {PULL: "pull", PUSH: "pull,push", DELETE: "delete"}  # what a client must have asked the service for
CATALOG: Final = "registry:catalog:*"


def challenge(call: Call, scope: str = "", *, error: str = "", message: str = "") -> Refused:
    """401 with the way to the token service."""
    words = [f'realm="{call.origin}/v2/token"', f'service="{tokens.SERVICE}"']
    words += [f'scope="{scope}"'] if scope else []
    words += [f'error="{error}"'] if error else []
    return Refused("UNAUTHORIZED", message, headers={"WWW-Authenticate": "Bearer " + ",".join(words)})


def scope_of(call: Call) -> str:
    """What the request needs; "" when it is about no repository."""
    name = call.params.get("name", "")
    verb = PULL if call.method in ("GET", "HEAD") else DELETE if call.method == "DELETE" else PUSH
    return _scope(name, verb) if is_name(name) else ""


def spend(call: Call) -> None:
    """RateLimited. Nobodies are told apart by their addresses."""
    subject = call.subject
    rates.spend(subject.credential or ("address", subject.address))


async def read(call: Call, name: str, query: Callable[..., T], *words: Any, **more: Any) -> T:
    """``query(name, *words, public_only=…)`` in a reader thread, for who may pull from the repository."""
    refusal = await may_pull(call, name)
    try:
        return await database.read(query, name, *words, public_only=refusal is not None, **more)
    except Refused as error:
        if refusal is not None and error.code == "NAME_UNKNOWN":
            raise refusal from None
        raise


async def may_pull(call: Call, name: str) -> Refused | PermissionDenied | None:
    """None: the tenant's own. Else what to raise unless the repository is public."""
    subject = call.subject
    if not subject.is_known:
        return challenge(call, _scope(name, PULL))
    actor = await subject.actor_in(tenant_of(name))
    if actor is None:
        return Refused("NAME_UNKNOWN", name=name)
    try:
        require(actor, PULL)
    except PermissionDenied as error:
        return error
    await _enter(call, actor)
    return _too_narrow(call, name, PULL)


async def admit(call: Call, name: str, verb: str) -> Actor:
    """Who may do ``verb`` in the repository's tenant."""
    if not call.subject.is_known:
        raise challenge(call, _scope(name, verb))
    actor = await call.subject.actor_in(tenant_of(name))
    if actor is None:
        raise Refused("NAME_UNKNOWN", name=name)
    require(actor, verb)
    if (narrow := _too_narrow(call, name, verb)) is not None:
        raise narrow
    await _enter(call, actor)
    return actor


async def _enter(call: Call, actor: Actor) -> None:
    under_way.follow(call.scope, actor)
    await precedence.of_loop().enter(actor.tenant_number)


async def mounts_public_only(call: Call, name: str) -> bool:
    """What may be mounted from a repository: all that it has, or what everybody may pull."""
    actor, claims = await call.subject.actor_in(tenant_of(name)), call.subject.claims
    return actor is None or not may(actor, PULL) or (claims is not None and not claims.allows(name, "pull"))


def _too_narrow(call: Call, name: str, verb: str) -> Refused | None:
    """For a token of the service that was not given for this."""
    claims = call.subject.claims
    if claims is None or claims.allows(name, verb.partition(".")[2]):
        return None
    return challenge(call, _scope(name, verb), error="insufficient_scope")


def _scope(name: str, verb: str) -> str:
    return f"repository:{name}:{_SCOPES[verb]}"


async def tenants(call: Call) -> list[int]:
    """Whose repositories the catalog shows."""
    subject = call.subject
    if not subject.is_known:
        raise challenge(call, CATALOG)
    if subject.claims is not None and not subject.claims.allows_catalog:
        raise challenge(call, CATALOG, error="insufficient_scope")
    return await subject.tenants()


async def granted(subject: Subject, kind: str, name: str, actions: frozenset[str]) -> frozenset[str]:
    """Of what is asked for, what the subject may: the token service gives that and says nothing of the rest."""
    if (kind, name) == ("registry", "catalog"):
        return actions & {"*"} if subject.is_known else frozenset()
    if kind != "repository":
        return frozenset()
    wanted = actions | ({"pull", "push", "delete"} if "*" in actions else frozenset())
    actor = await subject.actor_in(tenant_of(name))
    found = {verb.partition(".")[2] for verb in (PULL, PUSH, DELETE) if actor is not None and may(actor, verb)}
    if "pull" in wanted and "pull" not in found and await database.read(queries.is_public, name):
        found.add("pull")
    return frozenset(wanted & found)
