"""The live feed: what changed, told after the commit to everyone in this process and to the other processes.

    writer thread ─ on commit ─▶ publish(message, row) ─▶ handlers (projection, waiters) ─▶ subscribers (pages, /events)
    other processes ─ Redis pub/sub "slipway.live" ─▶ the same, with no row: a handler that needs it reads it first

A message is small JSON: ``{"kind": "container", "tenant": 7, "id": "…", …}``. It says *that* something changed; who needs
the object reads it. Between processes they travel as a list behind 16 hex digits, the sender: ``4f1c…[{…}, {…}]``.

Within the process a message is delivered before the coroutine that awaited the write goes on, so its projection is never
older than its answer. A subscriber that does not read loses its oldest messages, never ours.

Nothing durable passes here: rows are the truth, and whoever was away reads them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import threading
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Final

import orjson
from django.conf import settings
from django.db import transaction

from workers.resp import Address, AsyncRedis, Redis, RedisError

log = logging.getLogger(__name__)

CHANNEL: Final = "slipway.live"
BACKLOG: Final = 1024  # messages a slow subscriber may be behind
HERE: Final = "here"  # a message with this member stays in the process, see remind
GATHER_S: Final = 0.01  # what happens within it leaves as one list, and wakes Redis and every process once
EVERYONE: Final = 0  # the tenant of messages that concern no tenant

Message = dict[str, Any]
Handler = Callable[[Message, Any], Awaitable[None] | None]

Messages = list[tuple[Message, Any]]

_ORIGIN: Final = secrets.token_hex(8).encode()  # this process: its own messages come back from Redis and are dropped
_RECONNECT_S: Final = (0.1, 0.2, 0.5, 1.0, 2.0)
_handlers: dict[str, list[Handler]] = {}
_hub: Hub | None = None
_redis: Redis | None = None
_thread = threading.local()


def on(kind: str, handler: Handler) -> None:
    """Call ``handler(message, row)`` for every message of this kind, before subscribers see it. Registered at import.

    ``row`` is what the publisher had in hand, None when the message came from another process.
    """
    _handlers.setdefault(kind, []).append(handler)


def on_commit(message: Message, row: Any = None) -> None:
    """Publish once the current transaction is committed; a transaction that fails tells nothing."""
    transaction.on_commit(lambda: publish(message, row))


def remind(message: Message, row: Any) -> None:
    """After the commit, show this process' handlers what was read: another process wrote it and its message may still be under way.

    So whoever waits for the transaction never answers with less than is in the database. Nobody else is told.
    """
    transaction.on_commit(lambda: publish({**message, HERE: True}, row))


def publish(message: Message, row: Any = None) -> None:
    """Tell everyone, from any thread. In a process without a hub (worker, command) only the others are told."""
    if (collecting := getattr(_thread, "messages", None)) is not None:
        collecting.append((message, row))
        return
    hub = _hub
    if hub is None:
        if HERE not in message:
            _publish_elsewhere(message)
    else:
        hub.loop.call_soon_threadsafe(hub.deliver, message, row)


@contextlib.contextmanager
def collect() -> Iterator[Messages]:
    """What this thread publishes inside goes into the list; who collected it delivers it: one hop to the loop instead of many."""
    _thread.messages = messages = []
    try:
        yield messages
    finally:
        _thread.messages = None


def deliver(messages: Messages) -> None:
    """Publish what was collected, from the event loop's own thread."""
    for message, row in messages:
        if _hub is not None and _hub.is_here():
            _hub.deliver(message, row)
        else:
            publish(message, row)


def _publish_elsewhere(message: Message) -> None:
    global _redis
    if _redis is None:
        _redis = Redis(Address.parse(settings.REDIS_URL), timeout_s=2)
    try:
        _redis.execute(("PUBLISH", CHANNEL, _ORIGIN + orjson.dumps([message])))
    except (OSError, RedisError) as error:
        log.warning("live message not sent: %s", error)  # rows are written; readers see it at their next load


class Subscription:
    """A bounded mailbox of one tenant's messages; iterate over it. ``lost`` counts what a slow reader missed."""

    def __init__(self, tenant_id: int, kinds: frozenset[str]) -> None:
        self.tenant_id = tenant_id
        self.kinds = kinds
        self.lost = 0
        self._messages: deque[tuple[Message, Any]] = deque(maxlen=BACKLOG)
        self._ready = asyncio.Event()

    def put(self, message: Message, row: Any) -> None:
        if self.kinds and message["kind"] not in self.kinds:
            return
        if len(self._messages) == BACKLOG:
            self.lost += 1
        self._messages.append((message, row))
        self._ready.set()

    async def next(self) -> tuple[Message, Any]:
        """The next message with its row (None from another process)."""
        while not self._messages:
            self._ready.clear()
            await self._ready.wait()
        return self._messages.popleft()

    def drain(self) -> set[str]:
        """The kinds of what is waiting, which counts as read: for readers who look at the whole anyway."""
        kinds = {message["kind"] for message, _row in self._messages}
        self._messages.clear()
        return kinds

    async def __aiter__(self) -> AsyncIterator[Message]:
        while True:
            yield (await self.next())[0]


