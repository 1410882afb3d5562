"""``docker push``: layers that the registry lacks, config, manifest.

An image that was pulled goes out under the very manifest it came with, as long as all of its blobs are here: its digest stays. Else
a docker schema 2 manifest is made, and layers that lie here as plain tars are compressed on the way out (the registry counts them
by another digest then; which one is remembered, so a second push compresses nothing).
"""

from __future__ import annotations

import hashlib
import json
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from isal import igzip

from engine.config import PUBLIC_TENANT
from engine.errors import EngineError, NotFound, Unavailable
from engine.images import blobs
from engine.images.progress import progress
from engine.images.staging import Staging
from engine.images.store import ImageStore
from engine.images.streams import chunks, decompressed
from engine.images.unpack import explain
from engine.model.image import ImageRecord
from engine.model.reference import Reference
from engine.registries import words
from engine.registries.desk import Growth, Session
from engine.registries.manifests import DOCKER_CONFIG, DOCKER_LAYER, DOCKER_MANIFEST, MANIFESTS, Descriptor, Document
from engine.registries.origins import Origin, Origins
from engine.registries.words import Line

AT_ONCE: Final = 5  # layers of one push, as dockerd
_LEVEL: Final = 1  # igzip's: twice the speed of 2 for a tenth more bytes
_CANCELLED: Final = "the push was cancelled"


@dataclass(slots=True)
class _Layer:
    diff_id: str
    digits: str  # of the blob here
    descriptor: Descriptor | None = None  # as the manifest to be sent names it; None: it is to be compressed

    @property
    def short(self) -> str:
        return words.short(self.diff_id)


@dataclass(slots=True)
class _Image:
    reference: Reference
    record: ImageRecord
    layers: list[_Layer]
    manifest: Document | None  # as it came


