"""What the keeper tells, for everybody in this process; and what an exit entails.

    keeper ── started, exited ──▶ Watcher ──▶ listeners (events streams, attached clients)
                                     │
                                     └─ one thread: Engine.settle, stop deadlines; workers.outbox: copy to queue ``panel``

The Watcher finds its way back when the keeper is restarted: it lists again and treats what ended meanwhile as if it had heard it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain, repeat
from typing import Any, Final, TypeVar

from engine import disk, errors, recovery
from engine.engine import Engine
from engine.model.codec import to_json
from engine.model.container import ContainerSpec, ContainerState, Status
from engine.model.event import Event, EventKind
from engine.runtime.client import Watch
from workers.agent.policies import Policies
from workers.outbox import Outbox
from workers.resp import Address, Redis

log = logging.getLogger(__name__)

_RECONNECT_S: Final = 0.05
_DEADLINES_S: Final = 2.0  # how late a stop's SIGKILL may be when the process that promised it has died
_START_RECORD_S: Final = (0.01, 0.03, 0.1, 0.3, 1.0, 2.0, 4.0)  # start.json follows the keeper's word: how soon, the machine's load says
_SETTLE_AFTER_S: Final = 0.2  # most containers that end are removed right away, and with them all there is to settle

T = TypeVar("T")
Listener = Callable[[Event], None]
_ENDED: Final = frozenset({Status.EXITED, Status.RESTARTING})
KINDS: Final = {
    Status.CREATED: EventKind.CONTAINER_CREATED,
    Status.RUNNING: EventKind.CONTAINER_STARTED,
    Status.PAUSED: EventKind.CONTAINER_CHANGED,
}


class Watcher:
    """Lives in the event loop; blocking work goes to one thread, so settling is in order and never in the way of streams."""

    def __init__(self, engine: Engine, *, host: str, redis: Address) -> None:
        self.engine = engine
        self.host = host
        self._outbox = Outbox(Redis(redis))
        self._listeners: dict[str, set[Listener]] = {}
        self._starts: dict[str, set[Callable[[], None]]] = {}
        self._trusting: dict[str, set[Callable[[], None]]] = {}
        self.on_start: Callable[[str], None] = lambda _id: None
        self.on_exec_exit: Callable[[dict[str, Any]], None] = lambda _message: None
        self.on_catch_up: Callable[[], None] = lambda: None
        self.on_found: Callable[[ContainerSpec, ContainerState], None] = lambda _spec, _state: None  # it runs already
        self.policies = Policies(engine, self._restarted)
        self.tenants: dict[str, str] = {}  # container id: tenant, of those that are or just were
        self._running: dict[str, tuple[int, int]] = {}  # id: (run, started at, unix time in ns)
        self._telling: set[asyncio.Future[None]] = set()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="settle")
        self._loop = asyncio.get_running_loop()

    @contextmanager
    def listening(self, listener: Listener, object_id: str = "") -> Iterator[None]:
        """Events of one object, or ("") of all, call ``listener`` while in this block."""
        with _entry(self._listeners, object_id, listener):
            yield

    @contextmanager
    def starting(self, container_id: str, call: Callable[[], None]) -> Iterator[None]:
        """``call`` the moment the keeper says that it runs; the event follows when the record is whole."""
        with _entry(self._starts, container_id, call):
            yield

    def running(self) -> dict[str, int]:
        """Ids of what runs now, and since when (unix time in ns)."""
        return {container_id: started_at_ns for container_id, (_run, started_at_ns) in self._running.items()}

    @contextmanager
    def trusting(self, call: Callable[[], None]) -> Iterator[None]:
        """``call`` when something may have happened that nobody will be told of: only an inventory shows it."""
        with _entry(self._trusting, "", call):
            yield

    def lose_track(self) -> None:
        for call in list(self._trusting.get("", ())):
            call()

    def report(self, *events: Event) -> None:
        """To the panel by its queue alone; any thread."""
        self._outbox.put(*events)

    def tell(self, event: Event) -> None:
        for object_id in ("", event.object_id):
            for listener in list(self._listeners.get(object_id, ())):
                listener(event)

    async def run(self) -> None:
        """For ever."""
        deadlines = asyncio.ensure_future(self._enforce_deadlines())
        try:
            while True:
                try:
                    await self._follow_keeper()
                except errors.EngineError as error:
                    log.debug("keeper: %s", error)
                await asyncio.sleep(_RECONNECT_S)
        finally:
            deadlines.cancel()

    async def _follow_keeper(self) -> None:
        watch = await asyncio.to_thread(self.engine.keeper.watch)
        try:
            await self._catch_up()
            self.on_catch_up()
            await self._read(watch)
        finally:
            watch.close()

    async def _catch_up(self) -> None:
        """Of what is believed to run and doesn't, and of what ended while no agent was there."""
        await asyncio.to_thread(recovery.settle_lost, self.engine)
        listed = {entry["id"]: entry for entry in await asyncio.to_thread(self.engine.keeper.list)}
        found = await asyncio.to_thread(self.engine.list)
        self.tenants = {spec.id: spec.tenant for spec, _state in found}
        platform_start = self.policies.is_platform_start()
        before, self._running = self._running, {}
        for spec, state in found:
            if state.id in listed and state.has_process:
                self._running[state.id] = (state.run, state.started_at_ns)
                self.on_found(spec, state)
            elif state.status in _ENDED:
                decided = self._decided(state, platform_start=platform_start)
                if state.id in before or decided is not state:
                    self._ended(decided)
                else:
                    self._thread.submit(self._settle, state.id)
            elif state.run:
                self._thread.submit(self._settle, state.id)
        if platform_start:
            self.policies.platform_started()

    async def _read(self, watch: Watch) -> None:
        ended = self._loop.create_future()

        def ready() -> None:
            try:
                message = next(watch)
            except StopIteration:
                self._loop.remove_reader(watch.fileno())
                ended.set_result(None)
                return
            if message["event"] == "started":
                self._heard_start(message)
            elif message["event"] == "exec_exited":
                self.on_exec_exit(message)
            else:
                self._heard_exit(message)

        self._loop.add_reader(watch.fileno(), ready)
        try:
            await ended
        finally:
            self._loop.remove_reader(watch.fileno())

    def _heard_start(self, message: dict[str, Any]) -> None:
        self._running[message["id"]] = (message["run"], message["time_ns"])
        self.on_start(message["id"])
        for call in list(self._starts.get(message["id"], ())):
            call()
        self._keep(self._tell_start(message["id"], message["run"]))

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        telling = asyncio.ensure_future(work)
        self._telling.add(telling)
        telling.add_done_callback(self._telling.discard)

    async def _tell_start(self, container_id: str, run: int) -> None:
        """Once its record is whole: whoever applied a start without address would not take the same fact again."""
        for pause in chain(_START_RECORD_S, repeat(_START_RECORD_S[-1])):
            await asyncio.sleep(pause)
            try:
                state = self.engine.records.state(container_id)
            except errors.NotFound:
                return
            if state.run == run and state.pid:
                self._say(EventKind.CONTAINER_STARTED, state)
            if state.run >= run or self._running.get(container_id, (0, 0))[0] != run:
                return

    def _heard_exit(self, message: dict[str, Any]) -> None:
        run, started_at_ns = self._running.pop(message["id"], (0, 0))
        state = self.engine.records.state(message["id"])
        if state.status not in _ENDED:
            return
        if self.policies.may_apply(state):
            self._keep(self._decide(state))
            return
        if run == state.run and state.started_at_ns != started_at_ns:  # so short that start.json isn't written yet
            state = dataclasses.replace(state, started_at_ns=started_at_ns)
        self._ended(state)

    async def _decide(self, state: ContainerState) -> None:
        """Once its start is recorded, for the record says how often it was restarted."""
        for pause in _START_RECORD_S:
            if self.engine.records.is_start_recorded(state.id, state.run):
                break
            await asyncio.sleep(pause)
        now = self.engine.records.state(state.id)
        if now.run == state.run and now.status in _ENDED:
            self._ended(self._decided(now))

    def _decided(self, state: ContainerState, *, platform_start: bool = False) -> ContainerState:
        try:
            return self.policies.after_exit(state, platform_start=platform_start)
        except (errors.NotFound, OSError) as error:  # removed meanwhile, or a disk that is full
            log.warning("restart policy of %s: %s", state.id[:12], error)
            return state

    def _restarted(self, state: ContainerState) -> None:
        """By a policy; or that did not succeed, and it stays ended."""
        if state.has_process:
            self._say(EventKind.CONTAINER_STARTED, state)
        elif state.error:
            self._ended(state)

    def changed(self, container_id: str) -> None:
        """Something within its run is different now, and the record says what."""
        try:
            state = self.engine.records.state(container_id)
        except errors.NotFound:
            return
        if state.has_process:
            self._say_for_sure(EventKind.CONTAINER_CHANGED, state)

    def _ended(self, state: ContainerState) -> None:
        self._say_for_sure(EventKind.CONTAINER_EXITED, state)
        self._loop.call_later(_SETTLE_AFTER_S, self._thread.submit, self._settle, state.id)

    def _say_for_sure(self, kind: EventKind, state: ContainerState) -> None:
        """Also by queue ``panel``, for a panel that is away."""
        event = self._say(kind, state)
        if event is not None:
            self._outbox.put(event)

    def _say(self, kind: EventKind, state: ContainerState) -> Event | None:
        tenant = self.tenant_of(state.id)
        if not tenant:
            return None  # removed meanwhile
        event = Event(
            kind=kind, tenant=tenant, object_id=state.id, seq=state.seq, time_ns=time.time_ns(), host=self.host, state=to_json(state)
        )
        self.tell(event)
        return event

    def tenant_of(self, container_id: str) -> str:
        """ "" when there is no such container any more."""
        tenant = self.tenants.get(container_id)
        if tenant is None:
            spec = disk.read_json(self.engine.config.container(container_id) / "spec.json")
            if spec is None:
                return ""
            tenant = self.tenants[container_id] = str(spec["tenant"])
        return tenant

    def _settle(self, container_id: str) -> None:
        try:
            self.engine.settle(container_id)
        except errors.NotFound:
            pass  # removed, and with it all that was to settle
        except (errors.EngineError, OSError) as error:
            log.warning("settle %s: %s", container_id[:12], error)
        except Exception:  # nobody looks at what this thread's futures hold
            log.exception("settle %s", container_id[:12])

    async def _enforce_deadlines(self) -> None:
        """stop.json is the promise of a SIGKILL; whoever made it may have died."""
        while True:
            await asyncio.sleep(_DEADLINES_S)
            now = time.time_ns()
            for container_id, (run, _started) in list(self._running.items()):
                try:
                    stop = disk.read_json(self.engine.config.container(container_id) / "stop.json")
                except OSError:
                    continue
                if stop is not None and stop["run"] == run and 0 < stop.get("deadline_ns", 0) < now:
                    self._thread.submit(self._enforce, container_id, run)

    def _enforce(self, container_id: str, run: int) -> None:
        try:
            self.engine.enforce_stop(container_id, run)
        except errors.EngineError as error:
            log.warning("stop %s: %s", container_id[:12], error)


@contextmanager
def _entry(table: dict[str, set[T]], key: str, item: T) -> Iterator[None]:
    """``item`` is under ``key`` while in this block; keys without items don't pile up."""
    table.setdefault(key, set()).add(item)
    try:
        yield
    finally:
        table[key].discard(item)
        if not table[key]:
            del table[key]
