"""Health checks: one scheduler for all containers of this host, and op ``health``, which tells the last probes.

    due (a heap) ── a few threads ──▶ engine.executions.run ──▶ health.json ── status changed? ──▶ event, and a restart if that is wanted

A probe's outcome is in the file before anybody hears of it, so a new agent goes on with streak, history and rhythm of the old one.
What runs at rest costs a heap entry; a tenant whose probes hang holds up its own alone.
"""

from __future__ import annotations

import asyncio
import heapq
import json
import logging
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

from engine import errors, executions, health, restarts
from engine.engine import Engine
from engine.model.codec import to_json
from engine.model.container import ContainerSpec, ContainerState, HealthCheck, HealthProbe, HealthState, Status
from engine.model.event import Event, EventKind
from workers.agent.connection import Connection
from workers.agent.watcher import Watcher

log = logging.getLogger(__name__)

_THREADS: Final = 128  # probes under way on this host …
_A_TENANT: Final = 32  # … and of one tenant
_AWAY_S: Final = 1.0  # while launcher or keeper are away, which says nothing about the container
_KILLED: Final = 128 + signal.SIGKILL
_FAILED: Final = -1  # Docker's exit code of a probe that could not be run or was killed


@dataclass(slots=True)
class _Checked:
    """One run of one container that has a health check."""

    id: str
    tenant: str
    run: int
    started_at_ns: int
    check: HealthCheck
    health: HealthState
    change: int  # changes of status in this run, as health.json counts them
    over: bool = False


@dataclass(slots=True)
class _Tenant:
    """Its turn-taking; forgotten when nothing of it is checked any more."""

    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_A_TENANT))
    checked: int = 0


