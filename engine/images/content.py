"""Content by digest: <data>/content/blobs/sha256/<hex>. Written elsewhere, verified, then renamed in; never changed after.

The panel's unprivileged user may read here (its registry can have the same file by a second name), so a blob is root:<its group> 0440
in folders 0750.
"""

from __future__ import annotations

import functools
import hashlib
import os
import pwd
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from engine.config import EngineConfig
from engine.errors import Internal, NotFound
from engine.images.streams import chunks, drain, hashed

PANEL_USER: Final = "slipway"
DIGEST = re.compile(r"sha256:(?P<hex>[0-9a-f]{64})")


class Content:
    """Blobs are named by the 64 digits of their sha256."""

    def __init__(self, config: EngineConfig) -> None:
        self._blobs = config.blobs
        config.data.mkdir(parents=True, exist_ok=True)
        for folder in (config.blobs.parent.parent, config.blobs.parent, config.blobs):
            folder.mkdir(mode=0o750, exist_ok=True)
            _give_to_panel(folder, 0o750)  # also one from before the panel's user was there

    def path(self, digits: str) -> Path:
        """Raises NotFound. Whoever trusts more than a file system does, verifies (``verify``)."""
        path = self._blobs / digits
        if not path.exists():
            raise NotFound(f"no content sha256:{digits} on this host")
        return path

    def has(self, digits: str) -> bool:
        return (self._blobs / digits).exists()

    def adopt(self, file: Path, digits: str) -> None:
        """``file``, whose sha256 the caller has just taken and which nobody else can write, becomes the blob."""
        if self.has(digits):
            file.unlink(missing_ok=True)
            return
        _give_to_panel(file, 0o440)
        os.rename(file, self._blobs / digits)

    def verify(self, digits: str) -> None:
        """Reads it all. Raises Internal when the disk gives back other bytes than were put there."""
        digest = hashlib.sha256()
        with self.path(digits).open("rb", buffering=0) as file:
            drain(hashed(chunks(file), digest))
        if digest.hexdigest() != digits:
            raise Internal(f"content sha256:{digits} is damaged on this host's disk")

    def remove(self, digits: Iterable[str]) -> None:
        """Missing ones are fine; open ones stay readable for whoever has them."""
        for each in digits:
            (self._blobs / each).unlink(missing_ok=True)


def _give_to_panel(path: Path, mode: int) -> None:
    os.chown(path, 0, _panel_group())
    path.chmod(mode)


@functools.cache
def _panel_group() -> int:
    """The group of the panel's user; root's where the panel is not installed."""
    try:
        return pwd.getpwnam(PANEL_USER).pw_gid
    except KeyError:
        return 0
