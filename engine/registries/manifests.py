"""Manifests and indexes as a registry gives them, checked before anybody relies on them. image-spec 1.1, docker schema 2. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Final, Self

from engine.errors import InvalidArgument, NotFound, Unsupported
from engine.images.imageconfig import parse_document
from engine.model.platform import Platform
from engine.model.reference import check_digest

OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar.gzip"
INDEXES: Final = (OCI_INDEX, DOCKER_LIST)
MANIFESTS: Final = (OCI_MANIFEST, DOCKER_MANIFEST)
CONFIGS: Final = ("application/vnd.oci.image.config.v1+json", DOCKER_CONFIG)
LAYERS: Final = frozenset(
    {
        "application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.v1.tar+gzip",
        "application/vnd.oci.image.layer.v1.tar+zstd",
        "application/vnd.oci.image.layer.nondistributable.v1.tar", "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", "application/vnd.docker.image.rootfs.diff.tar", DOCKER_LAYER,
        "application/vnd.docker.image.rootfs.diff.tar.zstd", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    }
)  # fmt: skip
_SCHEMA_1: Final = ("application/vnd.docker.distribution.manifest.v1+json", "application/vnd.docker.distribution.manifest.v1+prettyjws")
_MAX_SIZE: Final = 1 << 50  # bytes of a blob
_MAX_CHILDREN: Final = 10_000


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What names a blob: its digest and size are what its bytes must have."""

    media_type: str
    digest: str
    size: int
    platform: dict[str, Any] | None = None

    @classmethod
    def read(cls, value: Any, what: str) -> Self:
        """InvalidArgument for what is none."""
        if not isinstance(value, dict):
            raise InvalidArgument(f"invalid manifest: {what} must be an object")
        media_type, digest, size = value.get("mediaType"), value.get("digest"), value.get("size")
        if not isinstance(media_type, str) or not isinstance(digest, str):
            raise InvalidArgument(f"invalid manifest: {what} needs mediaType and digest")
        if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= _MAX_SIZE:
            raise InvalidArgument(f"invalid manifest: {what} has a wrong size")
        platform = value.get("platform")
        return cls(media_type.lower(), check_digest(digest), size, platform if isinstance(platform, dict) else None)

    def verify(self, data: bytes) -> None:
        """InvalidArgument in moby's words unless these are its bytes."""
        if len(data) != self.size:
            raise InvalidArgument(f"unexpected size of {self.digest}: {len(data)} bytes, and its descriptor says {self.size}")
        verify(data, self.digest)


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest or index whose bytes have been hashed."""

    media_type: str
    data: bytes
    members: dict[str, Any]

    @classmethod
    def read(cls, media_type: str, data: bytes) -> Self:
        """``media_type`` as the registry named it; what the document says of itself must agree (else it may be read in two ways)."""
        if media_type in _SCHEMA_1:
            raise Unsupported("Docker Image manifest version 2, schema 1 is not supported: push the image again with a newer docker")
        members = parse_document(data, "the manifest")
        own = members.get("mediaType")
        if own is not None and not isinstance(own, str):
            raise InvalidArgument("invalid manifest: mediaType must be a string")
        own = own.lower() if own else ""
        if media_type not in (*INDEXES, *MANIFESTS):
            if own not in (*INDEXES, *MANIFESTS):
                raise InvalidArgument(f"unsupported manifest media type and no default available: {(media_type or own)[:100]}")
            media_type = own
        if own and own != media_type:
            raise InvalidArgument(f"mediaType in manifest should be {media_type!r} not {own[:100]!r}")
        if members.get("schemaVersion") != 2:
            raise InvalidArgument("invalid manifest: schemaVersion must be 2")
        if "manifests" in members and ("layers" in members or "config" in members):
            raise InvalidArgument("invalid manifest: it is a manifest and an index at once")  # CVE-2021-41190
        return cls(media_type, data, members)

    @property
    def digest(self) -> str:
        return f"sha256:{hashlib.sha256(self.data).hexdigest()}"

    @property
    def is_index(self) -> bool:
        return self.media_type in INDEXES

    def children(self) -> list[Descriptor]:
        """Of an index: the images in it, without what only tells about them."""
        given = self.members.get("manifests")
        if not isinstance(given, list) or len(given) > _MAX_CHILDREN:
            raise InvalidArgument(f"invalid index: manifests must be a list of at most {_MAX_CHILDREN}")
        return [Descriptor.read(each, "a manifest of an index") for each in given if not _is_attestation(each)]

    def config(self) -> Descriptor:
        found = Descriptor.read(self.members.get("config"), "config")
        if found.media_type not in CONFIGS:
            raise InvalidArgument(f'encountered remote "{found.media_type[:100]}"(unknown) when fetching: it is no image')
        return found

    def layers(self) -> list[Descriptor]:
        given = self.members.get("layers")
        if not isinstance(given, list):
            raise InvalidArgument("invalid manifest: layers must be a list")
        found = [Descriptor.read(each, "a layer") for each in given]
        for layer in found:
            if layer.media_type not in LAYERS:
                raise InvalidArgument(f"unsupported layer media type: {layer.media_type[:100]}")
        return found


def choose(index: Document, wanted: Platform) -> Descriptor:
    """The first image of this platform, or an index that may have one. NotFound in moby's words."""
    children = index.children()
    for child in children:
        if child.media_type in MANIFESTS and child.platform is not None and wanted.fits(child.platform):
            return child
    for child in children:
        if child.media_type in INDEXES or (child.media_type in MANIFESTS and child.platform is None):
            return child
    raise NotFound(f"no matching manifest for {wanted} in the manifest list entries")


def verify(data: bytes, digest: str) -> None:
    algorithm, _colon, digits = digest.partition(":")
    if hashlib.new(algorithm, data).hexdigest() != digits:
        raise InvalidArgument(f"manifest verification failed for digest {digest}")


def platform_of(config: dict[str, Any]) -> dict[str, Any]:
    """The members of an image config, or of a descriptor's platform, that Docker shows as a platform."""
    names = ("architecture", "os", "os.version", "os.features", "variant")
    return {name: config[name] for name in names if config.get(name)}


def _is_attestation(value: Any) -> bool:
    annotations = value.get("annotations") if isinstance(value, dict) else None
    return isinstance(annotations, dict) and annotations.get("vnd.docker.reference.type") == "attestation-manifest"
