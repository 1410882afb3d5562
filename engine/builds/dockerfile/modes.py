"""``--chmod``: octal, or symbolic as chmod(1) has it (``u=rwX,go=rX``, ``a-w``, ``+x``, ``g=u``)."""

from __future__ import annotations

import re
from typing import Final

_OCTAL: Final = re.compile(r"[0-7]{1,5}")
_CLAUSE: Final = re.compile(r"([ugoa]*)((?:[-+=](?:[ugo]|[rwxXst]*))+)")
_ACTION: Final = re.compile(r"([-+=])([ugo]|[rwxXst]*)")
_WHO: Final = {"u": 0o4700, "g": 0o2070, "o": 0o0007}
_SHIFT: Final = {"u": 6, "g": 3, "o": 0}
_STICKY: Final = 0o1000


def check_mode(text: str) -> None:
    """ValueError with BuildKit's sentence."""
    if _OCTAL.fullmatch(text) and int(text, 8) <= 0o7777:
        return
    if len(text) > 100 or not all(_CLAUSE.fullmatch(clause) for clause in text.split(",")):
        raise ValueError(f"invalid chmod parameter: '{text[:100]}'. it should be octal string and between 0 and 07777")


def changed(text: str, mode: int, is_folder: bool) -> int:
    """The permission bits (07777) that a file of ``mode`` gets; ``text`` has passed ``check_mode``."""
    if _OCTAL.fullmatch(text):
        return int(text, 8)
    mode &= 0o7777
    for clause in text.split(","):
        found = _CLAUSE.fullmatch(clause)
        assert found is not None
        who = set(found[1]) - {"a"} if found[1] and "a" not in found[1] else set("ugo")
        for sign, letters in _ACTION.findall(found[2]):
            mode = _applied(mode, who, sign, letters, is_folder=is_folder)
    return mode


def _applied(mode: int, who: set[str], sign: str, letters: str, *, is_folder: bool) -> int:
    reach = sum(_WHO[each] for each in who) | (_STICKY if len(who) == 3 else 0)
    bits = _bits(mode, letters, is_folder) & reach
    if sign == "+":
        return mode | bits
    if sign == "-":
        return mode & ~bits
    kept = mode & 0o7000 if is_folder else 0  # as chmod(1): = leaves set-id bits of folders alone
    return (mode & ~(reach & 0o777 if is_folder else reach)) | bits | (kept & ~0o777)


def _bits(mode: int, letters: str, is_folder: bool) -> int:
    if letters in _SHIFT and letters:
        return (mode >> _SHIFT[letters] & 7) * 0o111
    bits = 0
    for letter in letters:
        bits |= {
            "r": 0o444, "w": 0o222, "x": 0o111, "s": 0o6000, "t": _STICKY, "X": 0o111 if is_folder or mode & 0o111 else 0,
        }[letter]  # fmt: skip
    return bits
