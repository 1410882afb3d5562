"""An image's merged files as a FileTree, read from its layers without mounting anything and without following a link."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from engine.builds.files import File, tarsum
from engine.files.stack import Found, Roots, locate, open_folder
from engine.images.streams import CHUNK

_CAPABILITY: Final = "security.capability"
_KEPT: Final = 10_000  # answers that are remembered


class LayerTree:
    """``folders``: the layers' diffs, the topmost first. A FileTree; ``close`` it."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._roots: Roots = tuple(os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for folder in folders)
        self._known: dict[str, Found | None] = {}

    def close(self) -> None:
        for root in self._roots:
            os.close(root)
        self._roots = ()

    def find(self, path: str) -> File | None:
        found = self._find(path)
        if found is None:
            return None if path or not self._is_empty() else File(mode=stat.S_IFDIR | 0o755)
        status = found.status
        return File(
            mode=status.st_mode,
            uid=status.st_uid,
            gid=status.st_gid,
            size=status.st_size,
            mtime_ns=status.st_mtime_ns,
            link=self._link(path, found) if stat.S_ISLNK(status.st_mode) else "",
            device=(os.major(status.st_rdev), os.minor(status.st_rdev)),
            xattrs=self._xattrs(path, found),
            inode=(status.st_dev, status.st_ino) if status.st_nlink > 1 and not found.is_folder else None,
        )

    def names(self, path: str) -> list[str]:
        found = self._find(path)
        if found is None or not found.is_folder:
            return []
        with open_folder(found.layers, path or ".") as folder:
            names = [name for name in folder.names(found.layers) if folder.find(name) is not None]
        return sorted(names, key=os.fsencode)

    def read(self, path: str) -> Iterator[bytes]:
        located = locate(self._roots, path)
        if located is None:
            raise FileNotFoundError(path)
        found, fd = located
        try:
            at, end = 0, found.status.st_size
            while at < end:
                data = os.pread(fd, min(CHUNK, end - at), at)
                if not data:
                    raise OSError(5, "a layer's file is shorter than it was")
                at += len(data)
                yield data
        finally:
            os.close(fd)

    def digest(self, path: str) -> str:
        file = self.find(path)
        assert file is not None
        return tarsum(path, file, self.read(path) if file.is_regular else iter(()))

    def identity(self, path: str) -> tuple[int, int] | None:
        """Equal for the same file of the same layer, in whichever tree."""
        found = self._find(path)
        return (found.status.st_dev, found.status.st_ino) if found is not None else None

    # -- inside ----------------------------------------------------------------------------------

    def _find(self, path: str) -> Found | None:
        if path in self._known:
            return self._known[path]
        if len(self._known) > _KEPT:
            self._known.clear()
        self._known[path] = found = self._look(path)
        return found

    def _look(self, path: str) -> Found | None:
        if not path:
            return None if self._is_empty() else Found(os.stat(f"/proc/self/fd/{self._roots[0]}"), self._roots[0], self._roots)
        above, _slash, base = path.rpartition("/")
        parent = self._find(above)
        if parent is None or not parent.is_folder:
            return None
        with open_folder(parent.layers, above or ".") as folder:
            return folder.find(base)

    def _is_empty(self) -> bool:
        return not self._roots

    def _link(self, path: str, found: Found) -> str:
        above, _slash, base = path.rpartition("/")
        with open_folder((found.holder,), above or ".") as folder:
            return os.readlink(base, dir_fd=folder.descriptor(found.holder))

    def _xattrs(self, path: str, found: Found) -> dict[str, bytes]:
        """File capabilities, as moby's archives carry."""
        if not stat.S_ISREG(found.status.st_mode):
            return {}
        above, _slash, base = path.rpartition("/")
        with open_folder((found.holder,), above or ".") as folder:
            try:
                value = os.getxattr(f"/proc/self/fd/{folder.descriptor(found.holder)}/{base}", _CAPABILITY, follow_symlinks=False)
            except OSError:
                return {}
            return {_CAPABILITY: value}
