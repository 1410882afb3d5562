"""A copy of a folder tree: of an image's layers, or of a volume that its containers go on writing to meanwhile.

Nothing is followed, on either side: what is written is named by one word below an open folder, which openat2(2) reached below the
target's own descriptor through no link. So whoever exchanges folders of the target meanwhile gets a wrong copy, never a file elsewhere.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from engine import disk
from engine.files import stack
from engine.kernel.paths import open_beneath

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class TreeCopy:
    """Of a part of a merged tree, with owners, modes, times, extended attributes and hard links; device nodes are left out.

    ``target`` is the descriptor of an empty folder.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._linked: dict[tuple[int, int], tuple[str, str]] = {}  # inode → folder of the copy, name in it

    def folder(self, top: stack.Found, path: str) -> None:
        """Folder by folder, however deep: not by recursion."""
        waiting = [(top, path, ".")]
        made: list[tuple[stack.Found, str]] = []
        while waiting:
            found, here, place = waiting.pop()
            made.append((found, place))
            copy = open_beneath(self._target, place, _FOLDER)
            try:
                with stack.open_folder(found.layers, here) as folder:
                    for name in folder.names(found.layers):
                        entry = folder.find(name)
                        if entry is None:
                            continue
                        if entry.is_folder:
                            os.mkdir(name, 0o700, dir_fd=copy)
                            waiting.append((entry, f"{here}/{name}", f"{place}/{name}"))
                        else:
                            self._entry(entry, folder.descriptor(entry.holder), name, copy, place)
            finally:
                os.close(copy)
        for found, place in reversed(made):  # times last: what was put into it changed them
            copy = open_beneath(self._target, place, _FOLDER)
            try:
                _dress(found.status, copy)
            finally:
                os.close(copy)

    def _entry(self, found: stack.Found, folder: int, name: str, copy: int, place: str) -> None:
        status, kind = found.status, stat.S_IFMT(found.status.st_mode)
        key = status.st_dev, status.st_ino
        if status.st_nlink > 1 and key in self._linked:
            self._link(*self._linked[key], name, copy)
            return
        if kind == stat.S_IFLNK:
            os.symlink(os.readlink(name, dir_fd=folder), name, dir_fd=copy)
            os.chown(name, status.st_uid, status.st_gid, dir_fd=copy, follow_symlinks=False)
            os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=copy, follow_symlinks=False)
        elif kind == stat.S_IFREG:
            _copy_file(status, folder, name, copy)
        elif kind == stat.S_IFIFO:
            _make_fifo(status, name, copy)
        else:
            return
        if status.st_nlink > 1:
            self._linked[key] = place, name

    def _link(self, place: str, first: str, name: str, copy: int) -> None:
        holder = open_beneath(self._target, place, _FOLDER)
        try:
            os.link(first, name, src_dir_fd=holder, dst_dir_fd=copy, follow_symlinks=False)
        finally:
            os.close(holder)


def _copy_file(status: os.stat_result, folder: int, name: str, copy: int) -> None:
    source = os.open(name, _READ, dir_fd=folder)
    try:
        target = os.open(name, _WRITE, 0o600, dir_fd=copy)
        try:
            disk.copy_content(source, target)
            _dress(status, target)
            _copy_attributes(source, target)
        finally:
            os.close(target)
    finally:
        os.close(source)


def _make_fifo(status: os.stat_result, name: str, copy: int) -> None:
    os.mkfifo(name, 0o600, dir_fd=copy)
    fifo = os.open(name, _READ, dir_fd=copy)
    try:
        _dress(status, fifo)
    finally:
        os.close(fifo)


def _dress(status: os.stat_result, target: int) -> None:
    os.fchown(target, status.st_uid, status.st_gid)
    os.fchmod(target, stat.S_IMODE(status.st_mode))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def _copy_attributes(source: int, target: int) -> None:
    """After the owner, whose change takes file capabilities away."""
    for name in os.listxattr(source):
        if name == "security.capability" or name.startswith("user."):
            os.setxattr(target, name, os.getxattr(source, name))


def new_folder(path: Path) -> int:
    """Its descriptor. FileExistsError, also for a link."""
    above = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.mkdir(path.name, 0o700, dir_fd=above)
        return os.open(path.name, _FOLDER, dir_fd=above)
    finally:
        os.close(above)


def copy_below(source: Path, target: Path) -> None:
    """All that is in ``source`` into the new folder ``target``, which is the same then."""
    root = os.open(source, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        copy = new_folder(target)
        try:
            TreeCopy(copy).folder(stack.Found(os.fstat(root), root, (root,)), ".")
        finally:
            os.close(copy)
    finally:
        os.close(root)
