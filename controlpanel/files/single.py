"""One file in a tar, for those who have or want the file alone. The host speaks tar in both directions. PURE."""

from __future__ import annotations

import posixpath
import re
import tarfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from engine.errors import FailedPrecondition, InvalidArgument

_BLOCK: Final = 512
_END: Final = bytes(2 * _BLOCK)
_BESIDE: Final = frozenset({tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK})
_PAX_SIZE: Final = re.compile(rb"\d+ size=(\d+)\n")  # of a file that is too long for its header's field
_HEADERS_MAX: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class File:
    """``chunks`` raises ConnectionAbortedError when it is cut off."""

    name: str
    size: int
    mode: int
    chunks: AsyncIterator[bytes]


def split(path: str) -> tuple[str, str]:
    """(folder, name) of a new file's path."""
    if not path.startswith("/") or path.endswith("/") or "\0" in path:
        raise InvalidArgument(f"invalid path {path!r}: it begins with / and ends with the file's name")
    folder, name = posixpath.split(path)
    if name in (".", ".."):
        raise InvalidArgument(f"invalid path {path!r}: it ends with the file's name")
    return folder, name


async def wrap(name: str, size: int, chunks: AsyncIterator[bytes], *, mode: int, uid: int, gid: int) -> AsyncIterator[bytes]:
    """A tar with this one file. InvalidArgument when it is not of ``size`` bytes."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.uid, entry.gid, entry.mtime = size, mode, uid, gid, int(time.time())
    yield entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    came = 0
    async for chunk in chunks:
        came += len(chunk)
        if came > size:
            break
        yield chunk
    if came != size:
        raise InvalidArgument(f"the file is not as long as was said: {size} bytes")
    yield bytes(-size % _BLOCK) + _END


async def unwrap(chunks: AsyncIterator[bytes]) -> File:
    """The file at the beginning of a tar. FailedPrecondition when what is there is no file."""
    reader, size = _Reader(chunks), None
    while True:
        entry = tarfile.TarInfo.frombuf(await reader.exactly(_BLOCK), "utf-8", "surrogateescape")
        if entry.type not in _BESIDE:
            break
        if entry.size > _HEADERS_MAX:
            raise FailedPrecondition("the file's header is too long")
        beside = await reader.exactly(entry.size + -entry.size % _BLOCK)
        if found := _PAX_SIZE.search(beside):
            size = int(found[1])
    if not entry.isreg():
        raise FailedPrecondition("this is no file but a folder or the like: get it as a tar")
    size = entry.size if size is None else size
    return File(posixpath.basename(entry.name), size, entry.mode, reader.most(size))


class _Reader:
    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._held = bytearray()

    async def exactly(self, count: int) -> bytes:
        while len(self._held) < count:
            self._held += await self._next()
        taken = bytes(self._held[:count])
        del self._held[:count]
        return taken

    async def most(self, count: int) -> AsyncIterator[bytes]:
        """``count`` bytes as they come."""
        while count:
            chunk = bytes(self._held) or await self._next()
            self._held.clear()
            yield chunk[:count]
            count -= min(count, len(chunk))

    async def _next(self) -> bytes:
        chunk = await anext(self._chunks, b"")
        if not chunk:
            raise ConnectionAbortedError("the archive was cut off on the host")
        return chunk
