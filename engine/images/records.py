"""ImageRecords on disk: <engine>/images/<hex>.json, with the blobs that belong to each."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from engine import disk
from engine.config import EngineConfig
from engine.model.codec import from_json, to_json
from engine.model.image import ImageRecord

_KEPT_BYTES: Final = 64 << 10  # of a record that stays in memory


class ImageRecords:
    """A record never changes: its name is the digest of what it tells."""

    def __init__(self, config: EngineConfig) -> None:
        self._folder = config.images
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def read(self, digits: str) -> ImageRecord | None:
        path = self._path(digits)
        try:
            status = path.stat()
            parse = _parse if status.st_size <= _KEPT_BYTES else _parse.__wrapped__
            return parse(path, status.st_mtime_ns)
        except FileNotFoundError:
            return None

    def blobs(self, digits: str) -> set[str]:
        """The hex digests of config, manifest and layers as they came."""
        return set((disk.read_json(self._path(digits)) or {}).get("blobs", ()))

    def layers(self, digits: str) -> list[str]:
        """The hex digest of the blob of each layer, base first, compressed or not; [] where nobody noted which is which."""
        return list((disk.read_json(self._path(digits)) or {}).get("layers", ()))

    def write(self, record: ImageRecord, blobs: Iterable[str], *, layers: Sequence[str] = ()) -> None:
        """Blobs of an earlier load of the same image are kept in the list: they are on the disk."""
        digits = record.id.removeprefix("sha256:")
        old = disk.read_json(self._path(digits)) or {}
        known = {"blobs": sorted({*old.get("blobs", ()), *blobs, *layers}), "layers": list(layers) or old.get("layers", [])}
        disk.write_json(self._path(digits), {**to_json(record), **known})

    def remove(self, digits: str) -> None:
        self._path(digits).unlink(missing_ok=True)

    def all(self) -> Iterator[str]:
        """The hex digits of every image id on the host."""
        for path in self._folder.glob("[0-9a-f]*.json"):
            yield path.stem

    def _path(self, digits: str) -> Path:
        return self._folder / f"{digits}.json"


@functools.lru_cache(maxsize=256)
def _parse(path: Path, _mtime_ns: int) -> ImageRecord:
    record = disk.read_json(path)
    if record is None:
        raise FileNotFoundError(path)
    return from_json(ImageRecord, record)
