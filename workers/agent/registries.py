"""Ops ``pull``, ``push``, ``distribution`` and ``login``: what a tenant asks of a registry. engine.registries does it, we see it off.

A pull or push runs in a thread of its own and writes Docker's lines to the client; when the client hangs up it is cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable
from typing import Any, Final

from engine import errors
from engine.engine import Engine
from engine.registries.auth import Credentials
from engine.registries.registries import Transfer
from workers.agent.connection import Connection
from workers.agent.threads import in_own_thread
from workers.agent.words import text

AT_ONCE: Final = 4  # pulls and pushes of one tenant; the next ones wait
LOOKS_AT_ONCE: Final = 8  # of one tenant, of distribution and login


class RegistryOps:
    """``ops`` for the agent's table."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._turns: dict[str, asyncio.Semaphore] = {}
        self._looks: dict[str, asyncio.Semaphore] = {}
        self.ops = {"pull": self._pull, "push": self._push, "distribution": self._distribution, "login": self._login}

    async def _pull(self, client: Connection, words: dict[str, Any]) -> None:
        given = {"platform": text(words, "platform"), "credentials": _credentials(words), "every_tag": bool(words.get("every_tag"))}
        await self._transfer(client, words, lambda: self._engine.pull(words["tenant"], text(words, "ref"), **given))

    async def _push(self, client: Connection, words: dict[str, Any]) -> None:
        given = {"credentials": _credentials(words), "every_tag": bool(words.get("every_tag"))}
        await self._transfer(client, words, lambda: self._engine.push(words["tenant"], text(words, "ref"), **given))

    async def _distribution(self, client: Connection, words: dict[str, Any]) -> None:
        ref, credentials = text(words, "ref"), _credentials(words)
        found = await self._look(words, lambda: self._engine.registries.inspect(words["tenant"], ref, credentials))
        await client.send(_line({"ok": found}))

    async def _login(self, client: Connection, words: dict[str, Any]) -> None:
        domain, credentials = text(words, "domain"), _credentials(words)
        token = await self._look(words, lambda: self._engine.registries.login(words["tenant"], domain, credentials))
        await client.send(_line({"ok": {"identity_token": token}}))

    async def _look(self, words: dict[str, Any], ask: Callable[[], Any]) -> Any:
        def look() -> Any:
            self._engine.ensure_tenant(words["tenant"])
            return ask()

        async with self._looks.setdefault(words["tenant"], asyncio.Semaphore(LOOKS_AT_ONCE)):
            return await in_own_thread(look, "registry")

    async def _transfer(self, client: Connection, words: dict[str, Any], begin: Callable[[], Transfer]) -> None:
        await client.send(b'{"ok":{}}\n')  # at once: it may have to wait for its turn
        async with self._turns.setdefault(words["tenant"], asyncio.Semaphore(AT_ONCE)):
            try:
                transfer = await asyncio.to_thread(begin)
            except errors.EngineError as error:
                await client.send(_line(_failure(error)))
                return
            thread = asyncio.ensure_future(in_own_thread(lambda: _pump(client, transfer), "registry"))
            try:
                await asyncio.shield(thread)
            except asyncio.CancelledError:  # the client hung up
                transfer.cancel()
                with contextlib.suppress(OSError):
                    client.sock.shutdown(socket.SHUT_RDWR)
                await asyncio.gather(thread, return_exceptions=True)
                raise


def _pump(client: Connection, transfer: Transfer) -> None:
    client.sock.setblocking(True)
    lines = iter(transfer)
    try:
        for line in lines:
            client.sock.sendall(_line(line))
    except errors.EngineError as error:
        with contextlib.suppress(OSError):
            client.sock.sendall(_line(_failure(error)))
    except OSError:  # nobody reads
        transfer.cancel()
        with contextlib.suppress(errors.EngineError):
            for _line_unread in lines:
                pass


def _failure(error: errors.EngineError) -> dict[str, Any]:
    return {"errorDetail": {"message": error.message}, "error": error.message, "code": error.code, "detail": error.detail}


def _credentials(words: dict[str, Any]) -> Credentials:
    given = words.get("credentials") or {}
    if not isinstance(given, dict):
        raise errors.InvalidArgument("credentials must be an object")
    return Credentials.from_words(given)


def _line(line: dict[str, Any]) -> bytes:
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"
