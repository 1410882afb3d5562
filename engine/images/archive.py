"""What an image archive says it holds: docker-archive (manifest.json), an OCI layout (index.json), or both in one.

docker save of version 25 and later writes both over the same blobs; manifest.json then comes first, as dockerd reads it, and
index.json adds what it alone has. Every descriptor's size and digest is checked against the bytes that came.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from engine.errors import InvalidArgument
from engine.images.imageconfig import MAX_BYTES, parse_config, parse_document, parse_json, values_at_most
from engine.images.limits import Limits
from engine.images.spool import Archive, Member, read_document
from engine.model.platform import Platform, host_platform
from engine.model.reference import Reference

_INDEXES: Final = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_MANIFESTS: Final = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_CONFIGS: Final = ("application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json")
_DIGEST: Final = re.compile(r"(sha256):([0-9a-f]{64})|(sha512):([0-9a-f]{128})")
_MAX_DEPTH: Final = 4
_NEITHER: Final = (
    "invalid archive: neither manifest.json nor index.json is in it; docker load takes what docker save writes or an OCI layout, "
    "a root filesystem goes to docker import"
)


@dataclass(frozen=True, slots=True)
class ArchivedImage:
    """One image of an archive, its bytes found and its descriptors checked; the layers' contents are not looked at yet."""

    config_member: Member
    config: dict[str, Any]
    layers: tuple[Member, ...]  # base first, one per diffID
    names: tuple[str, ...]
    manifest: Member | None  # None: the archive knows none

    @property
    def id(self) -> str:
        return f"sha256:{self.config_member.sha256}"

    @property
    def diff_ids(self) -> list[str]:
        return list(self.config["rootfs"]["diff_ids"] or [])


def images(archive: Archive, limits: Limits, platform: Platform | None = None) -> list[ArchivedImage]:
    """All of the archive's images for this host, or for the platform that was asked for. InvalidArgument when there is none."""
    reader = _Reader(archive, limits, platform)
    found: dict[str, ArchivedImage] = {}
    manifest, index = archive.read("manifest.json", limits), archive.read("index.json", limits)
    if manifest is None and index is None:
        raise InvalidArgument(_NEITHER)
    from_docker = list(reader.docker(manifest)) if manifest is not None else []
    from_oci = list(reader.oci(index)) if index is not None else []
    if not from_docker and not from_oci:
        raise InvalidArgument(reader.why or "invalid archive: there is no image in it")
    for image in [*from_docker, *from_oci]:
        known = found.get(image.id)
        found[image.id] = image if known is None else _merged(known, image)
    if len(found) > limits.images:
        raise InvalidArgument(f"the archive has more than {limits.images} images, the limit of this host")
    return list(found.values())


def _merged(known: ArchivedImage, again: ArchivedImage) -> ArchivedImage:
    """The same image said twice. An OCI manifest comes with its layers, which it may have compressed otherwise."""
    names = tuple(dict.fromkeys([*known.names, *again.names]))
    best = known if known.manifest or not again.manifest else again
    return ArchivedImage(best.config_member, best.config, best.layers, names, best.manifest)


