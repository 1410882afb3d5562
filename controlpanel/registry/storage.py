"""Where the bytes of blobs lie. One small interface; today a folder, some day a bucket.

    <data>/panel/registry/
      uploads/<key>                         grows while a client sends
      blobs/sha256/9f/9f86d0…0a08.<key>     whole, verified, synced; never written again

An upload becomes a blob by a second name (link(2)); its own goes when the rows say that the blob is there. Killed in between, the
upload can be finished again, and a name below blobs/ that no row knows is cleared a day later (cleaning.py).

The folder is on the file system of the engine's store (``<data>/content``), so that one copy can serve both: see ARCHITECTURE.md.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

from django.conf import settings

_READ_NOW: Final = getattr(os, "RWF_NOWAIT", 0)


class Writer(Protocol):
    """One upload, open and nobody else's until it is closed. Blocking: for threads."""

    def go_on(self, offset: int) -> None:
        """Cut to ``offset`` bytes; what is written comes behind them. EOFError when there are fewer."""

    def read(self, offset: int, size: int) -> bytes: ...

    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...


class Reader(Protocol):
    """One blob, open; it stays readable whoever removes it."""

    def read_now(self, offset: int, size: int) -> bytes | bytearray | None:
        """What is at hand without waiting; None: nothing is."""

    def read(self, offset: int, size: int) -> bytes:
        """Blocking. EOFError when there is less than there was."""

    def close(self) -> None: ...


class Storage(Protocol):
    """OSError as the disk has it; FileNotFoundError for what is not there."""

    def begin(self, key: str) -> None: ...

    def open_upload(self, key: str) -> Writer:
        """BlockingIOError while somebody else has it."""

    def keep(self, key: str, digest: str) -> str:
        """The upload's bytes as a blob, on the disk for good; its name for ``open_blob``. The upload stays until ``settle``."""

    def settle(self, key: str, file: str) -> None:
        """The rows have the blob: it is the upload's no more."""

    def drop_upload(self, key: str) -> None: ...

    def open_blob(self, file: str) -> Reader: ...

    def drop_blob(self, file: str) -> None: ...

    def blobs(self, *, older_than_s: float, now_s: float) -> Iterator[str]:
        """Names for ``drop_blob``."""

    def uploads(self, *, older_than_s: float, now_s: float) -> Iterator[str]:
        """Keys."""


class Folder:
    """Storage in a folder of one machine."""

    def __init__(self, root: Path) -> None:
        self._uploads, self._blobs = root / "uploads", root / "blobs"
        for folder in (root, self._uploads, self._blobs):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def begin(self, key: str) -> None:
        os.close(os.open(self._uploads / key, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))

    def open_upload(self, key: str) -> Writer:
        fd = os.open(self._uploads / key, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # it ends with the process
        except BaseException:
            os.close(fd)
            raise
        return _FileWriter(fd)

    def keep(self, key: str, digest: str) -> str:
        algorithm, _colon, digits = digest.partition(":")
        file = f"{algorithm}/{digits[:2]}/{digits}.{key}"
        path = self._blobs / file
        for folder in (path.parent.parent, path.parent):
            with contextlib.suppress(FileExistsError):
                folder.mkdir(mode=0o700)
                _sync(folder.parent)
        source = self._uploads / key
        _sync(source)
        with contextlib.suppress(FileExistsError):  # of an earlier try that was killed: the same bytes
            os.link(source, path)
        _sync(path.parent)
        return file

    def settle(self, key: str, file: str) -> None:
        (self._blobs / file).chmod(0o440)
        self.drop_upload(key)

    def drop_upload(self, key: str) -> None:
        (self._uploads / key).unlink(missing_ok=True)

    def open_blob(self, file: str) -> Reader:
        return _FileReader(os.open(self._blobs / file, os.O_RDONLY | os.O_CLOEXEC))

    def drop_blob(self, file: str) -> None:
        (self._blobs / file).unlink(missing_ok=True)

    def blobs(self, *, older_than_s: float, now_s: float) -> Iterator[str]:
        for path in self._blobs.glob("*/*/*"):
            if _changed_s(path, now_s) < now_s - older_than_s:
                yield str(path.relative_to(self._blobs))

    def uploads(self, *, older_than_s: float, now_s: float) -> Iterator[str]:
        for path in self._uploads.iterdir():
            if _changed_s(path, now_s) < now_s - older_than_s:
                yield path.name


class _FileWriter:
    def __init__(self, fd: int) -> None:
        self._fd, self._offset = fd, 0

    def go_on(self, offset: int) -> None:
        if os.fstat(self._fd).st_size < offset:
            raise EOFError("the upload has lost bytes")
        os.ftruncate(self._fd, offset)
        self._offset = offset

    def read(self, offset: int, size: int) -> bytes:
        return os.pread(self._fd, size, offset)

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(self._fd, view, self._offset)
            self._offset += written
            view = view[written:]

    def close(self) -> None:
        os.close(self._fd)


class _FileReader:
    def __init__(self, fd: int) -> None:
        self._fd = fd
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)

    def read_now(self, offset: int, size: int) -> bytes | bytearray | None:
        """Out of the page cache (preadv2(2), RWF_NOWAIT): no thread is asked, and so nobody waits for one."""
        if not _READ_NOW:
            return None
        buffer = bytearray(size)
        try:
            count = os.preadv(self._fd, [buffer], offset, _READ_NOW)
        except OSError:  # EAGAIN: not there yet. EOPNOTSUPP: not on this file system
            return None
        return (buffer if count == size else buffer[:count]) if count else None

    def read(self, offset: int, size: int) -> bytes:
        data = os.pread(self._fd, size, offset)
        if not data:
            raise EOFError("the file is shorter than its row says")
        return data

    def close(self) -> None:
        os.close(self._fd)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _changed_s(path: Path, now_s: float) -> float:
    """Of its inode: a name that was just added counts as a change. ``now_s`` for what has just gone."""
    try:
        return path.lstat().st_ctime
    except FileNotFoundError:
        return now_s


_folder = functools.cache(Folder)


def storage() -> Storage:
    """The panel's."""
    return _folder(settings.PANEL_DIR / "registry")
