"""agent.sock: who asks, what is asked, and the answer line. The table of ops is in workers/contract.py."""

from __future__ import annotations

import asyncio
import contextlib
import grp
import json
import logging
import os
import pwd
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final

from engine import errors
from engine.config import EngineConfig
from engine.runtime.protocol import Place, peer_uid
from workers import tickets
from workers.agent.connection import Connection, Hangups

log = logging.getLogger(__name__)

BACKLOG: Final = 4096
QUESTION_TIMEOUT_S: Final = 10.0
PLACE_LOOK_S: Final = 5.0
PANEL_USER: Final = "slipway"

Op = Callable[[Connection, dict[str, Any]], Awaitable[None]]


class Server:
    """Accepts, checks, and runs one task a client."""

    def __init__(self, config: EngineConfig, ops: dict[str, Op]) -> None:
        self._config, self._ops = config, ops
        self._hangups = Hangups()
        self._tasks: set[asyncio.Task[None]] = set()
        try:
            self._panel_uid: int | None = pwd.getpwnam(PANEL_USER).pw_uid
        except KeyError:
            self._panel_uid = None  # no panel was installed here: root only

    async def run(self) -> None:
        """For ever. A stale socket is replaced: the keeper sees to it that there is one agent."""
        loop = asyncio.get_running_loop()
        with listen(self._config) as server:
            leaving = asyncio.ensure_future(_leave_when_replaced(Place(self._config.agent_socket, server)))
            self._tasks.add(leaving)
            server.setblocking(False)
            while True:
                try:
                    sock, _address = await loop.sock_accept(server)
                except OSError as error:  # EMFILE: give those who are here the time to leave
                    log.warning("accept: %s", error)
                    await asyncio.sleep(0.1)
                    continue
                task = asyncio.create_task(self._serve(sock))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _serve(self, sock: socket.socket) -> None:
        client = Connection(sock)
        task = asyncio.current_task()
        assert task is not None
        self._hangups.watch(sock, task.cancel)
        try:
            await self._answer(client)
        except ConnectionError:
            pass  # the client went away in the midst
        except asyncio.CancelledError:
            pass  # it hung up; nobody else cancels this task
        finally:
            self._hangups.forget(sock)
            client.close()

    async def _answer(self, client: Connection) -> None:
        try:
            words = await self._question(client)
            if words is None:
                return
            uid = peer_uid(client.sock)
            if uid not in (0, self._panel_uid):
                raise errors.PermissionDenied(f"uid {uid} may not ask the agent: only root and {PANEL_USER} may")
            op = self._ops.get(words["op"])
            if op is None:
                raise errors.InvalidArgument(f"the agent knows no {words['op']!r}")
            if uid != 0:
                tickets.check(tickets.read_key(self._config.data), words["ticket"], words["op"], words["tenant"], words["id"])
            await op(client, words)
        except errors.EngineError as error:
            await client.send(json.dumps({"error": error.to_json()}).encode() + b"\n")
        except ConnectionError:
            raise
        except OSError as error:  # a disk that fails, descriptors that are used up; or a container that is removed amid its stream
            log.warning("a stream failed: %s", error)
            if not client.has_sent:
                await self._say_fault(client)
        except Exception:
            log.exception("a stream failed")
            await self._say_fault(client)

    async def _say_fault(self, client: Connection) -> None:
        fault = errors.Internal("internal error of the host's agent; its log has the details")
        with contextlib.suppress(OSError):
            await client.send(json.dumps({"error": fault.to_json()}).encode() + b"\n")

    async def _question(self, client: Connection) -> dict[str, Any] | None:
        """With ``op``, ``tenant``, ``id`` and ``ticket`` present, as strings."""
        try:
            async with asyncio.timeout(QUESTION_TIMEOUT_S):
                line = await client.read_line()
        except TimeoutError:
            return None
        if not line:
            return None
        try:
            words = json.loads(line)
            given = {name: words.get(name) or "" for name in ("op", "tenant", "id", "ticket")}
        except (ValueError, AttributeError):
            raise errors.InvalidArgument("the agent needs one line with a JSON object") from None
        if not all(isinstance(value, str) for value in given.values()):
            raise errors.InvalidArgument("op, tenant, id and ticket are strings")
        return {**words, **given}


async def _leave_when_replaced(place: Place) -> None:
    """Two agents would settle, restart and report everything twice. The one that clients reach stays."""
    while not place.is_lost():  # noqa: ASYNC110  a name in the file system tells nobody
        await asyncio.sleep(PLACE_LOOK_S)
    log.warning("another agent has taken this one's place: it ends")
    os._exit(0)


def listen(config: EngineConfig) -> socket.socket:
    """root:slipway 0660. It gets its name when it listens: whoever finds the file is answered, also while an old agent's is replaced."""
    path = config.agent_socket.with_suffix(".new")
    path.unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    old = os.umask(0o117)
    try:
        server.bind(str(path))
    finally:
        os.umask(old)
    with contextlib.suppress(KeyError):
        os.chown(path, 0, grp.getgrnam(PANEL_USER).gr_gid)
    server.listen(BACKLOG)
    os.rename(path, config.agent_socket)
    return server