class _Reader:
    def __init__(self, archive: Archive, limits: Limits, platform: Platform | None) -> None:
        self._archive = archive
        self._limits = limits
        self._asked = platform
        self._platform = platform or host_platform()
        self.why = ""  # why an OCI layout had nothing for us
        self._bytes = self._values = 0  # of documents read so far
        self._barren: set[str] = set()  # indexes without a match: an archive may name one a million times
        self._fitting: dict[str, bool] = {}  # manifests by digest

    def docker(self, data: bytes) -> Iterator[ArchivedImage]:
        """manifest.json: [{"Config": file, "RepoTags": [name, …] | null, "Layers": [file, …]}, …]"""
        items = parse_json(data, "manifest.json")
        if not isinstance(items, list):
            raise InvalidArgument("invalid manifest.json: it must be a list")
        if len(items) > self._limits.images:
            raise InvalidArgument(f"the archive has more than {self._limits.images} images, the limit of this host")
        for item in items:
            if not isinstance(item, dict) or not isinstance(item.get("Config"), str):
                raise InvalidArgument("invalid manifest.json: an entry without Config")
            layers = [self._file(name) for name in _list(item, "Layers", "manifest.json")]
            names = [str(Reference.parse(str(name))) for name in _list(item, "RepoTags", "manifest.json")]
            image = self._image(self._file(item["Config"]), layers, names, None)
            if self._asked is None or self._asked.fits(image.config):
                yield image
            else:
                self.why = f"requested platform ({self._asked}) not found: the archive has {_of(image.config)}"

    def oci(self, data: bytes) -> Iterator[ArchivedImage]:
        """index.json: each descriptor is an image of its own, or an index of which this host's platform is taken."""
        layout = self._archive.read("oci-layout", self._limits)
        if layout is not None and parse_document(layout, "oci-layout").get("imageLayoutVersion") != "1.0.0":
            raise InvalidArgument("invalid OCI layout: imageLayoutVersion must be 1.0.0")
        index = parse_document(data, "index.json")
        _check_version(index, "index.json")
        tops = [each for each in _descriptors(index, "manifests", "index.json") if not _is_attestation(each)]
        if len(tops) > self._limits.images:
            raise InvalidArgument(f"the archive has more than {self._limits.images} images, the limit of this host")
        fitting = [each for each in tops if each.get("mediaType") in _INDEXES or self._fits(each)]
        for descriptor in fitting or (tops if self._asked is None else []):
            manifest = self._choose(descriptor, 0)
            if manifest is not None and (image := self._manifest(manifest, _names(descriptor))):
                yield image

    def _choose(self, descriptor: dict[str, Any], depth: int) -> dict[str, Any] | None:
        """The manifest's descriptor for this host in what may be an index of indexes; None: nothing fits."""
        if descriptor.get("mediaType") not in _INDEXES:
            return descriptor
        if depth >= _MAX_DEPTH:
            raise InvalidArgument("invalid OCI layout: indexes in indexes in indexes")
        if descriptor.get("digest") in self._barren:
            return None
        index = self._document(descriptor)
        children = [each for each in _descriptors(index, "manifests", "an index") if not _is_attestation(each)]
        for child in children:
            if child.get("mediaType") in _INDEXES:
                if (manifest := self._choose(child, depth + 1)) is not None:
                    return manifest
            elif self._fits(child):
                return child
        self.why = f"no match for platform {self._platform} in the archive"
        self._barren.add(str(descriptor.get("digest")))
        return None

    def _fits(self, descriptor: dict[str, Any]) -> bool:
        platform_ = descriptor.get("platform")
        if isinstance(platform_, dict):
            return self._platform.fits(platform_)
        digest = str(descriptor.get("digest"))
        if digest not in self._fitting:
            self._fitting[digest] = self._config_fits(descriptor)
        return self._fitting[digest]

    def _config_fits(self, descriptor: dict[str, Any]) -> bool:
        """For a descriptor that does not say its platform."""
        if descriptor.get("mediaType") not in _MANIFESTS:
            return False
        config = self._document(descriptor).get("config")
        if not isinstance(config, dict) or config.get("mediaType") not in _CONFIGS:
            return False
        return self._platform.fits(parse_document(self._read_config(self._blob(config)), "an image config"))

    def _manifest(self, descriptor: dict[str, Any], names: list[str]) -> ArchivedImage | None:
        media_type = descriptor.get("mediaType")
        if media_type not in _MANIFESTS:
            self.why = f"no image in the archive, only {media_type!r}"
            return None
        manifest = self._document(descriptor)
        config, layers = manifest.get("config"), _descriptors(manifest, "layers", "a manifest")
        if not isinstance(config, dict) or config.get("mediaType") not in _CONFIGS:
            self.why = "no image in the archive, only an artifact of another kind"
            return None
        return self._image(self._blob(config), [self._blob(layer) for layer in layers], names, self._blob(descriptor))

    def _image(self, config: Member, layers: list[Member], names: list[str], manifest: Member | None) -> ArchivedImage:
        parsed = parse_config(self._read_config(config))
        expected = len(parsed["rootfs"]["diff_ids"] or [])
        if len(layers) != expected:
            raise InvalidArgument(f"invalid manifest, layers length mismatch: expected {expected}, got {len(layers)}")
        if expected > self._limits.layers:
            raise InvalidArgument(f"the image has {expected} layers; this host takes {self._limits.layers}")
        return ArchivedImage(config, parsed, tuple(layers), tuple(dict.fromkeys(names)), manifest)

    def _file(self, name: object) -> Member:
        member = self._archive.find(str(name))
        if member is None:
            raise InvalidArgument(f"invalid archive: manifest.json names {name!r}, which is not in it")
        return member

    def _document(self, descriptor: dict[str, Any]) -> dict[str, Any]:
        """The manifest or index that a descriptor names."""
        digest = str(descriptor.get("digest"))
        document = parse_document(self._spend(read_document(self._blob(descriptor), digest, self._limits)), digest)
        _check_version(document, digest)
        if document.get("mediaType", descriptor.get("mediaType")) != descriptor.get("mediaType"):
            raise InvalidArgument(f"invalid OCI layout: {digest} says it is {document['mediaType']!r}, not {descriptor.get('mediaType')!r}")
        return document

    def _read_config(self, member: Member) -> bytes:
        return self._spend(read_document(member, "the image config", self._limits, MAX_BYTES))

    def _spend(self, data: bytes) -> bytes:
        """``data``, once it is counted: an archive of little may make us read much."""
        self._bytes += len(data)
        self._values += values_at_most(data)
        if self._bytes > self._limits.documents_bytes or self._values > self._limits.documents_values:
            raise InvalidArgument(
                f"the archive's manifests and configs are more than {self._limits.documents_bytes} bytes or "
                f"{self._limits.documents_values} values, the limits of this host"
            )
        return data

    def _blob(self, descriptor: dict[str, Any]) -> Member:
        """The file with the descriptor's digest and size."""
        digest, size = descriptor.get("digest"), descriptor.get("size")
        match = _DIGEST.fullmatch(digest) if isinstance(digest, str) else None
        if not match:
            raise InvalidArgument(f"invalid OCI layout: {str(digest)[:200]!r} is no digest")
        member = self._archive.find(f"blobs/{match[1] or match[3]}/{match[2] or match[4]}")
        if member is None:
            raise InvalidArgument(f"invalid OCI layout: {digest} is not in the archive")
        if size != member.size:
            raise InvalidArgument(f"the archive is damaged: {digest} has {member.size} bytes, its descriptor says {size}")
        return member


