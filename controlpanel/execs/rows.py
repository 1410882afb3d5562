"""Exec rows and what they tell. Each function belongs inside a transaction."""

from __future__ import annotations

import time
from typing import Final

from controlpanel.base import live, statements
from controlpanel.containers.models import Container
from controlpanel.events import log
from controlpanel.execs.models import Exec
from controlpanel.execs.projection import ExecView, view_of
from controlpanel.tenants import projects
from engine.model.container import Status
from engine.model.execution import ExecSpec, ExecState

ENDED_KEPT_S: Final = 3600.0
LOST: Final = 137  # the exit code of one whose end nobody saw


def tell(row: Exec) -> ExecView:
    view = view_of(row)
    live.on_commit({"kind": "exec", "tenant": row.tenant_id, "id": row.exec_id}, view)
    return view


def event(container: Container, action: str, exec_id: str, *, time_ns: int = 0, **attributes: str) -> None:
    """Of the container, with the exec's id among the attributes."""
    labels = container.docker_config.get("Labels") or {}
    words = {**labels, "execID": exec_id, "image": container.image, "name": container.name, **attributes}
    project = projects.name_of(labels)
    log.write(container.tenant_id, "container", action, container.engine_id, words, project=project, time_ns=time_ns)


def command(spec: ExecSpec) -> str:
    """As moby's events have it."""
    return f"{spec.args[0]} {' '.join(spec.args[1:])}"


def end(row: Exec, exit_code: int, *, pid: int = 0, time_ns: int = 0) -> ExecView:
    row.exit_code, row.pid, row.finished_at_ns = exit_code, pid or row.pid, time_ns or time.time_ns()
    statements.update(row, "exit_code", "pid", "finished_at_ns")
    return tell(row)


def exited(tenant: str, state: ExecState) -> bool:
    """The host says how it ended. Whether that was news."""
    row = statements.get(Exec, "exec_id", state.id, lock=True)
    if row is None or row.exit_code is not None or state.running or row.container != state.container_id:
        return False
    container = statements.get(Container, "engine_id", row.container)
    if container is None or container.spec["tenant"] != tenant:
        return False
    row.started = True
    statements.update(row, "started")
    end(row, state.exit_code, pid=state.pid, time_ns=state.finished_at_ns)
    event(container, "exec_die", row.exec_id, time_ns=state.finished_at_ns, exitCode=str(state.exit_code))
    return True


def tidy() -> None:
    """Those that ended a while ago, and those whose container is gone, go; those whose container does not run have ended."""
    before = time.time_ns() - int(ENDED_KEPT_S * 1e9)
    runs = Container.everywhere.filter(status__in=(Status.RUNNING.value, Status.PAUSED.value)).values("engine_id")
    for row in Exec.everywhere.filter(started=True, exit_code=None, created_at_ns__lt=before).exclude(container__in=runs):
        end(row, LOST)
    Exec.everywhere.filter(exit_code__isnull=False, finished_at_ns__lt=before).delete()
    there = Container.everywhere.values("engine_id")
    Exec.everywhere.filter(created_at_ns__lt=before).exclude(container__in=there).delete()
