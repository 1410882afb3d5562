"""Whose the links were that are gone, and whose traffic nobody has counted yet.

    networks/departed/<link>     → <key of the network>/<container id>     a symlink; of a network that is gone: <tenant>/<container id>

The folder is there once somebody counts (engine.traffic). Methods raise OSError.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path


class Departed:
    def __init__(self, folder: Path) -> None:
        self._folder = folder / "departed"

    def begin(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def add(self, link: str, network_key: str, container_id: str) -> None:
        with suppress(FileNotFoundError, FileExistsError):
            os.symlink(f"{network_key}/{container_id}", self._folder / link)

    def all(self) -> dict[str, tuple[str, str]]:
        """{link: (key of the network or name of the tenant, container id)}."""
        found = {}
        with suppress(FileNotFoundError):
            for link in os.listdir(self._folder):
                with suppress(FileNotFoundError):
                    key, _, container_id = os.readlink(self._folder / link).partition("/")
                    found[link] = key, container_id
        return found

    def network_gone(self, network_key: str, tenant: str) -> None:
        """Its key tells nothing any more."""
        for link, (key, container_id) in self.all().items():
            if key == network_key != tenant:
                new = self._folder / f".{link}"
                with suppress(FileExistsError):
                    os.symlink(f"{tenant}/{container_id}", new)
                os.rename(new, self._folder / link)

    def is_old(self, link: str, than_s: float) -> bool:
        return (self._folder / link).lstat().st_mtime < time.time() - than_s

    def drop(self, link: str) -> None:
        (self._folder / link).unlink(missing_ok=True)
