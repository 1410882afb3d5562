"""The one websocket of a tenant's page: what changes in lists, figures, and one container's log.

    browser → server   {"watch": "rows"}                        list rows as HTML whenever a container changes
                       {"watch": "rows", "id": id}              of this container only, and without HTML
                       {"watch": "stats", "ids": [id, …]}       figures of these (again: replaces the list)
                       {"watch": "log", "id", "tail": 500}      binary messages: Docker frames with timestamps, or raw of a tty
                       {"watch": "changes", "kinds": [kind, …]} that something of these kinds changed, once a second at most
                       {"watch": "missed", "seen": word}        after the others: what happened since the page was read (live.seen)
    server → browser   {"kind": "row", "id", "state", "html"} · {"kind": "gone", "id"} · {"kind": "lost"}: look again at what is shown
                       {"kind": "stats", "id", "samples": [[time_ms, cpu %, memory, limit, rx/s, tx/s], …]}
                       {"kind": "log", "tty": bool} before the log's first bytes · {"kind": "log-end"}
                       {"kind": "changed", "what": kind} · {"kind": "error", "message"}

Every request is checked again here: the page that opened the socket proves nothing. Who may less than before is shown out, and so is
whose session was ended.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, Final

import orjson
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from django.template.loader import render_to_string
from django.utils import translation

from controlpanel.accounts.sessions import LOGOUT, is_alive
from controlpanel.base import database, live
from controlpanel.containers import presentation, projection
from controlpanel.hosts.streams import open_stream
from controlpanel.metrics import sampler
from controlpanel.metrics.sample import Sample
from controlpanel.tenants import impersonation
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.pages import Permissions
from controlpanel.tenants.permissions import loses, may, require
from engine.errors import EngineError

NO_TENANT: Final = 4404
NO_LOGIN: Final = 4401
CHUNK: Final = 64 << 10
STATS_MAX: Final = 200  # containers of one page: as many rows as it shows
TAIL_MAX: Final = 10_000
CHANGES_EACH_S: Final = 1.0
KINDS: Final = {  # → the verb it takes to hear of them
    "container": "container.view",
    "image": "image.view",
    "volume": "volume.view",
    "build": "image.view",
    "network": "network.view",
    "operation": "tenant.view",
}


async def still_logged_in(scope: Any, message: live.Message) -> bool:
    """After a message that a session of somebody's has ended, or one that may have missed it: whether ours goes on."""
    if message["kind"] not in (LOGOUT, "gap") or message.get("user", scope["user"].pk) != scope["user"].pk:
        return True
    return await database.read(is_alive, scope["session"].session_key, scope["user"])


