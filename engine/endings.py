"""How a container comes to its end: stop, kill, remove, and a restart, which is a stop with the order to begin again; and what is
released then.

Each writes to stop.json what shall follow before it sends anything, so that the agent, which sees the exit, knows: SIGKILL after a
while though this process dies, no restart by the policy of what was stopped by hand, a start after a restart.
"""

from __future__ import annotations

import errno
import os
import select
import signal as signals
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from engine import adoption, connecting, errors, freezing, launching, restarts, volatile
from engine.kernel import cgroups
from engine.model.container import ContainerSpec, ContainerState, Status, removal_refusal
from engine.model.signals import signal_number
from engine.runtime import client
from engine.spec import options
from engine.volumes import layers

if TYPE_CHECKING:
    from engine.engine import Engine

KILL_WAIT_S: Final = 10.0  # a killed process that is not gone by then sits in the kernel (uninterruptible); said as an error
STRAY_AFTER_S: Final = 1.0  # a launch under way has told the keeper by then, and what was killed is reaped
DYING_FOR_S: Final = 5.0  # between SIGKILL and the reaping of a process that was never started


class Endings:
    """Part of an Engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._records = engine.records

    def kill(self, tenant: str, container_id: str, signal: int) -> ContainerState:
        """FailedPrecondition with moby's sentence when it does not run. While it waits for its restart: it stays ended."""
        spec, state = self._found(tenant, container_id)
        is_a_stop = restarts.is_a_stop(signal, signal_number(spec.stop_signal))
        if state.status is Status.RESTARTING:
            state = self._give_up_restart(state) if is_a_stop else state
            if not state.has_process:
                return state
        if not state.has_process:
            raise errors.FailedPrecondition(f"container {container_id} is not running")
        if is_a_stop:
            stop = self._records.stopping(container_id, state.run)
            self._records.write_stop(container_id, {**stop, "run": state.run, "by_hand": True, "restart": ""})
        try:
            self._engine.keeper.signal(container_id, signal)
        except errors.NotFound:
            raise errors.FailedPrecondition(f"container {container_id} is not running") from None
        if is_a_stop:
            freezing.wake(self._engine, spec.id)  # what is paused must run to take its signal
        return self._records.state(container_id)

    def stop(self, tenant: str, container_id: str, *, signal: int = 0, timeout_s: int | None = None, restart: str = "") -> ContainerState:
        """Sends the stop signal and returns; SIGKILL follows after ``timeout_s`` (the spec's when None, never when negative).

        ``restart``: the agent starts it again when it has ended (engine.restarts.ASKED, UNHEALTHY). The deadline is in stop.json
        too: whoever comes up later (the agent) enforces it when this process dies meanwhile.
        """
        spec, state = self._found(tenant, container_id)
        if state.status is Status.RESTARTING:
            state = self._give_up_restart(state)
        if not state.has_process:
            return state
        timeout = spec.stop_timeout_s if timeout_s is None else timeout_s
        record = {"run": state.run, "by_hand": not restart, "restart": restart}
        if timeout >= 0:
            record["deadline_ns"] = time.time_ns() + timeout * 10**9
        self._records.write_stop(container_id, record)
        number = signal or signal_number(spec.stop_signal)
        if timeout == 0:
            number = signals.SIGKILL  # both at once: no process would live to see the first
        elif timeout > 0:
            timer = threading.Timer(timeout, self.enforce_stop, (container_id, state.run))
            timer.daemon = True
            timer.start()
        self._signal_if_running(container_id, number)
        freezing.wake(self._engine, spec.id)
        return self._records.state(container_id)

    def enforce_stop(self, container_id: str, run: int) -> None:
        """SIGKILL when that run still runs. For the timer, and for the agent."""
        state = self._records.state(container_id)
        if state.has_process and state.run == run:
            self._signal_if_running(container_id, signals.SIGKILL)
            freezing.wake(self._engine, container_id)

    def remove(self, tenant: str, container_id: str, *, force: bool = False, volumes: bool = False) -> list[str]:
        """Everything of it: writable layer, log, record, address. A container that is gone already is fine.

        With ``volumes`` those that have no name and nobody else mounts: their names.
        """
        try:
            spec, state = self._found(tenant, container_id)
        except errors.NotFound:
            return []
        if state.has_process or state.status is Status.RESTARTING:
            if not force:
                raise errors.FailedPrecondition(removal_refusal(spec.name, state.status))
            self._kill_for_good(spec, state)
        with self._engine.locked(container_id):
            if self._records.state(container_id).has_process:  # started again meanwhile: nothing was promised about that run
                raise errors.FailedPrecondition(removal_refusal(spec.name, Status.RUNNING))
            self.release(spec)
            layers.remove(self._engine.config, container_id)
            gone = self._engine.volumes.leave(spec, remove=volumes)
            self._records.drop(spec)
            return gone

    def wait(self, container_id: str, *, timeout_s: float | None = None) -> ContainerState:
        """Blocks until it does not run. Unavailable when ``timeout_s`` passes first."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while (state := self._records.state(container_id)).has_process:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise errors.Unavailable(f"container {container_id[:12]} does not end: its processes hang in the kernel")
            self._await_pidfd(container_id, left)
        return state

    def release(self, spec: ContainerSpec, *, unless: Callable[[], bool] = lambda: False, but_ready: bool = False) -> bool:
        """What a run holds besides its processes: cgroup, address and memory. The mounts and the veth died with the namespaces.

        What was made ahead of its first run goes as well; with ``but_ready`` it is all there is, and stays. False, and nothing is
        released: there are processes, and ``unless`` says that they shall live. The caller holds the lock.
        """
        if but_ready and client.is_ready(self._engine.config, spec.id):
            return True
        began, struck, asked = time.monotonic(), False, False
        while True:
            if unless():
                return False
            try:
                cgroups.remove(self._engine.cgroup(spec))
                launching.prune_parents(self._engine, spec)
                break
            except OSError as error:
                waited = time.monotonic() - began
                if not asked:
                    asked = True
                    client.discard(self._engine.config, spec.id)
                    continue
                if error.errno != errno.EBUSY or waited > DYING_FOR_S:
                    raise
                if "pid" in options.joined(spec):  # no namespace of its own ended with its first process
                    cgroups.kill_all(self._engine.cgroup(spec))
                if waited > STRAY_AFTER_S and not struck:
                    struck = adoption.end_strays(self._engine.keeper, spec.id, self._engine.cgroup(spec))
                time.sleep(0.002)  # killed, and not reaped yet
        connecting.release(self._engine, spec)
        volatile.forget(self._engine, spec)
        return True

    def _kill_for_good(self, spec: ContainerSpec, state: ContainerState) -> None:
        if state.status is Status.RESTARTING:
            state = self._give_up_restart(state)
        if not state.has_process:
            return
        self._records.write_stop(spec.id, {"run": state.run, "by_hand": True, "restart": ""})
        self._signal_if_running(spec.id, signals.SIGKILL)
        freezing.wake(self._engine, spec.id)
        self.wait(spec.id, timeout_s=KILL_WAIT_S)

    def _await_pidfd(self, container_id: str, timeout_s: float | None) -> None:
        """Until its first process has ended (the keeper's record follows within a moment) or the time is over."""
        try:
            fds = self._engine.keeper.fds(container_id, ["pidfd"])
        except errors.NotFound:
            fds = {}
        pidfd = fds.get("pidfd")
        if pidfd is None:
            time.sleep(0.002)
            return
        try:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            poll.poll(None if timeout_s is None else timeout_s * 1000)
        finally:
            os.close(pidfd)
        time.sleep(0.0005)

    def _give_up_restart(self, state: ContainerState) -> ContainerState:
        """Its state afterwards: ended for good, or running when the restart was faster."""
        restart = self._records.restart(state.id, state.run)
        if restart is not None and adoption.runs(self._engine.config, state.id, state.run + 1):
            self._engine.start_again(state.id, restart)  # whoever began it was killed before it was noted
        with self._engine.locked(state.id):
            now = self._records.state(state.id)
            if now.status is Status.RESTARTING:
                self._records.write_stop(now.id, {"run": now.run, "by_hand": True, "restart": ""})
                self._records.give_up_restart(now)
                now = self._records.state(state.id)
            return now

    def _found(self, tenant: str, container_id: str) -> tuple[ContainerSpec, ContainerState]:
        return self._records.spec(container_id, tenant=tenant), self._records.state(container_id)

    def _signal_if_running(self, container_id: str, signal: int) -> None:
        try:
            self._engine.keeper.signal(container_id, signal)
        except errors.NotFound:
            pass  # it ended by itself meanwhile, which is what the caller wants
