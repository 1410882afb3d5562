"""Container rows following the host: only a newer fact is applied, and every fact is told once, in order.

Each function belongs inside a transaction; what it changed reaches the projection after the commit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from controlpanel.base import live, statements
from controlpanel.containers import admission, endpoints
from controlpanel.containers.models import Container, Desired
from controlpanel.containers.projection import ContainerView
from controlpanel.events import log
from controlpanel.hosts.models import Host
from controlpanel.networks.builtin import BRIDGE, DRIVERS, HOST, NONE, network_id
from controlpanel.tenants import projects
from controlpanel.tenants.models import Tenant
from engine.model import codec
from engine.model.container import ContainerSpec, ContainerState, Status
from engine.model.network import DEFAULT
from engine.model.volume import LOCAL, VOLUME

SIGKILLED: Final = 137  # exit code


def locked(container_id: str) -> Container | None:
    """The row, which nobody else changes until the transaction ends (SQLite has one writer anyway)."""
    return statements.get(Container, "engine_id", container_id, lock=True)


def save(row: Container, *fields: str) -> ContainerView:
    """Write these fields as the next version, and tell it."""
    row.version += 1
    statements.update(row, *fields, "version")
    return tell(row)


def tell(row: Container, **words: Any) -> ContainerView:
    view = ContainerView(row)
    live.on_commit({"kind": "container", "tenant": row.tenant_id, "id": row.engine_id, "version": row.version, **words}, view)
    return view


def new(
    tenant: Tenant,
    host: Host,
    spec: ContainerSpec,
    *,
    config: dict[str, Any],
    host_config: dict[str, Any],
    network_names: Mapping[str, str],
    project_id: int | None,
    created_at_ns: int,
) -> Container:
    """Not written yet. ``config`` and ``host_config`` as ``inspect`` shows them."""
    return Container(
        tenant=tenant,
        host=host,
        engine_id=spec.id,
        name=spec.name,
        image_id=spec.image_id,
        image=spec.image,
        spec=codec.to_json(spec),
        docker_config=config,
        docker_host_config=host_config,
        network_names=dict(network_names),
        auto_remove=spec.auto_remove,
        project_id=project_id,
        created_at_ns=created_at_ns,
        version=1,
        **admission.columns_of(spec),
    )


def delete(row: Container) -> None:
    statements.delete(row)
    projects.left(row.tenant_id, row.project_id)
    live.on_commit({"kind": "container", "tenant": row.tenant_id, "id": row.engine_id, "project": _project(row), "removed": True})


def event(row: Container, action: str, *, time_ns: int = 0, **attributes: str) -> None:
    """Docker's container event: labels, image and name are always attributes."""
    words = {**(row.docker_config.get("Labels") or {}), "image": row.image, "name": row.name, **attributes}
    log.write(row.tenant_id, "container", action, row.engine_id, words, project=_project(row), time_ns=time_ns)


def _project(row: Container) -> str:
    return projects.name_of(row.docker_config.get("Labels") or {})


def network_events(row: Container, state: ContainerState, action: str, *, time_ns: int) -> None:
    """connect and disconnect of the networks that the container is in, before its start and before its end, as moby tells them."""
    spec = row.to_spec()
    if spec.network_mode in (HOST, NONE):
        network_event(row, spec.network_mode, action, time_ns=time_ns)
    for endpoint in endpoints.current(spec, state):
        network_event(row, endpoint.spec.network_id, action, time_ns=time_ns)


def network_event(row: Container, number: str, action: str, *, time_ns: int = 0) -> None:
    """``number``: the network's id; "" is the default bridge, "host" and "none" those."""
    if number in (DEFAULT, HOST, NONE):
        name = number or BRIDGE
        number, driver = network_id(row.spec["tenant"], name), DRIVERS[name]
    else:
        name, driver = row.network_names.get(number, number[:12]), DRIVERS[BRIDGE]
    words = {"container": row.engine_id, "name": name, "type": driver}
    log.write(row.tenant_id, "network", action, number, words, project=_project(row), time_ns=time_ns)


def volume_events(row: Container, action: str, *, time_ns: int) -> None:
    """mount and unmount of its volumes, as moby tells them."""
    for mount in row.spec.get("mounts") or ():
        if mount["type"] == VOLUME:
            words = {"container": row.engine_id, "driver": LOCAL}
            if action == "mount":
                rw = "false" if mount["read_only"] else "true"
                words |= {"destination": mount["target"], "propagation": mount["propagation"], "read/write": rw}
            log.write(row.tenant_id, "volume", action, mount["source"], words, project=_project(row), time_ns=time_ns)


