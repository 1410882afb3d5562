"""An image from an image and one more layer: ``docker commit``. The layer is read once: hashed, kept as content, unpacked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from engine.errors import FailedPrecondition
from engine.images import blobs, layers
from engine.images.changes import apply_changes
from engine.images.incoming import Committing, Keeping, give, record_of
from engine.images.refs import parse_name
from engine.images.staging import Staging
from engine.images.streams import Chunks
from engine.model.image import ImageRecord, merge_config
from engine.model.platform import host_architecture

if TYPE_CHECKING:
    from engine.images.store import ImageStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """``config``: Docker's Config for the image, None for the container's own; ``changes``: Dockerfile lines upon it."""

    container_id: str
    container_config: Mapping[str, Any]  # Docker's Config of the container
    config: Mapping[str, Any] | None = None
    changes: tuple[str, ...] = ()
    ref: str = ""
    author: str = ""
    comment: str = ""

    def settings(self) -> dict[str, Any]:
        """The new image's Config. InvalidArgument for a change that is none."""
        base = dict(self.container_config if self.config is None else self.config)
        merged = merge_config({"config": dict(self.container_config)}, apply_changes(self.changes, base))
        return {name: value for name, value in merged.items() if value not in (None, "", [], {}) or name in _ALWAYS}


_ALWAYS = frozenset({"Hostname", "Domainname", "User", "AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce",
                     "Env", "Cmd", "Image", "Volumes", "WorkingDir", "Entrypoint", "OnBuild", "Labels"})  # fmt: skip


def check(commit: Commit) -> None:
    """What can be wrong with the words, before anything is frozen or read. InvalidArgument."""
    commit.settings()
    if commit.ref:
        parse_name(commit.ref)


def commit(store: ImageStore, tenant: str, parent: ImageRecord, commit: Commit, source: Callable[[], Chunks]) -> str:
    """The new image's id. ``source`` gives the layer's tar. All of it or nothing: on an error, or killed, no image and no layer stays."""
    if len(parent.chain_ids) >= store.limits.layers:
        raise FailedPrecondition(f"max depth exceeded: an image of {store.limits.layers} layers takes no further one")
    name = parse_name(commit.ref) if commit.ref else ""
    settings = commit.settings()
    with store.lock():
        staging = Staging(store.config)
        staging.pin(set(parent.chain_ids))
    with staging:
        blob = staging.folder / "layer"
        with Keeping(blob) as kept:
            prepared = layers.prepare_plain(kept(source()), staging.folder / "unpacked", store.limits, lambda: f"sha256:{kept.sha256}")
        data = _config(parent, prepared.diff_id, settings, commit)
        config = staging.folder / "config"
        config.write_bytes(data)
        digits = hashlib.sha256(data).hexdigest()
        sizes = [*(store.layers.size_bytes(each) for each in parent.chain_ids), prepared.size_bytes]
        record = record_of(f"sha256:{digits}", json.loads(data), sizes)
        with Committing(store):
            # The parent's blobs are this image's too: whoever saves it needs them all
            inherited = store.records.blobs(parent.id.removeprefix("sha256:")) - {parent.id.removeprefix("sha256:")}
            below = blobs.of_layers(store, parent)
            store.records.write(record, [digits, kept.sha256, *inherited], layers=[*below, kept.sha256])
            store.content.adopt(config, digits)
            store.content.adopt(blob, kept.sha256)
            store.layers.adopt(prepared, parent.chain_ids)
            give(store, tenant, record.id, [name] if name else [])
    return record.id


def _config(parent: ImageRecord, diff_id: str, settings: dict[str, Any], commit: Commit) -> bytes:
    """As moby's image.NewChildImage: the parent's history and layers, and one more of each."""
    base = parent.config
    created = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    history: dict[str, Any] = {"created": created, "created_by": " ".join(commit.container_config.get("Cmd") or [])}
    for name, said in (("author", commit.author), ("comment", commit.comment)):
        if said:
            history[name] = said
    config: dict[str, Any] = {
        "architecture": base.get("architecture") or host_architecture(),
        "os": "linux",
        "parent": parent.id,
        "created": created,
        "config": settings,
        "container": commit.container_id,
        "container_config": dict(commit.container_config),
        "rootfs": {"type": "layers", "diff_ids": [*parent.diff_ids, diff_id]},
        "history": [*(base.get("history") or []), history],
    }
    for name, value in (("author", commit.author), ("comment", commit.comment), ("variant", base.get("variant"))):
        if value:
            config[name] = value
    return json.dumps(config, separators=(",", ":"), sort_keys=True).encode()