class Push:
    """One push by one tenant. Iterate over its lines in one thread; ``cancel`` from any."""

    def __init__(self, store: ImageStore, tenant: str, session: Session, reference: Reference, *, every_tag: bool = False) -> None:
        self._store, self._tenant, self._session = store, tenant, session
        self._reference, self._every_tag = reference, every_tag
        self._cancelled = threading.Event()
        self._lines: queue.SimpleQueue[Line | Future[Descriptor]] = queue.SimpleQueue()

    def cancel(self) -> None:
        self._cancelled.set()
        self._session.close()

    def __iter__(self) -> Iterator[Line]:
        """Docker's lines; for each tag one with ``aux``, then {"images": [id], "digest", "ref"}. Raises from the first ``next`` on."""
        reference = self._reference
        with self._session:
            yield words.status(f"The push refers to repository [{reference.domain}/{reference.path}]")
            try:
                for tag, image_id in self._names():
                    yield from self._one(Reference(reference.name, tag), image_id)
            except EngineError as error:
                raise Unavailable(_CANCELLED) if self._cancelled.is_set() else words.of_registry(error) from error

    def _names(self) -> list[tuple[str, str]]:
        """(tag, image id), of all tags or the one that was named."""
        name = self._reference.name
        own, public = self._store.refs_of.read(self._tenant), self._store.refs_of.read(PUBLIC_TENANT)
        visible = {**public.names, **own.names}
        tags = {ref[len(name) + 1 :]: image_id for ref, image_id in visible.items() if ref.startswith(f"{name}:") and "@" not in ref}
        if not tags:
            raise NotFound(f"An image does not exist locally with the tag: {name}")
        if self._every_tag:
            return sorted(tags.items())
        if self._reference.tag not in tags:
            raise NotFound(f"tag does not exist: {self._reference}")
        return [(self._reference.tag, tags[self._reference.tag])]

    def _one(self, reference: Reference, image_id: str) -> Iterator[Line]:
        with self._store.lock():
            staging = Staging(self._store.config)
        with staging:
            image = self._look(reference, image_id)
            for layer in image.layers:
                yield words.status("Preparing", layer.short)
            for layer in image.layers[AT_ONCE:]:
                yield words.status("Waiting", layer.short)
            yield from self._send_layers(image, staging.folder)
            data = self._send_rest(image)
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self._note(image, digest)
        yield words.status(f"{reference.tag}: digest: {digest} size: {len(data)}")
        yield {"progressDetail": {}, "aux": {"Tag": reference.tag, "Digest": digest, "Size": len(data)}}
        yield {"images": [image_id], "digest": digest, "ref": str(reference)}

    # -- what is sent ----------------------------------------------------------------------------

    def _look(self, reference: Reference, image_id: str) -> _Image:
        record = self._store.get(image_id)
        held = blobs.of_layers(self._store, record)
        layers = [_Layer(diff_id, digits) for diff_id, digits in zip(record.diff_ids, held, strict=True)]
        manifest = self._manifest(record, reference)
        if manifest is not None:
            for layer, descriptor in zip(layers, manifest.layers(), strict=True):
                layer.descriptor = descriptor
                layer.digits = descriptor.digest.partition(":")[2]
        else:
            for layer in layers:
                layer.descriptor = self._as_it_is(layer)
        return _Image(reference, record, layers, manifest)

    def _as_it_is(self, layer: _Layer) -> Descriptor | None:
        """A blob that is compressed already may go out as it lies here: gzip only, for a docker manifest has no other."""
        if layer.digits == layer.diff_id.partition(":")[2]:
            return None
        path = self._store.content.path(layer.digits)
        with path.open("rb") as file:
            if file.read(2) != b"\x1f\x8b":
                return None
        return Descriptor(DOCKER_LAYER, f"sha256:{layer.digits}", path.stat().st_size)

    def _manifest(self, record: ImageRecord, reference: Reference) -> Document | None:
        """A manifest among the image's blobs that names what is here. The one that the tenant knows this repository by comes first."""
        digits = record.id.removeprefix("sha256:")
        names = self._store.refs_of.read(self._tenant).names_of(record.id)
        preferred = {name.rpartition(":")[2] for name in names if name.startswith(f"{reference.name}@")}
        found = self._store.records.blobs(digits) - {digits} - set(self._store.records.layers(digits))
        for each in sorted(found, key=lambda each: (each not in preferred, each)):
            document = self._document(each)
            if document is None or document.media_type not in MANIFESTS:
                continue
            try:
                config, layers = document.config(), document.layers()
            except EngineError:
                continue
            whole = config.digest == record.id and len(layers) == len(record.diff_ids)
            if whole and all(layer.digest.startswith("sha256:") and self._store.content.has(layer.digest[7:]) for layer in layers):
                return document
        return None

    def _document(self, digits: str) -> Document | None:
        try:
            path = self._store.content.path(digits)
            if path.stat().st_size > self._store.limits.document_bytes:
                return None
            data = path.read_bytes()
            media_type = json.loads(data).get("mediaType") or ("application/vnd.oci.image.manifest.v1+json" if b'"layers"' in data else "")
            return Document.read(str(media_type), data)
        except (EngineError, ValueError, AttributeError, RecursionError, OSError):
            return None

    # -- sending ---------------------------------------------------------------------------------

    def _send_layers(self, image: _Image, folder: Path) -> Iterator[Line]:
        """In threads, the base first. Afterwards each layer has its descriptor."""
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="push") as pool:
            futures = {}
            for number, layer in enumerate(image.layers):
                first = next((each for each in image.layers[:number] if each.diff_id == layer.diff_id), None)
                if first is None:
                    futures[pool.submit(self._layer, image, layer, folder / f"layer{number}")] = layer
            for future in futures:
                future.add_done_callback(self._lines.put)
            waiting = len(futures)
            try:
                while waiting:
                    line = self._lines.get()
                    if isinstance(line, dict):
                        yield line
                        continue
                    waiting -= 1
                    futures[line].descriptor = line.result()
            except BaseException:
                self._session.close()
                for future in futures:
                    future.cancel()
                raise
        sent = {layer.diff_id: layer.descriptor for layer in futures.values()}
        for layer in image.layers:
            layer.descriptor = sent[layer.diff_id]

    def _layer(self, image: _Image, layer: _Layer, file: Path) -> Descriptor:
        """Sent, mounted, or there already."""
        origins = Origins(self._store.config, self._tenant).of(layer.diff_id)
        if layer.descriptor is None:
            for origin in origins:
                if self._session.exists(origin.digest):
                    self._lines.put(words.status("Layer already exists", layer.short))
                    return Descriptor(_docker_type(origin.media_type), origin.digest, origin.size)
            if (mounted := self._mount(image, layer, origins)) is not None:
                return mounted
            return self._compress(layer, file)
        descriptor = layer.descriptor
        mounts = [path for origin in origins if origin.digest == descriptor.digest for path in origin.in_registry(image.reference.domain)]
        with self._store.content.path(layer.digits).open("rb") as blob:
            upload = self._session.upload(descriptor.digest, descriptor.size, blob.fileno(), mounts, self._teller(layer, descriptor.size))
        self._lines.put(words.status(_said(upload), layer.short))
        return descriptor

    def _mount(self, image: _Image, layer: _Layer, origins: Sequence[Origin]) -> Descriptor | None:
        """From a repository of the same registry that has it compressed: then nothing is read here."""
        for origin in origins:
            sources = [path for path in origin.in_registry(image.reference.domain) if path != image.reference.path]
            if sources and (source := self._session.mount(origin.digest, sources)):
                self._lines.put(words.status(f"Mounted from {source}", layer.short))
                return Descriptor(_docker_type(origin.media_type), origin.digest, origin.size)
        return None

    def _teller(self, layer: _Layer, total: int) -> Callable[[dict[str, Any]], None]:
        def tell(message: dict[str, Any]) -> None:
            if "sent" in message:
                self._lines.put(progress("Pushing", layer.short, int(message["sent"]), total))
            elif "wait" in message:
                self._lines.put(words.retrying(float(message["wait"]), layer.short))

        return tell

    def _compress(self, layer: _Layer, file: Path) -> Descriptor:
        """The plain tar as gzip, sent while it is made. Without a time or name in its head: the same layer gives the same bytes."""
        plain = self._store.content.path(layer.digits)
        with file.open("xb", buffering=0) as out, file.open("rb", buffering=0) as blob:
            sink = _Hashing(out)

            def grow(growth: Growth) -> None:
                try:
                    with plain.open("rb", buffering=0) as source:
                        packed: Any = igzip.IGzipFile(filename="", mode="wb", compresslevel=_LEVEL, fileobj=sink, mtime=0)  # type: ignore[no-untyped-call]
                        with packed:
                            for data in decompressed(chunks(source)):
                                if self._cancelled.is_set():
                                    raise Unavailable(_CANCELLED)
                                packed.write(data)
                                growth.now(sink.size)
                except ConnectionError:
                    raise
                except OSError as error:
                    raise explain(error, f"compress layer {layer.short}") from error
                growth.whole(sink.size, sink.digest)

            upload = self._session.upload_growing(blob.fileno(), grow, self._teller(layer, plain.stat().st_size))
        self._lines.put(words.status(_said(upload), layer.short))
        return Descriptor(DOCKER_LAYER, sink.digest, sink.size)

    def _send_rest(self, image: _Image) -> bytes:
        """Config and manifest: the manifest's bytes."""
        config_path = self._store.content.path(image.record.id.removeprefix("sha256:"))
        config = Descriptor(DOCKER_CONFIG, image.record.id, config_path.stat().st_size)
        with config_path.open("rb") as blob:
            self._session.upload(config.digest, config.size, blob.fileno(), (), lambda _message: None)
        if image.manifest is not None:
            data, media_type = image.manifest.data, image.manifest.media_type
        else:
            data, media_type = _docker_manifest(config, [layer.descriptor for layer in image.layers if layer.descriptor]), DOCKER_MANIFEST
        self._session.put_manifest(image.reference.tag, media_type, data)
        return data

    def _note(self, image: _Image, digest: str) -> None:
        """The tenant knows the image by this digest, and where its layers are."""
        store, reference = self._store, image.reference
        origins = {
            layer.diff_id: Origin(layer.descriptor.digest, layer.descriptor.size, layer.descriptor.media_type)
            for layer in image.layers
            if layer.descriptor is not None
        }
        with store.lock():
            holding = store.refs_of.read(self._tenant)
            if image.record.id in holding.images:  # a public one keeps its names
                holding.names[f"{reference.name}@{digest}"] = image.record.id
                store.refs_of.write(self._tenant, holding)
            Origins(store.config, self._tenant).note(origins, f"{reference.domain}/{reference.path}")


class _Hashing:
    """A file to write to that knows what was written."""

    def __init__(self, out: Any) -> None:
        self._out, self._hash, self.size = out, hashlib.sha256(), 0

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        view = memoryview(data)
        while view:
            view = view[self._out.write(view) :]
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        pass


def _said(upload: Mapping[str, str]) -> str:
    return {"exists": "Layer already exists", "mounted": f"Mounted from {upload['from']}"}.get(upload["how"], "Pushed")


def _docker_type(media_type: str) -> str:
    return DOCKER_LAYER if media_type.endswith("gzip") else media_type


def _docker_manifest(config: Descriptor, layers: Sequence[Descriptor]) -> bytes:
    """As dockerd writes one: the same image gives the same bytes."""

    def shown(descriptor: Descriptor) -> dict[str, Any]:
        return {"mediaType": descriptor.media_type, "size": descriptor.size, "digest": descriptor.digest}

    document = {"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "config": shown(config), "layers": [shown(layer) for layer in layers]}
    return json.dumps(document, indent=3, separators=(",", ": ")).encode()
