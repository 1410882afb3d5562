"""An image archive from a stream that cannot seek: every file goes to a private folder and is hashed on the way.

Whatever order an archive has, its files are known by name afterwards. A file that claims its digest by its name (``blobs/sha256/<hex>``)
must have it. Symbolic and hard links name other files of the archive: docker save before version 25 wrote equal layers so.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine.errors import InvalidArgument
from engine.images import tar
from engine.images.ahead import Ahead, Feed
from engine.images.limits import Limits
from engine.images.streams import Chunks, Readable, capped, chunks, decompressed, drain
from engine.images.tree import clean_name
from engine.images.unpack import explain

_CLAIM: Final = re.compile(r"blobs/(sha256|sha512)/([0-9a-f]+)")
_MAX_LINKS: Final = 8
_WINDOW_BYTES: Final = 64 << 20  # of the archive's own compression: nothing else is unpacked meanwhile; up to xz -9


@dataclass(frozen=True, slots=True)
class Member:
    """One file of an archive, as it lies in the private folder. ``sha256`` is 64 hex digits of what was read."""

    path: Path
    sha256: str
    size: int


class Archive:
    """The files of one archive by their clean names."""

    def __init__(self) -> None:
        self._members: dict[str, Member] = {}
        self._links: dict[str, str] = {}

    def add(self, name: str, member: Member) -> None:
        self._links.pop(name, None)
        if old := self._members.pop(name, None):
            old.path.unlink(missing_ok=True)
        self._members[name] = member

    def link(self, name: str, target: str) -> None:
        self._links[name] = target

    def find(self, name: str) -> Member | None:
        name = name.removeprefix("./")
        for _hop in range(_MAX_LINKS):
            if name not in self._links:
                return self._members.get(name)
            name = self._links[name]
        return None

    def read(self, name: str, limits: Limits) -> bytes | None:
        """The bytes of a small document; None when it is not in the archive."""
        member = self.find(name)
        return None if member is None else read_document(member, name, limits)


def read_document(member: Member, name: str, limits: Limits, limit_bytes: int = 0) -> bytes:
    limit = limit_bytes or limits.document_bytes
    if member.size > limit:
        raise InvalidArgument(f"{name} is larger than {limit} bytes, the limit of this host")
    return member.path.read_bytes()


def spool(stream: Readable, folder: Path, limits: Limits, ahead: Ahead | None = None) -> Archive:
    """Reads the stream to its end: plain, gzip, zstd, bzip2 or xz. The files get numbers for names in ``folder``.

    ``ahead`` sees what may be layers on their way.
    """
    archive = Archive()
    source: Chunks = capped(decompressed(chunks(stream), window_bytes=_WINDOW_BYTES), limits.archive_bytes, "the archive")
    reader = tar.TarReader(source)
    for number, entry in enumerate(reader):
        if number >= limits.archive_entries:
            raise InvalidArgument(f"the archive has more than {limits.archive_entries} entries, the limit of this host")
        name = clean_name(entry.name)
        if entry.kind == tar.FILE:
            try:
                archive.add(name, _store(reader, name, entry, folder / str(number), ahead))
            except OSError as error:
                raise explain(error, f"read {entry.name!r} of the archive") from error
        elif entry.kind == tar.SYMLINK:
            target = posixpath.join(posixpath.dirname(name), entry.link)
            archive.link(name, clean_name(posixpath.normpath(target)))
        elif entry.kind == tar.HARD_LINK:
            archive.link(name, clean_name(entry.link))
    drain(source)
    return archive


def _store(reader: tar.TarReader, name: str, entry: tar.Entry, path: Path, ahead: Ahead | None) -> Member:
    if entry.extents is not None:
        raise InvalidArgument(f"{name!r} of the archive is stored as a sparse file; image archives have none")
    claim = _CLAIM.fullmatch(name)
    digest = hashlib.sha256()
    claimed = hashlib.sha512() if claim and claim[1] == "sha512" else None
    feed: Feed | None = None
    is_first = ahead is not None
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        for piece in reader.data():
            if is_first and ahead is not None:
                feed, is_first = ahead.begin(name, path, entry.size, piece), False
            if feed:
                feed.put(piece)
            digest.update(piece)
            if claimed:
                claimed.update(piece)
            while piece:
                piece = piece[os.write(fd, piece) :]
    finally:
        os.close(fd)
    if claim and (found := (claimed or digest).hexdigest()) != claim[2]:
        raise InvalidArgument(f"the archive is damaged: {name} has the digest {claim[1]}:{found}")
    if feed:
        feed.end(digest.hexdigest())
    return Member(path, digest.hexdigest(), entry.size)
