"""Bringing images in: ``docker load`` and ``docker import``. See store.py for the way and its guarantees."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from engine.errors import EngineError, InvalidArgument
from engine.images import layers, removal
from engine.images.ahead import Ahead
from engine.images.archive import ArchivedImage, images
from engine.images.changes import apply_changes
from engine.images.layers import Prepared, chain_ids
from engine.images.progress import progress
from engine.images.refs import parse_name
from engine.images.spool import Member, spool
from engine.images.staging import Staging
from engine.images.streams import Chunks, Readable
from engine.images.unpack import explain
from engine.model.image import ImageRecord
from engine.model.platform import Platform, host_platform

if TYPE_CHECKING:
    from engine.images.store import ImageStore

_PROGRESS_S: Final = 0.1  # between two lines of one layer
_THREADS: Final = min(os.cpu_count() or 1, 4)


@dataclass(frozen=True, slots=True)
class _Job:
    """One layer of an archive: unpack it, or read it only, when the host has it."""

    chain_id: str
    diff_id: str
    member: Member
    present: bool


class _Stopped(Exception):
    """Another layer failed."""


class Incoming:
    def __init__(self, store: ImageStore) -> None:
        self._store = store
        self._limits = store.limits

    def load(self, tenant: str, stream: Readable, *, quiet: bool, platform: str = "") -> Iterator[dict[str, Any]]:
        wanted = Platform.parse(platform) if platform else None
        with self._staging() as staging:
            files = staging.folder / "files"
            files.mkdir()
            ahead = Ahead(staging.folder, self._limits, has=self._store.content.has, at_once=_THREADS)
            try:
                found = images(spool(stream, files, self._limits, ahead), self._limits, wanted)
                prepared: dict[str, Prepared] = {}
                for line in _unpack_all(self._jobs(staging, found), staging.folder, self._store, prepared, ahead):
                    if not quiet:
                        yield line
            finally:
                ahead.stop()
            said = self._commit_archive(tenant, found, prepared)
        yield from said
        yield {"images": [image.id for image in found]}

    def import_rootfs(
        self, tenant: str, stream: Readable, *, ref: str | None, changes: Sequence[str], message: str, platform: str
    ) -> Iterator[dict[str, Any]]:
        name = parse_name(ref) if ref else None
        settings = apply_changes(changes)
        wanted = Platform.parse(platform) if platform else host_platform()
        if wanted.os != "linux":
            raise InvalidArgument(f"operating system is not supported: {wanted.os}")
        with self._staging() as staging:
            blob = staging.folder / "layer"
            with Keeping(blob) as kept:
                prepared = layers.prepare(stream, staging.folder / "unpacked", self._limits, on_the_way=kept)
            data = _imported_config(prepared.diff_id, settings, message or "Imported from -", wanted)
            config = staging.folder / "config"
            config.write_bytes(data)
            digits = hashlib.sha256(data).hexdigest()
            record = record_of(f"sha256:{digits}", json.loads(data), [prepared.size_bytes])
            with self._committing():
                self._store.records.write(record, [digits], layers=[kept.sha256])
                self._store.content.adopt(config, digits)
                self._store.content.adopt(blob, kept.sha256)
                self._store.layers.adopt(prepared, [])
                self._give(tenant, record.id, [name] if name else [])
        yield {"status": record.id}
        yield {"images": [record.id]}

    def _staging(self) -> Staging:
        with self._store.lock():
            return Staging(self._store.config)

    def _jobs(self, staging: Staging, found: Sequence[ArchivedImage]) -> list[_Job]:
        """What is to do, base layers first; what the host has already stays until the staging folder goes."""
        jobs: dict[str, _Job] = {}
        with self._store.lock():
            for image in found:
                for chain_id, diff_id, member in zip(chain_ids(image.diff_ids), image.diff_ids, image.layers, strict=True):
                    present = self._store.layers.has(chain_id)
                    # Two images may have the same layer compressed in two ways: both are somebody's word and are read.
                    jobs.setdefault(f"{chain_id}{member.sha256}", _Job(chain_id, diff_id, member, present or _has(jobs, chain_id)))
            staging.pin({job.chain_id for job in jobs.values()})
        return list(jobs.values())

    def _commit_archive(self, tenant: str, found: Sequence[ArchivedImage], prepared: dict[str, Prepared]) -> list[dict[str, Any]]:
        said: list[dict[str, Any]] = []
        with self._committing():
            for image in found:
                chain = chain_ids(image.diff_ids)
                sizes = [prepared[each].size_bytes if each in prepared else self._store.layers.size_bytes(each) for each in chain]
                members = [image.config_member, *image.layers, *([image.manifest] if image.manifest else [])]
                # The record is first: should we die here, it tells the next start what to clear.
                record = record_of(image.id, image.config, sizes)
                self._store.records.write(record, [member.sha256 for member in members], layers=[member.sha256 for member in image.layers])
                for member in members:
                    self._store.content.adopt(member.path, member.sha256)
                for depth, chain_id in enumerate(chain):
                    if chain_id in prepared:
                        self._store.layers.adopt(prepared[chain_id], chain[:depth])
                said += self._give(tenant, image.id, image.names)
        return said

    def _give(self, tenant: str, image_id: str, names: Sequence[str]) -> list[dict[str, Any]]:
        return give(self._store, tenant, image_id, names)

    def _committing(self) -> AbstractContextManager[None]:
        return Committing(self._store)


def give(store: ImageStore, tenant: str, image_id: str, names: Sequence[str]) -> list[dict[str, Any]]:
    """The tenant has it from here on, by these names. The lines that dockerd would say. Under the store's lock."""
    said = []
    holding = store.refs_of.read(tenant)
    holding.images.add(image_id)
    for name in names:
        old = holding.names.get(name, image_id)
        if old != image_id:
            said.append(f"The image {name} already exists, renaming the old one with ID {old} to empty string\n")
        holding.names[name] = image_id
        said.append(f"Loaded image: {name}\n")
    store.refs_of.write(tenant, holding)
    return [{"stream": line} for line in said or [f"Loaded image ID: {image_id}\n"]]


