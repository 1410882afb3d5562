"""The verb restart: a stop with the order to begin again, in one operation; of what does not run, a start.

The order lies on the host (stop.json) before the signal is sent, so a container that was to be restarted comes back though this
process, or all of the panel, dies in between.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from controlpanel.base import database
from controlpanel.containers import admission, projection, rows, services
from controlpanel.containers.acts import begin, named, row_of
from controlpanel.containers.models import Container, Desired
from controlpanel.containers.projection import ContainerView
from controlpanel.hosts import operations
from controlpanel.hosts.models import Operation
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.permissions import require
from engine.errors import FailedPrecondition, Unavailable
from engine.model.container import ContainerState
from engine.model.signals import signal_number
from workers import contract

_START_S: Final = 60.0  # beyond the time to stop: of a start behind many others


async def restart_container(actor: Actor, name: str, *, signal: str = "", timeout_s: int | None = None) -> None:
    """Ends when it runs again. Raises what a start raises; words as ``services.stop_container``."""
    require(actor, "container.restart")
    if signal:
        signal_number(signal)
    view = await projection.container(actor, name)
    restarted = await projection.wait(actor, view.id, projection.RESTARTED) if view.state.has_process else None
    try:
        await operations.ask(await database.run(_begin, actor, view.id, signal, timeout_s))
        if restarted is not None:
            await _until_it_runs(view, restarted, timeout_s)
    finally:
        if restarted is not None:
            restarted.cancel()
    await database.run(_tell, view.id)


async def _until_it_runs(view: ContainerView, restarted: asyncio.Future[ContainerState], timeout_s: int | None) -> None:
    to_stop_s = view.spec.stop_timeout_s if timeout_s is None else timeout_s
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(None if to_stop_s < 0 else to_stop_s + _START_S):
            state = await restarted
            if state.error:
                raise FailedPrecondition(state.error, exit_code=state.exit_code)
            return
    raise Unavailable(f"container {view.name} has not come back yet: try again, or look at its log")


def _begin(actor: Actor, container_id: str, signal: str, timeout_s: int | None) -> Operation:
    row = row_of(container_id)
    if row.desired == Desired.REMOVED:
        raise FailedPrecondition("container is marked for removal and cannot be started")
    admission.admit_start(row)
    runs = row.to_state().has_process
    row.desired = Desired.RESTARTING if runs else Desired.RUNNING
    rows.save(row, "desired")
    if runs:
        services.tell_kill(row, signal)
    words = {**named(row), "signal": signal, "timeout_s": timeout_s}
    return begin(actor, row, "restart", contract.RESTART_CONTAINER, **words)


def _tell(container_id: str) -> None:
    row = Container.everywhere.filter(engine_id=container_id).first()
    if row is not None:
        rows.event(row, "restart")


operations.on_answer(contract.RESTART_CONTAINER, services.started)
