"""What a COPY or ADD puts where, as the tar of a new layer. Nothing is mounted and nothing is run: the image below is looked at, no more.

The tar names every folder on the way with the look it has in the image, so that whoever unpacks it elsewhere changes nothing else.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from engine.builds.files import File, FileTree, follow
from engine.errors import InvalidArgument
from engine.images import headers
from engine.images.streams import CHUNK, Chunks

Owner = tuple[int, int]
_ROOT: Final[Owner] = (0, 0)


class Repeated(Exception):
    """Names were put more than once, which a layer must not show (image-spec): begin again with ``times``, and only the last is written."""

    def __init__(self, times: Mapping[str, int]) -> None:
        super().__init__(f"{len(times)} names are there more than once")
        self.times = times


class Layout:
    """The image's files with what was put so far on top. Each ``put…`` yields bytes of the layer's tar."""

    def __init__(self, below: FileTree, *, now_s: int, latest_s: int | None = None, times: Mapping[str, int] | None = None) -> None:
        """``now_s``: the time of folders that are made on the way; ``latest_s``: no entry is younger (SOURCE_DATE_EPOCH); ``times``: of a
        first attempt that ended with Repeated."""
        self._below = below
        self._now_ns = now_s * 10**9
        self._latest_s = latest_s
        self._new: dict[str, File] = {}
        self._links: dict[object, str] = {}
        self._times: dict[str, int] = {}
        self._expected = times or {}

    # -- FileTree, as far as following links needs it ------------------------------------------------

    def find(self, path: str) -> File | None:
        if path in self._new:
            return self._new[path]
        above = path
        while above:
            above = above.rpartition("/")[0]
            known = self._new.get(above)
            if known is not None and not known.is_folder:
                return None
            if known is not None and (old := self._below.find(above)) is not None and not old.is_folder:
                return None  # a new folder where no folder was: what is new in it is known
        return self._below.find(path)

    def names(self, path: str) -> list[str]:
        return self._below.names(path)

    def read(self, path: str) -> Iterator[bytes]:
        return self._below.read(path)

    def digest(self, path: str) -> str:
        return self._below.digest(path)

    def resolve(self, path: str) -> str:
        """Through all links, as the container would go."""
        return follow(self, path)

    def is_folder(self, path: str) -> bool:
        file = self.find(path)
        return file.is_folder if file is not None else not path

    # -- putting ---------------------------------------------------------------------------------

    def new_item(self) -> None:
        """Hard links are kept within one source."""
        self._links.clear()

    def finish(self) -> None:
        """Nothing more is put. Raises Repeated."""
        repeated = {path: times for path, times in self._times.items() if times > 1}
        if repeated and not self._expected:
            raise Repeated(repeated)

    def _is_last(self, path: str) -> bool:
        """Whether ``path`` is to be written now: as far as is known it does not come again."""
        self._times[path] = self._times.get(path, 0) + 1
        return self._times[path] >= self._expected.get(path, 1)

    def put_folder(self, path: str, owner: Owner = _ROOT, mode: int = 0o755) -> Iterator[bytes]:
        """Made with its parents where it is missing; one that is there stays as it is."""
        if not path or self.is_folder(path):
            return
        folder = File(mode=stat.S_IFDIR | mode, uid=owner[0], gid=owner[1], mtime_ns=self._now_ns)
        yield from self.put(path, folder, parents=owner, parents_mode=mode)

    def put(
        self, path: str, file: File, data: Iterator[bytes] | None = None, *, parents: Owner = _ROOT, parents_mode: int = 0o755
    ) -> Iterator[bytes]:
        """``path``'s folder is one already, or gets made. What cannot be in an archive (a socket) is passed over."""
        kind = headers.kind_of(file.mode)
        if kind is None or not path:
            return
        yield from self._way_to(path, parents, parents_mode)
        if not self._is_last(path):
            self._new[path] = file
            for _piece in data or ():  # what reads an archive has to come to its end
                pass
            return
        first = self._links.get(file.inode) if file.inode is not None else None
        if first is not None:
            self._new[path] = file
            yield self._header(path, headers.HARD_LINK, replace(file, size=0, link=first))
            return
        self._new[path] = file
        if file.inode is not None:
            self._links[file.inode] = path
        yield self._header(path, kind, file)
        if file.is_regular:
            left = file.size
            for piece in data or ():
                left -= len(piece)
                yield piece
            if left:
                raise InvalidArgument(f"{path}: the file has another size than was said")
            yield headers.padding(file.size)

    def _way_to(self, path: str, owner: Owner, mode: int) -> Iterator[bytes]:
        parts = path.split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            above = "/".join(parts[:depth])
            if above in self._new:
                if not self._new[above].is_folder:
                    raise InvalidArgument(f"cannot copy to /{path}: /{above} is not a directory")
                continue
            file = self.find(above)
            if file is None or not file.is_folder:
                file = File(mode=stat.S_IFDIR | mode, uid=owner[0], gid=owner[1], mtime_ns=self._now_ns)
            self._new[above] = file
            if self._is_last(above):
                yield self._header(above, b"5", file)

    def _header(self, path: str, kind: bytes, file: File) -> bytes:
        mtime_s = file.mtime_ns // 10**9
        return headers.header(
            os.fsencode(path) + (b"/" if kind == b"5" else b""),
            kind,
            mode=stat.S_IMODE(file.mode),
            uid=file.uid,
            gid=file.gid,
            size=file.size if kind == b"0" else 0,
            mtime_s=mtime_s if self._latest_s is None else min(mtime_s, self._latest_s),
            link=os.fsencode(file.link),
            device=file.device,
            xattrs=file.xattrs,
        )


def gathered(pieces: Iterator[bytes]) -> Chunks:
    """In chunks of about CHUNK bytes, with the archive's end mark."""
    buffer = bytearray()
    for piece in pieces:
        buffer += piece
        if len(buffer) >= CHUNK:
            yield bytes(buffer)
            buffer.clear()
    yield bytes(buffer) + headers.END
