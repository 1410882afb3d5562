"""A PostgreSQL of our own in a folder, on a unix socket, by the packages of Debian."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

_USER = "nobody"  # it refuses to run as root


def programs() -> Path | None:
    """The newest installed version's folder."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


@contextlib.contextmanager
def running(folder: Path) -> Iterator[str]:
    """A DATABASE_URL, as long as it runs. ``folder`` is open to every user (scratch.open_folder)."""
    bin_folder, data = programs(), folder / "postgres"
    assert bin_folder is not None
    data.mkdir()
    shutil.chown(data, _USER)
    _as_user(bin_folder / "initdb", "-D", data, "-U", "panel", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C")
    words = f"-k {data} -c listen_addresses= -c fsync=off"
    _as_user(bin_folder / "pg_ctl", "-D", data, "-w", "-s", "-l", data / "log", "-o", words, "start")
    try:
        _as_user(bin_folder / "createdb", "-h", data, "-U", "panel", "panel")
        yield f"postgresql://panel@{str(data).replace('/', '%2F')}/panel"
    finally:
        _as_user(bin_folder / "pg_ctl", "-D", data, "-w", "-s", "-m", "immediate", "stop")


def _as_user(*command: str | Path) -> None:
    subprocess.run(
        ["runuser", "-u", _USER, "--", *map(str, command)], check=True, stdout=subprocess.DEVNULL, cwd="/", env={"PATH": os.environ["PATH"]}
    )
