"""What the host remembers of the panel's audit chains, so that their ends cannot be cut off unseen.

    <data>/witness/<chain>      root:slipway 0640, one a chain (a tenant's number; 0 = the platform's)

        1764529200                   17 4f1c…9a\\n      unix time, number and hash of the newest record as it was then
        ╰ 12 ────╯ ╰ 20 ──────────────╯ ╰ 64 ╯        99 bytes a line

The panel tells its heads each minute. Within an hour the last line is written anew, then a new one begins: so whoever takes the panel over
can deny the records of the current hour at most. A head that is behind, or another one of the same number, is refused: the line
stays, and ``audit verify`` finds what does not agree. Only root writes here; copies of the folder elsewhere are worth more still.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final, NamedTuple

FOLDER: Final = "witness"
LINE: Final = 99
_HASH: Final = re.compile(r"[0-9a-f]{64}\Z")
_HOUR_S: Final = 3600
_NUMBER_MAX: Final = 2**63


class Head(NamedTuple):
    """The newest record of a chain, as it was at ``time_s``."""

    time_s: int
    number: int
    hash: str


def note(folder: Path, chain: int, number: int, hash: str, *, now_s: int) -> bool:
    """False when what is known already contradicts it, or when it is no head at all."""
    if not _is_head(chain, number, hash):
        return False
    fd = os.open(folder / str(chain), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    try:
        os.fchmod(fd, 0o640)
        whole = os.fstat(fd).st_size // LINE * LINE
        last = _parse(os.pread(fd, LINE, whole - LINE)) if whole else None
        if last is not None:
            if number < last.number or (number == last.number and hash != last.hash):
                return False
            if number == last.number:
                return True
            if now_s // _HOUR_S == last.time_s // _HOUR_S:
                whole -= LINE
        os.pwrite(fd, f"{now_s:>12} {number:>20} {hash}\n".encode(), whole)
        return True
    finally:
        os.close(fd)


def read(folder: Path, chain: int) -> list[Head]:
    """Oldest first; none of a chain that nobody told of. OSError when it may not be read."""
    try:
        data = (folder / str(chain)).read_bytes()
    except FileNotFoundError:
        return []
    lines = [data[at : at + LINE] for at in range(0, len(data) // LINE * LINE, LINE)]
    return [head for head in map(_parse, lines) if head is not None]


def chains(folder: Path) -> list[int]:
    """Those that somebody told of. OSError as ``read``."""
    return sorted(int(name) for name in os.listdir(folder) if name.isdecimal())


def _is_head(chain: object, number: object, hash: object) -> bool:
    """The panel's word is not taken for it: a chain becomes a file's name."""
    numbers = type(chain) is int and type(number) is int and 0 <= chain < _NUMBER_MAX and 0 < number < _NUMBER_MAX
    return numbers and type(hash) is str and _HASH.match(hash) is not None


def _parse(line: bytes) -> Head | None:
    """None of a line that a power loss left empty."""
    words = line.decode("ascii", "replace").split()
    if len(words) != 3 or not words[0].isdecimal() or not words[1].isdecimal() or not _HASH.match(words[2]):
        return None
    return Head(int(words[0]), int(words[1]), words[2])
