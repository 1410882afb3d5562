"""Acts on volumes: may they → operation and audit → the host → its answer in rows. Sentences are moby's."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from controlpanel.base import database
from controlpanel.hosts import operations, queries
from controlpanel.hosts import tenants as host_tenants
from controlpanel.hosts.models import Operation
from controlpanel.tenants import projects
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.models import Tenant
from controlpanel.tenants.permissions import may, require
from controlpanel.volumes import admission, projection, rows
from controlpanel.volumes.models import Volume
from engine.errors import AlreadyExists, EngineError, InvalidArgument, NotFound
from engine.model import codec
from engine.model.volume import ANONYMOUS_LABEL, LOCAL, VolumeSpec, check_volume
from workers import contract


@dataclasses.dataclass(frozen=True, slots=True)
class Pruned:
    names: tuple[str, ...]
    bytes: int


def tenant_of(actor: Actor) -> Tenant:
    if actor.tenant is None:
        raise InvalidArgument("volumes belong to a tenant: none was named")
    return actor.tenant


async def create(
    actor: Actor, name: str = "", *, driver: str = "", options: Mapping[str, str] | None = None, labels: Mapping[str, str] | None = None
) -> VolumeSpec:
    """The one of that name when it is there already. Without a name: one is made up, and prune takes it."""
    require(actor, "volume.create")
    tenant = tenant_of(actor)
    spec = VolumeSpec(
        tenant=tenant.name,
        name=name or secrets.token_hex(32),
        driver=driver or LOCAL,
        options=dict(options or {}),
        labels=dict(labels or {}) if name else {**(labels or {}), ANONYMOUS_LABEL: ""},
        anonymous=not name,
    )
    check_volume(spec)
    require(actor, "volume.create", projects.name_of(spec.labels))
    await host_tenants.ensure(tenant)
    made: VolumeSpec | None = await operations.ask(await database.run(_begin_create, actor, tenant, spec))
    return made or await projection.volume(actor, spec.name)


async def remove(actor: Actor, name: str, *, force: bool = False) -> None:
    """``force``: one that is not there is fine."""
    require(actor, "volume.remove")
    try:
        spec = await projection.volume(actor, name)
        await operations.ask(await database.run(_begin, actor, "remove", contract.REMOVE_VOLUME, name, spec))
    except NotFound:
        if not force:
            raise


def _begin_create(actor: Actor, tenant: Tenant, spec: VolumeSpec) -> Operation:
    if Volume.everywhere.filter(tenant=tenant, name=spec.name).exists():
        if not Volume.objects.for_actor(actor).filter(name=spec.name).exists():
            raise name_taken(spec.name)
        return _begin(actor, "create", contract.CREATE_VOLUME, spec.name, spec)
    size, reserved = admission.admit(tenant, spec)
    if size != spec.size_bytes:
        spec = dataclasses.replace(spec, options={**spec.options, "size": str(size)})
    return _begin(actor, "create", contract.CREATE_VOLUME, spec.name, spec, reserved)


def name_taken(name: str) -> AlreadyExists:
    """By a volume that the actor does not know of: names are the tenant's."""
    return AlreadyExists(f"the volume name {name} is taken: choose another one")


def _begin(actor: Actor, verb: str, task: str, name: str, spec: VolumeSpec, reserved: operations.Reserved | None = None) -> Operation:
    detail = {"options": spec.options} if verb == "create" and spec.options else {}
    return operations.begin(
        actor,
        queries.local_host(),
        verb=f"volume.{verb}",
        object=name,
        task=task,
        key=f"volumes:{spec.tenant}",
        payload={"volume": codec.to_json(spec)},
        reserved=reserved,
        detail=detail,
    )


def _created(operation: Operation, ok: dict[str, Any], error: EngineError | None) -> VolumeSpec | None:
    if error is not None or operation.tenant_id is None:
        return None
    spec = codec.from_json(VolumeSpec, ok["volume"])
    rows.put(operation.tenant_id, spec)
    return spec


def _removed(operation: Operation, ok: dict[str, Any], error: EngineError | None) -> None:
    if operation.tenant_id is None or (error is not None and not isinstance(error, NotFound)):
        return
    told = ok.get("volume") or operation.payload["volume"]
    rows.drop(operation.tenant_id, told["name"], told["created_ns"])


async def prune(actor: Actor, names: Sequence[str]) -> Pruned:
    """Those of ``names`` that no container mounts, as far as the actor may prune where they are."""
    require(actor, "volume.prune")
    if not actor.is_plain:
        mine = {spec.name for spec in await projection.volumes(actor) if may(actor, "volume.prune", projects.name_of(spec.labels))}
        names = [name for name in names if name in mine]
    done: Pruned | None = await operations.ask(await database.run(_begin_prune, actor, list(names)))
    return done or Pruned((), 0)


def _begin_prune(actor: Actor, names: list[str]) -> Operation:
    tenant = tenant_of(actor)
    return operations.begin(
        actor,
        queries.local_host(),
        verb="volume.prune",
        object=str(len(names)),
        task=contract.PRUNE_VOLUMES,
        key=f"volumes:{tenant.name}",
        payload={"tenant": tenant.name, "names": names},
        detail={"volumes": names},
    )


def _pruned(operation: Operation, ok: dict[str, Any], error: EngineError | None) -> Pruned | None:
    if error is not None or operation.tenant_id is None:
        return None
    for data in ok["volumes"]:
        rows.drop(operation.tenant_id, data["name"], data["created_ns"])
    freed = int(ok["bytes"])
    rows.event(operation.tenant_id, "prune", "", {}, reclaimed=str(freed))
    gone = tuple(data["name"] for data in ok["volumes"])
    operations.tell_done(operation, removed=list(gone))
    return Pruned(gone, freed)


operations.on_answer(contract.CREATE_VOLUME, _created)
operations.on_answer(contract.REMOVE_VOLUME, _removed)
operations.on_answer(contract.PRUNE_VOLUMES, _pruned)
