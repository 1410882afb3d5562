"""Ops ``load``, ``import`` and ``save``: a tar from the client into the image store with Docker's progress lines back, or one out of it.

In a thread of its own with the client's socket in blocking mode: the store reads, hashes and unpacks at its own pace and the kernel's
buffer makes the client wait. A client that goes away ends the socket, the store sees a tar that is cut off, and leaves nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import socket
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Final, cast

from engine import errors
from engine.builds.importing import import_from
from engine.engine import Engine
from engine.files.upload import Upload
from workers.agent.connection import Connection
from workers.agent.threads import in_own_thread
from workers.agent.words import text, texts

AT_ONCE: Final = 4  # of one tenant; the next ones wait: each is a thread, and fills the disk's queue
_BUFFER: Final = 1 << 20
_Act = Callable[[BinaryIO], Iterator[dict[str, Any]]]


class ImageOps:
    """``ops`` for the agent's table."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._turns: dict[str, asyncio.Semaphore] = {}
        self.ops = {"load": self._load, "import": self._import, "save": self._save}

    async def _load(self, client: Connection, words: dict[str, Any]) -> None:
        platform = text(words, "platform")
        await self._receive(client, words, lambda stream: self._engine.load(words["tenant"], stream, platform=platform))

    async def _import(self, client: Connection, words: dict[str, Any]) -> None:
        given = {name: text(words, name) for name in ("ref", "message", "platform")}
        changes, address = texts(words, "changes"), text(words, "address")

        def act(stream: BinaryIO) -> Iterator[dict[str, Any]]:
            if address:
                return import_from(self._engine, words["tenant"], address, changes=changes, **given)
            return self._engine.import_rootfs(words["tenant"], stream, changes=changes, **given)

        await self._receive(client, words, act)

    async def _save(self, client: Connection, words: dict[str, Any]) -> None:
        """Refusals come before the ok; what breaks later ends the stream without its end mark."""
        names, platform = texts(words, "names"), text(words, "platform")
        chosen = await asyncio.to_thread(self._engine.images.choose, words["tenant"], names, platform=platform)
        async with self._turn(words):
            images = [{"id": each.record.id, "refs": each.names} for each in chosen]
            await client.send(_line({"ok": {"images": images}}))
            await _until_hung_up(client, lambda: self._pump_out(client, chosen))

    def _turn(self, words: dict[str, Any]) -> asyncio.Semaphore:
        return self._turns.setdefault(words["tenant"], asyncio.Semaphore(AT_ONCE))

    async def _receive(self, client: Connection, words: dict[str, Any], act: _Act) -> None:
        async with self._turn(words):
            await client.send(b'{"ok":{}}\n')
            await _until_hung_up(client, lambda: _pump_in(client, act))

    def _pump_out(self, client: Connection, chosen: Any) -> None:
        client.sock.setblocking(True)
        with contextlib.suppress(ConnectionError):
            self._engine.images.save(chosen, client.sock.fileno())


async def _until_hung_up(client: Connection, act: Callable[[], None]) -> None:
    thread = asyncio.ensure_future(in_own_thread(act, "image"))
    try:
        await asyncio.shield(thread)
    except asyncio.CancelledError:  # the client hung up: the thread's next read is the end of the file, its next write fails
        with contextlib.suppress(OSError):
            client.sock.shutdown(socket.SHUT_RDWR)
        await asyncio.gather(thread, return_exceptions=True)
        raise


def _pump_in(client: Connection, act: _Act) -> None:
    client.sock.setblocking(True)
    stream = cast(BinaryIO, io.BufferedReader(Upload(client.early, client.sock.fileno()), _BUFFER))
    try:
        for line in act(stream):
            client.sock.sendall(_line(line))
    except errors.EngineError as error:
        with contextlib.suppress(OSError):
            client.sock.sendall(_line({"errorDetail": {"message": error.message}, "error": error.message, "code": error.code}))
            _swallow(client.sock)


def _swallow(sock: socket.socket) -> None:
    """What the client still sends, so that it gets to read the error; a reset would take that away."""
    sock.shutdown(socket.SHUT_WR)
    while sock.recv(_BUFFER):
        pass


def _line(line: dict[str, Any]) -> bytes:
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"
