"""Images as one tar, the way docker save writes it since version 25: docker-archive and OCI layout over the same blobs.

    blobs/sha256/<hex>   config, layers as plain tars (named by their diffID), one OCI manifest of our own per image
    index.json           a descriptor for each name, as containerd reads it
    manifest.json        [{"Config", "RepoTags", "Layers", "LayerSources"}], as docker reads it
    oci-layout, repositories

The same image gives the same bytes whatever way it came here. Nothing is written on the host; what is sent is verified by nobody but
whoever loads it, so a layer that this host's disk has spoiled ends the stream instead of being sent whole.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from engine.config import PUBLIC_TENANT
from engine.errors import Internal, InvalidArgument, NotFound
from engine.images import blobs, headers
from engine.images.streams import chunks, counted, decompressed, drain, hashed
from engine.model.image import ImageRecord
from engine.model.platform import check_platform
from engine.model.reference import Reference

if TYPE_CHECKING:
    from engine.images.store import ImageStore

_OCI: Final = "application/vnd.oci.image"
_LAYER: Final = f"{_OCI}.layer.v1.tar"
_SEND_AT_ONCE: Final = 1 << 30  # sendfile(2)
_GATHER: Final = 256 << 10


@dataclass(slots=True)
class Chosen:
    """One image to be saved, by these names of the tenant's."""

    record: ImageRecord
    names: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Blob:
    """A file of the archive. ``data``, or a blob of the store: as it is, or (``inflate``) decompressed."""

    digits: str
    size: int
    data: bytes | None = None
    stored: str = ""
    inflate: bool = False


def choose(store: ImageStore, tenant: str, names: Sequence[str], *, platform: str = "") -> list[Chosen]:
    """What ``docker save NAME…`` means: a bare repository is all of its tags, an id is the image without a name.

    Raises NotFound and InvalidArgument in moby's words.
    """
    if not names:
        raise InvalidArgument("no image to save was named")
    chosen: dict[str, Chosen] = {}

    def add(image_id: str, ref: str = "") -> None:
        one = chosen.setdefault(image_id, Chosen(store.get(image_id)))
        if ref and "@" not in ref and ref not in one.names:
            one.names.append(ref)

    own, public = store.refs_of.read(tenant), store.refs_of.read(PUBLIC_TENANT)
    visible = {**public.names, **own.names}
    for name in names:
        reference: Reference | None = None
        with suppress(InvalidArgument):
            reference = Reference.parse(name)
        if reference is None or name.startswith("sha256:"):
            add(store.resolve_id(tenant, name))
            continue
        if _is_bare(name):
            tags = [ref for ref in sorted(visible) if ref.startswith(f"{reference.name}:") and "@" not in ref]
            for ref in tags:
                add(visible[ref], ref)
            if not tags:
                add(_by_id(store, tenant, name))
            continue
        if str(reference) not in visible:
            raise NotFound("reference does not exist")
        add(visible[str(reference)], str(reference))
    for each in chosen.values():
        check_platform(each.record.config, platform, each.names[0] if each.names else each.record.id)
    return list(chosen.values())


def _is_bare(name: str) -> bool:
    return "@" not in name and ":" not in name.rpartition("/")[2]


def _by_id(store: ImageStore, tenant: str, name: str) -> str:
    try:
        return store.resolve_id(tenant, name)
    except NotFound:
        raise NotFound(f"No such image: {name}") from None


def write(store: ImageStore, chosen: Sequence[Chosen], out: int) -> None:
    """The archive to a blocking socket or pipe. OSError EPIPE: nobody reads. Internal: the disk gives back other bytes than it got."""
    files, documents = _plan(store, chosen)
    folders = _entry("blobs/", b"5", 0) + _entry("blobs/sha256/", b"5", 0)
    buffer = bytearray(folders)
    for blob in files:
        buffer += _entry(f"blobs/sha256/{blob.digits}", b"0", blob.size)
        if blob.data is not None:
            buffer += blob.data
        else:
            _write(out, buffer)
            buffer = bytearray()
            _send(store, blob, out)
        buffer += headers.padding(blob.size)
        if len(buffer) >= _GATHER:
            _write(out, buffer)
            buffer = bytearray()
    for name, data in documents.items():
        buffer += _entry(name, b"0", len(data)) + data + headers.padding(len(data))
    _write(out, buffer + headers.END)