class Health:
    """Lives in the event loop. It hears of starts and ends through the Watcher."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher, self._engine = watcher, watcher.engine
        self._checked: dict[str, _Checked] = {}
        self._tenants: dict[str, _Tenant] = {}
        self._due: list[tuple[float, int, _Checked]] = []
        self._order = count()
        self._wake = asyncio.Event()
        self._probing: set[asyncio.Task[None]] = set()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="probe")

    async def run(self) -> None:
        """For ever."""
        loop = asyncio.get_running_loop()
        with self._watcher.listening(self._heard):
            while True:
                self._wake.clear()
                while self._due and self._due[0][0] <= loop.time():
                    checked = heapq.heappop(self._due)[2]
                    if not checked.over:
                        task = asyncio.create_task(self._probe(checked))
                        self._probing.add(task)
                        task.add_done_callback(self._probing.discard)
                if not self._due:
                    await self._wake.wait()
                    continue
                timer = loop.call_at(self._due[0][0], self._wake.set)
                await self._wake.wait()
                timer.cancel()

    def _heard(self, event: Event) -> None:
        if event.kind is EventKind.CONTAINER_STARTED:
            if event.state.get("health") is not None:
                self.begin(self._engine.records.spec(event.object_id), self._engine.records.state(event.object_id))
        elif event.kind in (EventKind.CONTAINER_EXITED, EventKind.CONTAINER_REMOVED):
            self._end(event.object_id)

    def begin(self, spec: ContainerSpec, state: ContainerState) -> None:
        """Of a container that runs. The same run twice is once."""
        known = self._checked.get(spec.id)
        if spec.health is None or not state.has_process or (known is not None and known.run == state.run):
            return
        self._end(spec.id)
        found, change = self._engine.records.health_of_run(spec.id, state.run)
        checked = _Checked(spec.id, spec.tenant, state.run, state.started_at_ns, spec.health, found, change)
        self._checked[spec.id] = checked
        self._tenants.setdefault(spec.tenant, _Tenant()).checked += 1
        last_ns = max([state.started_at_ns, *(probe.finished_at_ns for probe in found.log)])
        self._schedule(checked, last_ns)

    def _end(self, container_id: str) -> None:
        checked = self._checked.pop(container_id, None)
        if checked is not None:
            checked.over = True  # its entry in the heap is dropped when it is due
            tenant = self._tenants[checked.tenant]
            tenant.checked -= 1
            if not tenant.checked:
                del self._tenants[checked.tenant]

    def _schedule(self, checked: _Checked, last_ns: int) -> None:
        now_ns = time.time_ns()
        pause_ns = health.pause_ns(checked.check, checked.health, started_at_ns=checked.started_at_ns, now_ns=now_ns)
        self._schedule_in(checked, min(max(0, last_ns + pause_ns - now_ns), pause_ns) / 1e9)

    def _schedule_in(self, checked: _Checked, seconds: float) -> None:
        heapq.heappush(self._due, (asyncio.get_running_loop().time() + seconds, next(self._order), checked))
        self._wake.set()

    async def _probe(self, checked: _Checked) -> None:
        loop = asyncio.get_running_loop()
        tenant = self._tenants.get(checked.tenant)
        if tenant is None:
            return
        async with tenant.turns:
            if self._checked.get(checked.id) is not checked:
                return
            try:
                changed = await loop.run_in_executor(self._threads, self._probe_now, checked)
            except errors.Unavailable:
                self._schedule_in(checked, _AWAY_S)
                return
            except (errors.EngineError, OSError) as error:
                log.warning("health of %s: %s", checked.id[:12], error)
                changed = False
        if self._checked.get(checked.id) is not checked:
            return
        if changed:
            self._watcher.changed(checked.id)
            if checked.health.status == health.UNHEALTHY:
                await loop.run_in_executor(self._threads, self._restart_if_wanted, checked)
        self._schedule(checked, time.time_ns())

    def _probe_now(self, checked: _Checked) -> bool:
        """In a thread. Whether the status changed, which then lies in the file."""
        if self._engine.records.state(checked.id).status is Status.PAUSED:
            return False  # nothing there can answer
        probe = run(self._engine, checked.tenant, checked.id, checked.check)
        before = checked.health
        now = health.after_probe(checked.check, before, probe, started_at_ns=checked.started_at_ns)
        state = self._engine.records.state(checked.id)
        if checked.over or state.run != checked.run or not state.has_process:
            return False  # what was asked has ended, and what it said with it
        if probe.exit_code == _KILLED and self._engine.records.stopping(checked.id, checked.run):
            return False  # it is just ending, which nobody has written down yet
        checked.health = now
        checked.change += now.status != before.status
        self._engine.records.write_health(checked.id, checked.run, now, change=checked.change)
        return now.status != before.status

    def _restart_if_wanted(self, checked: _Checked) -> None:
        """Stopped as ``docker stop`` does it; at its exit workers.agent.policies finds that it shall begin again."""
        try:
            if self._engine.records.restart_policy(checked.id).when_unhealthy:
                log.info("container %s is unhealthy: it is restarted", checked.id[:12])
                self._engine.endings.stop(checked.tenant, checked.id, restart=restarts.UNHEALTHY)
        except errors.EngineError as error:
            log.warning("restart of unhealthy %s: %s", checked.id[:12], error.message)


def run(engine: Engine, tenant: str, container_id: str, check: HealthCheck) -> HealthProbe:
    """One probe, now. Unavailable when the host cannot run any."""
    started_at_ns = time.time_ns()
    try:
        exit_code, output = executions.run(
            engine, tenant, container_id, check.test[1:], timeout_s=check.timeout_ns / 1e9, output_limit=health.OUTPUT_MAX + 1
        )
        text = health.output_text(output)
    except errors.Unavailable as error:
        if "output" not in error.detail:
            raise
        exit_code, text = _FAILED, health.timeout_text(check.timeout_ns, health.output_text(str(error.detail["output"]).encode()))
    except errors.EngineError as error:
        exit_code, text = _FAILED, error.message
    return HealthProbe(started_at_ns=started_at_ns, finished_at_ns=time.time_ns(), exit_code=exit_code, output=text)


async def last_probes(engine: Engine, client: Connection, words: dict[str, Any]) -> None:
    """Op ``health``: {"ok": {"health": HealthState, or null without a health check}}."""
    engine.spec(words["tenant"], words["id"])
    found = await asyncio.to_thread(engine.records.health, words["id"])
    answer = {"ok": {"health": None if found is None else to_json(found)}}
    await client.send(json.dumps(answer, separators=(",", ":")).encode() + b"\n")