class PageConsumer(AsyncWebsocketConsumer):
    """Lives as long as the page. Each ``watch`` is a task; the same word again replaces it."""

    actor: Actor
    is_shown_out = False

    async def connect(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._figures: dict[str, asyncio.Task[None]] = {}  # container → its samples
        user = self.scope["user"]
        await self.accept()
        if not user.is_authenticated:
            await self.close(NO_LOGIN)
            return
        if not await self._admit():
            return
        self.language = self.scope.get("cookies", {}).get(settings.LANGUAGE_COOKIE_NAME) or user.language or self._asked_language()
        await self._begin("platform", self._platform())

    async def _admit(self) -> bool:
        try:
            tenant = self.scope["url_route"]["kwargs"]["tenant"]
            self.actor = await impersonation.actor_for(self.scope["user"], self.scope["session"], tenant)
            require(self.actor, "container.view")
        except EngineError:
            await self._show_out()
            return False
        return True

    async def _show_out(self, code: int = NO_TENANT) -> None:
        """Nothing more is sent, whether or not the browser answers the close."""
        self.is_shown_out = True
        for task in (*self._tasks.values(), *self._figures.values()):
            if task is not asyncio.current_task():
                task.cancel()
        await self.close(code)

    def _asked_language(self) -> str:
        header = dict(self.scope["headers"]).get(b"accept-language", b"").decode("latin-1").lower()
        return "zh-hans" if header.startswith("zh") else settings.LANGUAGE_CODE

    async def disconnect(self, code: int) -> None:
        tasks = [*self._tasks.values(), *self._figures.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if not hasattr(self, "language") or self.is_shown_out:
            return
        try:
            asked = orjson.loads(text_data or "")
            watch = asked["watch"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            await self._say(kind="error", message="a JSON object with a member watch is needed")
            return
        if watch == "rows":
            await self._begin("rows", self._rows(str(asked.get("id") or "")))
        elif watch == "stats":
            await self._stats([str(item) for item in asked.get("ids") or []][:STATS_MAX])
        elif watch == "log":
            tail = asked.get("tail")
            await self._begin("log", self._log(str(asked.get("id", "")), tail if isinstance(tail, int) and 0 <= tail <= TAIL_MAX else 500))
        elif watch == "changes":
            await self._begin("changes", self._changes({str(item) for item in asked.get("kinds") or []} & KINDS.keys()))
        elif watch == "missed":  # a task as the others, so it looks when they have subscribed
            await self._begin("missed", self._missed(str(asked.get("seen") or "")))

    async def _begin(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        before = self._tasks.pop(name, None)
        if before is not None:
            before.cancel()
            await asyncio.gather(before, return_exceptions=True)
        self._tasks[name] = asyncio.ensure_future(self._guarded(work))

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except EngineError as error:
            await self._say(kind="error", message=error.message)

    async def _say(self, **message: Any) -> None:
        await self.send(text_data=orjson.dumps(message).decode())

    async def _platform(self) -> None:
        """What concerns every tenant: who may what, who is logged in, a host that fell silent, a gap in the feed."""
        with live.subscribe(live.EVERYONE, "access", "tenant", LOGOUT, "host", "gap") as subscription:
            async for message in subscription:
                if not await still_logged_in(self.scope, message):
                    await self._show_out(NO_LOGIN)
                    return
                if message["kind"] in ("access", "tenant", "gap"):
                    before = self.actor
                    if not await self._admit():
                        return
                    if loses(before, self.actor):  # the page reloads, and is what it may be now
                        await self._show_out()
                        return
                if message["kind"] in ("host", "gap"):
                    await self._say(kind="lost")

    async def _missed(self, seen: str) -> None:
        if seen != live.seen(self.actor.tenant_number):
            await self._say(kind="lost")

    async def _rows(self, only: str) -> None:
        with live.subscribe(self.actor.tenant_number, "container") as subscription:
            lost = 0
            async for message in subscription:
                if subscription.lost > lost:
                    lost = subscription.lost
                    await self._say(kind="lost")
                if only and message["id"] != only:
                    continue
                try:
                    view = await projection.container(self.actor, message["id"])
                except EngineError:
                    if may(self.actor, "container.view", message.get("project", "")):  # others were never there
                        await self._say(kind="gone", id=message["id"])
                    continue
                words = {} if only else {"html": self._render(view)}
                await self._say(kind="row", id=view.id, state=view.status.value, **words)

    def _render(self, view: projection.ContainerView) -> str:
        with translation.override(self.language):
            context = {"row": presentation.row(view), "tenant": self.actor.tenant, "may": Permissions(self.actor)}
            return render_to_string("containers/_row.html", context)

    async def _changes(self, kinds: set[str]) -> None:
        for kind in kinds:
            require(self.actor, KINDS[kind])
        with live.subscribe(self.actor.tenant_number, *kinds) as subscription:
            while True:
                waiting = {(await subscription.next())[0]["kind"]}
                await asyncio.sleep(CHANGES_EACH_S / 5)  # what belongs together comes together
                waiting |= subscription.drain()
                for kind in waiting:
                    await self._say(kind="changed", what=kind)
                await asyncio.sleep(CHANGES_EACH_S * 4 / 5)

    async def _stats(self, ids: list[str]) -> None:
        """Those that are asked for again go on; the others end, new ones begin."""
        assert self.actor.tenant is not None
        for container_id in [known for known in self._figures if known not in ids]:
            self._figures.pop(container_id).cancel()
        for container_id in ids:
            if container_id not in self._figures:
                work = self._stats_of(self.actor.tenant.name, container_id)
                self._figures[container_id] = asyncio.ensure_future(self._guarded(work))

    async def _stats_of(self, tenant: str, container_id: str) -> None:
        with contextlib.suppress(EngineError):  # removed meanwhile: its row goes by itself
            view = await projection.container(self.actor, container_id)
            async with sampler.watch(tenant, view.id) as (history, queue):
                if history:
                    await self._say(kind="stats", id=container_id, samples=[_figures(item) for item in history])
                while True:
                    item = await queue.get()
                    await self._say(kind="stats", id=container_id, samples=[_figures(item)])

    async def _log(self, container_id: str, tail: int) -> None:
        view = await projection.container(self.actor, container_id)
        assert self.actor.tenant is not None
        ok, reader, writer = await open_stream(
            "logs",
            self.actor.tenant.name,
            view.id,
            stdout=True,
            stderr=True,
            follow=True,
            timestamps=True,
            since_ns=0,
            until_ns=0,
            tail=tail,
        )
        try:
            await self._say(kind="log", tty=bool(ok.get("tty")))
            while data := await reader.read(CHUNK):
                await self.send(bytes_data=data)
            await self._say(kind="log-end")
        finally:
            writer.close()


def _figures(item: Sample) -> list[float]:
    return [
        item.time_ms, item.cpu_percent, item.memory_bytes, item.memory_limit_bytes, item.rx_bytes_per_s, item.tx_bytes_per_s,
    ]  # fmt: skip
