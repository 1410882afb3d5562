"""Rows and hosts after a power cut: each may have lost its last seconds, and not the same ones.

    the row is gone, the host has the container   ``restore``: the row is made again from the host's record
    the row tells of a run the host has lost      ``recall``: the row goes back to what the host says
    the host has lost the container               events.inventory: the row goes, too

What a row has beside the spec no host needs; ``shown`` of the spec carries it there and back.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from typing import Any, Final

from controlpanel.audit import services as audit
from controlpanel.base import statements
from controlpanel.containers import rows
from controlpanel.containers.models import Container, Desired
from controlpanel.hosts.models import Host
from controlpanel.tenants import projects
from controlpanel.tenants.actor import system
from controlpanel.tenants.models import Tenant
from engine.errors import AlreadyExists, NotFound
from engine.model import codec
from engine.model.container import ContainerSpec, ContainerState

log = logging.getLogger(__name__)

RECALLED: Final = "recalled_ns"  # member of a row's ``state``: facts that the host told before then are void


def shown(row: Container) -> dict[str, Any]:
    """For the host's record."""
    return {
        "tenant": row.tenant_id,
        "config": row.docker_config,
        "host_config": row.docker_host_config,
        "network_names": row.network_names,
        "created_at_ns": row.created_at_ns,
    }


def restore(host: Host, spec: ContainerSpec, state: ContainerState) -> bool:
    """Call it inside a transaction. False: somebody has made the row meanwhile.

    NotFound when its tenant is not here any more: another one of the same name has nothing to do with it. AlreadyExists while
    another row holds its name: a create that the host is just about to refuse.
    """
    if rows.locked(spec.id) is not None:
        return False
    tenant = Tenant.objects.filter(pk=spec.shown["tenant"], name=spec.tenant).first()
    if tenant is None:
        raise NotFound(f"tenant {spec.tenant}, to whom it belonged, is not here any more; doctor --repair tells of it")
    if Container.everywhere.filter(tenant=tenant, name=spec.name).exists():
        raise AlreadyExists(f"the name {spec.name} is held by another container")
    row = rows.new(
        tenant,
        host,
        dataclasses.replace(spec, shown={}),
        config=dict(spec.shown["config"]),
        host_config=dict(spec.shown["host_config"]),
        network_names=dict(spec.shown.get("network_names") or {}),
        project_id=projects.number_of(tenant.pk, spec.labels),
        created_at_ns=int(spec.shown["created_at_ns"]),
    )
    row.desired = Desired.RUNNING if rows.runs(state) else Desired.STOPPED if state.run else Desired.CREATED
    statements.insert(row)
    rows.event(row, "create", time_ns=row.created_at_ns)
    rows.tell(row, back=True)
    rows.observe(row, state)
    audit.record(system(tenant), "container.restore", row.name, container=row.engine_id)
    log.warning("container %s (%s) of %s: its row was lost, and is back", row.name, spec.id[:12], tenant.name)
    return True


def recall(row: Container, state: ContainerState, *, time_ns: int) -> None:
    """The row knows of more than its host, which has lost it: ``state`` is what it said at ``time_ns`` (its clock)."""
    known = row.to_state()
    log.warning("container %s (%s): its host has lost run %d, and is at %d", row.name, row.engine_id[:12], known.run, state.run)
    if known.has_process:
        rows.tell_end(row, dataclasses.replace(known, exit_code=rows.SIGKILLED, finished_at_ns=time.time_ns()), row.desired)
    if row.desired != Desired.REMOVED:
        row.desired = Desired.RUNNING if rows.runs(state) else Desired.STOPPED if state.run else Desired.CREATED
    row.state = {**codec.to_json(state), RECALLED: time_ns}
    row.host_seq, row.status = state.seq, state.status.value
    rows.save(row, "state", "host_seq", "status", "desired")
    audit.record(system(row.tenant), "container.recall", row.name, container=row.engine_id, run=known.run)
