"""The build's context: a tar that is read once into one nameless file, and an index of it in memory.

Nothing of a context ever gets a name in the host's file system: no path, link or device in it can be followed, and 20,000 small
files cost no more than their bytes. What a name means is decided in the index, as in unpacking: a later entry replaces an earlier one.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Final

from engine.builds.files import File, follow, tarsum, walk
from engine.builds.ignore import Matcher, left_out
from engine.builds.transfer import tar_data
from engine.errors import InvalidArgument
from engine.images import tar
from engine.images.limits import Limits
from engine.images.streams import CHUNK, Chunks, Readable, capped, chunks, decompressed, drain
from engine.images.tree import clean_name
from engine.images.unpack import explain
from engine.model.build import DOCKERFILE
from engine.model.tenant import IDS_PER_TENANT

MAX_ENTRIES: Final = 1_000_000
MAX_PATH: Final = 4095  # bytes; PATH_MAX
MAX_DOCKERFILE: Final = 4 << 20  # bytes; also of a .dockerignore
_KINDS: Final = {
    tar.FILE: stat.S_IFREG, tar.FOLDER: stat.S_IFDIR, tar.SYMLINK: stat.S_IFLNK, tar.CHARACTER: stat.S_IFCHR,
    tar.BLOCK_DEVICE: stat.S_IFBLK, tar.FIFO: stat.S_IFIFO,
}  # fmt: skip
_XATTRS: Final = ("user.", "security.capability")


@dataclass(slots=True)
class _Node:
    file: File
    offset: int = 0  # of its bytes in the spool
    digest: str = ""
    children: dict[str, _Node] = field(default_factory=dict)


class Context:
    """A FileTree. ``close`` it: that is the end of its bytes."""

    def __init__(self, folder: Path) -> None:
        self._spool = _nameless(folder)
        self._end = 0
        self._root = _Node(File(mode=stat.S_IFDIR | 0o755))
        self._entries = 0

    def close(self) -> None:
        os.close(self._spool)

    # -- FileTree --------------------------------------------------------------------------------

    def find(self, path: str) -> File | None:
        node = self._node(path)
        return node.file if node is not None else None

    def names(self, path: str) -> list[str]:
        node = self._node(path)
        return sorted(node.children, key=os.fsencode) if node is not None else []

    def read(self, path: str) -> Iterator[bytes]:
        node = self._node(path)
        assert node is not None
        at, end = node.offset, node.offset + node.file.size
        while at < end:
            data = os.pread(self._spool, min(CHUNK, end - at), at)
            if not data:
                raise OSError(5, "the context's file is shorter than it was")
            at += len(data)
            yield data

    def digest(self, path: str) -> str:
        node = self._node(path)
        assert node is not None
        return node.digest or hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()  # a folder nobody named

    # -- filling ---------------------------------------------------------------------------------

    def fill(self, source: Chunks, limits: Limits) -> None:
        """From a plain tar. InvalidArgument for a malformed one, or one beyond the limits."""
        reader = tar.TarReader(capped(source, limits.archive_bytes, "the build context"))
        for entry in reader:
            self._entries += 1
            if self._entries > MAX_ENTRIES:
                raise InvalidArgument(f"the build context has more than {MAX_ENTRIES} entries, the limit of this host")
            self._add(entry, reader)

    def add_file(self, path: str, data: Iterator[bytes], file: File) -> None:
        """``file.size`` is found out."""
        offset = self._end
        self._write(data)
        known = replace(file, size=self._end - offset)
        node = _Node(known, offset)
        self._put(path, node)
        node.digest = tarsum(path, known, self.read(path))

    def drop(self, path: str) -> None:
        """With all below it; nothing when it is not there."""
        above, _slash, base = path.rpartition("/")
        parent = self._node(above)
        if parent is not None:
            parent.children.pop(base, None)

    def descend(self, path: str) -> None:
        """The folder ``path`` is the context from now on. InvalidArgument when there is none."""
        node = self._node(follow(self, path))
        if node is None or not node.file.is_folder:
            raise InvalidArgument(f"error setting root folder: stat {path}: no such file or directory")
        self._root = node

    def _add(self, entry: tar.Entry, reader: tar.TarReader) -> None:
        name = clean_name(entry.name)
        if len(os.fsencode(name)) > MAX_PATH:
            raise InvalidArgument(f"a name in the build context is longer than {MAX_PATH} bytes: {name[:80]!r}…")
        for number in (entry.uid, entry.gid):
            if not 0 <= number < IDS_PER_TENANT:
                entry.uid = entry.gid = 0  # of the client's machine; COPY gives files to root anyway
        if entry.kind == tar.HARD_LINK:
            self._link(entry, name)
            return
        size = entry.real_size if entry.extents is not None else entry.size
        file = File(
            mode=_KINDS[entry.kind] | (0o777 if entry.kind == tar.SYMLINK else entry.mode),
            uid=entry.uid,
            gid=entry.gid,
            size=size,
            mtime_ns=entry.mtime_ns,
            link=entry.link if entry.kind == tar.SYMLINK else "",
            device=(entry.major, entry.minor),
            xattrs={key: value for key, value in entry.xattrs.items() if key.startswith(_XATTRS)},
        )
        node = _Node(file, self._end)
        data = tar_data(entry, reader) if entry.kind == tar.FILE else iter(())
        node.digest = tarsum(name, file, self._passing(data))
        if not name:
            if file.is_folder:
                self._root.file = file
            return
        self._put(name, node)

    def _link(self, entry: tar.Entry, name: str) -> None:
        target = clean_name(entry.link)
        node = self._node(target)
        if node is None or node.file.is_folder:
            raise InvalidArgument(f"invalid hardlink {entry.name!r} -> {entry.link!r}: the target is not in the context")
        if target != name:
            inode = node.file.inode or object()
            node.file = replace(node.file, inode=inode)
            copy = _Node(node.file, node.offset)
            copy.digest = tarsum(name, node.file, self.read(target) if node.file.is_regular else iter(()))
            self._put(name, copy)

    def _put(self, name: str, node: _Node) -> None:
        above, _slash, base = name.rpartition("/")
        parent = self._folder(above)
        old = parent.children.get(base)
        if old is not None and old.file.is_folder and node.file.is_folder:
            node.children = old.children
        parent.children[base] = node

    def _folder(self, path: str) -> _Node:
        """Made where it is missing; through links as they lead inside of the context."""
        node = self._node(path)
        if node is None or not node.file.is_folder:
            node, path = self._root, follow(self, path)
            for part in [part for part in path.split("/") if part]:
                below = node.children.get(part)
                if below is None or not below.file.is_folder:
                    below = node.children[part] = _Node(File(mode=stat.S_IFDIR | 0o755))
                node = below
        return node

    def _node(self, path: str) -> _Node | None:
        node = self._root
        for part in path.split("/") if path else ():
            below = node.children.get(part)
            if below is None:
                return None
            node = below
        return node

    def _passing(self, data: Iterator[bytes | memoryview]) -> Iterator[bytes]:
        for piece in data:
            self._write(iter((piece,)))
            yield piece  # type: ignore[misc]  # a hash takes both

    def _write(self, data: Iterator[bytes | memoryview] | Iterator[bytes]) -> None:
        for piece in data:
            view = memoryview(piece)
            while view:
                try:
                    done = os.pwrite(self._spool, view, self._end)
                except OSError as error:
                    raise explain(error, "keep the build context") from error
                self._end += done
                view = view[done:]


def _nameless(folder: Path) -> int:
    """O_TMPFILE, and what it stands for where the file system has it not."""
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT):
            raise
    fd, path = tempfile.mkstemp(dir=folder)
    os.unlink(path)
    return fd


def read_context(stream: Readable, folder: Path, limits: Limits) -> Context:
    """The client's tar, compressed or not; what is no tar but text is a Dockerfile alone. Reads the stream to its end."""
    context = Context(folder)
    try:
        fill_from(context, chunks(stream), limits)
    except BaseException:
        context.close()
        raise
    return context


