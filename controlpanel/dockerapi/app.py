"""The ASGI application: version, door, route, errors."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from controlpanel.base import precedence
from controlpanel.base.errors import headers, http_status
from controlpanel.dockerapi import door, router, versions
from controlpanel.dockerapi.exchange import Exchange
from controlpanel.tenants import rates, refusals, under_way
from engine import errors

log = logging.getLogger(__name__)

Message = dict[str, Any]


def is_docker(scope: Message) -> bool:
    """Whether a request on the shared HTTP port belongs to this application; on a tenant's socket everything does."""
    caller = scope.get("extensions", {}).get("http.hijack")
    if caller is not None and caller["listener"].startswith("tenant-"):
        return True
    path: str = scope["path"]
    return versions.is_versioned(path) or path[1:].partition("/")[0] in router.ROOTS


async def application(scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]) -> None:
    exchange = Exchange(scope, receive, send)
    try:
        await _answer(exchange)
    except errors.EngineError as error:
        await refusals.tell(error, what=exchange.path)
        await _refuse(exchange, error)
    except asyncio.CancelledError:  # this process is ending, and its patience with those under way is over
        if exchange.replied:
            raise
        await _refuse(exchange, errors.Unavailable("the platform is being restarted: try again in a moment"))
    except (ConnectionError, TimeoutError) as error:
        await _refuse(exchange, errors.Unavailable(f"the connection to a part of the platform broke: {error}"))
    except Exception:
        log.exception("%s %s", exchange.method, exchange.path)
        await _refuse(exchange, errors.Internal("an error of Slipway itself; the log of the web process has it (./manage.py logs web)"))


async def _answer(exchange: Exchange) -> None:
    if exchange.method == "OPTIONS":
        await exchange.reply(200)
        return
    exchange.version, path = versions.split(exchange.path)
    route = router.find(exchange.method, path)
    if route is None:
        await exchange.reply_error(404, "page not found")
        return
    exchange.params = route.params
    if route.public:
        await route.handler(exchange)
        return
    exchange.actor = actor = await door.admit(exchange.scope)
    rates.spend(actor.credential)
    under_way.follow(exchange.scope, actor)
    async with precedence.request(actor.tenant_number):
        await route.handler(exchange)


async def _refuse(exchange: Exchange, error: errors.EngineError) -> None:
    """By status while that is possible; later, cutting the connection is the only honest thing left."""
    if exchange.replied:
        log.warning("%s %s: %s, after the reply had begun", exchange.method, exchange.path, error.message)
        raise ConnectionAbortedError(error.message) from error
    words = [(name.lower().encode(), value.encode()) for name, value in headers(error).items()]
    await exchange.reply_error(http_status(error), error.message, words)
