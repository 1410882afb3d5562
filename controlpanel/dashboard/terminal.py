"""A shell in a container, in the browser: its page, and its websocket, which lives exactly as long as the shell does.

    browser → server   binary: keys · {"size": [rows, columns]}
    server → browser   {"kind": "open"} · binary: output · {"kind": "exit", "code"} or {"kind": "error", "message"}, then the close

The query of the socket's address says shell, user and size. When the browser goes away, the terminal hangs up as any other does.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson
from channels.generic.websocket import AsyncWebsocketConsumer
from django.http import HttpRequest, HttpResponse

from controlpanel.accounts.sessions import LOGOUT
from controlpanel.base import live
from controlpanel.containers import projection
from controlpanel.containers.views import show_tab
from controlpanel.dashboard.consumers import NO_LOGIN, NO_TENANT, still_logged_in
from controlpanel.execs import services
from controlpanel.tenants import impersonation, refusals
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.pages import page
from controlpanel.tenants.permissions import loses, require
from engine.errors import EngineError, InvalidArgument
from engine.model.execution import ExecSpec

SHELLS: Final = ("sh", "bash")
_CHUNK: Final = 64 << 10
_SIZE_MAX: Final = 1000  # rows or columns of a browser's window
_DEFAULT_SIZE: Final = (24, 80)


@page("container.exec")
async def terminal(request: HttpRequest, actor: Actor, name: str) -> HttpResponse:
    view = await projection.container(actor, name)
    context = {"shells": SHELLS, "terminal_command": f"docker exec -it {view.name} sh", "user": view.spec.user or "root"}
    return await show_tab(request, actor, view, "terminal", context)


class TerminalConsumer(AsyncWebsocketConsumer):
    """One shell. Who may it no longer, or is logged out elsewhere, is shown out, and the shell ends."""

    actor: Actor

    async def connect(self) -> None:
        self._started: services.Started | None = None
        self._tasks: list[asyncio.Task[None]] = []
        await self.accept()
        if not self.scope["user"].is_authenticated:
            await self.close(NO_LOGIN)
        elif await self._admit():
            self._tasks = [asyncio.ensure_future(self._serve()), asyncio.ensure_future(self._watch_access())]

    async def _admit(self) -> bool:
        try:
            tenant = self.scope["url_route"]["kwargs"]["tenant"]
            self.actor = await impersonation.actor_for(self.scope["user"], self.scope["session"], tenant)
            require(self.actor, "container.exec")
        except EngineError as error:
            await refusals.tell(error, what=self.scope["path"])
            await self._show_out(NO_TENANT)
            return False
        return True

    async def _show_out(self, code: int) -> None:
        """The shell ends, whether or not the browser answers the close."""
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()
        await self.close(code)

    async def disconnect(self, code: int) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._hang_up()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if self._started is None:
            return
        try:
            if bytes_data:
                self._started.writer.write(bytes_data)
                await self._started.writer.drain()
            elif text_data:
                rows, columns = _size(orjson.loads(text_data).get("size"))
                await services.resize(self.actor, self._started.view.id, rows, columns)
        except (OSError, EngineError, orjson.JSONDecodeError, AttributeError):
            pass  # the shell has just ended, or what came was no message of ours

    async def _serve(self) -> None:
        try:
            await self._run()
        except EngineError as error:
            await refusals.tell(error, what=self.scope["path"])
            await self._say(kind="error", message=error.message)
        finally:
            self._hang_up()
        await self.close()

    async def _run(self) -> None:
        asked = dict(parse_qsl(self.scope["query_string"].decode("latin-1")))
        shell = asked.get("shell", SHELLS[0])
        if shell not in SHELLS:
            raise InvalidArgument(f"a terminal runs one of {', '.join(SHELLS)}")
        size = _size([int(asked[name]) if asked.get(name, "").isdecimal() else 0 for name in ("rows", "columns")])
        spec = ExecSpec(id="", args=(shell,), user=asked.get("user", ""), tty=True, stdin=True, console_size=size)
        view = await services.create(self.actor, self.scope["url_route"]["kwargs"]["container"], spec)
        started = self._started = await services.start(self.actor, view.id, hang_up=True)
        await self._say(kind="open")
        while data := await started.reader.read(_CHUNK):
            await self.send(bytes_data=data)
        await services.finished(view.id)
        ended = await services.look(self.actor, view.id)
        await self._say(kind="exit", code=ended.exit_code)

    async def _watch_access(self) -> None:
        with live.subscribe(live.EVERYONE, "access", "tenant", LOGOUT, "gap") as subscription:
            async for message in subscription:
                if not await still_logged_in(self.scope, message):
                    await self._show_out(NO_LOGIN)
                    return
                if message["kind"] != LOGOUT:
                    before = self.actor
                    if not await self._admit():
                        return
                    if loses(before, self.actor):
                        await self._show_out(NO_TENANT)
                        return

    async def _say(self, **message: Any) -> None:
        await self.send(text_data=orjson.dumps(message).decode())

    def _hang_up(self) -> None:
        if self._started is not None:
            self._started.writer.transport.abort()


def _size(given: Any) -> tuple[int, int]:
    """Rows and columns, or those of an old screen."""
    if isinstance(given, list) and len(given) == 2 and all(isinstance(item, int) and 0 < item <= _SIZE_MAX for item in given):
        return given[0], given[1]
    return _DEFAULT_SIZE
