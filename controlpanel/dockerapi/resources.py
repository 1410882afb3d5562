"""pause, unpause, update, top."""

from __future__ import annotations

from typing import Final

from controlpanel.containers import measuring, pausing, updating
from controlpanel.dockerapi import schema, shapes
from controlpanel.dockerapi.exchange import Exchange
from controlpanel.dockerapi.schema import Kind

_RESOURCES: Final = (
    "CpuShares", "Memory", "NanoCpus", "CgroupParent", "BlkioWeight", "BlkioWeightDevice", "BlkioDeviceReadBps", "BlkioDeviceWriteBps",
    "BlkioDeviceReadIOps", "BlkioDeviceWriteIOps", "CpuPeriod", "CpuQuota", "CpuRealtimePeriod", "CpuRealtimeRuntime", "CpusetCpus",
    "CpusetMems", "Devices", "DeviceCgroupRules", "DeviceRequests", "MemoryReservation", "MemorySwap", "MemorySwappiness", "OomKillDisable",
    "PidsLimit", "Ulimits", "CpuCount", "CpuPercent", "IOMaximumIOps", "IOMaximumBandwidth",
)  # fmt: skip
_UPDATE: Final[dict[str, Kind]] = {name: shapes.HOST_CONFIG[name] for name in (*_RESOURCES, "RestartPolicy")}


async def pause(exchange: Exchange) -> None:
    await exchange.read_body()
    await pausing.pause_container(exchange.actor, exchange.params["id"])
    await exchange.reply(204)


async def unpause(exchange: Exchange) -> None:
    await exchange.read_body()
    await pausing.unpause_container(exchange.actor, exchange.params["id"])
    await exchange.reply(204)


async def update(exchange: Exchange) -> None:
    """What moby does not change of a container that exists (devices, ulimits, …) it passes over without a word, and so do we."""
    data = await exchange.read_json()
    given = schema.parse(data) if data.strip() else {}
    given = given if given is not None else {}
    schema.decode({}, given, go_type="container.UpdateConfig")  # what is no object has no path
    body = schema.decode(_UPDATE, given, "UpdateConfig")
    if exchange.version < (1, 40):
        body.pop("PidsLimit", None)
    warnings = await updating.update_container(exchange.actor, exchange.params["id"], body)
    await exchange.reply_json({"Warnings": list(warnings) or None})


async def top(exchange: Exchange) -> None:
    found = await measuring.processes(exchange.actor, exchange.params["id"], exchange.text("ps_args"))
    await exchange.reply_json({"Processes": found["processes"], "Titles": found["titles"]})
