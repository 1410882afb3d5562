"""Restart policies on this host: at each exit it is decided, written down, and done when its back-off is over.

What is decided lies in restart.json before anybody hears of the exit, so an agent that is killed goes on where it was: the next one
finds what waits, and decides about what ended meanwhile. Nothing here needs panel, Redis or worker.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

from engine import disk, errors, remote, restarts
from engine.engine import Engine
from engine.model.container import ContainerState, Status
from engine.restarts import Restart
from workers.agent.threads import in_own_thread

log = logging.getLogger(__name__)

_STARTERS: Final = 8  # starts at a time: after a reboot there may be a thousand, and the launcher is one
_WAITERS: Final = 4  # of one tenant, of containers whose start waits for an NFS server: in threads of their own
_RETRY_S: Final = (0.1, 0.3, 1.0, 3.0)  # while launcher or keeper are away
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class Policies:
    """Lives in the event loop. ``tell(state)`` when a restart has happened, or has failed."""

    def __init__(self, engine: Engine, tell: Callable[[ContainerState], None]) -> None:
        self._engine, self._tell = engine, tell
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._starting: set[asyncio.Task[None]] = set()
        self._threads = ThreadPoolExecutor(_STARTERS, thread_name_prefix="restart")
        self._waiters: dict[str, asyncio.Semaphore] = {}  # by tenant

    def is_platform_start(self) -> bool:
        """Whether this is the first agent since the machine or the keeper's family began. ``platform_started`` makes it the past."""
        try:
            return self._engine.config.era.read_text() != _BOOT_ID.read_text()
        except FileNotFoundError:
            return True

    def platform_started(self) -> None:
        disk.write_atomic(self._engine.config.era, _BOOT_ID.read_bytes())

    def may_apply(self, state: ContainerState) -> bool:
        """A cheap look: False when ``after_exit`` would leave it as it is."""
        records = self._engine.records
        try:
            if records.restart_policy(state.id).name != restarts.NO:
                return True
            return bool(records.stopping(state.id, state.run).get("restart"))
        except errors.NotFound:
            return False

    def after_exit(self, state: ContainerState, *, platform_start: bool = False) -> ContainerState:
        """The state after the decision, of a container that has ended. Deciding twice about one run changes nothing."""
        records = self._engine.records
        restart = records.restart(state.id, state.run)
        if platform_start:
            decision = restarts.at_platform_start(records.restart_policy(state.id), records.ending(state), time.time_ns())
        elif restart is None and not state.error and not records.is_decided(state.id, state.run):
            decision = restarts.after_exit(records.restart_policy(state.id), records.ending(state))
        else:
            decision = None
        if decision is not None:
            records.write_restart(state.id, decision)
            state, restart = records.state(state.id), decision
        if restart is not None and state.status is Status.RESTARTING:
            self._schedule(state.id, restart)
        return state

    def _schedule(self, container_id: str, restart: Restart) -> None:
        if (timer := self._timers.pop(container_id, None)) is not None:
            timer.cancel()
        wait_s = (restart.due_ns - time.time_ns()) / 1e9
        wait_s = min(max(0.0, wait_s), restarts.LAST_DELAY_MS / 1000)  # the clock may have been set meanwhile
        self._timers[container_id] = asyncio.get_running_loop().call_later(wait_s, self._due, container_id, restart)

    def _due(self, container_id: str, restart: Restart) -> None:
        self._timers.pop(container_id, None)
        task = asyncio.create_task(self._start(container_id, restart))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    async def _start(self, container_id: str, restart: Restart) -> None:
        failures = 0
        while True:
            try:
                state = await self._start_once(container_id, restart)
            except (errors.Unavailable, OSError) as error:
                log.debug("restart of %s: %s", container_id[:12], error)
                await asyncio.sleep(_RETRY_S[min(failures, len(_RETRY_S) - 1)])
                failures += 1
                continue
            except errors.NotFound:
                return
            except errors.EngineError as error:
                log.warning("container %s is not restarted: %s", container_id[:12], error.message)
                state = self._engine.records.state(container_id)
            if state is not None:
                self._tell(state)
            return

    async def _start_once(self, container_id: str, restart: Restart) -> ContainerState | None:
        act = partial(self._engine.start_again, container_id, restart)
        spec = self._engine.records.spec(container_id)
        if not remote.waits_for_servers(self._engine, spec):
            return await asyncio.get_running_loop().run_in_executor(self._threads, act)
        async with self._waiters.setdefault(spec.tenant, asyncio.Semaphore(_WAITERS)):
            return await in_own_thread(act, f"restart-{container_id[:12]}")
