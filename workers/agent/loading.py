"""Ops ``load`` and ``import``: a tar from the client into the image store, Docker's progress lines back.

In a thread with the client's socket in blocking mode: the store reads, hashes and unpacks at its own pace and the kernel's
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
from engine.engine import Engine
from engine.files.upload import Upload
from workers.agent.connection import Connection
from workers.agent.words import text

_BUFFER: Final = 1 << 20
_Act = Callable[[BinaryIO], Iterator[dict[str, Any]]]


async def load(engine: Engine, client: Connection, words: dict[str, Any]) -> None:
    await _run(client, lambda stream: engine.load(words["tenant"], stream))


async def import_rootfs(engine: Engine, client: Connection, words: dict[str, Any]) -> None:
    ref, message, changes = text(words, "ref"), text(words, "message"), words.get("changes") or []
    architecture = text(words, "architecture")
    if not isinstance(changes, list) or not all(isinstance(change, str) for change in changes):
        raise errors.InvalidArgument("changes must be a list of strings")
    tenant = words["tenant"]
    await _run(
        client, lambda stream: engine.import_rootfs(tenant, stream, ref=ref, changes=changes, message=message, architecture=architecture)
    )


async def _run(client: Connection, act: _Act) -> None:
    await client.send(b'{"ok":{}}\n')
    thread = asyncio.ensure_future(asyncio.to_thread(_pump, client, act))
    try:
        await asyncio.shield(thread)
    except asyncio.CancelledError:  # the client hung up: the thread's next read is the end of the file
        with contextlib.suppress(OSError):
            client.sock.shutdown(socket.SHUT_RDWR)
        await asyncio.gather(thread, return_exceptions=True)
        raise


def _pump(client: Connection, act: _Act) -> None:
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
