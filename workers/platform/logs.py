"""``logs [PART] [-f]``: the parts' own logs."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Final

from workers.platform.places import Places
from workers.platform.say import Refusal

_TAIL_BYTES: Final = 64 << 10
_LOOK_EVERY_S: Final = 0.2


def logs(places: Places, part: str | None, *, follow: bool) -> int:
    """The end of one log, or of all; with ``follow`` what is added, until Ctrl-C."""
    names = sorted(path.stem for path in places.log.glob("*.log"))
    if part is not None and part not in names:
        raise Refusal(f"no log of {part!r}: there are {', '.join(names) or 'none yet'}")
    chosen = [part] if part is not None else names
    places_of = {name: _print_tail(places.log / f"{name}.log", name if part is None else None) for name in chosen}
    try:
        while follow:
            time.sleep(_LOOK_EVERY_S)
            for name in chosen:
                places_of[name] = _print_from(places.log / f"{name}.log", places_of[name], name if part is None else None)
    except KeyboardInterrupt:
        pass
    return 0


def _print_tail(path: Path, label: str | None) -> int:
    size = path.stat().st_size
    start = max(0, size - _TAIL_BYTES)
    with path.open("rb") as file:
        file.seek(start)
        if start:
            file.readline()  # half a line
        _print(file.read(size - file.tell()), label)
    return size


def _print_from(path: Path, offset: int, label: str | None) -> int:
    size = path.stat().st_size
    if size < offset:
        offset = 0  # it was rotated
    if size > offset:
        with path.open("rb") as file:
            file.seek(offset)
            _print(file.read(size - offset), label)
    return size


def _print(data: bytes, label: str | None) -> None:
    if label is not None:
        data = b"".join(label.encode() + b" | " + row for row in data.splitlines(keepends=True))
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
