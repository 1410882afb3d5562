"""``docker pull``: manifest, config, layers, in one pass each: read → hash, keep → decompress → hash → unpack.

    courier ─pipe─▶ Blob ─▶ Keeping (digest, file) ║ decompressed ║ diffID ─▶ files of the layer      3 layers at a time, ║ threads
    a layer becomes the host's when all below it are; record, blobs and names follow together at the end

Nothing that the registry or the courier says is believed: the manifest has the digest that was asked for (by tag: whatever bytes
came, and their digest is told), everything else the digest and size that the manifest names, each layer the diffID of the config.
A layer is taken as there only when the tenant has an image with it: who has not must fetch its bytes, though the host has them.
"""

from __future__ import annotations

import hashlib
import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from engine.config import PUBLIC_TENANT
from engine.errors import EngineError, InvalidArgument, NotFound, Unavailable
from engine.images import blobs, layers
from engine.images.imageconfig import parse_config
from engine.images.incoming import Committing, Keeping, record_of
from engine.images.layers import Prepared, chain_ids
from engine.images.progress import progress
from engine.images.staging import Staging, pinned
from engine.images.store import ImageStore
from engine.images.streams import Chunks, capped, chunks, counted, decompressed, drain, hashed
from engine.images.trash import sweep_soon
from engine.images.unpack import explain
from engine.model.platform import Platform, host_platform
from engine.model.reference import Reference
from engine.registries import words
from engine.registries.beside import beside
from engine.registries.desk import Session
from engine.registries.fetches import Fetch, Fetches, Step
from engine.registries.manifests import Descriptor, Document, choose, verify
from engine.registries.origins import Origin, Origins
from engine.registries.words import Line, short

AT_ONCE: Final = 3  # layers of one pull, as dockerd
_PROGRESS_BYTES: Final = 1 << 19  # between two lines of one layer
_LOOK_S: Final = 0.2
_MAX_DEPTH: Final = 4  # of indexes in indexes
_CANCELLED: Final = "the pull was cancelled"


@dataclass(slots=True)
class _Layer:
    """One layer of the image. ``known``: the digits of a blob that the tenant has of it."""

    number: int
    descriptor: Descriptor
    diff_id: str
    chain_id: str
    known: str = ""
    blob: str = ""  # digits of the kept file
    file: Path | None = None
    prepared: Prepared | None = None
    fetch: Fetch | None = None

    @property
    def short(self) -> str:
        return short(self.descriptor.digest)


@dataclass(slots=True)
class _Image:
    """What a manifest names, as far as it is known."""

    reference: Reference
    digest: str  # of the top document, which is what the reference means
    documents: list[Document]
    config_data: bytes = b""
    config: dict[str, Any] = field(default_factory=dict)
    layers: list[_Layer] = field(default_factory=list)

    @property
    def id(self) -> str:
        return f"sha256:{hashlib.sha256(self.config_data).hexdigest()}"


