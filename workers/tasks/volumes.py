"""Volumes: see the table in workers/contract.py."""

from __future__ import annotations

from typing import Any

from engine import errors, snapshots
from engine.model.codec import from_json, to_json
from engine.model.volume import VolumeSpec
from workers import contract, host
from workers.operation import Act, task


@task(contract.CREATE_VOLUME)
def create(act: Act) -> dict[str, Any]:
    spec = from_json(VolumeSpec, act.payload["volume"])
    engine = host.engine()
    try:
        engine.tenants.get(spec.tenant)
    except errors.NotFound:
        engine.ensure_tenant(spec.tenant)
    return {"volume": to_json(engine.create_volume(spec))}


def _found(payload: dict[str, Any]) -> dict[str, Any]:
    spec = from_json(VolumeSpec, payload["volume"])
    try:
        return {"volume": to_json(host.engine().volumes.get(spec.tenant, spec.name))}
    except errors.NotFound:
        return {}


@task(contract.REMOVE_VOLUME, mark=_found)
def remove(act: Act) -> dict[str, Any]:
    """A replay that finds another one under that name, or none, has nothing to do."""
    spec = from_json(VolumeSpec, act.payload["volume"])
    if not (act.replay and act.mark and _found(act.payload) != act.mark):
        host.engine().volumes.remove(spec.tenant, spec.name)
    return {"volume": act.mark.get("volume")}


@task(contract.PRUNE_VOLUMES)
def prune(act: Act) -> dict[str, Any]:
    removed, freed = host.engine().volumes.prune(act.payload["tenant"], act.payload["names"])
    return {"volumes": to_json(removed), "bytes": freed}


@task(contract.RENAME_VOLUME)
def rename(act: Act) -> dict[str, Any]:
    spec, name, volumes = from_json(VolumeSpec, act.payload["volume"]), act.payload["name"], host.engine().volumes
    if act.replay and (done := _same(spec, name)) is not None:
        return {"volume": to_json(done)}
    return {"volume": to_json(volumes.rename(spec.tenant, spec.name, name))}


def _same(spec: VolumeSpec, name: str) -> VolumeSpec | None:
    """The volume, by another name."""
    try:
        found = host.engine().volumes.get(spec.tenant, name)
    except errors.NotFound:
        return None
    return found if found.created_ns == spec.created_ns else None


@task(contract.CLONE_VOLUME)
def clone(act: Act) -> dict[str, Any]:
    """A replay that finds it there has made it: whoever else asked for that name was refused, or this one."""
    spec, name, engine = from_json(VolumeSpec, act.payload["volume"]), act.payload["name"], host.engine()
    try:
        return {"volume": to_json(snapshots.clone(engine, spec.tenant, spec.name, name))}
    except errors.AlreadyExists:
        if not act.replay:
            raise
        return {"volume": to_json(engine.volumes.get(spec.tenant, name))}


@task(contract.RESIZE_VOLUME)
def resize(act: Act) -> dict[str, Any]:
    spec = from_json(VolumeSpec, act.payload["volume"])
    return {"volume": to_json(host.engine().volumes.resize(spec.tenant, spec.name, act.payload["size"]))}


@task(contract.SNAPSHOT_VOLUME)
def snapshot(act: Act) -> dict[str, Any]:
    spec, name = from_json(VolumeSpec, act.payload["volume"]), act.payload["snapshot"]
    deed = {"take": snapshots.take, "restore": snapshots.restore, "remove": snapshots.remove}[act.payload["act"]]
    try:
        deed(host.engine(), spec.tenant, spec.name, name)
    except (errors.AlreadyExists, errors.NotFound):
        if not act.replay or act.payload["act"] == "restore":
            raise
    return {}
