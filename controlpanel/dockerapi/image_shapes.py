"""Images as Docker shows them."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any, Final

from controlpanel.dockerapi import versions, words
from controlpanel.images.history import steps
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


def labels(view: ImageView) -> dict[str, str]:
    return (view.record.config.get("config") or {}).get("Labels") or {}


_CONFIG: Final[dict[str, Any]] = {
    "Cmd": None, "Entrypoint": None, "Env": None, "Labels": None, "OnBuild": None, "User": "", "Volumes": None, "WorkingDir": "",
}  # fmt: skip
# Members of a container's config that images were shown with before 1.50
_LEGACY: Final[dict[str, Any]] = {
    "AttachStderr": False, "AttachStdin": False, "AttachStdout": False, "Domainname": "", "Hostname": "", "Image": "", "OpenStdin": False,
    "StdinOnce": False, "Tty": False,
}  # fmt: skip


def config(view: ImageView, version: tuple[int, int] = versions.API) -> dict[str, Any]:
    """The ``config`` member, with the members that this version always shows."""
    given = dict(view.record.config.get("config") or {})
    defaults = _CONFIG if version >= (1, 50) else {**_CONFIG, **_LEGACY}
    out = {name: given.pop(name, default) for name, default in defaults.items()}
    for name in ("ArgsEscaped", "ExposedPorts", "Healthcheck", "Shell", "StopSignal"):
        if given.get(name):
            out[name] = given[name]
    return out


def summary(
    view: ImageView, shared_bytes: int = -1, users: Mapping[str, int] | None = None, version: tuple[int, int] = versions.API
) -> dict[str, Any]:
    """A line of ``GET /images/json``. ``shared_bytes`` -1: nobody asked. ``users``: containers by image id, None: nobody counted."""
    line = dict(view.cache.get("summary") or view.cache.setdefault("summary", _summary(view)))
    line["Containers"] = users.get(view.id, 0) if users is not None else -1
    line["SharedSize"] = shared_bytes
    if version < (1, 44):
        line["VirtualSize"] = line["Size"]
    if version < (1, 43) and not view.refs:
        line["RepoTags"], line["RepoDigests"] = ["<none>:<none>"], ["<none>@<none>"]
    return line


def _summary(view: ImageView) -> dict[str, Any]:
    return {
        "Containers": -1,
        "Created": created_s(view.record.created),
        "Id": view.id,
        "Labels": (view.record.config.get("config") or {}).get("Labels"),
        "ParentId": view.record.parent,
        "RepoDigests": digests(view),
        "RepoTags": tags(view),
        "SharedSize": -1,
        "Size": view.record.size_bytes,
    }


def describe(view: ImageView, version: tuple[int, int] = versions.API) -> dict[str, Any]:
    """``GET /images/{name}/json``"""
    oci = view.record.config
    history = [entry for entry in oci.get("history") or [] if isinstance(entry, dict)]
    return {
        "Id": view.id,
        "RepoTags": tags(view),
        "RepoDigests": digests(view),
        "Parent": view.record.parent,
        "Comment": str(history[-1].get("comment") or "") if history else "",
        "Created": view.record.created or words.rfc3339(0),
        "DockerVersion": str(oci.get("docker_version") or ""),
        "Author": str(oci.get("author") or ""),
        "Architecture": str(oci.get("architecture") or versions.ARCHITECTURE),
        **({"Variant": oci["variant"]} if oci.get("variant") else {}),
        "Os": str(oci.get("os") or "linux"),
        "Size": view.record.size_bytes,
        **({"VirtualSize": view.record.size_bytes} if version < (1, 44) else {}),
        "GraphDriver": {"Data": {}, "Name": "overlay2"},
        "RootFS": {"Type": "layers", "Layers": list(view.record.diff_ids)},
        "Metadata": {"LastTagTime": words.rfc3339(view.added_at_s * 1_000_000_000)},
        "Config": config(view, version),
    }


def history(view: ImageView) -> list[dict[str, Any]]:
    """Newest first."""
    lines: list[dict[str, Any]] = [
        {
            "Comment": step.comment,
            "Created": created_s(step.created),
            "CreatedBy": step.created_by,
            "Id": "<missing>",
            "Size": step.bytes,
            "Tags": None,
        }
        for step in steps(view)
    ]
    lines[-1] |= {"Id": view.id, "Tags": tags(view) or None}
    return lines[::-1]
