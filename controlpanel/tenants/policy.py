"""What a tenant may have beyond a plain container: one policy each, which operators of the platform change. PURE.

What may reach further than the tenant's own containers is denied until it is allowed; four capabilities end at the container's own
namespaces and are everybody's, for images of every day ask for them. Registries, and ports and addresses of the host, are everybody's until
somebody says which. What root of a host grants there (engine.ceilings) is above all of it: the host looks itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from engine.errors import InvalidArgument
from engine.model import codec, grants
from engine.model.grants import ALL, EVERYTHING, Words


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Switches, and lists in the words of engine.model.grants."""

    privileged: bool = False  # every capability of the user namespace, no filter, nothing hidden of /proc and /sys
    host_network: bool = False
    seccomp: bool = False  # no filter, or one of its own in place of the platform's
    new_privileges: bool = True  # by set-user-id programs; denied: no container can gain any
    capabilities: Words = ("NET_ADMIN", "SYS_PTRACE", "SYS_NICE", "IPC_LOCK")  # what VPNs, debuggers and databases ask for
    devices: Words = ()
    registries: Words = EVERYTHING
    ports: Words = EVERYTHING
    addresses: Words = EVERYTHING

    def to_json(self) -> dict[str, Any]:
        """What differs from everybody's."""
        return {name: value for name, value in codec.to_json(self).items() if value != _DEFAULT_WORDS[name]}

    def words(self, item: str) -> str:
        return spelled(getattr(self, item))


DEFAULT: Final = Policy()
_DEFAULT_WORDS: Final = codec.to_json(DEFAULT)
ITEMS: Final = tuple(each.name for each in fields(Policy))
SWITCHES: Final = frozenset(name for name in ITEMS if isinstance(getattr(DEFAULT, name), bool))


def spelled(value: bool | Iterable[str]) -> str:
    """``yes``, ``no``, ``all``, ``none``, or the list."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(value) or "none"


def read(words: Mapping[str, Any]) -> Policy:
    """What ``to_json`` wrote."""
    return codec.from_json(Policy, words) if words else DEFAULT


def with_values(policy: Policy, values: Mapping[str, bool | Iterable[str]]) -> Policy:
    """Other values for some items. InvalidArgument for words that mean nothing."""
    checked = {name: value if isinstance(value, bool) else grants.checked(name, value) for name, value in values.items()}
    return replace(policy, **checked)


def changed(policy: Policy, *, allow: Iterable[str] = (), deny: Iterable[str] = ()) -> Policy:
    """First what is denied, then what is allowed: ``privileged``, ``capabilities=NET_ADMIN``; a list without a word is all of it."""
    for item, word in map(_split, deny):
        present = getattr(policy, item)
        if item in SWITCHES or not word:
            policy = replace(policy, **{item: False if item in SWITCHES else ()})
        elif ALL in present:
            raise InvalidArgument(f"all {item} are allowed: deny {item} first, and allow those that may be")
        else:
            gone = grants.key(item, grants.CHECKS[item](word))
            policy = replace(policy, **{item: tuple(each for each in present if grants.key(item, each) != gone)})
    for item, word in map(_split, allow):
        present = getattr(policy, item)
        value = True if item in SWITCHES else grants.checked(item, (*present, word)) if word else EVERYTHING
        policy = replace(policy, **{item: value})
    return policy


def _split(words: str) -> tuple[str, str]:
    item, equals, word = words.partition("=")
    item = item.removeprefix("policy.").replace("-", "_")
    if item not in ITEMS:
        raise InvalidArgument(f"there is no item {item!r} in a policy: there are {', '.join(ITEMS)}")
    if bool(equals) != bool(word) or (item in SWITCHES and word):
        form = item if item in SWITCHES else f"{item} or {item}=WORD"
        raise InvalidArgument(f"invalid item {words!r}: use {form}")
    return item, word


def difference(before: Policy, after: Policy) -> dict[str, tuple[Any, Any]]:
    """Item → values before and after, of those that are others."""
    pairs = {name: (getattr(before, name), getattr(after, name)) for name in ITEMS}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
