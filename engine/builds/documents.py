"""Heredocs of COPY and ADD: each document is a file of its name, mode 0644, with no time of its own."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence

from engine.builds.dockerfile.model import Heredoc
from engine.builds.files import File, tarsum
from engine.builds.transfer import Item


class Document:
    """A FileTree of one file."""

    def __init__(self, name: str, content: bytes, *, mode: int = 0o644, mtime_ns: int = 0) -> None:
        self.name = name
        self._content = content
        self._file = File(mode=stat.S_IFREG | mode, size=len(content), mtime_ns=mtime_ns)

    def find(self, path: str) -> File | None:
        if not path:
            return File(mode=stat.S_IFDIR | 0o755)
        return self._file if path == self.name else None

    def names(self, path: str) -> list[str]:
        return [] if path else [self.name]

    def read(self, path: str) -> Iterator[bytes]:
        yield self._content

    def digest(self, path: str) -> str:
        return tarsum(self.name, self._file, iter((self._content,)))


def items(documents: Sequence[Heredoc]) -> list[Item]:
    found = []
    for each in documents:
        name = each.name.replace("/", "_")
        tree = Document(name, each.content)
        found.append(Item(tree=tree, path=name, name=name, digest=f"file:{tree.digest(name)}"))
    return found
