"""What COPY and ADD can read: a tree of files, wherever it lies (the context's spool, an image's layers, a download).

Paths are relative to the tree's root, with "" for the root itself. A tree knows links but does not follow them; ``follow`` does.
"""

from __future__ import annotations

import hashlib
import posixpath
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol

from engine.files import links


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One entry. ``mode`` is a whole st_mode; ids are the container's own."""

    mode: int
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime_ns: int = 0
    link: str = ""  # of a symlink
    device: tuple[int, int] = (0, 0)
    xattrs: dict[str, bytes] = field(default_factory=dict)
    inode: object = None  # equal for the names of one file, when it has several

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.mode)

    @property
    def is_regular(self) -> bool:
        return stat.S_ISREG(self.mode)


class FileTree(Protocol):
    """For one thread at a time."""

    def find(self, path: str) -> File | None:
        """What is there, the last component not followed; None also when one before it is no folder."""
        ...

    def names(self, path: str) -> list[str]:
        """Of a folder, in order of their bytes."""
        ...

    def read(self, path: str) -> Iterator[bytes]:
        """The bytes of a regular file: exactly ``size`` of them."""
        ...

    def digest(self, path: str) -> str:
        """sha256 hex of what a change would be seen by: see ``tarsum``."""
        ...


def walk(tree: FileTree, path: str) -> Iterator[tuple[str, File]]:
    """Everything below the folder, not itself; a folder comes before what is in it."""
    stack = [iter(tree.names(path))]
    above = [path]
    while stack:
        name = next(stack[-1], None)
        if name is None:
            stack.pop()
            above.pop()
            continue
        here = f"{above[-1]}/{name}" if above[-1] else name
        file = tree.find(here)
        if file is None:
            continue
        yield here, file
        if file.is_folder:
            stack.append(iter(tree.names(here)))
            above.append(here)


def follow(tree: FileTree, path: str) -> str:
    """``path`` with every link in it followed, inside of the tree; what is not there is kept as it is. InvalidArgument for a loop."""

    def link(name: str) -> str | None:
        file = tree.find(name)
        return file.link if file is not None and file.is_link else None

    return links.follow(path, link)


def tarsum(name: str, file: File, content: Iterator[bytes]) -> str:
    """moby's checksum of one entry (its tarsum version 1): everything but the times. So equal contexts have equal digests in both."""
    shown = name + "/" if file.is_folder else name
    perm = file.mode & 0o7777
    kind = _TYPES.get(stat.S_IFMT(file.mode), "0")
    size = file.size if file.is_regular else 0
    words = [
        ("name", shown), ("mode", str(perm)), ("uid", str(file.uid)), ("gid", str(file.gid)), ("size", str(size)), ("typeflag", kind),
        ("linkname", file.link), ("uname", ""), ("gname", ""), ("devmajor", str(file.device[0])), ("devminor", str(file.device[1])),
    ]  # fmt: skip
    digest = hashlib.sha256("".join(key + value for key, value in words).encode("utf-8", "surrogateescape"))
    for key in sorted(file.xattrs):
        digest.update(key.encode("utf-8", "surrogateescape") + file.xattrs[key])
    for chunk in content:
        digest.update(chunk)
    return digest.hexdigest()


_TYPES: Final = {
    stat.S_IFREG: "0", stat.S_IFLNK: "2", stat.S_IFCHR: "3", stat.S_IFBLK: "4", stat.S_IFDIR: "5", stat.S_IFIFO: "6",
}  # fmt: skip


def clean(path: str) -> str:
    """Relative and without ``..``, as moby takes paths of the context: "" for the whole of it."""
    return posixpath.normpath("/" + path.lstrip("/")).lstrip("/")
