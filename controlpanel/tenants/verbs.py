"""The verbs there are, and which of the five roles may which. What is made of it is permissions.py's.

viewer     sees everything in the tenant, changes nothing
operator   keeps what is there running: start, stop, kill; makes and removes nothing
developer  makes and removes containers, images and networks
admin      people, roles, tokens, certificates
owner      everything in the tenant; only owners make owners
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from controlpanel.tenants.actor import Role
from engine.errors import InvalidArgument

_OWNER: Final = frozenset({Role.OWNER})
_ADMINS: Final = _OWNER | {Role.ADMIN}
_DEVELOPERS: Final = _ADMINS | {Role.DEVELOPER}
_OPERATORS: Final = _DEVELOPERS | {Role.OPERATOR}
_EVERYONE: Final = _OPERATORS | {Role.VIEWER}

VERBS: Final[dict[str, frozenset[Role]]] = {
    "tenant.view": _EVERYONE,
    "usage.view": _EVERYONE,  # what all its projects use together
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
    "registry.pull": _EVERYONE,  # manifests, blobs, tags of the tenant's own repositories; a public one's everybody reads
    "registry.push": _DEVELOPERS,
    "registry.delete": _DEVELOPERS,
    "registry.visibility": _ADMINS,  # what everybody may pull
    "registry.maintain": _ADMINS,  # rules of what stays and what is immutable, following them, emptying the trash
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
    "member.grant": _ADMINS,  # a role to a member or a group, in the tenant or in a project; and take it back
    "role.view": _EVERYONE,
    "role.create": _ADMINS,
    "role.change": _ADMINS,
    "role.remove": _ADMINS,
    "group.view": _EVERYONE,
    "group.create": _ADMINS,
    "group.change": _ADMINS,  # who is in it
    "group.remove": _ADMINS,
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
    {
        *("member.add", "member.remove", "member.grant", "role.create", "role.change", "role.remove"),
        *("group.create", "group.change", "group.remove"),
        *("token.create", "token.revoke", "certificate.create", "certificate.revoke"),
    }
)  # it would outlast an operator's visit

OF_TENANT: Final = frozenset(
    {
        *(verb for verb in VERBS if verb.startswith(("member.", "role.", "group.", "token.", "certificate.", "audit."))),
        *("usage.view", "project.quota", "image.remove", "image.prune", "registry.delete", "registry.visibility", "registry.maintain"),
    }
)  # what a role gives in the whole tenant alone: people, keys, the log, its sums, and removing images, which belong to no project


def verbs_of_role(role: Role) -> frozenset[str]:
    return _BUILT_IN[role]


_BUILT_IN: Final = {role: frozenset(verb for verb, roles in VERBS.items() if role in roles) for role in Role}


def parse_verbs(words: Iterable[str], allowed: frozenset[str] | None = None, *, of: str = "") -> list[str]:
    """Sorted; ``container.*`` is all of a kind that is ``allowed``: what the role ``of`` may, all when None. InvalidArgument for what is
    not there, or not the role's."""
    allowed = frozenset(VERBS) if allowed is None else allowed
    found: set[str] = set()
    for word in words:
        kind, _, rest = word.partition(".")
        if rest == "*" and (those := {verb for verb in allowed if verb.startswith(f"{kind}.")}):
            found |= those
        elif word not in VERBS:
            raise InvalidArgument(f"there is no verb {word!r}: there are {', '.join(sorted(VERBS))}; and container.* for all of a kind")
        elif word not in allowed:
            raise InvalidArgument(f"role {of} may not do {word}: give a role that may, or leave the verb out")
        else:
            found.add(word)
    return sorted(found)


def some(verbs: frozenset[str]) -> str:
    shown = sorted(verbs)[:8]
    return ", ".join(shown) + (f" and {len(verbs) - len(shown)} more" if len(verbs) > len(shown) else "")
