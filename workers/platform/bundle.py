"""The file of ``backup``: a tar, zstd, root's alone. Written in one pass, believed only when it was read in one.

    backup.json                       first: {"format", "made_at", "release", "database", "migrations", "volumes"}
    database.sqlite3 | database.jsonl
    panel/… etc/… ceilings/… witness/…
    definitions/<tenant>.json
    volumes/<tenant>/<name>/volume.json, 000000, 000001, …      the pieces of one tar
    manifest.json                     last: {"files": {name: {"size", "sha256"}}}; a file that was cut off has none

Members are plain files with plain names; anything else is refused.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from workers.platform.say import Refusal

FORMAT: Final = 1
ABOUT: Final = "backup.json"
MANIFEST: Final = "manifest.json"
_LEVEL: Final = 3
_CHUNK: Final = 1 << 20
_NAME: Final = re.compile(r"(?!/)(?:(?!\.{1,2}/)[A-Za-z0-9._@:+=-]+/)*(?!\.{1,2}\Z)[A-Za-z0-9._@:+=-]+\Z")
_SMALL_MAX: Final = 1 << 20  # of the two that describe the others


class Writer:
    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive
        self._files: dict[str, dict[str, Any]] = {}

    def put_bytes(self, name: str, data: bytes) -> None:
        self._add(name, io.BytesIO(data), len(data), 0o600)

    def put_json(self, name: str, value: Any) -> None:
        self.put_bytes(name, json.dumps(value, indent=1).encode())

    def put_file(self, name: str, path: Path) -> None:
        """As long as it is now, with its mode; it must not become shorter meanwhile."""
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            found = os.fstat(fd)
            self._add(name, file, found.st_size, found.st_mode & 0o777)

    def end(self) -> None:
        self.put_json(MANIFEST, {"files": self._files})

    def _add(self, name: str, file: IO[bytes], size: int, mode: int) -> None:
        if not _NAME.match(name):
            raise Refusal(f"{name!r} cannot be the name of a file in a backup")
        member = tarfile.TarInfo(name)
        member.size, member.mode = size, mode
        hashed = _Hashing(file)
        self._archive.addfile(member, hashed)
        self._files[name] = {"size": size, "sha256": hashed.digest.hexdigest()}


class _Hashing:
    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, count: int = -1) -> bytes:
        data = self._file.read(count)
        self.digest.update(data)
        return data


@contextmanager
def writing(path: Path) -> Iterator[Writer]:
    """There under its name when it is whole, 0600 from its first byte on. FileExistsError when there is such a file."""
    import zstandard

    if path.exists():
        raise FileExistsError(f"{path} exists already: a backup is never written over another file")
    partial = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
            with compressor.stream_writer(file, closefd=False) as stream, tarfile.open(fileobj=stream, mode="w|") as archive:
                writer = Writer(archive)
                yield writer
                writer.end()
            file.flush()
            os.fsync(file.fileno())
        os.link(partial, path)  # unlike rename(2) it replaces nothing
    finally:
        partial.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Member:
    """``content`` is read before the next one is asked for."""

    name: str
    size: int
    mode: int
    content: IO[bytes]


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    import zstandard

    try:
        yield
    except (tarfile.TarError, zstandard.ZstdError, EOFError, ValueError) as error:
        raise Refusal(f"{path} is no whole backup: {error}") from error


def members(path: Path) -> Iterator[Member]:
    """Refusal for what is no backup of ours."""
    import zstandard

    with (
        _readable(path),
        path.open("rb") as file,
        zstandard.ZstdDecompressor().stream_reader(file) as stream,
        tarfile.open(fileobj=stream, mode="r|") as archive,
    ):
        for member in archive:
            content = archive.extractfile(member) if member.isreg() else None
            if content is None or not _NAME.match(member.name):
                raise Refusal(f"{path}: {member.name!r} has no place in a backup")
            yield Member(member.name, member.size, member.mode & 0o777, content)


def check(path: Path) -> dict[str, Any]:
    """Reads all of it: every hash is as the manifest says, and nothing is missing or too much. What backup.json says."""
    with _readable(path):
        return _check(path)


def _check(path: Path) -> dict[str, Any]:
    found: dict[str, dict[str, Any]] = {}
    about: dict[str, Any] | None = None
    manifest: dict[str, Any] | None = None
    for member in members(path):
        name, size, content = member.name, member.size, member.content
        if manifest is not None or name in found:
            raise Refusal(f"{path}: {name} is there twice, or after the end")
        if about is None and name != ABOUT:
            raise Refusal(f"{path} is no backup of this platform: it does not begin with {ABOUT}")
        if name in (ABOUT, MANIFEST):
            data = content.read(_SMALL_MAX if name == ABOUT else -1)
            if name == ABOUT:
                about = _about(path, data)
            else:
                manifest = json.loads(data)
                continue
            found[name] = {"size": size, "sha256": hashlib.sha256(data).hexdigest()}
            continue
        digest = hashlib.sha256()
        while data := content.read(_CHUNK):
            digest.update(data)
        found[name] = {"size": size, "sha256": digest.hexdigest()}
    if about is None or manifest is None:
        raise Refusal(f"{path} was cut off: its manifest is missing")
    if manifest.get("files") != found:
        wrong = [name for name in {**found, **manifest["files"]} if found.get(name) != manifest["files"].get(name)]
        raise Refusal(f"{path}: {wrong[0]} is not as it was written; nothing was restored")
    return about


def _about(path: Path, data: bytes) -> dict[str, Any]:
    about: dict[str, Any] = json.loads(data)
    if about.get("format") != FORMAT:
        raise Refusal(f"{path} has format {about.get('format')}, and this release reads {FORMAT}: use the release that made it")
    return about
