"""Files that survive a crash: atomic replace, JSON records, locks, trash."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from engine import wire

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = 65536
_COPIED_AT_ONCE: Final = 1 << 30


def write_atomic(path: Path, data: bytes, *, mode: int = 0o600, sync: bool = False) -> None:
    """Readers see the old file or the whole new one, also after kill -9. ``sync`` adds safety against power loss."""
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sync_folder(path: Path) -> None:
    """What was made, renamed or removed in it is safe against power loss. A missing folder is fine."""
    try:
        fd = os.open(path, _FOLDER)
    except FileNotFoundError:
        return
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_json(path: Path, record: Any, *, mode: int = 0o600, sync: bool = False) -> None:
    write_atomic(path, wire.encode(record), mode=mode, sync=sync)


def read_json(path: Path | str) -> Any | None:
    """The record, or None when there is no such file, or none any more.

    A file that was renamed into its place and not synced may be there after a power loss without what was written into it: empty, or
    zeros. Then it is as if the rename had not happened either, which no reader could have told from a power loss a moment earlier.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # a quarter of the system calls of Path.read_bytes
    except FileNotFoundError:
        return None
    try:
        data = chunk = os.read(fd, _READ)
        while len(chunk) == _READ:
            chunk = os.read(fd, _READ)
            data += chunk
    finally:
        os.close(fd)
    return wire.decode(data) if data.strip(b"\0") else None


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Exclusive between processes and threads; waits. flock(2): released by the kernel when the holder dies."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def copy_content(source: int, target: int) -> None:
    """All of one file into a new one: shared blocks where the file system has them, a copy in the kernel where not; holes stay holes."""
    size, at = os.fstat(source).st_size, 0
    while at < size:
        try:
            begin = os.lseek(source, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # behind here is no data
                raise
            break
        at = os.lseek(source, begin, os.SEEK_HOLE)
        os.lseek(source, begin, os.SEEK_SET)
        os.lseek(target, begin, os.SEEK_SET)
        _copy_range(source, target, at - begin)
    os.ftruncate(target, size)


def _copy_range(source: int, target: int, left: int) -> None:
    copy: Callable[[int, int, int], int] = os.copy_file_range
    while left > 0:
        try:
            done = copy(source, target, min(left, _COPIED_AT_ONCE))
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS) or copy is _send:
                raise
            copy = _send  # between file systems of different kinds
            continue
        if done == 0:
            return  # it became shorter
        left -= done


def _send(source: int, target: int, count: int) -> int:
    return os.sendfile(target, source, None, count)


def to_trash(path: Path, trash: Path, *, name: str = "") -> None:
    """Out of the way at once by rename (one file system); ``empty_trash`` removes it later. A missing path is fine.

    It lies there as ``name`` (or its own name), a dot and eight random hex digits.
    """
    try:
        os.rename(path, trash / f"{name or path.name}.{os.urandom(4).hex()}")
    except FileNotFoundError:
        pass


def empty_trash(trash: Path) -> None:
    for entry in trash.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            with suppress(OSError):  # another process sweeps, too; or a disk error, and the rest goes all the same
                remove_tree(entry)
        else:
            entry.unlink(missing_ok=True)


def remove_tree(path: str | Path, *, dir_fd: int | None = None) -> None:
    """A folder with all below it, however deep: a container makes thousands of levels in a second, and at some hundreds
    ``shutil.rmtree`` ends with RecursionError, at a thousand for want of descriptors.

    Level by level: what lies in a folder of the top is renamed into the top. Symlinks are not followed. Raises OSError.
    """
    top = os.open(path, _FOLDER, dir_fd=dir_fd)
    try:
        number, fresh = 0, os.urandom(8).hex()  # a name that no image foresees
        while folders := _folders_left(top):
            for name in folders:
                inner = os.open(name, _FOLDER, dir_fd=top)
                try:
                    for below in _folders_left(inner):
                        number += 1
                        os.rename(below, f"{fresh}.{number}", src_dir_fd=inner, dst_dir_fd=top)
                finally:
                    os.close(inner)
                os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)
    os.rmdir(path, dir_fd=dir_fd)


def _folders_left(folder: int) -> list[str]:
    """Of an open folder, once everything else in it is unlinked."""
    with os.scandir(folder) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_folder in found:
        if not is_folder:
            os.unlink(name, dir_fd=folder)
    return [name for name, is_folder in found if is_folder]
