"""The writable layer that a RUN leaves, as the tar of an image layer.

What was made only to mount something at is left out, and so is a folder that lies in the layer for no other reason: a step that changed
nothing leaves nothing.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Mapping
from types import SimpleNamespace
from typing import Any, Final, cast

from engine.builds.files import FileTree
from engine.files import sinks
from engine.files.compare import is_of_the_runtime
from engine.files.layer import LayerPacker
from engine.files.packing import Packer
from engine.files.stack import is_opaque, is_whiteout
from engine.images.streams import CHUNK, Chunks
from engine.kernel.paths import open_beneath

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


def layer_of(top: int, below: FileTree, places: Collection[str], latest_s: int | None) -> Chunks:
    """``top``: the layer's folder, open until the last chunk; ``below``: the image's files. ``places``: where things were mounted.
    ``latest_s``: no entry is younger (SOURCE_DATE_EPOCH)."""
    packer = _StepPacker(below, _with_parents(places, below), latest_s)
    return sinks.to_chunks(packer.folder(top, "", itself=False), CHUNK)


def _with_parents(places: Collection[str], below: FileTree) -> frozenset[str]:
    """With the folders that had to be made for them."""
    found: set[str] = set()
    for place in places:
        path = os.path.normpath(place).strip("/")
        while path and path not in found and below.find(path) is None:
            found.add(path)
            path = path.rpartition("/")[0]
    return frozenset(found)


class _StepPacker(LayerPacker):
    def __init__(self, below: FileTree, places: frozenset[str], latest_s: int | None) -> None:
        super().__init__()
        self._below, self._places = below, places
        self._latest_ns = None if latest_s is None else latest_s * 10**9
        self._emptied: set[str] = set()

    def _enter(self, top: int, frame: Any, base: str, path: str) -> Any:
        entered = super()._enter(top, frame, base, path)
        if entered is not None and entered.left:
            left = [name for name in entered.left if not self._is_nobodys(entered.fd, name, f"{path}/{name}")]
            if len(left) < len(entered.left) and not left and not is_opaque(entered.fd):
                self._emptied.add(path)
            entered.left = left
        return entered

    def leaves_out(self, path: str, status: os.stat_result) -> bool:
        if super().leaves_out(path, status) or (path in self._places and _is_blank(status)):
            return True
        return path in self._emptied and self._looks_as_below(path, status)

    def _is_nobodys(self, folder: int, name: str, path: str) -> bool:
        """A place to mount at, with nothing in it but such places."""
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if is_whiteout(status):
            return False
        if stat.S_ISDIR(status.st_mode):
            inner = open_beneath(folder, name, _FOLDER)
            try:
                if not all(self._is_nobodys(inner, each, f"{path}/{each}") for each in os.listdir(inner)):
                    return False
            finally:
                os.close(inner)
        return is_of_the_runtime(path, status, is_empty=True) or (path in self._places and _is_blank(status))

    def _looks_as_below(self, path: str, status: os.stat_result) -> bool:
        old = self._below.find(path)
        return old is not None and (old.mode, old.uid, old.gid) == (status.st_mode, status.st_uid, status.st_gid)

    def entry(  # type: ignore[override]  # theirs needs no self
        self,
        name: bytes,
        kind: bytes,
        status: os.stat_result,
        *,
        size: int = 0,
        link: bytes = b"",
        xattrs: Mapping[str, bytes] | None = None,
    ) -> bytes:
        if self._latest_ns is not None:
            kept = {each: getattr(status, each) for each in ("st_mode", "st_uid", "st_gid", "st_rdev")}
            status = cast(os.stat_result, SimpleNamespace(**kept, st_mtime_ns=min(status.st_mtime_ns, self._latest_ns)))
        return Packer.entry(name, kind, status, size=size, link=link, xattrs=dict(xattrs or {}))


def _is_blank(status: os.stat_result) -> bool:
    """Nothing is in it: of a folder the caller has looked."""
    return stat.S_ISDIR(status.st_mode) or (stat.S_ISREG(status.st_mode) and status.st_size == 0)