class Hub:
    """Of one web process and its event loop: hands messages on, listens to the other processes."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._told: Counter[int] = Counter()  # messages of each tenant
        self._subscribers: dict[int, set[Subscription]] = {}
        self._address = Address.parse(settings.REDIS_URL)
        self._outbox: deque[Message] = deque(maxlen=BACKLOG)
        self._outbox_ready = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._handling: set[asyncio.Future[None]] = set()

    def is_here(self) -> bool:
        return threading.get_ident() == self._thread

    def deliver(self, message: Message, row: Any) -> None:
        """A message of this process: handlers, then subscribers, then (not waited for) the other processes."""
        for handler in _handlers.get(message["kind"], ()):
            result = handler(message, row)
            if result is not None:
                self._keep(asyncio.ensure_future(result))
        if HERE in message:
            return
        self._fan_out(message, row)
        self._outbox.append(message)
        self._outbox_ready.set()

    async def receive(self, message: Message) -> None:
        """A message of another process."""
        for handler in _handlers.get(message["kind"], ()):
            result = handler(message, None)
            if result is not None:
                await result
        self._fan_out(message, None)

    def _keep(self, handling: asyncio.Future[None]) -> None:
        self._handling.add(handling)
        handling.add_done_callback(self._handling.discard)

    def seen(self, tenant_id: int) -> str:
        return f"{_ORIGIN.decode()}.{self._told[tenant_id]}"

    def _fan_out(self, message: Message, row: Any) -> None:
        tenant_id = message.get("tenant", EVERYONE)
        self._told[tenant_id] += 1
        for subscription in self._subscribers.get(tenant_id, ()):
            subscription.put(message, row)

    @contextlib.contextmanager
    def subscribe(self, tenant_id: int, kinds: frozenset[str]) -> Iterator[Subscription]:
        subscription = Subscription(tenant_id, kinds)
        self._subscribers.setdefault(tenant_id, set()).add(subscription)
        try:
            yield subscription
        finally:
            self._subscribers[tenant_id].discard(subscription)
            if not self._subscribers[tenant_id]:
                del self._subscribers[tenant_id]

    async def start(self) -> None:
        self._tasks = [self.loop.create_task(self._listen()), self.loop.create_task(self._send())]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _send(self) -> None:
        connection: AsyncRedis | None = None
        try:
            while True:
                await self._outbox_ready.wait()
                await asyncio.sleep(GATHER_S)
                self._outbox_ready.clear()
                batch = _ORIGIN + orjson.dumps(list(self._outbox))
                self._outbox.clear()
                try:
                    if connection is None or connection.closed.done():
                        connection = await AsyncRedis.connect(self._address)
                    await connection.execute("PUBLISH", CHANNEL, batch)
                except (OSError, RedisError) as error:
                    log.warning("live messages not sent: %s", error)
        finally:
            if connection is not None:
                connection.close()

    async def _listen(self) -> None:
        """Messages of others, for ever. After a gap every handler of kind "gap" is called: what it holds may be old."""
        failures, first = 0, True
        while True:
            heard: asyncio.Queue[bytes | None] = asyncio.Queue()  # None: the connection has ended
            try:
                connection = await AsyncRedis.subscribe(self._address, CHANNEL, heard.put_nowait)
                try:
                    if not first:
                        await self.receive({"kind": "gap", "tenant": EVERYONE})
                    failures, first = 0, False
                    while (data := await heard.get()) is not None:
                        if not data.startswith(_ORIGIN):
                            await self._understand(data)
                finally:
                    connection.close()
            except (OSError, RedisError) as error:
                if failures == 0:
                    log.warning("live feed interrupted: %s; connecting again", error)
            await asyncio.sleep(_RECONNECT_S[min(failures, len(_RECONNECT_S) - 1)])
            failures += 1

    async def _understand(self, data: bytes) -> None:
        try:
            for message in orjson.loads(data[len(_ORIGIN) :]):
                await self.receive(message)
        except (ValueError, KeyError, TypeError):
            log.exception("a live message nobody understands")


async def start() -> Hub:
    """Begin to deliver in this process: at the web process' startup, once."""
    global _hub
    _hub = Hub()
    await _hub.start()
    return _hub


async def stop() -> None:
    global _hub
    hub, _hub = _hub, None
    if hub is not None:
        await hub.stop()


def seen(tenant_id: int) -> str:
    """How far this process has come with the tenant's messages. Who compares it with an earlier one knows whether nothing was missed:
    a page is read first and subscribes a moment later, perhaps in another process, whose words are never the same."""
    return _hub.seen(tenant_id) if _hub is not None else ""


@contextlib.contextmanager
def subscribe(tenant_id: int, *kinds: str) -> Iterator[Subscription]:
    """The messages of one tenant from now on, of all kinds or of those named. Web process only."""
    if _hub is None:
        raise RuntimeError("the live feed runs in the web process only")
    with _hub.subscribe(tenant_id, frozenset(kinds)) as subscription:
        yield subscription
