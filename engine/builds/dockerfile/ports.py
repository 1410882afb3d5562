"""Words of EXPOSE: ``[[ip:]host:]port[-last][/protocol]`` → ``port/protocol``. The host's part means nothing in an image."""

from __future__ import annotations

import re
from typing import Final

_RANGE: Final = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")


def exposed(word: str) -> list[str]:
    """ValueError in the words of moby's nat package."""
    rest, _slash, protocol = word.partition("/")
    protocol = protocol.lower() or "tcp"
    container = rest.rpartition(":")[2]
    if not container:
        raise ValueError(f"No port specified: {word[:200]}<empty>")
    found = _RANGE.fullmatch(container)
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
    if first > last or last > 65535:
        raise ValueError(f"Invalid containerPort: {container[:200]}")
    if protocol not in ("tcp", "udp", "sctp"):
        raise ValueError(f"Invalid proto: {protocol[:200]}")
    return [f"{port}/{protocol}" for port in range(first, last + 1)]
