"""What a process may do, by its /proc/PID/status: the five sets of capabilities(7)."""

from __future__ import annotations

from pathlib import Path


def sets_of(pid: int) -> dict[str, int]:
    return parsed(Path(f"/proc/{pid}/status").read_text())


def parsed(status: str) -> dict[str, int]:
    rows = (line.split() for line in status.splitlines() if line.startswith("Cap"))
    return {name.removesuffix(":"): int(value, 16) for name, value in rows}
