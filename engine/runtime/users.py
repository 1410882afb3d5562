"""``--user`` against an image's own passwd(5) and group(5), with moby's rules and sentences. Pure: the texts come in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from engine.errors import InvalidArgument

PASSWD: Final = "/etc/passwd"
GROUP: Final = "/etc/group"
DATABASE_MAX: Final = 1 << 20  # bytes of them that are looked at
_LARGEST_ID: Final = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class User:
    """``groups`` begins with the primary one, as moby does since CVE-2022-36109. ``home`` "" = passwd doesn't know."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def find(words: str, read: Callable[[str], str], *, more: Sequence[str] = ()) -> User:
    """``resolve`` where ``read`` gives a file's text, "" when there is none."""
    return resolve(words, passwd=read(PASSWD), group=read(GROUP), more=more)


def resolve(words: str, *, passwd: str, group: str, more: Sequence[str] = ()) -> User:
    """``""`` (uid 0), ``name``, ``uid``, ``name:group``, ``uid:gid``; ``more``: names or numbers of groups to be in as well.

    InvalidArgument when a name is not there.
    """
    user_word, _, group_word = words.partition(":")
    if user_word.startswith("-") and user_word[1:].isdecimal():
        raise InvalidArgument(f"uids and gids must be in range 0-{_LARGEST_ID}")
    name, uid, gid, home = _find_user(user_word or "0", passwd)
    if not name and not user_word.isdecimal() and user_word:
        raise InvalidArgument(f"unable to find user {user_word}: no matching entries in passwd file")
    if group_word:
        gid = _find_group(group_word, group)
        extra: list[int] = []
    else:
        extra = [number for _name, number, members in _groups(group) if name and name in members]
    extra += [_find_group(word, group) for word in more]
    for number in (uid, gid, *extra):
        if not 0 <= number <= _LARGEST_ID:
            raise InvalidArgument(f"uids and gids must be in range 0-{_LARGEST_ID}")
    return User(uid, gid, tuple(dict.fromkeys([gid, *extra])), home)


def home_of(uid: int, passwd: str) -> str:
    """Empty when passwd doesn't know the id."""
    return next((home for _name, number, _gid, home in _users(passwd) if number == uid), "")


def _find_user(word: str, passwd: str) -> tuple[str, int, int, str]:
    """A name may consist of digits: it wins when it comes first."""
    number = int(word) if word.isdecimal() else -1
    for name, uid, gid, home in _users(passwd):
        if name == word or uid == number:
            return name, uid, gid, home
    return "", number, 0, ""


def _find_group(word: str, group: str) -> int:
    number = int(word) if word.isdecimal() else -1
    for name, gid, _members in _groups(group):
        if name == word or gid == number:
            return gid
    if number < 0:
        raise InvalidArgument(f"unable to find group {word}: no matching entries in group file")
    return number


def _users(passwd: str) -> list[tuple[str, int, int, str]]:
    """name:password:uid:gid:gecos:home:shell; lines of another shape are passed over."""
    found = []
    for line in passwd.splitlines():
        parts = line.strip().split(":")
        if len(parts) >= 4 and parts[2].isdecimal() and parts[3].isdecimal():
            found.append((parts[0], int(parts[2]), int(parts[3]), parts[5] if len(parts) > 5 else ""))
    return found


def _groups(group: str) -> list[tuple[str, int, list[str]]]:
    """name:password:gid:member,member."""
    found = []
    for line in group.splitlines():
        parts = line.strip().split(":")
        if len(parts) >= 3 and parts[2].isdecimal():
            found.append((parts[0], int(parts[2]), parts[3].split(",") if len(parts) > 3 else []))
    return found