class Committing(AbstractContextManager[None]):
    """The store's lock; what an error leaves half done is cleared before it is given back."""

    def __init__(self, store: ImageStore) -> None:
        self._store = store
        self._lock = store.lock()

    def __enter__(self) -> None:
        self._lock.__enter__()

    def __exit__(self, kind: object, error: BaseException | None, _traceback: object) -> None:
        try:
            if error is not None:
                removal.collect(self._store)
        finally:
            self._lock.__exit__(None, None, None)
        if isinstance(error, OSError):
            raise explain(error, "store the image") from error


class Keeping:
    """A stage that writes what passes into a new file and hashes it. ``sha256`` is complete when the stream is."""

    def __init__(self, path: Path) -> None:
        self._digest = hashlib.sha256()
        self._file = path.open("xb", buffering=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._file.close()

    def __call__(self, source: Chunks) -> Chunks:
        for chunk in source:
            self._digest.update(chunk)
            left = memoryview(chunk)
            while left:
                try:
                    left = left[self._file.write(left) :]
                except OSError as error:
                    raise explain(error, "store the layer") from error
            yield chunk

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


def _has(jobs: dict[str, _Job], chain_id: str) -> bool:
    return any(job.chain_id == chain_id for job in jobs.values())


def _unpack_all(jobs: Sequence[_Job], folder: Path, store: ImageStore, done: dict[str, Prepared], ahead: Ahead) -> Iterator[dict[str, Any]]:
    """Works off the jobs in threads, fills ``done`` by chain id, and hands on the progress lines as they come."""
    lines: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    stop = threading.Event()

    def work(job: _Job, number: int) -> Prepared | None:
        try:
            return _one(job, folder / f"layer{number}", store, ahead, _teller(job, lines, stop))
        except BaseException:
            stop.set()
            raise
        finally:
            lines.put(None)

    with ThreadPoolExecutor(_THREADS, thread_name_prefix="layer") as pool:
        futures = [pool.submit(work, job, number) for number, job in enumerate(jobs)]
        try:
            waiting = len(futures)
            while waiting:
                line = lines.get()
                if line is None:
                    waiting -= 1
                else:
                    yield line
        finally:
            stop.set()  # whoever listens may have gone away
    errors = [error for future in futures if (error := future.exception()) is not None]
    for error in errors:
        if not isinstance(error, _Stopped):
            raise error
    done.update((job.chain_id, prepared) for job, future in zip(jobs, futures, strict=True) if (prepared := future.result()))


def _one(job: _Job, folder: Path, store: ImageStore, ahead: Ahead, tell: Callable[[int], None]) -> Prepared | None:
    trusted = f"sha256:{job.member.sha256}" == job.diff_id  # not compressed, and hashed when it came in
    if job.present and trusted:
        return None
    try:
        if prepared := ahead.take(job.member.path, job.diff_id):
            tell(job.member.size)
            return None if job.present else prepared
        with job.member.path.open("rb", buffering=0) as stream:
            if job.present:
                layers.check(stream, job.diff_id, store.limits, tell)
                return None
            return layers.prepare(stream, folder, store.limits, diff_id=job.diff_id, trusted=trusted, tell=tell)
    except OSError as error:
        raise explain(error, f"unpack layer {job.diff_id[7:19]}") from error
    except EngineError as error:
        raise type(error)(f"layer {job.diff_id[7:19]}: {error.message}", **error.detail) from error


def _teller(job: _Job, lines: queue.SimpleQueue[dict[str, Any] | None], stop: threading.Event) -> Callable[[int], None]:
    due = 0.0

    def tell(read: int) -> None:
        nonlocal due
        if stop.is_set():
            raise _Stopped
        now = time.monotonic()
        if not job.present and (now >= due or read == job.member.size):
            due = now + _PROGRESS_S
            lines.put(progress("Loading layer", job.diff_id[7:19], read, job.member.size))

    return tell


def record_of(image_id: str, config: dict[str, Any], layer_bytes: Sequence[int]) -> ImageRecord:
    """``layer_bytes``: of each unpacked layer, base first (Prepared.size_bytes, Layers.size_bytes)."""
    diff_ids = config["rootfs"]["diff_ids"] or []
    return ImageRecord(
        id=image_id,
        chain_ids=tuple(chain_ids(diff_ids)),
        diff_ids=tuple(diff_ids),
        config=config,
        size_bytes=sum(layer_bytes),
        created=config.get("created") or "",
        layer_bytes=tuple(layer_bytes),
    )


def _imported_config(diff_id: str, settings: dict[str, Any], message: str, platform: Platform) -> bytes:
    created = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    config = {
        "architecture": platform.architecture,
        "os": "linux",
        **({"variant": platform.variant} if platform.variant else {}),
        "created": created,
        "comment": message,
        "config": settings,
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{"created": created, "comment": message}],
    }
    return json.dumps(config, separators=(",", ":"), sort_keys=True).encode()
