"""Where one build makes its steps: layers out of tars, images out of steps. What it makes is nobody's before it is whole.

One staging folder for the whole build: the context's spool is in it, layers are unpacked in it, and the layers that the build stands on are
pinned by it. It is locked by the build's process; when that dies, the next load, build or start of the platform clears it.
"""

from __future__ import annotations

import hashlib
import itertools
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self

from engine.builds import runconfig
from engine.builds.cache import Step, StepCache
from engine.errors import FailedPrecondition
from engine.images import blobs, layers, removal
from engine.images.incoming import Committing, Keeping, record_of
from engine.images.limits import Limits
from engine.images.refs import parse_name
from engine.images.staging import Staging
from engine.images.store import ImageStore
from engine.images.streams import Chunks, drain
from engine.images.trash import sweep_soon
from engine.model.image import ImageRecord

EMPTY_LAYER: Final = (
    "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"  # of a tar with nothing in it: 1024 zero bytes
)


class Workshop:
    """A context manager; for any number of threads."""

    def __init__(self, store: ImageStore, tenant: str, cache: StepCache) -> None:
        self._store, self._tenant, self._cache = store, tenant, cache
        self._pins: set[str] = set()
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        with store.lock():
            self._staging = Staging(store.config)

    def __enter__(self) -> Self:
        self._staging.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._staging.__exit__(*error)

    @property
    def limits(self) -> Limits:
        return self._store.limits

    @property
    def folder(self) -> Path:
        """Private to the build, gone with it."""
        return self._staging.folder

    # -- steps -----------------------------------------------------------------------------------

    def base(self, record: ImageRecord) -> Step:
        """The step that a stage begins with."""
        self.pin(record.chain_ids)
        return Step(
            image_id=record.id,
            image=record.config,
            chain=record.chain_ids,
            blobs=tuple(blobs.of_layers(self._store, record)),
            layer_bytes=record.layer_bytes or tuple(self._store.layers.size_bytes(each) for each in record.chain_ids),
            record_id=record.id,
            text="FROM",
        )

    def pin(self, chain: tuple[str, ...]) -> None:
        with self._lock:
            if not self._pins.issuperset(chain):
                self._pins.update(chain)
                with self._store.lock():
                    self._staging.pin(self._pins)

    def plain(self, parent: Step, image: dict[str, Any], text: str) -> Step:
        """A step that changes no file. Nothing is written."""
        return Step(
            image_id=_id_of(runconfig.encoded(image)),
            image=image,
            chain=parent.chain,
            blobs=parent.blobs,
            layer_bytes=parent.layer_bytes,
            record_id=parent.record_id,
            text=text,
            made_ns=time.time_ns(),
        )

    def layered(self, parent: Step, source: Chunks, image_of: Callable[[str], dict[str, Any]], text: str) -> Step:
        """``source``: the layer's tar. ``image_of``: the image config for a diffID, "" when the tar turned out to be empty.

        All of it or nothing: killed, or on an error, no layer stays.
        """
        if len(parent.chain) >= self._store.limits.layers:
            raise FailedPrecondition(f"max depth exceeded: an image of {self._store.limits.layers} layers takes no further one")
        head = list(itertools.islice(source, 2))
        if len(head) == 1 and len(head[0]) == 1024 and not head[0].strip(b"\0"):
            return self.plain(parent, image_of(""), text)
        work = self.folder / f"layer{next(self._numbers)}"
        work.mkdir(mode=0o700)
        blob = work / "blob"
        with Keeping(blob) as kept:
            rest = kept(itertools.chain(head, source))
            prepared = layers.prepare_plain(rest, work / "unpacked", self._store.limits, lambda: f"sha256:{kept.sha256}")
            drain(rest)
        image = image_of(prepared.diff_id)
        image_id = _id_of(runconfig.encoded(image))
        sizes = [*parent.layer_bytes, prepared.size_bytes]
        record = record_of(image_id, image, sizes)
        with Committing(self._store):
            self._store.records.write(record, (), layers=[*parent.blobs, kept.sha256])
            self._store.content.adopt(blob, kept.sha256)
            chain_id = self._store.layers.adopt(prepared, parent.chain)
            self._cache.hold(image_id)
            with self._lock:
                self._pins.add(chain_id)
                self._staging.pin(self._pins)
        return Step(
            image_id=image_id,
            image=image,
            chain=record.chain_ids,
            blobs=(*parent.blobs, kept.sha256),
            layer_bytes=tuple(sizes),
            record_id=image_id,
            text=text,
            made_ns=time.time_ns(),
        )

    def lent(self, parent: Step, source: Step, image: dict[str, Any]) -> Step:
        """The step after ``parent`` with the next layer of ``source``, an image that was made of the same."""
        depth = len(parent.chain) + 1
        image_id = _id_of(runconfig.encoded(image))
        record = record_of(image_id, image, source.layer_bytes[:depth])
        with Committing(self._store):
            self._store.records.write(record, (), layers=source.blobs[:depth])
            self._cache.hold(image_id)
        return Step(
            image_id=image_id,
            image=image,
            chain=source.chain[:depth],
            blobs=source.blobs[:depth],
            layer_bytes=source.layer_bytes[:depth],
            record_id=image_id,
            made_ns=time.time_ns(),
        )

    def tidy(self) -> None:
        """A cache that has grown too big loses what nobody used for long."""
        if self._cache.is_overfull():
            with self._store.lock():
                self._cache.trim()
                removal.collect(self._store)
            sweep_soon(self._store.config.trash)

    # -- the image -------------------------------------------------------------------------------

    def publish(self, step: Step, tags: tuple[str, ...]) -> None:
        """The step becomes an image of the tenant's, by these names."""
        data = runconfig.encoded(step.image)
        digits = step.image_id.removeprefix("sha256:")
        names = [parse_name(tag) for tag in tags]
        config = self.folder / f"config{next(self._numbers)}"
        has_config = self._store.content.has(digits)
        if not has_config:
            config.write_bytes(data)
        with Committing(self._store):
            holding = self._store.refs_of.read(self._tenant)
            if step.image_id not in holding.images or self._store.records.read(digits) is None:
                self._store.records.write(record_of(step.image_id, step.image, step.layer_bytes), [digits], layers=step.blobs)
                if not has_config:
                    self._store.content.adopt(config, digits)
                elif not self._store.content.has(digits):  # it went just now
                    config.write_bytes(data)
                    self._store.content.adopt(config, digits)
            if step.image_id in holding.images and all(holding.names.get(name) == step.image_id for name in names):
                return
            holding.images.add(step.image_id)
            for name in names:
                holding.names[name] = step.image_id
            self._store.refs_of.write(self._tenant, holding)


def _id_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
