"""Redis in two small clients, blocking and asyncio, for the parts that must stay small or fast.

redis-py costs 22 to 28 MiB and 100 µs a command; the agent, the reply path and the live feed need six commands. The wire format is RESP2
(redis.io/docs/reference/protocol-spec), packed and parsed by hiredis. Replies are bytes, integers, lists or None.

Addresses, as redis-py spells them:

    unix://[user:password@]/path/redis.sock[?db=0]      redis://[user:password@]host[:6379][/0]      rediss:// the same over TLS
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

import hiredis

from engine.config import EngineConfig

if TYPE_CHECKING:
    import ssl

Word = str | bytes | int
Reply = Any


class RedisError(Exception):
    """Redis answered with an error: a wrong password, a key this user may not touch, memory full."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a Redis listens and who we are there."""

    path: str = ""  # of the unix socket; or host and port
    host: str = ""
    port: int = 6379
    tls: bool = False
    user: str = ""
    password: str = field(default="", repr=False)
    db: int = 0

    @classmethod
    def parse(cls, url: str) -> Address:
        parts = urlsplit(url)
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        words = parse_qs(parts.query)
        if parts.scheme == "unix":
            return cls(path=unquote(parts.path), user=user, password=password, db=int(words.get("db", ["0"])[0]))
        if parts.scheme in ("redis", "rediss") and parts.hostname:
            db = int(words.get("db", [parts.path.strip("/") or "0"])[0])
            return cls(host=parts.hostname, port=parts.port or 6379, tls=parts.scheme == "rediss", user=user, password=password, db=db)
        raise ValueError(f"REDIS_URL: {parts.scheme or 'no scheme'}: use unix:///path/redis.sock, redis://host:port/0 or rediss://")

    @classmethod
    def from_environment(cls) -> Address:
        return cls.parse(url_from_environment())

    def greeting(self) -> list[tuple[Word, ...]]:
        """What a new connection says first."""
        commands: list[tuple[Word, ...]] = []
        if self.password:
            commands.append(("AUTH", self.user, self.password) if self.user else ("AUTH", self.password))
        if self.db:
            commands.append(("SELECT", self.db))
        return commands

    def tls_context(self) -> ssl.SSLContext | None:
        if not self.tls:
            return None
        import ssl  # 2 MiB that a unix socket needs not

        return ssl.create_default_context()


def url_from_environment() -> str:
    """REDIS_URL, or the private Redis that ``up`` starts."""
    return os.environ.get("REDIS_URL") or f"unix://{EngineConfig.from_environment().run}/redis.sock"


def pack(commands: list[tuple[Word, ...]]) -> bytes:
    return b"".join([hiredis.pack_command(command) for command in commands])  # type: ignore[arg-type]  # its stub says one word only


def _raised(reply: Reply) -> Reply:
    if isinstance(reply, hiredis.ReplyError):
        raise RedisError(str(reply))
    return reply


class Redis:
    """Blocking, one connection for all threads of a process, opened when first needed and again after it broke."""

    def __init__(self, address: Address, *, timeout_s: float = 5.0) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._sock: socket.socket | None = None
        self._reader = hiredis.Reader()

    def execute(self, *commands: tuple[Word, ...], timeout_s: float | None = None) -> list[Reply]:
        """All in one write; their replies in order.

        A connection that went stale since its last use is replaced once, so a command may be done twice when Redis dies
        just then: use it for commands where that is harmless. ``timeout_s`` must exceed that of a blocking command.
        Raises OSError when Redis is away, RedisError when it refuses.
        """
        with self._lock:
            fresh = self._sock is None
            try:
                return self._exchange(list(commands), timeout_s)
            except TimeoutError:
                raise
            except OSError:
                if fresh:
                    raise
                return self._exchange(list(commands), timeout_s)

    def close(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _exchange(self, commands: list[tuple[Word, ...]], timeout_s: float | None) -> list[Reply]:
        try:
            sock = self._sock or self._connect()
            sock.settimeout(self._timeout_s if timeout_s is None else timeout_s)
            sock.sendall(pack(commands))
            return [_raised(reply) for reply in self._read(sock, len(commands))]
        except OSError:
            self.close()
            raise

    def _connect(self) -> socket.socket:
        where = self._address
        if where.path:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.settimeout(self._timeout_s)
                sock.connect(where.path)
            except OSError:
                sock.close()
                raise
        else:
            sock = socket.create_connection((where.host, where.port), self._timeout_s)
            if context := where.tls_context():
                sock = context.wrap_socket(sock, server_hostname=where.host)
        self._sock, self._reader = sock, hiredis.Reader()
        if greeting := where.greeting():
            sock.sendall(pack(greeting))
            for reply in self._read(sock, len(greeting)):
                _raised(reply)
        return sock

    def _read(self, sock: socket.socket, count: int) -> list[Reply]:
        replies: list[Reply] = []
        while len(replies) < count:
            reply = self._reader.gets()
            if reply is False:
                data = sock.recv(65536)
                if not data:
                    raise ConnectionResetError("Redis closed the connection")
                self._reader.feed(data)
            else:
                replies.append(reply)
        return replies


class AsyncRedis(asyncio.Protocol):
    """One pipelined asyncio connection: commands go out at once, replies come back in order. Make a new one when it broke."""

    def __init__(self, heard: Callable[[bytes | None], None] | None = None) -> None:
        self._heard = heard
        self._reader = hiredis.Reader()
        self._waiting: deque[asyncio.Future[Reply]] = deque()
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[None] = self._loop.create_future()

    @classmethod
    async def connect(cls, address: Address, *, heard: Callable[[bytes | None], None] | None = None) -> AsyncRedis:
        """Raises OSError when Redis is away, RedisError when it does not let us in."""
        loop = asyncio.get_running_loop()
        if address.path:
            _, client = await loop.create_unix_connection(lambda: cls(heard), address.path)
        else:
            _, client = await loop.create_connection(lambda: cls(heard), address.host, address.port, ssl=address.tls_context())
        for command in address.greeting():
            await client.execute(*command)
        return client

    @classmethod
    async def subscribe(cls, address: Address, channel: str, heard: Callable[[bytes | None], None]) -> AsyncRedis:
        """A connection that calls ``heard`` with each message of ``channel``, and with None when it has ended."""
        client = await cls.connect(address, heard=heard)
        await client.execute("SUBSCRIBE", channel)
        return client

    def execute(self, *command: Word) -> asyncio.Future[Reply]:
        """The reply to come; ConnectionError when the connection breaks first, RedisError when Redis refuses."""
        future: asyncio.Future[Reply] = self._loop.create_future()
        if self._transport is None or self._transport.is_closing():
            future.set_exception(ConnectionResetError("no connection to Redis"))
            return future
        self._waiting.append(future)
        self._transport.write(pack([command]))
        return future

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            if not self._waiting:  # ["message", channel, data]: what nobody asked for is what was subscribed to
                if self._heard is not None:
                    self._heard(reply[2])
                continue
            future = self._waiting.popleft()
            if future.done():
                continue
            if isinstance(reply, hiredis.ReplyError):
                future.set_exception(RedisError(str(reply)))
            else:
                future.set_result(reply)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if not self.closed.done():
            self.closed.set_result(None)
        if self._heard is not None:
            self._heard(None)
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_exception(ConnectionResetError("Redis closed the connection"))
