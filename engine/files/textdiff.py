"""The text of one file in two trees, as a unified diff."""

from __future__ import annotations

import difflib
import os
import signal
import stat
from typing import Any, Final

from engine.errors import InvalidArgument, NotFound
from engine.files.stack import Found, Roots, locate

MAX_BYTES: Final = 1 << 20  # of each of the two
MAX_OUTPUT: Final = 2 << 20  # characters
TIME_S: Final = 10.0  # difflib is quadratic in what it gets
_LOOK: Final = 8 << 10  # bytes in which a zero byte means: no text


def text_diff(old: Roots, new: Roots, path: str) -> dict[str, Any]:
    """{"diff": str, "binary": bool, "too_large": bool, "truncated": bool}. NotFound when neither has a file there.

    For a process of its own: it sets an alarm.
    """
    before, after = _read(old, path), _read(new, path)
    if before is None and after is None:
        raise NotFound(f"no file {path} in either of the two")
    said = {"diff": "", "binary": False, "too_large": False, "truncated": False}
    if any(text is not None and len(text) > MAX_BYTES for text in (before, after)):
        return {**said, "too_large": True}
    old_text, new_text = _decode(before), _decode(after)
    if old_text is None or new_text is None:
        return {**said, "binary": True}
    signal.signal(signal.SIGALRM, _too_long)
    signal.setitimer(signal.ITIMER_REAL, TIME_S)
    try:
        lines = difflib.unified_diff(old_text.splitlines(), new_text.splitlines(), f"a{path}", f"b{path}", lineterm="")
        diff = "\n".join(lines)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return {**said, "diff": diff[:MAX_OUTPUT], "truncated": len(diff) > MAX_OUTPUT}


def _read(layers: Roots, path: str) -> bytes | None:
    """One byte more than is compared, so that too much is seen. A link's text is where it leads. None: nothing is there."""
    place = locate(layers, path)
    if place is None:
        return None
    found, fd = place
    if fd < 0:
        return _link_text(found)
    try:
        data = b""
        while len(data) <= MAX_BYTES and (more := os.read(fd, MAX_BYTES + 1 - len(data))):
            data += more
        return data
    finally:
        os.close(fd)


def _link_text(found: Found) -> bytes | None:
    if stat.S_ISDIR(found.status.st_mode):
        raise InvalidArgument("a folder has no text")
    return b"(a link, pipe or device)\n"


def _decode(data: bytes | None) -> str | None:
    """None for what is no text."""
    if data is None:
        return ""
    if b"\0" in data[:_LOOK]:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _too_long(_signal: int, _frame: object) -> None:
    raise InvalidArgument("the two texts are too different to be compared line by line")