def _plan(store: ImageStore, chosen: Sequence[Chosen]) -> tuple[list[Blob], dict[str, bytes]]:
    """The blobs, each once and sorted by name, and the documents that tell of them."""
    found: dict[str, Blob] = {}
    tops: list[dict[str, Any]] = []
    manifests: list[dict[str, Any]] = []
    repositories: dict[str, dict[str, str]] = {}
    for each in chosen:
        config, parts = _config_blob(store, each.record), _layer_blobs(store, each.record)
        described = [_descriptor(_LAYER, part) for part in parts]
        document = {
            "schemaVersion": 2,
            "mediaType": f"{_OCI}.manifest.v1+json",
            "config": _descriptor(f"{_OCI}.config.v1+json", config),
            "layers": described,
        }
        manifest = _document_blob(document)
        found.update((blob.digits, blob) for blob in (config, *parts, manifest))
        tops += _tops(each, _descriptor(f"{_OCI}.manifest.v1+json", manifest))
        manifests.append(
            {
                "Config": f"blobs/sha256/{config.digits}",
                "RepoTags": each.names or None,
                "Layers": [f"blobs/sha256/{part.digits}" for part in parts],
                "LayerSources": {one["digest"]: one for one in described},
            }
        )
        for name in each.names:
            if parts:
                repository, _colon, tag = name.rpartition(":")
                repositories.setdefault(repository, {})[tag] = parts[-1].digits
    documents = {
        "index.json": _json({"schemaVersion": 2, "mediaType": f"{_OCI}.index.v1+json", "manifests": tops}),
        "manifest.json": _json(manifests),
        "oci-layout": _json({"imageLayoutVersion": "1.0.0"}),
    }
    if repositories:
        documents["repositories"] = _json(repositories)
    return [found[digits] for digits in sorted(found)], documents


def _tops(each: Chosen, descriptor: dict[str, Any]) -> list[dict[str, Any]]:
    """Descriptors of one image for the index: one for each name."""
    config = each.record.config
    platform = {name: config[name] for name in ("architecture", "os", "variant") if config.get(name)}
    if platform:
        descriptor = {**descriptor, "platform": platform}
    if not each.names:
        return [descriptor]
    said = []
    for name in each.names:
        reference = Reference.parse(name)
        annotations = {
            "io.containerd.image.name": f"{reference.domain}/{reference.path}:{reference.tag}",
            "org.opencontainers.image.ref.name": reference.tag,
        }
        said.append({**descriptor, "annotations": annotations})
    return said


def _config_blob(store: ImageStore, record: ImageRecord) -> Blob:
    digits = record.id.removeprefix("sha256:")
    return Blob(digits, store.content.path(digits).stat().st_size, stored=digits)


def _layer_blobs(store: ImageStore, record: ImageRecord) -> list[Blob]:
    parts = []
    for diff_id, chain_id, stored in zip(record.diff_ids, record.chain_ids, blobs.of_layers(store, record), strict=True):
        digits = diff_id.removeprefix("sha256:")
        if stored == digits:
            parts.append(Blob(digits, store.content.path(stored).stat().st_size, stored=stored))
        else:
            size = store.layers.tar_bytes(chain_id) or _inflated_bytes(store, stored)
            parts.append(Blob(digits, size, stored=stored, inflate=True))
    return parts


def _inflated_bytes(store: ImageStore, stored: str) -> int:
    size = 0

    def note(total: int) -> None:
        nonlocal size
        size = total

    with store.content.path(stored).open("rb", buffering=0) as file:
        drain(counted(decompressed(chunks(file)), note))
    return size


def _document_blob(document: dict[str, Any]) -> Blob:
    data = _json(document)
    return Blob(hashlib.sha256(data).hexdigest(), len(data), data=data)


def _descriptor(media_type: str, blob: Blob) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": f"sha256:{blob.digits}", "size": blob.size}


def _send(store: ImageStore, blob: Blob, out: int) -> None:
    with store.content.path(blob.stored).open("rb", buffering=0) as file:
        if not blob.inflate:
            at = 0
            while at < blob.size:
                sent = os.sendfile(out, file.fileno(), at, min(blob.size - at, _SEND_AT_ONCE))
                if sent == 0:
                    raise Internal(f"content sha256:{blob.stored} is damaged on this host's disk")
                at += sent
            return
        digest, size = hashlib.sha256(), 0
        for chunk in hashed(decompressed(chunks(file)), digest):
            size += len(chunk)
            if size > blob.size:
                break
            _write(out, chunk)
        if size != blob.size or digest.hexdigest() != blob.digits:
            raise Internal(f"content sha256:{blob.stored} is damaged on this host's disk")


def _entry(name: str, kind: bytes, size: int) -> bytes:
    mode = 0o755 if kind == b"5" else 0o644
    return headers.header(name.encode(), kind, mode=mode, uid=0, gid=0, size=size, mtime_s=0)


def _json(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _write(out: int, data: bytes | bytearray) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(out, view) :]
