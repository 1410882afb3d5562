"""The one permission check: which role may do which verb. Nothing else in the panel decides this.

viewer     sees everything in the tenant, changes nothing
operator   keeps what is there running: start, stop, kill; makes and removes nothing
developer  makes and removes containers and images
admin      people, tokens
owner      everything in the tenant; only owners make owners
"""

from __future__ import annotations

from typing import Final

from controlpanel.tenants.actor import Actor, Role
from engine.errors import PermissionDenied

_OWNER: Final = frozenset({Role.OWNER})
_ADMINS: Final = _OWNER | {Role.ADMIN}
_DEVELOPERS: Final = _ADMINS | {Role.DEVELOPER}
_OPERATORS: Final = _DEVELOPERS | {Role.OPERATOR}
_EVERYONE: Final = _OPERATORS | {Role.VIEWER}

VERBS: Final[dict[str, frozenset[Role]]] = {
    "tenant.view": _EVERYONE,
    "container.view": _EVERYONE,  # list, inspect, logs, stats, top, events, wait
    "container.create": _DEVELOPERS,
    "container.start": _OPERATORS,
    "container.stop": _OPERATORS,
    "container.pause": _OPERATORS,
    "container.update": _DEVELOPERS,
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
    "member.view": _EVERYONE,
    "member.add": _ADMINS,
    "member.remove": _ADMINS,
    "token.view": _ADMINS,
    "token.create": _ADMINS,
    "token.revoke": _ADMINS,
    "audit.view": _ADMINS,
}

PLATFORM_VERBS: Final = frozenset(
    {"tenant.create", "tenant.delete", "tenant.limits", "tenant.list", "user.create", "user.password", "user.list", "host.view"}
)


def may(actor: Actor, verb: str) -> bool:
    if verb in PLATFORM_VERBS:
        return actor.operator
    return actor.tenant is not None and actor.role in VERBS[verb]


def require(actor: Actor, verb: str) -> None:
    """PermissionDenied, naming the rule, unless the actor may. An unknown verb is our mistake: KeyError."""
    if may(actor, verb):
        return
    if verb in PLATFORM_VERBS:
        raise PermissionDenied(f"only operators of the platform may do {verb}", rule=verb)
    allowed = ", ".join(role.value for role in Role if role in VERBS[verb])
    role = actor.role.value if actor.role else "nobody"
    raise PermissionDenied(f"role {role} may not do {verb}: it takes one of {allowed}", rule=verb, role=role)
