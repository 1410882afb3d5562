"""What earlier builds of a tenant left: for each step, by the digest of what went into it, what came out.

<engine>/builds/cache/<tenant>/
  steps/<key>      a Step as JSON; the key is a digest over the parent image, the instruction and the content that it copies
  held/<hex>       an image of a step with a layer: it has a record in the store, and the store keeps it as long as this file is there

A step is no image of its tenant: nothing lists it, no name means it, and ``build prune`` takes it away. A tenant uses its own cache alone,
so nobody learns from the speed of a build what others have built.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from engine import disk, wire
from engine.config import EngineConfig
from engine.images import held
from engine.model.codec import from_json, to_json

_VERSION: Final = "1"
MAX_STEPS: Final = 2000  # of one tenant


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The image after an instruction. Of ``scratch`` all is empty."""

    image_id: str = ""  # sha256:… of ``image`` as bytes
    image: dict[str, Any] = field(default_factory=dict)  # the whole image config
    chain: tuple[str, ...] = ()  # hex chain ids, base first
    blobs: tuple[str, ...] = ()  # hex digests of the layers' tars, base first
    layer_bytes: tuple[int, ...] = ()
    record_id: str = ""  # an image with the same layers that has a record in the store; "" without layers
    text: str = ""  # what was done, for who looks at the cache
    made_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One of ``StepCache.entries``."""

    key: str
    text: str
    size_bytes: int  # of the layer that it made; 0 of a step without one
    made_ns: int
    used_ns: int


class StepCache:
    def __init__(self, config: EngineConfig, tenant: str) -> None:
        folder = held.folder_of(config, tenant)
        self._steps, self._held, self._layers = folder / "steps", folder / "held", config.layers
        self._is_there = self._steps.is_dir()

    def find(self, key: str) -> Step | None:
        """None also when its layers are gone."""
        path = self._steps / key
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            step = from_json(Step, wire.decode(data))
        except ValueError:  # of another version, or emptied by a power loss
            path.unlink(missing_ok=True)
            return None
        if step.chain and not (self._layers / step.chain[-1]).is_dir():
            path.unlink(missing_ok=True)
            return None
        with suppress(FileNotFoundError):
            os.utime(path)
        return step

    def keep(self, key: str, step: Step) -> None:
        self._ensure()
        disk.write_json(self._steps / key, to_json(step))

    def hold(self, image_id: str) -> None:
        """From now on the store keeps it. Under the store's lock."""
        self._ensure()
        (self._held / image_id.removeprefix("sha256:")).touch(mode=0o600)

    def entries(self) -> Iterator[Entry]:
        for path in sorted(self._steps.iterdir()) if self._steps.is_dir() else ():
            with suppress(FileNotFoundError, ValueError):
                step = from_json(Step, wire.decode(path.read_bytes()))
                own = bool((step.image.get("history") or [{}])[-1].get("empty_layer")) is False
                size = step.layer_bytes[-1] if own and step.layer_bytes else 0
                used_ns = path.stat().st_mtime_ns
                yield Entry(key=path.name, text=step.text, size_bytes=size, made_ns=step.made_ns, used_ns=used_ns)

    def is_overfull(self) -> bool:
        return self._steps.is_dir() and len(os.listdir(self._steps)) > MAX_STEPS

    def trim(self) -> None:
        """The steps that were not used for longest go, down to three quarters of MAX_STEPS. Under the store's lock."""
        entries = sorted(self.entries(), key=lambda entry: entry.used_ns)
        gone = {entry.key for entry in entries[: len(entries) - MAX_STEPS * 3 // 4]}
        self.prune(lambda entry: entry.key in gone)

    def prune(self, wanted: Callable[[Entry], bool]) -> tuple[list[str], int]:
        """Takes away what is wanted: (keys, bytes of their layers). Under the store's lock; the caller lets the store collect."""
        gone, size = [], 0
        for entry in list(self.entries()):
            if wanted(entry):
                (self._steps / entry.key).unlink(missing_ok=True)
                gone.append(entry.key)
                size += entry.size_bytes
        needed = {step.record_id.removeprefix("sha256:") for step in self._all()}
        for path in self._held.iterdir() if self._held.is_dir() else ():
            if path.name not in needed:
                path.unlink(missing_ok=True)
        return gone, size

    def _all(self) -> Iterator[Step]:
        for path in self._steps.iterdir() if self._steps.is_dir() else ():
            with suppress(FileNotFoundError, ValueError):
                yield from_json(Step, wire.decode(path.read_bytes()))

    def _ensure(self) -> None:
        if not self._is_there:
            for folder in (self._steps, self._held):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._is_there = True


def key_of(parent_id: str, *words: Any) -> str:
    """``words``: whatever makes one step differ from another, JSON-able."""
    return hashlib.sha256(wire.encode([_VERSION, parent_id, *words])).hexdigest()
