"""Layers on top of each other, read as overlayfs would show them, without mounting anything. Nothing is followed, nothing is written.

A folder of the merged tree is a tuple of layers: those that have it, the top one first, as descriptors of the layers' roots.
Two trees that share layers then share the tail of that tuple, and what lies in the tail alone need not be looked at.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from engine.kernel.paths import open_beneath

Roots = tuple[int, ...]
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_ABSENT: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE)
OPAQUE: Final = "trusted.overlay.opaque"


@dataclass(frozen=True, slots=True)
class Found:
    """``holder`` is the layer whose entry shows. ``layers`` make up its content if it is a folder."""

    status: os.stat_result
    holder: int
    layers: Roots

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)


class Folder:
    """One folder of the merged tree, open in every layer that has it."""

    def __init__(self, opened: dict[int, int]) -> None:
        self._opened = opened  # root → this folder in that layer, top first

    def names(self, layers: Sequence[int]) -> set[str]:
        """In these of its layers, whiteouts included."""
        return {name for root in layers if root in self._opened for name in os.listdir(self._opened[root])}

    def find(self, name: str) -> Found | None:
        status: os.stat_result | None = None
        holder = -1
        layers: list[int] = []
        for root, folder in self._opened.items():
            try:
                seen = os.stat(name, dir_fd=folder, follow_symlinks=False)
            except FileNotFoundError:
                continue
            if is_whiteout(seen):
                break
            if not stat.S_ISDIR(seen.st_mode):
                if status is None:
                    return Found(seen, root, ())
                break
            if status is None:
                status, holder = seen, root
            layers.append(root)
            if is_opaque(folder, name):
                break
        return None if status is None else Found(status, holder, tuple(layers))

    def descriptor(self, root: int) -> int:
        return self._opened[root]


@contextmanager
def open_folder(layers: Roots, path: str) -> Iterator[Folder]:
    """``path`` is relative to the root, "." for the root itself. A layer in which it went away meanwhile is left out."""
    opened: dict[int, int] = {}
    try:
        for root in layers:
            try:
                opened[root] = open_beneath(root, path, _FOLDER)
            except OSError as error:
                if error.errno not in _ABSENT:
                    raise
        yield Folder(opened)
    finally:
        for fd in opened.values():
            os.close(fd)


def locate(layers: Roots, path: str) -> tuple[Found, int] | None:
    """What is at ``path`` of the merged tree, and (for a file) a descriptor of it to read, the caller's to close; -1 for others."""
    here, parts = ".", [part for part in path.split("/") if part not in ("", ".")]
    for number, part in enumerate(parts, 1):
        with open_folder(layers, here) as folder:
            found = folder.find(part)
            if found is None:
                return None
            if number == len(parts):
                return found, _open_file(folder, found, part)
        if not found.is_folder:
            return None
        layers, here = found.layers, "/".join(parts[:number])
    return None


def _open_file(folder: Folder, found: Found, name: str) -> int:
    if not stat.S_ISREG(found.status.st_mode):
        return -1
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    fd = os.open(name, flags, dir_fd=folder.descriptor(found.holder))
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    return -1


def is_whiteout(status: os.stat_result) -> bool:
    """overlayfs' mark that lower layers' entry of that name is gone: a character device 0:0."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_opaque(folder: int, name: str = "") -> bool:
    """Whether a folder hides what lower layers have in it."""
    try:
        return os.getxattr(f"/proc/self/fd/{folder}/{name}", OPAQUE, follow_symlinks=not name) == b"y"
    except OSError:
        return False