def fill_from(context: Context, source: Chunks, limits: Limits, *, name: str = DOCKERFILE) -> bool:
    """Whether it was a Dockerfile alone, which then is called ``name``."""
    plain = decompressed(source)
    head = _head(plain)
    if not head:
        return False
    rest = chain(head, plain)
    if _is_tar(b"".join(head)):
        context.fill(rest, limits)
        drain(rest)  # its end marks, and what a client sends after them
        return False
    context.add_file(name, capped(rest, MAX_DOCKERFILE, "the Dockerfile"), File(mode=stat.S_IFREG | 0o644))
    return True


def _head(source: Chunks) -> list[bytes]:
    """The first chunks, up to a header's length."""
    taken: list[bytes] = []
    while sum(map(len, taken)) < tar.BLOCK and (piece := next(source, b"")):
        taken.append(piece)
    return taken


def _is_tar(head: bytes) -> bool:
    if len(head) < tar.BLOCK:
        return b"\0" in head
    if head[257:262] == b"ustar" or not head[: tar.BLOCK].strip(b"\0"):
        return True
    return b"\0" in head[: tar.BLOCK]  # older tars are full of zero bytes, no text has one


def file_text(tree: Context, path: str) -> bytes | None:
    """The bytes of a small text in the context, through links; None when there is no such file."""
    found = follow(tree, path)
    file = tree.find(found)
    if file is None or not file.is_regular:
        return None
    if file.size > MAX_DOCKERFILE:
        raise InvalidArgument(f"{path} is larger than {MAX_DOCKERFILE} bytes, the limit of this host")
    return b"".join(tree.read(found))


def prune(context: Context, matcher: Matcher) -> None:
    """Takes out what .dockerignore names."""
    found = [(path, file.is_folder) for path, file in walk(context, "")]
    for path in left_out(found, matcher):
        context.drop(path)
