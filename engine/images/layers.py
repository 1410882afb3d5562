"""Layers unpacked once per host: <engine>/layers/<chainID>/{diff, layer.json}, shared by every tenant and image.

chainID(base) = diffID; chainID(n) = sha256(chainID(n-1) + " " + diffID(n)): it names a layer together with what lies below it
(image-spec 1.1, config.md). A finished folder is renamed in, so a layer is there whole or not at all.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine import disk
from engine.config import EngineConfig
from engine.errors import InvalidArgument
from engine.images.limits import Limits
from engine.images.streams import (
    Chunks,
    Readable,
    capped,
    chunks,
    counted,
    decompressed,
    drain,
    hashed,
)
from engine.images.unpack import Unpacked, inherit, unpack

_RECORD: Final = "layer.json"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A layer unpacked in a private folder, not yet the host's."""

    folder: Path  # holds diff and layer.json
    diff_id: str
    size_bytes: int
    implied: tuple[str, ...]
    tar_bytes: int = 0  # of the plain tar it came as


def chain_ids(diff_ids: Sequence[str]) -> list[str]:
    """The hex digits of the chain ids, base first."""
    chain: list[str] = []
    for diff_id in diff_ids:
        text = f"sha256:{chain[-1]} {diff_id}" if chain else ""
        chain.append(hashlib.sha256(text.encode()).hexdigest() if chain else diff_id.removeprefix("sha256:"))
    return chain


class Layers:
    def __init__(self, config: EngineConfig) -> None:
        self._layers = config.layers
        self._trash = config.trash
        self._layers.mkdir(mode=0o700, parents=True, exist_ok=True)

    def has(self, chain_id: str) -> bool:
        return (self._layers / chain_id).is_dir()

    def diff(self, chain_id: str) -> Path:
        return self._layers / chain_id / "diff"

    def size_bytes(self, chain_id: str) -> int:
        """Bytes of the files in it, as ``docker image ls`` counts."""
        record = disk.read_json(self._layers / chain_id / _RECORD) or {}
        return int(record.get("size_bytes", 0))

    def tar_bytes(self, chain_id: str) -> int:
        """Bytes of its plain tar; 0 of a layer that was unpacked before this was noted."""
        record = disk.read_json(self._layers / chain_id / _RECORD) or {}
        return int(record.get("tar_bytes", 0))

    def adopt(self, prepared: Prepared, below: Sequence[str]) -> str:
        """The prepared layer becomes the host's, on top of the chain ``below`` (base first). Its chain id.

        Where another load was faster its folder stays: the bytes are the same.
        """
        chain_id = chain_ids([*(f"sha256:{each}" for each in below[-1:]), prepared.diff_id])[-1]
        if not self.has(chain_id):
            inherit(prepared.folder / "diff", prepared.implied, [self.diff(each) for each in reversed(below)])
            os.rename(prepared.folder, self._layers / chain_id)
        return chain_id

    def discard(self, chain_id: str) -> None:
        """To the trash, at once."""
        disk.to_trash(self._layers / chain_id, self._trash)


def prepare(
    stream: Readable,
    folder: Path,
    limits: Limits,
    *,
    diff_id: str | None = None,
    trusted: bool = False,
    tell: Callable[[int], None] = lambda _read: None,
    on_the_way: Callable[[Chunks], Chunks] = lambda source: source,
) -> Prepared:
    """Unpacks a layer, compressed or not, into the new folder ``folder`` in one pass.

    ``diff_id`` is what the layer must hash to, uncompressed; ``trusted`` says that the caller hashed these very bytes already.
    ``tell`` hears how many bytes of the stream were read and may raise to stop; ``on_the_way`` sees them as they come.
    """
    folder.mkdir(mode=0o700)
    (folder / "diff").mkdir()
    digest, size = hashlib.sha256(), _Counter()
    plain = size(capped(decompressed(on_the_way(counted(chunks(stream), tell))), limits.layer_bytes, "the layer"))
    source = plain if trusted else hashed(plain, digest)
    unpacked = unpack(source, folder / "diff", limits)
    drain(source)
    found = diff_id if trusted and diff_id else f"sha256:{digest.hexdigest()}"
    if diff_id is not None and found != diff_id:
        raise InvalidArgument(f"invalid diffID of a layer: expected {diff_id!r}, got {found!r}")
    return _finished(folder, found, unpacked, size.bytes)


def prepare_plain(source: Chunks, folder: Path, limits: Limits, diff_id: Callable[[], str]) -> Prepared:
    """As ``prepare``, of a tar that we write ourselves; whoever hashes it on the way says its ``diff_id`` when all has passed."""
    folder.mkdir(mode=0o700)
    (folder / "diff").mkdir()
    size = _Counter()
    source = size(source)
    unpacked = unpack(source, folder / "diff", limits)
    drain(source)
    return _finished(folder, diff_id(), unpacked, size.bytes)


class _Counter:
    """A stage that knows afterwards how much has passed."""

    bytes = 0

    def __call__(self, source: Chunks) -> Chunks:
        for chunk in source:
            self.bytes += len(chunk)
            yield chunk


def _finished(folder: Path, diff_id: str, unpacked: Unpacked, tar_bytes: int) -> Prepared:
    facts = {"diff_id": diff_id, "size_bytes": unpacked.size_bytes, "entries": unpacked.entries, "tar_bytes": tar_bytes}
    disk.write_json(folder / _RECORD, facts)
    return Prepared(folder, diff_id, unpacked.size_bytes, unpacked.implied, tar_bytes)


def check(stream: Readable, diff_id: str, limits: Limits, tell: Callable[[int], None] = lambda _read: None) -> None:
    """Reads a layer that is on this host already: who wants it must bring its bytes all the same."""
    digest = hashlib.sha256()
    drain(hashed(capped(decompressed(counted(chunks(stream), tell)), limits.layer_bytes, "the layer"), digest))
    found = f"sha256:{digest.hexdigest()}"
    if found != diff_id:
        raise InvalidArgument(f"invalid diffID of a layer: expected {diff_id!r}, got {found!r}")