def _names(descriptor: dict[str, Any]) -> list[str]:
    """containerd and docker write the whole name; a bare tag in the standard's own annotation names nothing."""
    annotations = descriptor.get("annotations") or {}
    if not isinstance(annotations, dict):
        raise InvalidArgument("invalid OCI layout: annotations must be an object")
    name = annotations.get("io.containerd.image.name")
    if name is None:
        name = annotations.get("org.opencontainers.image.ref.name")
        if not isinstance(name, str) or not re.search("[/:]", name):
            return []
    return [str(Reference.parse(str(name)))]


def _of(config: dict[str, Any]) -> str:
    return "/".join(str(config[name]) for name in ("os", "architecture", "variant") if config.get(name)) or "no platform"


def _is_attestation(descriptor: dict[str, Any]) -> bool:
    annotations, platform_ = descriptor.get("annotations"), descriptor.get("platform")
    return (isinstance(annotations, dict) and "vnd.docker.reference.type" in annotations) or (
        isinstance(platform_, dict) and platform_.get("os") == "unknown"
    )


def _check_version(document: dict[str, Any], what: str) -> None:
    if document.get("schemaVersion") != 2:
        raise InvalidArgument(f"unsupported schemaVersion of {what}: only 2 is")


def _descriptors(document: dict[str, Any], member: str, what: str) -> list[dict[str, Any]]:
    found = _list(document, member, what)
    if not all(isinstance(each, dict) for each in found):
        raise InvalidArgument(f"invalid {what}: {member} must be descriptors")
    return found


def _list(document: dict[str, Any], member: str, what: str) -> list[Any]:
    value = document.get(member)
    if value is None:
        return []
    if not isinstance(value, list):
        raise InvalidArgument(f"invalid {what}: {member} must be a list")
    return value
