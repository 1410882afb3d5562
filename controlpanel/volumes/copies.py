"""What Docker has no word for: another name, a copy, another size, snapshots."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from controlpanel.base import database
from controlpanel.hosts import operations, queries, streams
from controlpanel.hosts.models import Operation
from controlpanel.hosts.operations import Reserved
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.models import Tenant
from controlpanel.tenants.permissions import require
from controlpanel.volumes import admission, projection, rows
from engine.errors import EngineError, InvalidArgument
from engine.model import codec
from engine.model.volume import SIZE_MIN, VolumeSpec, check_volume_name, parse_size
from workers import contract

Admit = Callable[[Tenant, VolumeSpec], Reserved]

COPY_S: Final = 900.0  # that a caller waits for a copy; one that takes longer goes on


async def rename(actor: Actor, name: str, new_name: str) -> VolumeSpec:
    """FailedPrecondition while a container mounts it."""
    require(actor, "volume.rename")
    check_volume_name(new_name)
    return await _ask(actor, name, "rename", contract.RENAME_VOLUME, name=new_name)


async def clone(actor: Actor, name: str, new_name: str) -> VolumeSpec:
    require(actor, "volume.clone")
    check_volume_name(new_name)
    return await _ask(actor, name, "clone", contract.CLONE_VOLUME, admit=admission.admit_clone, name=new_name)


async def resize(actor: Actor, name: str, size: str) -> VolumeSpec:
    """Of one that was made with a size."""
    require(actor, "volume.resize")
    if parse_size(size) < SIZE_MIN:
        raise InvalidArgument(f"invalid size: '{size[:40]}': a volume has at least {SIZE_MIN >> 20} MiB")

    def admit(tenant: Tenant, spec: VolumeSpec) -> Reserved:
        return admission.admit_resize(tenant, spec, parse_size(size))

    return await _ask(actor, name, "resize", contract.RESIZE_VOLUME, admit=admit, size=size)


async def snapshot(actor: Actor, name: str, snapshot: str, act: str) -> None:
    """``act``: take, restore or remove."""
    require(actor, "volume.snapshot")
    spec = await projection.volume(actor, name)
    words = {"snapshot": snapshot, "act": act}
    await operations.ask(await database.run(_begin, actor, spec, f"snapshot.{act}", contract.SNAPSHOT_VOLUME, words), timeout_s=COPY_S)


async def told(actor: Actor, name: str) -> dict[str, Any]:
    """What the host alone knows: {"bytes", "snapshots": {name: made at, in ns}}."""
    require(actor, "volume.view")
    spec = await projection.volume(actor, name)
    ok, _reader, writer = await streams.open_stream("volume", spec.tenant, spec.name)
    writer.close()
    return ok


async def _ask(actor: Actor, volume: str, verb: str, task: str, *, admit: Admit | None = None, **words: Any) -> VolumeSpec:
    spec = await projection.volume(actor, volume)
    operation = await database.run(_begin, actor, spec, verb, task, words, admit)
    done: VolumeSpec | None = await operations.ask(operation, timeout_s=COPY_S)
    return done or await projection.volume(actor, words.get("name", volume))


def _begin(actor: Actor, spec: VolumeSpec, verb: str, task: str, words: dict[str, Any], admit: Admit | None = None) -> Operation:
    reserved = None
    if admit is not None:
        assert actor.tenant is not None
        reserved = admit(actor.tenant, spec)
    return operations.begin(
        actor,
        queries.local_host(),
        verb=f"volume.{verb}",
        object=spec.name,
        task=task,
        key=f"volumes:{spec.tenant}",
        payload={"volume": codec.to_json(spec), **words},
        reserved=reserved,
        detail=_change(spec, verb, words),
    )


def _change(spec: VolumeSpec, verb: str, words: dict[str, Any]) -> dict[str, Any]:
    if verb == "rename":
        return {"before": spec.name, "after": words["name"]}
    if verb == "resize":
        return {"before": spec.options.get("size"), "after": words["size"]}
    return words


def _renamed(operation: Operation, ok: dict[str, Any], error: EngineError | None) -> VolumeSpec | None:
    if error is not None or operation.tenant_id is None:
        return None
    spec = codec.from_json(VolumeSpec, ok["volume"])
    rows.drop(operation.tenant_id, operation.payload["volume"]["name"], spec.created_ns)
    rows.put(operation.tenant_id, spec)
    return spec


def _cloned(operation: Operation, ok: dict[str, Any], error: EngineError | None) -> VolumeSpec | None:
    if error is not None or operation.tenant_id is None:
        return None
    spec = codec.from_json(VolumeSpec, ok["volume"])
    rows.put(operation.tenant_id, spec)
    return spec


def _resized(operation: Operation, ok: dict[str, Any], error: EngineError | None) -> VolumeSpec | None:
    if error is not None or operation.tenant_id is None:
        return None
    spec = codec.from_json(VolumeSpec, ok["volume"])
    rows.change(operation.tenant_id, spec)
    return spec


operations.on_answer(contract.RENAME_VOLUME, _renamed)
operations.on_answer(contract.CLONE_VOLUME, _cloned)
operations.on_answer(contract.RESIZE_VOLUME, _resized)
