"""``stats``: one object a second, or one in all."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import orjson

from controlpanel.containers import measuring, projection
from controlpanel.containers.projection import ContainerView
from controlpanel.dockerapi import relay
from controlpanel.dockerapi.exchange import Exchange
from controlpanel.hosts import streams
from controlpanel.tenants.permissions import require
from engine.errors import FailedPrecondition, NotFound

_INTERVAL_S: Final = 1.0
_NEVER: Final = "0001-01-01T00:00:00Z"
_ZERO_CPU: Final[dict[str, Any]] = {
    "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
    "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
}


async def stats(exchange: Exchange) -> None:
    """As moby: a stream goes on, with empty objects, while the container does not run, and ends with its removal."""
    require(exchange.actor, "container.view")
    view = await projection.container(exchange.actor, exchange.params["id"])
    if exchange.flag("stream", True):
        await exchange.while_connected(_stream(exchange, view))
    elif not view.state.has_process:
        await exchange.reply_json(_nothing(view))
    elif exchange.flag("one-shot") and exchange.version >= (1, 41):
        await exchange.reply_json(await measuring.sample(view) or _nothing(view))
    else:
        line = await exchange.while_connected(_second_of_two(view))
        await exchange.reply_bytes(line or orjson.dumps(_nothing(view)) + b"\n")


async def _second_of_two(view: ContainerView) -> bytes:
    """Of two samples the second holds the first as its precpu_stats. b"" when the container ended before."""
    try:
        _ok, reader, writer = await streams.open_stream("stats", view.spec.tenant, view.id, interval_s=_INTERVAL_S, count=2)
    except FailedPrecondition:
        return b""
    try:
        return b"".join((await reader.read(-1)).splitlines(keepends=True)[1:])
    finally:
        relay.close(writer)


async def _stream(exchange: Exchange, view: ContainerView) -> None:
    """The reply begins when the host has answered, so that a host that doesn't is told by status."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + _INTERVAL_S
        if view.state.has_process:
            await _while_it_runs(exchange, view)
        else:
            await _begun(exchange)
            await exchange.write_json(_nothing(view))
        await asyncio.sleep(due - loop.time())
        try:
            view = await projection.container(exchange.actor, view.id)
        except NotFound:
            if not exchange.replied:
                raise
            await exchange.end()
            return


async def _while_it_runs(exchange: Exchange, view: ContainerView) -> None:
    try:
        _ok, reader, writer = await streams.open_stream("stats", view.spec.tenant, view.id, interval_s=_INTERVAL_S, count=0)
    except (FailedPrecondition, NotFound):
        return  # it ended meanwhile, or was removed
    try:
        await _begun(exchange)
        while data := await reader.read(relay.CHUNK):
            await exchange.write(data)
    finally:
        relay.close(writer)


async def _begun(exchange: Exchange) -> None:
    if not exchange.replied:
        await exchange.begin()


def _nothing(view: ContainerView) -> dict[str, Any]:
    return {
        "name": f"/{view.name}",
        "id": view.id,
        "read": _NEVER,
        "preread": _NEVER,
        "pids_stats": {},
        "blkio_stats": {
            "io_service_bytes_recursive": None,
            "io_serviced_recursive": None,
            "io_queue_recursive": None,
            "io_service_time_recursive": None,
            "io_wait_time_recursive": None,
            "io_merged_recursive": None,
            "io_time_recursive": None,
            "sectors_recursive": None,
        },
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": _ZERO_CPU,
        "precpu_stats": _ZERO_CPU,
        "memory_stats": {},
    }
