"""What of a platform a backup holds, and how volumes' files get in and out of it.

Of <data>/panel and <data>/etc all is taken but what belongs to this very machine or is worth nothing elsewhere: so a key that a later
release keeps there is not forgotten.
"""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from workers.platform.places import Places
from workers.platform.say import Refusal

DATABASE: Final = "slipway.sqlite3"
_NOT_OF_PANEL: Final = ("builds", "ticket.key", DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm")  # builds: logs; of the database a copy
_NOT_OF_ETC: Final = ("redis.conf", "users.acl", "redis.key", "migrated", "packages.json", "made-user", "restoring.json")
_PIECE: Final = 16 << 20
_AGENT_S: Final = 600.0  # a volume of a million files is looked through before its first byte


def trees(places: Places) -> dict[str, Path]:
    """Where the files below each folder of a bundle lie."""
    return {"panel": places.panel, "etc": places.etc, "ceilings": places.engine.engine / "ceilings", "witness": places.data / "witness"}


def files(places: Places, folder: str) -> Iterator[tuple[str, Path]]:
    """(name below the folder, path) of plain files; no link is followed: the panel's user writes there, too."""
    top = trees(places)[folder]
    left_out = {"panel": _NOT_OF_PANEL, "etc": _NOT_OF_ETC}.get(folder, ())
    for where, names, found in os.walk(top):
        here = Path(where)
        if here == top:
            names[:] = [name for name in names if name not in left_out and not name.startswith(("before-restore", "."))]
            found = [name for name in found if name not in left_out]
        for name in sorted(found):
            path = here / name
            if stat.S_ISREG(path.lstat().st_mode) and not name.startswith(".") and not name.endswith(".lock"):
                yield str(path.relative_to(top)), path


def copy_sqlite(source: Path, target: Path) -> None:
    """The database as of one moment, while others write (SQLite's backup interface), and sound."""
    with sqlite3.connect(f"file:{source}?mode=ro", uri=True, timeout=30) as here, sqlite3.connect(target) as there:
        here.backup(there, pages=4096)
    check_sqlite(target)


def check_sqlite(path: Path) -> None:
    connection = sqlite3.connect(path)
    try:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.DatabaseError as error:
        found = str(error)
    finally:
        connection.close()
    if found != "ok":
        raise Refusal(f"{path.name} is damaged: {found}")


# -- volumes ------------------------------------------------------------------------------------------


def export_volume(places: Places, tenant: str, name: str) -> Iterator[bytes]:
    """A tar of its files in pieces. Refusal when the host breaks off."""
    with _ask(places, tenant, name, "export", "/") as agent, agent.makefile("rb") as stream:
        _answer(stream.readline(), f"volume {name} of tenant {tenant}")
        tail = b""
        while piece := stream.read(_PIECE):
            tail = (tail + piece[-1024:])[-1024:]
            yield piece
        if tail != bytes(1024):
            raise Refusal(f"the copy of volume {name} of tenant {tenant} was cut off on the host: see {places.log}/agent.log")


class Import:
    """The pieces of a volume's tar on their way back."""

    def __init__(self, places: Places, tenant: str, name: str) -> None:
        self._what = f"volume {name} of tenant {tenant}"
        self._agent = _ask(places, tenant, name, "put", "/")
        self._stream = self._agent.makefile("rb")
        _answer(self._stream.readline(), self._what)

    def write(self, data: bytes) -> None:
        self._agent.sendall(data)

    def end(self) -> None:
        """Returns when all is there."""
        try:
            self._agent.shutdown(socket.SHUT_WR)
            _answer(self._stream.read(), self._what)
        finally:
            self.close()

    def close(self) -> None:
        self._stream.close()
        self._agent.close()


def _ask(places: Places, tenant: str, name: str, what: str, path: str) -> socket.socket:
    agent = socket.socket(socket.AF_UNIX)
    agent.settimeout(_AGENT_S)
    try:
        agent.connect(str(places.engine.agent_socket))
    except OSError as error:
        agent.close()
        raise Refusal(f"the host's agent does not answer ({error.strerror}): files of volumes need a platform that runs") from error
    question = {"v": 1, "ticket": "", "op": "volume_files", "tenant": tenant, "id": name, "what": what, "path": path}
    agent.sendall(json.dumps(question).encode() + b"\n")
    return agent


def _answer(line: bytes, what: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(line) if line.strip() else {"error": {"message": "the host's agent went away"}}
    if "error" in answer:
        raise Refusal(f"{what}: {answer['error'].get('message')}")
    return answer
