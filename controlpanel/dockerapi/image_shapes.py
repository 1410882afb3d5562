"""Images as Docker shows them."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

from controlpanel.containers.projection import ContainerView
from controlpanel.dockerapi import versions, words
from controlpanel.images.projection import ImageView


def created_s(text: str) -> int:
    """RFC 3339 with up to nine digits of a fraction, in unix seconds; 0 when the image doesn't say."""
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        return 0
    return int(moment.replace(tzinfo=moment.tzinfo or datetime.UTC).timestamp())


def tags(view: ImageView) -> list[str]:
    return [ref for ref in view.refs if "@" not in ref]


def digests(view: ImageView) -> list[str]:
    return [ref for ref in view.refs if "@" in ref]


def config(view: ImageView) -> dict[str, Any]:
    """The ``config`` member, with the members that 1.51 always shows."""
    given = dict(view.record.config.get("config") or {})
    defaults = {
        "Cmd": None,
        "Entrypoint": None,
        "Env": None,
        "Labels": None,
        "OnBuild": None,
        "User": "",
        "Volumes": None,
        "WorkingDir": "",
    }
    out = {name: given.pop(name, default) for name, default in defaults.items()}
    for name in ("ArgsEscaped", "ExposedPorts", "Healthcheck", "Shell", "StopSignal"):
        if given.get(name):
            out[name] = given[name]
    return out


def _parent(view: ImageView) -> str:
    """Of an image that was committed: the one below it. Image configs of others have no such member, or an old and empty one."""
    parent = view.record.config.get("parent")
    return parent if isinstance(parent, str) else ""


def summary(view: ImageView, containers: Sequence[ContainerView] | None = None, *, shared_size: int = -1) -> dict[str, Any]:
    """A line of ``GET /images/json``. ``containers``: those to count, None = not counted (-1)."""
    return {
        "Containers": sum(each.image_id == view.id for each in containers) if containers is not None else -1,
        "Created": created_s(view.record.created),
        "Id": view.id,
        "Labels": (view.record.config.get("config") or {}).get("Labels"),
        "ParentId": _parent(view),
        "RepoDigests": digests(view),
        "RepoTags": tags(view),
        "SharedSize": shared_size,
        "Size": view.record.size_bytes,
    }


def describe(view: ImageView) -> dict[str, Any]:
    """``GET /images/{name}/json``"""
    oci = view.record.config
    history = [entry for entry in oci.get("history") or [] if isinstance(entry, dict)]
    return {
        "Id": view.id,
        "RepoTags": tags(view),
        "RepoDigests": digests(view),
        "Parent": _parent(view),
        "Comment": str(history[-1].get("comment") or "") if history else "",
        "Created": view.record.created or words.rfc3339(0),
        "DockerVersion": str(oci.get("docker_version") or ""),
        "Author": str(oci.get("author") or ""),
        "Architecture": str(oci.get("architecture") or versions.ARCHITECTURE),
        **({"Variant": oci["variant"]} if oci.get("variant") else {}),
        "Os": str(oci.get("os") or "linux"),
        "Size": view.record.size_bytes,
        "GraphDriver": {"Data": {}, "Name": "overlay2"},
        "RootFS": {"Type": "layers", "Layers": list(view.record.diff_ids)},
        "Metadata": {"LastTagTime": words.rfc3339(view.added_at_s * 1_000_000_000)},
        "Config": config(view),
    }


def history(view: ImageView) -> list[dict[str, Any]]:
    """Newest first. Sizes of single layers aren't recorded: all of the image's is shown at its last layer."""
    entries = [entry for entry in view.record.config.get("history") or [] if isinstance(entry, dict)]
    lines: list[dict[str, Any]] = [
        {
            "Comment": str(entry.get("comment") or ""),
            "Created": created_s(str(entry.get("created") or "")),
            "CreatedBy": str(entry.get("created_by") or ""),
            "Id": "<missing>",
            "Size": 0,
            "Tags": None,
        }
        for entry in reversed(entries)
    ]
    if not lines:
        lines = [{"Comment": "", "Created": created_s(view.record.created), "CreatedBy": "", "Id": "<missing>", "Size": 0, "Tags": None}]
    filled = next((index for index, entry in enumerate(reversed(entries)) if not entry.get("empty_layer")), 0)
    lines[filled]["Size"] = view.record.size_bytes
    lines[0] |= {"Id": view.id, "Tags": tags(view) or None}
    return lines
