"""Images as the engine keeps them, and how an image's defaults meet what the user typed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecord:
    """One image of the host's store, whoever may use it."""

    id: str  # sha256:… of the config blob
    chain_ids: tuple[str, ...]  # hex, one per layer, base first: engine/layers/<hex>/diff
    diff_ids: tuple[str, ...]  # sha256:…, base first
    config: dict[str, Any]  # the OCI image config, parsed
    size_bytes: int  # of all unpacked layers
    created: str  # RFC 3339, as the config says
    layer_bytes: tuple[int, ...] = ()  # of each unpacked layer, base first; () of an image that was brought in before it was counted

    @property
    def parent(self) -> str:
        """Id of the image that a commit or a build made it from; "" for what was brought in from elsewhere."""
        parent = self.config.get("parent")
        return parent if isinstance(parent, str) else ""


def layer_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The ``config`` member of an image config: Cmd, Entrypoint, Env, User, WorkingDir, Labels, …"""
    return dict(config.get("config") or {})


def merge_env(image: Sequence[str], asked: Sequence[str]) -> list[str]:
    """Image's variables, overridden by those asked for; ``NAME`` without ``=`` removes NAME (as dockerd does)."""
    merged = {name: value for name, _equals, value in (item.partition("=") for item in image)}
    for item in asked:
        name, equals, value = item.partition("=")
        if equals:
            merged[name] = value
        else:
            merged.pop(name, None)
    return [f"{name}={value}" for name, value in merged.items()]


def merge_config(image: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """Docker's ``Config`` of a create request with the image's defaults filled in.

    Both are dicts in Docker's spelling (Cmd, Entrypoint, Env, …); the answer is a new one. An asked Entrypoint
    drops the image's Cmd; labels and exposed ports add up; the rest of the image's is taken where nothing was asked.
    """
    base, out = layer_config(image), dict(asked)
    no_entrypoint = out.get("Entrypoint") == [""]  # docker run --entrypoint "": without the image's
    if out.get("Entrypoint") is None:
        if not out.get("Cmd"):
            out["Cmd"] = base.get("Cmd")
        out["Entrypoint"] = base.get("Entrypoint")
    if no_entrypoint:
        out["Entrypoint"] = None
    place = {item.partition("=")[0]: index for index, item in enumerate(out.get("Env") or [])}
    merged = merge_env(base.get("Env") or [], out.get("Env") or [])
    out["Env"] = sorted(merged, key=lambda item: place.get(item.partition("=")[0], len(place)))  # those asked for come first
    for name in ("User", "WorkingDir", "StopSignal", "Shell"):
        if not out.get(name) and base.get(name):
            out[name] = base[name]
    if base.get("Healthcheck"):  # member by member: who asks for another interval keeps the image's test
        own = {name: value for name, value in (out.get("Healthcheck") or {}).items() if value}
        out["Healthcheck"] = {**base["Healthcheck"], **own}
    for name in ("Labels", "ExposedPorts", "Volumes"):
        if base.get(name) or out.get(name):
            out[name] = {**(base.get(name) or {}), **(out.get(name) or {})}
    return out
