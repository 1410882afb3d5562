"""``GET /events``: what happened since, and what happens, filtered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from controlpanel.base import database, live
from controlpanel.dockerapi import words
from controlpanel.dockerapi.exchange import Exchange
from controlpanel.events import log
from controlpanel.events.models import Event as StoredEvent
from controlpanel.tenants.permissions import require
from engine.errors import InvalidArgument

_FILTERS: Final = (
    "config", "container", "daemon", "event", "image", "label", "network", "node", "plugin", "scope", "secret", "service", "type",
    "volume",
)  # fmt: skip
_WITH_WORDS: Final = frozenset({"health_status", "exec_create", "exec_start"})
_REMEMBERED: Final = 3 * log.KEEP  # ids of what was told
_OVERLAP: Final = 1000  # ids: of two transactions the one that began later may be seen first
Event = dict[str, Any]


async def stream(exchange: Exchange) -> None:
    """The head goes out at once. With ``until`` in the past only what is kept is told."""
    actor = exchange.actor
    require(actor, "container.view")
    now_ns = time.time_ns()
    since_ns, until_ns = (_moment_ns(exchange.text(name), now_ns) for name in ("since", "until"))
    if until_ns and until_ns < since_ns:
        raise InvalidArgument(
            f"`since` time ({exchange.text('since')}) cannot be after `until` time ({exchange.text('until')})",
        )
    asked = words.filters(exchange.text("filters"), None)
    given = {name: values for name, values in asked.items() if name in _FILTERS}  # moby ignores other words here, and only here
    await exchange.begin()
    with live.subscribe(actor.tenant_number, "event") as news:  # before reading what is kept: nothing falls between
        told = Told(exchange.write_json, given, log.sight(actor))
        if since_ns or until_ns:
            await told.tell_rows(await database.read(log.read, actor.tenant_number, since_ns=since_ns, until_ns=until_ns))
        wait_s = (until_ns - time.time_ns()) / 1e9 if until_ns else None
        if wait_s is None or wait_s > 0:
            try:
                await asyncio.wait_for(exchange.while_connected(follow(actor.tenant_number, news, told)), wait_s)
            except TimeoutError:
                pass
    await exchange.end()


def _moment_ns(text: str, now_ns: int) -> int:
    """Also by a duration, which moby's client resolves itself; what is neither is refused as moby refuses it here."""
    try:
        return words.moment_ns(text, now_ns)
    except InvalidArgument:
        return words.time_ns(text)


async def follow(tenant_id: int, news: live.Subscription, told: Told) -> None:
    """A reader that was too slow for its mailbox gets from the rows what fell out of it."""
    lost = 0
    while True:
        message, _row = await news.next()
        if news.lost != lost:
            lost = news.lost
            await told.tell_rows(await database.read(log.read, tenant_id, after=told.last - _OVERLAP))
        await told.tell(message["id"], message["event"], message.get("project", ""))


class Told:
    """What one client has been told: each event once, whether it came from the rows or from the feed. ``hears``: as of log.sight."""

    def __init__(
        self, tell: Callable[[Event], Awaitable[None]], given: words.Filters, hears: Callable[[str, str], bool] | None = None
    ) -> None:
        self._tell, self._given, self._hears = tell, given, hears
        self._ids: dict[int, None] = {}
        self.last = 0

    async def tell_rows(self, rows: Sequence[StoredEvent]) -> None:
        for row in rows:
            await self.tell(row.pk, row.to_docker(), row.project)

    async def tell(self, number: int, event: Event, project: str = "") -> None:
        if number in self._ids:
            return
        self._ids[number] = None
        self.last = max(self.last, number)
        if len(self._ids) > _REMEMBERED:
            del self._ids[next(iter(self._ids))]
        if (self._hears is None or self._hears(event["Type"], project)) and matches(event, self._given):
            await self._tell(event)


def matches(event: Event, given: words.Filters) -> bool:
    """moby's rules (daemon/events/filter.go): names and ids also by their beginning, whatever kind of object the event is about."""
    attributes = event["Actor"]["Attributes"]
    for name, values in given.items():
        if not values:
            continue
        if name == "type":
            passed = event["Type"] in values
        elif name == "scope":
            passed = event["scope"] in values
        elif name == "event":
            passed = _action(event["Action"], values)
        elif name == "label":
            passed = words.labels_match(values, attributes)
        elif name == "image":
            passed = _image(event, values)
        else:
            passed = _object(event, values)
        if not passed:
            return False
    return True


def _action(action: str, values: Sequence[str]) -> bool:
    """Actions that carry words behind a colon are found by their beginning when one of these was asked for."""
    if _WITH_WORDS.intersection(values):
        return any(action.startswith(value) for value in values)
    return action in values


def _object(event: Event, values: Sequence[str]) -> bool:
    """By the beginning of name or id."""
    number, name = event["Actor"]["ID"], event["Actor"]["Attributes"].get("name", "")
    return any(number.startswith(value) or name.startswith(value.removeprefix("/")) for value in values)


def _image(event: Event, values: Sequence[str]) -> bool:
    """The image itself, or containers of it; with or without the tag."""
    attributes = event["Actor"]["Attributes"]
    name = attributes.get("name", "") if event["Type"] == "image" else attributes.get("image", "")
    bare = name.rpartition(":")[0] if ":" in name.rpartition("/")[2] else name
    return any(value in (name, bare, event["Actor"]["ID"]) for value in values)