class Pull:
    """One pull by one tenant. Iterate over its lines in one thread; ``cancel`` from any."""

    def __init__(
        self, store: ImageStore, fetches: Fetches, tenant: str, session: Session, reference: Reference, platform: str = ""
    ) -> None:
        self._store, self._fetches, self._tenant, self._session = store, fetches, tenant, session
        self._reference = reference
        self._platform = Platform.parse(platform) if platform else host_platform()
        self._cancelled = False  # by who asked
        self._stop = threading.Event()  # for the threads: cancelled, or one of them failed
        self._lines: queue.SimpleQueue[Line | _Layer | Future[None]] = queue.SimpleQueue()

    def cancel(self) -> None:
        """Everything under way ends soon, and nothing of it stays."""
        self._cancelled = True
        self._stop.set()
        self._session.close()

    def __iter__(self) -> Iterator[Line]:
        """Docker's lines, then {"images": [id], "digest", "ref"}. Raises from the first ``next`` on."""
        with self._session:
            try:
                yield from self._one(self._reference)
            except EngineError as error:
                raise self._explained(error) from error

    def every_tag(self) -> Iterator[Line]:
        """``docker pull --all-tags``."""
        with self._session:
            try:
                tags = self._session.tags()
                if not tags:
                    raise NotFound(f"repository {self._reference.name} has no tags")
                for tag in tags:
                    yield from self._one(replace(self._reference, tag=tag, digest=""))
            except EngineError as error:
                raise self._explained(error) from error

    def _explained(self, error: EngineError) -> EngineError:
        return Unavailable(_CANCELLED) if self._cancelled else words.of_pull(error, self._reference)

    def _one(self, reference: Reference) -> Iterator[Line]:
        image = self._look(reference)
        yield {"status": f"Pulling from {reference.path}", "id": reference.digest or reference.tag}
        self._read_config(image)
        if self._has(image.id):
            news = self._commit_again(image)
        else:
            yield from self._fetch_all(image)
            news = True
        yield words.status(f"Digest: {image.digest}")
        yield words.status(f"Status: {'Downloaded newer image for' if news else 'Image is up to date for'} {reference}")
        yield {"images": [image.id], "digest": image.digest, "ref": str(reference)}

    # -- what it is ------------------------------------------------------------------------------

    def _look(self, reference: Reference) -> _Image:
        """Manifest by manifest to the one of the platform."""
        media_type, data = self._session.manifest(reference.digest or reference.tag)
        if reference.digest:
            verify(data, reference.digest)
        document = Document.read(media_type, data)
        image = _Image(reference, reference.digest or document.digest, [document])
        for _depth in range(_MAX_DEPTH):
            if not image.documents[-1].is_index:
                return image
            image.documents.append(self._child(choose(image.documents[-1], self._platform)))
        raise InvalidArgument("invalid index: indexes in indexes in indexes")

    def _child(self, descriptor: Descriptor) -> Document:
        media_type, data = self._session.manifest(descriptor.digest)
        descriptor.verify(data)
        document = Document.read(descriptor.media_type, data)
        if media_type and media_type != document.media_type:
            raise InvalidArgument(f"the registry calls {descriptor.digest} {media_type[:100]!r}, its index {document.media_type!r}")
        return document

    def _read_config(self, image: _Image) -> None:
        manifest = image.documents[-1]
        descriptor, found = manifest.config(), manifest.layers()
        limits = self._store.limits
        if descriptor.size > limits.document_bytes:
            raise InvalidArgument(f"the image config is larger than {limits.document_bytes} bytes, the limit of this host")
        with self._session.blob(descriptor.digest, descriptor.size) as stream:
            image.config_data = b"".join(capped(chunks(stream), limits.document_bytes, "the image config"))
        descriptor.verify(image.config_data)
        image.config = parse_config(image.config_data)
        diff_ids = image.config["rootfs"]["diff_ids"] or []
        if len(diff_ids) != len(found):
            raise InvalidArgument("layers from manifest don't match image configuration")
        if len(found) > limits.layers:
            raise InvalidArgument(f"the image has {len(found)} layers; this host takes {limits.layers}")
        chain = chain_ids(diff_ids)
        image.layers = [_Layer(number, found[number], diff_ids[number], chain[number]) for number in range(len(found))]

    def _has(self, image_id: str) -> bool:
        refs = self._store.refs_of
        return image_id in refs.read(self._tenant).images or image_id in refs.read(PUBLIC_TENANT).images

    # -- its layers ------------------------------------------------------------------------------

    def _fetch_all(self, image: _Image) -> Iterator[Line]:
        with self._store.lock():
            staging = Staging(self._store.config)
            staging.pin({layer.chain_id for layer in image.layers})
            self._find_known(image)
        adopted: list[str] = []
        try:
            with staging:
                yield from self._work(image, staging.folder, adopted)
                self._commit(image, staging.folder)
        except BaseException:
            self._discard(adopted)
            raise

    def _find_known(self, image: _Image) -> None:
        """Layers of images that the tenant has. Under the lock."""
        wanted = {layer.chain_id: layer for layer in image.layers}
        holdings = (self._store.refs_of.read(name) for name in (self._tenant, PUBLIC_TENANT))
        for image_id in {each for holding in holdings for each in holding.images}:
            record = self._store.records.read(image_id.removeprefix("sha256:"))
            shared = [number for number, chain_id in enumerate(record.chain_ids) if chain_id in wanted] if record else []
            if record is None or not shared or all(wanted[record.chain_ids[number]].known for number in shared):
                continue
            with suppress(EngineError):  # its own blobs are gone: it helps nobody
                digits = blobs.of_layers(self._store, record)
                for number in shared:
                    wanted[record.chain_ids[number]].known = digits[number]

    def _work(self, image: _Image, folder: Path, adopted: list[str]) -> Iterator[Line]:
        """In threads, the base first; each is adopted, and told so, when all below it are."""
        fresh = [layer for layer in image.layers if not layer.known]
        for layer in image.layers:
            yield words.status("Already exists" if layer.known else "Pulling fs layer", layer.short)
        for layer in fresh[AT_ONCE:]:
            yield words.status("Waiting", layer.short)
        try:
            yield from self._in_threads(image, fresh, folder, adopted)
        except BaseException:
            for layer in fresh:  # followers of ours go their own way
                if layer.fetch is not None:
                    layer.fetch.move(Step.FAILED)
            raise

    def _in_threads(self, image: _Image, fresh: Sequence[_Layer], folder: Path, adopted: list[str]) -> Iterator[Line]:
        done = {layer.number for layer in image.layers if layer.known}
        waiting, following = len(fresh), 0
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="pull") as pool:
            futures = [pool.submit(self._layer, layer, folder) for layer in fresh]
            for future in futures:
                future.add_done_callback(self._lines.put)
            try:
                while waiting:
                    line = self._lines.get()
                    if isinstance(line, dict):
                        yield line
                        continue
                    if isinstance(line, _Layer):  # it has come; those below may not have
                        done.add(line.number)
                    else:
                        waiting -= 1
                        line.result()
                    while following in done:
                        layer = image.layers[following]
                        following += 1
                        if not layer.known:
                            yield from self._settle(image, layer, adopted)
            except BaseException:
                self._stop.set()  # what is under way stops at its next byte
                self._session.close()
                for future in futures:
                    future.cancel()
                raise

    def _settle(self, image: _Image, layer: _Layer, adopted: list[str]) -> Iterator[Line]:
        """The layer becomes the host's, unless another pull's has."""
        if layer.prepared is not None:
            below = [each.chain_id for each in image.layers[: layer.number]]
            with self._store.lock():
                try:
                    self._store.layers.adopt(layer.prepared, below)
                except OSError as error:
                    raise explain(error, f"register layer {layer.short}") from error
            adopted.append(layer.chain_id)
        if layer.fetch is not None:
            layer.fetch.move(Step.ADOPTED)
        size = layer.descriptor.size
        yield progress("Extracting", layer.short, size, size)
        yield words.status("Pull complete", layer.short)

    def _layer(self, layer: _Layer, folder: Path) -> None:
        """Leads, or follows until it is the host's; a leader that failed is followed by whoever comes first."""
        while not self._stop.is_set():
            fetch, leads = self._fetches.join((self._tenant, layer.chain_id, layer.descriptor.digest))
            if leads:
                self._lead(layer, folder, fetch)
                return
            if self._follow(layer, folder, fetch):
                self._lines.put(layer)
                return
        raise Unavailable(_CANCELLED)

    def _follow(self, layer: _Layer, folder: Path, fetch: Fetch) -> bool:
        """Whether it came; then it is adopted, too."""
        step = Step.FETCHING
        while step is Step.FETCHING:
            step = fetch.wait(Step.FETCHING, _LOOK_S)
            if self._stop.is_set():
                raise Unavailable(_CANCELLED)
            self._lines.put(progress("Downloading", layer.short, fetch.read_bytes, layer.descriptor.size))
        if step is Step.FAILED:
            return False
        file = folder / f"blob{layer.number}"
        if fetch.blob is not None:
            with suppress(FileNotFoundError, FileExistsError):  # it has become the host's content already
                os.link(fetch.blob, file)
        self._say_fetched(layer)
        while step is Step.FETCHED and not self._stop.is_set():
            step = fetch.wait(Step.FETCHED, _LOOK_S)
        if step is not Step.ADOPTED:
            file.unlink(missing_ok=True)
            return False
        layer.blob, layer.file = fetch.digits, file
        return True

    def _say_fetched(self, layer: _Layer) -> None:
        self._lines.put(words.status("Verifying Checksum", layer.short))
        self._lines.put(words.status("Download complete", layer.short))

    def _lead(self, layer: _Layer, folder: Path, fetch: Fetch) -> None:
        try:
            self._get(layer, folder, fetch)
        except BaseException:
            fetch.move(Step.FAILED)
            raise
        layer.fetch = fetch
        fetch.digits = layer.blob
        fetch.move(Step.FETCHED, layer.file)
        self._say_fetched(layer)
        self._lines.put(layer)

    def _get(self, layer: _Layer, folder: Path, fetch: Fetch) -> None:
        """The one pass. A layer that the host has is read all the same, but not unpacked."""
        descriptor, limits = layer.descriptor, self._store.limits
        layer.file = folder / f"blob{layer.number}"
        present = self._store.layers.has(layer.chain_id)
        algorithm = descriptor.digest.partition(":")[0]
        named = hashlib.new(algorithm)
        failures: list[EngineError] = []
        try:
            with Keeping(layer.file) as kept, self._session.blob(descriptor.digest, descriptor.size, self._waits(layer)) as stream:
                source = kept(_watched(counted(chunks(stream), self._teller(layer, fetch)), failures))
                if algorithm != "sha256":  # by which the file is hashed anyway
                    source = hashed(source, named)
                with self._ending(), beside(source) as packed:
                    try:
                        with beside(capped(decompressed(packed), limits.layer_bytes, "the layer")) as plain:
                            layer.prepared = self._unpack(layer, plain, folder, only_read=present)
                    except InvalidArgument:
                        if not failures:  # bytes that are not what the manifest names explain themselves by their digest
                            drain(packed)
                            self._verify(layer, kept, named)
                        raise
            self._verify(layer, kept, named)
        except OSError as error:
            raise explain(error, f"unpack layer {layer.short}") from error
        layer.blob = kept.sha256

    @contextmanager
    def _ending(self) -> Iterator[None]:
        """What fails here ends the pull; the stages before it must not wait for a registry that is silent."""
        try:
            yield
        except BaseException:
            self._session.close()
            raise

    def _unpack(self, layer: _Layer, plain: Chunks, folder: Path, *, only_read: bool) -> Prepared | None:
        digest = hashlib.sha256()
        source, prepared = hashed(plain, digest), None
        if only_read:
            drain(source)
        else:
            place = folder / f"layer{layer.number}"
            prepared = layers.prepare_plain(source, place, self._store.limits, lambda: f"sha256:{digest.hexdigest()}")
        if (found := f"sha256:{digest.hexdigest()}") != layer.diff_id:
            raise InvalidArgument(f"invalid diffID of a layer: expected {layer.diff_id!r}, got {found!r}")
        return prepared

    def _verify(self, layer: _Layer, kept: Keeping, named: Any) -> None:
        algorithm, _colon, digits = layer.descriptor.digest.partition(":")
        if (kept.sha256 if algorithm == "sha256" else named.hexdigest()) != digits:
            raise InvalidArgument(f"filesystem layer verification failed for digest {layer.descriptor.digest}")

    def _teller(self, layer: _Layer, fetch: Fetch) -> Callable[[int], None]:
        told = -_PROGRESS_BYTES
        size = layer.descriptor.size

        def tell(read: int) -> None:
            nonlocal told
            if self._stop.is_set():
                raise Unavailable(_CANCELLED)
            if read > size:
                raise InvalidArgument(f"unexpected size of {layer.descriptor.digest}: more than the {size} bytes of its manifest")
            fetch.tell(read)
            if read - told >= _PROGRESS_BYTES or read == size:
                told = read
                self._lines.put(progress("Downloading", layer.short, read, size))

        return tell

    def _waits(self, layer: _Layer) -> Callable[[dict[str, Any]], None]:
        def wait(message: dict[str, Any]) -> None:
            self._lines.put(words.retrying(float(message.get("wait") or 0), layer.short))

        return wait

    # -- its names -------------------------------------------------------------------------------

    def _commit(self, image: _Image, folder: Path) -> None:
        store = self._store
        documents = [folder / f"document{number}" for number in range(len(image.documents))]
        for path, document in zip(documents, image.documents, strict=True):
            path.write_bytes(document.data)
        config = folder / "config"
        config.write_bytes(image.config_data)
        held = [layer.known or layer.blob for layer in image.layers]
        digits = image.id.removeprefix("sha256:")
        with Committing(store):
            sizes = [store.layers.size_bytes(layer.chain_id) for layer in image.layers]
            names = [document.digest.removeprefix("sha256:") for document in image.documents]
            store.records.write(record_of(image.id, image.config, sizes), [digits, *names], layers=held)
            store.content.adopt(config, digits)
            for path, name in zip(documents, names, strict=True):
                store.content.adopt(path, name)
            for layer in image.layers:
                if layer.file is not None and layer.file.exists():
                    store.content.adopt(layer.file, layer.blob)
            if not all(map(store.content.has, held)):
                raise Unavailable("an image that shares layers with this one was removed meanwhile: pull it again")
            self._name(image)
            self._note_origins(image)

    def _commit_again(self, image: _Image) -> bool:
        """Of an image that the tenant has: its names, and the documents by which it came this time. Whether a name is new."""
        store = self._store
        with store.lock():
            staging = Staging(store.config)
        with staging:
            paths = [staging.folder / f"document{number}" for number in range(len(image.documents))]
            for path, document in zip(paths, image.documents, strict=True):
                path.write_bytes(document.data)
            names = [document.digest.removeprefix("sha256:") for document in image.documents]
            with Committing(store):
                record = store.get(image.id)
                store.records.write(record, names)
                for path, name in zip(paths, names, strict=True):
                    store.content.adopt(path, name)
                return self._name(image)

    def _name(self, image: _Image) -> bool:
        """Under the lock. Whether what was asked for means another image than before."""
        store, reference = self._store, image.reference
        holding = store.refs_of.read(self._tenant)
        before = holding.names.get(reference.key)
        holding.images.add(image.id)
        holding.names[reference.key] = image.id
        holding.names[f"{reference.name}@{image.digest}"] = image.id
        store.refs_of.write(self._tenant, holding)
        return before != image.id

    def _note_origins(self, image: _Image) -> None:
        place = f"{image.reference.domain}/{image.reference.path}"
        Origins(self._store.config, self._tenant).note(
            {layer.diff_id: Origin(layer.descriptor.digest, layer.descriptor.size, layer.descriptor.media_type) for layer in image.layers},
            place,
        )

    def _discard(self, chain: Sequence[str]) -> None:
        """Layers that this pull brought and no image has."""
        if chain:
            store = self._store
            with suppress(OSError), store.lock():
                records = filter(None, map(store.records.read, store.records.all()))
                wanted = pinned(store.config).union(*(record.chain_ids for record in records))
                for chain_id in reversed(chain):
                    if chain_id not in wanted:
                        store.layers.discard(chain_id)
            sweep_soon(store.config.trash)


def _watched(source: Chunks, failures: list[EngineError]) -> Chunks:
    """The same chunks; what keeps them from coming is noted."""
    try:
        yield from source
    except EngineError as error:
        failures.append(error)
        raise
