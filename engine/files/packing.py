"""A folder tree, or one file, as a tar archive: pieces that a sink writes to a socket or hashes. Nothing is followed.

The tree may change while we read: what went is left out, a file that shrank is filled up with zeros, one that grew is cut.
Only some dozen descriptors are open, however deep the tree is.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Final

from engine.errors import InvalidArgument
from engine.images import headers
from engine.kernel.paths import open_beneath

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_KEPT_OPEN: Final = 32  # folders on the way down; what lies deeper is opened again on the way back
_PATH_MAX: Final = 4096
_GONE: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE)
_CAPABILITY: Final = "security.capability"
_NO_XATTR: Final = (errno.ENODATA, errno.ENOTSUP, errno.EPERM, errno.EACCES)


@dataclass(frozen=True, slots=True)
class Content:
    """``size`` bytes of an open file from its beginning, then zeros up to a whole block. Valid until the next piece is asked for."""

    fd: int
    size: int


Pieces = Iterator[bytes | Content]


@dataclass(slots=True)
class _Frame:
    """A folder on the way: ``left`` are the names still to visit, the last one first."""

    path: str
    left: list[str]
    fd: int


@dataclass(slots=True)
class Packer:
    """``hidden`` are file systems (st_dev) that are not entered: a container's proc, sys and dev are not its files."""

    hidden: Collection[int] = ()
    _links: dict[tuple[int, int], bytes] = field(default_factory=dict)

    def folder(self, top: int, name: str, *, itself: bool = True) -> Pieces:
        """All below the open folder ``top``, as ``name``/…; its own entry first if wanted. An empty name gives none to the top."""
        prefix = os.fsencode(name)
        status = os.fstat(top)
        if itself:
            yield self._folder_entry(prefix.rstrip(b"/") + b"/", status, _capability(top))
        if status.st_dev in self.hidden:
            return
        lead = prefix.rstrip(b"/") + b"/" if prefix else b""
        stack = [_Frame(".", _names(top), os.dup(top))]
        try:
            while stack:
                frame = stack[-1]
                if not frame.left:
                    stack.pop()
                    _close(frame)
                    continue
                base = frame.left.pop()
                path = base if frame.path == "." else f"{frame.path}/{base}"
                try:
                    if frame.fd < 0:
                        frame.fd = _open_folder(top, frame.path)
                    status = os.stat(base, dir_fd=frame.fd, follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode):
                        below = self._enter(top, frame, base, path)
                        if below is None:
                            continue
                        stack.append(below)
                        yield from self._announce(below, lead)
                        if len(stack) > _KEPT_OPEN:
                            _close(frame)
                        continue
                except OSError as error:
                    if error.errno in _GONE:
                        continue
                    raise
                if not self.leaves_out(path, status):
                    yield from self.file(frame.fd, base, lead + os.fsencode(path), status)
        finally:
            for frame in stack:
                _close(frame)

    def _enter(self, top: int, frame: _Frame, base: str, path: str) -> _Frame | None:
        if len(os.fsencode(path)) >= _PATH_MAX:
            raise InvalidArgument(f"{path[:80]}…: file name too long")
        fd = open_beneath(frame.fd, base, _FOLDER)
        try:
            left = [] if os.fstat(fd).st_dev in self.hidden else _names(fd)
        except BaseException:
            os.close(fd)
            raise
        return _Frame(path, left, fd)

    def file(self, folder: int, base: str, name: bytes, status: os.stat_result) -> Pieces:
        """One entry that is no folder, with its content. Nothing when it went away, or is a socket."""
        kind = headers.kind_of(status.st_mode)
        if kind is None:
            return
        known = self._links.get((status.st_dev, status.st_ino)) if status.st_nlink > 1 else None
        if known is not None:
            yield self.entry(name, headers.HARD_LINK, status, link=known)
            return
        try:
            if kind != b"0":
                link = os.fsencode(os.readlink(base, dir_fd=folder)) if kind == b"2" else b""
                yield self.entry(name, kind, status, link=link)
            else:
                fd = os.open(base, _FILE, dir_fd=folder)
                try:
                    status = os.fstat(fd)
                    if not stat.S_ISREG(status.st_mode):
                        return  # it was another thing a moment ago
                    yield self.entry(name, kind, status, size=status.st_size, xattrs=_capability(fd))
                    if status.st_size:
                        yield Content(fd, status.st_size)
                finally:
                    os.close(fd)
        except OSError as error:
            if error.errno in _GONE:
                return
            raise
        if status.st_nlink > 1:
            self._links[status.st_dev, status.st_ino] = name

    def _announce(self, frame: _Frame, lead: bytes) -> Pieces:
        if frame.left or not self.leaves_out(frame.path, os.fstat(frame.fd)):
            yield self._folder_entry(lead + os.fsencode(frame.path) + b"/", os.fstat(frame.fd), _capability(frame.fd))
            yield from self.marks(frame.fd, lead + os.fsencode(frame.path) + b"/")

    def leaves_out(self, path: str, status: os.stat_result) -> bool:
        """Of an empty folder or anything but a folder, whether it does not go into the archive. ``path`` is below the top."""
        return False

    def marks(self, folder: int, name: bytes) -> Pieces:
        """What else is to be said of a folder, right after its own entry."""
        return iter(())

    def _folder_entry(self, name: bytes, status: os.stat_result, xattrs: dict[str, bytes]) -> bytes:
        return self.entry(name, b"5", status, xattrs=xattrs)

    @staticmethod
    def entry(
        name: bytes, kind: bytes, status: os.stat_result, *, size: int = 0, link: bytes = b"", xattrs: dict[str, bytes] | None = None
    ) -> bytes:
        device = (os.major(status.st_rdev), os.minor(status.st_rdev)) if kind in b"34" else (0, 0)
        return headers.header(
            name,
            kind,
            mode=status.st_mode,
            uid=status.st_uid,
            gid=status.st_gid,
            size=size,
            mtime_s=status.st_mtime_ns // 10**9,
            link=link,
            device=device,
            xattrs=xattrs,
        )


def _names(folder: int) -> list[str]:
    """The last one first."""
    return sorted(os.listdir(folder), key=os.fsencode, reverse=True)


def _open_folder(top: int, path: str) -> int:
    return open_beneath(top, path, _FOLDER)


def _close(frame: _Frame) -> None:
    if frame.fd >= 0:
        os.close(frame.fd)
        frame.fd = -1


def _capability(fd: int) -> dict[str, bytes]:
    """File capabilities, the one xattr that moby's archives carry."""
    try:
        return {_CAPABILITY: os.getxattr(fd, _CAPABILITY)}
    except OSError as error:
        if error.errno in _NO_XATTR:
            return {}
        raise
