"""pause and unpause: the freezer of a container's cgroup, and what is recorded of it.

    pause.json  {"run", "paused": bool, "change": how often that run was paused or unpaused}

The record is written before the kernel acts, so that what is frozen is never taken for running: a process that is killed
between the two leaves a container whose record is right and whose freezer is not, and ``restore`` (after every start of the
host worker, and for a task that is done again) brings the freezer to what the record says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine import errors
from engine.kernel import cgroups
from engine.model.container import ContainerState, Status

if TYPE_CHECKING:
    from engine.engine import Engine


def pause(engine: Engine, tenant: str, container_id: str) -> ContainerState:
    """Returns when every process of it has stopped. FailedPrecondition with moby's sentences; nothing is frozen after an error."""
    with engine.locked(container_id):
        spec, state = engine.records.spec(container_id, tenant=tenant), engine.records.state(container_id)
        if state.status is Status.RESTARTING:
            raise errors.FailedPrecondition(f"Container {container_id} is restarting, wait until the container is running")
        if state.status is Status.PAUSED:
            raise errors.FailedPrecondition(f"Container {container_id} is already paused")
        if not state.has_process:
            raise _not_running(container_id)
        engine.records.write_pause(container_id, state.run, paused=True)
        try:
            cgroups.freeze(engine.cgroup(spec))
        except FileNotFoundError:
            raise _not_running(container_id) from None  # it ended meanwhile
        except OSError as error:  # a process that sits in the kernel does not stop
            wake(engine, container_id)
            raise errors.FailedPrecondition(f"cannot pause container {container_id}: {error.strerror}") from error
        now = engine.records.state(container_id)
        if now.status is not Status.PAUSED:  # somebody woke it to end it, perhaps before it was frozen
            _thaw(engine, container_id)
        return now


def unpause(engine: Engine, tenant: str, container_id: str) -> ContainerState:
    """FailedPrecondition with moby's sentence when it is not paused."""
    with engine.locked(container_id):
        engine.records.spec(container_id, tenant=tenant)
        if engine.records.state(container_id).status is not Status.PAUSED:
            raise errors.FailedPrecondition(f"Container {container_id} is not paused")
        wake(engine, container_id)
        return engine.records.state(container_id)


def wake(engine: Engine, container_id: str) -> None:
    """Let it go on, if it is paused: for whoever has just sent it a signal that is to end it. Takes no lock."""
    state = engine.records.state(container_id)
    if state.status is Status.PAUSED:
        engine.records.write_pause(container_id, state.run, paused=False)
        _thaw(engine, container_id)


def restore(engine: Engine, container_id: str) -> None:
    """The freezer as the record says. Idempotent; for a container that does not run, nothing."""
    if not engine.records.was_paused(container_id, engine.records.state(container_id).run):
        return
    with engine.locked(container_id):
        state = engine.records.state(container_id)
        if state.status is Status.PAUSED:
            try:
                cgroups.freeze(engine.cgroup(engine.records.spec(container_id)))
            except FileNotFoundError:
                pass  # it ended meanwhile
            except TimeoutError:
                wake(engine, container_id)  # as ``pause`` would have answered
        elif state.status is Status.RUNNING:
            _thaw(engine, container_id)


def _thaw(engine: Engine, container_id: str) -> None:
    try:
        cgroups.thaw(engine.cgroup(engine.records.spec(container_id)))
    except FileNotFoundError:
        pass  # it ended, and was settled


def _not_running(container_id: str) -> errors.FailedPrecondition:
    return errors.FailedPrecondition(f"container {container_id} is not running")