def observe(row: Container, state: ContainerState) -> ContainerView | None:
    """Apply what the host says. None when that is not news: another process may have applied it a moment ago."""
    if (state.seq, state.change) <= (row.host_seq, row.state.get("change", 0)):
        live.remind({"kind": "container", "tenant": row.tenant_id, "id": row.engine_id, "version": row.version}, ContainerView(row))
        return None
    before, known, wished = row.host_seq, row.to_state(), row.desired
    row.state, row.host_seq, row.status = {**row.state, **codec.to_json(state)}, state.seq, state.status.value
    fields = ["state", "host_seq", "status"]
    if (desired := _desired_now(row.desired, known, state)) != row.desired:
        row.desired = desired
        fields.append("desired")
    view = save(row, *fields)
    _tell_moves(row, before, known, state, wished)
    return view


def _desired_now(desired: str, known: ContainerState, state: ContainerState) -> str:
    """What is wished of a container that has ended by itself, or was started again, by its policy or as it was asked."""
    if desired in (Desired.RESTARTING, Desired.STOPPED) and state.run > known.run:
        return Desired.RUNNING if runs(state) else Desired.STOPPED
    return Desired.STOPPED if desired == Desired.RUNNING and not runs(state) and state.seq > 0 else desired


def failed_start(row: Container, message: str, exit_code: int) -> ContainerView | None:
    """The host refused to run it: a run that ended at once, as the host records it too (ContainerState)."""
    last = row.to_state()
    run = last.run + 1
    status = Status.EXITED if last.started_at_ns else Status.CREATED
    failed = dataclasses.replace(last, status=status, change=0, run=run, seq=2 * run, pid=0, exit_code=exit_code, error=message)
    return observe(row, failed)


def runs(state: ContainerState) -> bool:
    """Or is about to."""
    return state.has_process or state.status is Status.RESTARTING


def _tell_moves(row: Container, before: int, known: ContainerState, state: ContainerState, wished: str) -> None:
    """start, pause, unpause, oom, die and health_status of the run that ``state`` belongs to, as far as they were not told yet."""
    if state.run == 0 or state.started_at_ns == 0 or state.error:
        return
    if before < 2 * state.run - 1:
        volume_events(row, "mount", time_ns=state.started_at_ns)
        network_events(row, state, "connect", time_ns=state.started_at_ns)
        event(row, "start", time_ns=state.started_at_ns)
    if state.oom_killed and not (known.run == state.run and known.oom_killed):
        event(row, "oom", time_ns=state.finished_at_ns if state.seq == 2 * state.run else 0)
    if state.seq == known.seq and (state.status is Status.PAUSED) != (known.status is Status.PAUSED):
        event(row, "pause" if state.status is Status.PAUSED else "unpause")
    if state.seq == 2 * state.run and before < state.seq:
        tell_end(row, state, wished)
    health, before_it = _health(state), _health(known) if known.run == state.run else ""
    if state.has_process and health not in ("", "starting", before_it):
        event(row, f"health_status: {health}")


def _health(state: ContainerState) -> str:
    return state.health.status if state.health else ""


def tell_end(row: Container, state: ContainerState, wished: str) -> None:
    """Of a container that was stopped and did not follow, SIGKILL was the last word; moby tells it before the end."""
    if wished in (Desired.STOPPED, Desired.RESTARTING) and state.exit_code == SIGKILLED and not state.oom_killed:
        event(row, "kill", time_ns=state.finished_at_ns, signal="9")
    network_events(row, state, "disconnect", time_ns=state.finished_at_ns)
    volume_events(row, "unmount", time_ns=state.finished_at_ns)
    seconds = max(0, state.finished_at_ns - state.started_at_ns) // 1_000_000_000
    event(row, "die", time_ns=state.finished_at_ns, exitCode=str(state.exit_code), execDuration=str(seconds))
    if wished == Desired.RESTARTING:
        event(row, "stop", time_ns=state.finished_at_ns)


def put(row: Container, spec_changes: Mapping[str, str]) -> None:
    """Change the spec that is kept; the caller saves."""
    row.spec = {**row.spec, **spec_changes}
