"""What a manifest says: its kind, what it needs, whom it is about. PURE.

image manifest   config, layers[]      application/vnd.oci.image.manifest.v1+json, …docker.distribution.manifest.v2+json
index            manifests[]           application/vnd.oci.image.index.v1+json, …docker.distribution.manifest.list.v2+json
anything else    kept as it is; what it names the way these do, it needs like these

The bytes are kept as they came and never written anew: their digest is their name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from controlpanel.registry.errors import Refused
from controlpanel.registry.names import is_digest

SIZE_MAX: Final = 4 << 20  # bytes; the specification wants 4 MB at least
DESCRIPTORS_MAX: Final = 10_000  # that one manifest names: each is a row

IMAGE: Final = "application/vnd.oci.image.manifest.v1+json"
INDEX: Final = "application/vnd.oci.image.index.v1+json"
DOCKER_IMAGE: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
_IMAGES: Final = (IMAGE, DOCKER_IMAGE)
_INDEXES: Final = (INDEX, DOCKER_LIST)
_SCHEMA_1: Final = "application/vnd.docker.distribution.manifest.v1"
_MEDIA_TYPE: Final = re.compile(r"[A-Za-z0-9][\w!#$&^.+-]{0,126}/[A-Za-z0-9][\w!#$&^.+-]{0,126}", re.ASCII)  # RFC 6838, section 4.2

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Manifest:
    """``blobs`` and ``children`` (manifests): size by digest; -1 where it does not say. Of ``blobs`` those may be missing whose bytes
    are elsewhere (``urls``)."""

    media_type: str
    artifact_type: str = ""
    subject: str = ""
    annotations: dict[str, str] = field(default_factory=dict)
    blobs: dict[str, int] = field(default_factory=dict)
    elsewhere: frozenset[str] = frozenset()
    children: dict[str, int] = field(default_factory=dict)


def read(body: bytes, media_type: str) -> Manifest:
    """``media_type``: as the request has it, "" when it has none. Refused (MANIFEST_INVALID) for what can't be one."""
    document = _document(body)
    said = document.get("mediaType")
    kind = media_type.partition(";")[0].strip() or (said if isinstance(said, str) else "")
    if not _MEDIA_TYPE.fullmatch(kind):
        raise Refused("MANIFEST_INVALID", "the manifest has no media type: send Content-Type")
    if kind.startswith(_SCHEMA_1):
        raise Refused("MANIFEST_INVALID", "manifests of schema 1 are not taken: push with a client from after 2017")
    if said is not None and said != kind:
        raise Refused("MANIFEST_INVALID", f"the manifest says mediaType {str(said)[:100]!r}, the request Content-Type {kind!r}")
    if kind in _IMAGES + _INDEXES and document.get("schemaVersion") != 2:
        raise Refused("MANIFEST_INVALID", "schemaVersion must be 2")
    config, layers, manifests = document.get("config"), document.get("layers"), document.get("manifests")
    if kind in _IMAGES and (not isinstance(config, dict) or not isinstance(layers, list)):
        raise Refused("MANIFEST_INVALID", "an image manifest has a config and layers")
    if kind in _INDEXES and not isinstance(manifests, list):
        raise Refused("MANIFEST_INVALID", "an index has manifests")
    return _manifest(document, kind, strict=kind in _IMAGES + _INDEXES)


def members(body: bytes) -> list[Json]:
    """The descriptors of an index, as it has them."""
    return [each for each in _list(_document(body), "manifests") if _digest(each)]


def _manifest(document: Json, kind: str, *, strict: bool) -> Manifest:
    """``strict``: of a kind that we know every descriptor must be one."""
    blobs = [document["config"]] if document.get("config") is not None else []
    blobs += [*_list(document, "layers"), *_list(document, "blobs")]
    children, subject = _list(document, "manifests"), document.get("subject")
    if len(blobs) + len(children) > DESCRIPTORS_MAX:
        raise Refused("MANIFEST_INVALID", f"the manifest names more than {DESCRIPTORS_MAX} others")
    if subject is not None and _digest(subject) is None:
        raise Refused("MANIFEST_INVALID", "subject is no descriptor")
    return Manifest(
        media_type=kind,
        artifact_type=_artifact_type(document, kind),
        subject=_digest(subject) or "",
        annotations=_annotations(document),
        blobs=_sizes(blobs, strict=strict),
        elsewhere=frozenset(each["digest"] for each in blobs if _digest(each) and each.get("urls")),
        children=_sizes(children, strict=strict),
    )


def _list(document: Json, name: str) -> list[Any]:
    found = document.get(name)
    return found if isinstance(found, list) else []


def _document(body: bytes) -> Json:
    try:
        found = json.loads(body.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise Refused("MANIFEST_INVALID", f"the manifest is no JSON: {str(error)[:200]}") from None
    if not isinstance(found, dict):
        raise Refused("MANIFEST_INVALID", "the manifest is no JSON object")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> Json:
    """Which of two members of one name counts, readers disagree about: then they would see different images under one digest."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a member's name is there twice")
    return found


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")


def _artifact_type(document: Json, kind: str) -> str:
    """As the referrers API tells it: of an image that says nothing, its config's media type; an index that says nothing has none."""
    said = document.get("artifactType")
    if isinstance(said, str) and said:
        return said
    config = document.get("config")
    if kind not in _INDEXES and isinstance(config, dict) and isinstance(config.get("mediaType"), str):
        return str(config["mediaType"])
    return ""


def _annotations(document: Json) -> dict[str, str]:
    found = document.get("annotations")
    return {name: value for name, value in found.items() if isinstance(value, str)} if isinstance(found, dict) else {}


def _sizes(descriptors: Iterable[Any], *, strict: bool) -> dict[str, int]:
    found: dict[str, int] = {}
    for each in descriptors:
        digest = _digest(each)
        if digest is None:
            if strict:
                raise Refused("MANIFEST_INVALID", "the manifest has a descriptor without a digest of sha256 or sha512")
            continue
        size = each.get("size")
        is_size = isinstance(size, int) and not isinstance(size, bool) and size >= 0
        if strict and not is_size:
            raise Refused("MANIFEST_INVALID", f"the descriptor of {digest} has no size")
        found[digest] = size if is_size else -1
    return found


def _digest(descriptor: Any) -> str | None:
    digest = descriptor.get("digest") if isinstance(descriptor, dict) else None
    return digest if isinstance(digest, str) and is_digest(digest) else None
