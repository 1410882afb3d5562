"""Small things of a repository: manifests and indexes, its tags."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

from engine.errors import InvalidArgument
from engine.registries.auth import json_object
from engine.registries.client import Bytes, Registry
from engine.registries.settings import MAX_DOCUMENT

ACCEPTED: Final = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_ACCEPT: Final = ", ".join(ACCEPTED)
_MAX_TAGS: Final = 10_000
_MAX_PAGES: Final = 200
_TAG: Final = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_NEXT: Final = re.compile(r'<([^>]+)>\s*;.*rel="?next"?')


def manifest(registry: Registry, repository: str, reference: str) -> tuple[str, bytes]:
    """(media type, the very bytes), by tag or digest."""
    answer = registry.call(
        "GET",
        f"/v2/{repository}/manifests/{quote(reference, safe=':')}",
        scopes=(f"repository:{repository}:pull",),
        expect=(200,),
        headers={"Accept": _ACCEPT},
    )
    if answer.size > MAX_DOCUMENT:
        answer.close()
        raise InvalidArgument(f"the manifest is larger than {MAX_DOCUMENT} bytes, the limit of this host")
    try:
        data = answer.read(MAX_DOCUMENT)
    finally:
        answer.close()
    return answer.header("Content-Type").partition(";")[0].strip().lower(), data


def put_manifest(registry: Registry, repository: str, reference: str, media_type: str, data: bytes) -> None:
    answer = registry.call(
        "PUT",
        f"/v2/{repository}/manifests/{quote(reference, safe=':')}",
        scopes=(f"repository:{repository}:pull,push",),
        expect=(201, 200),
        headers={"Content-Type": media_type},
        body=Bytes(data),
    )
    answer.close()


def tags(registry: Registry, repository: str) -> list[str]:
    """All of them. InvalidArgument for a list that has no end."""
    found: list[str] = []
    where = f"/v2/{repository}/tags/list"
    for _page in range(_MAX_PAGES):
        answer = registry.call("GET", where, scopes=(f"repository:{repository}:pull",), expect=(200,))
        try:
            listed = json_object(answer.read(MAX_DOCUMENT)).get("tags") or []
        finally:
            answer.close()
        if not isinstance(listed, list) or not all(isinstance(tag, str) and _TAG.fullmatch(tag) for tag in listed):
            raise InvalidArgument("the registry's list of tags is none")
        found += listed
        follows = _NEXT.search(answer.header("Link"))
        if len(found) > _MAX_TAGS:
            break
        if not follows:
            return found
        where = answer.link(follows[1])
    raise InvalidArgument(f"the repository has more than {_MAX_TAGS} tags, the limit of this host")
