"""Which code a process of the engine runs, so that an update is noticed."""

from __future__ import annotations

from pathlib import Path
from typing import Final

HOME: Final = Path(__file__).parents[2]  # the folder that has the package ``engine``


def stamp() -> str:
    """Of the files that foster, keeper, launcher and logger are made of: where they are, and when the newest was written."""
    package = HOME / "engine"
    newest = max(path.stat().st_mtime_ns for folder in ("", "runtime", "kernel", "model") for path in (package / folder).glob("*.py"))
    return f"{package}@{newest}"
