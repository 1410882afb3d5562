"""Keeps the walls between tenants standing: an administrator's ``nft flush ruleset`` or a firewall that starts is answered at once, a
bridge that he deleted soon."""

from __future__ import annotations

import asyncio
import logging

from engine.errors import EngineError
from engine.kernel.nftables import Watch
from engine.networks import Networks

_log = logging.getLogger(__name__)
LOOK_S = 5.0  # after a deleted bridge, of which nftables says nothing
REST_S = 0.25  # a firewall changes many rules in a row, and each start of a container sends us word too


async def guard(networks: Networks) -> None:
    """For ever, beginning with what happened while nobody watched. Without nftables there is nothing to guard: attaching says so."""
    try:
        watch = Watch()
    except OSError as error:
        _log.warning("changes of the firewall cannot be watched: %s", error)
        return
    try:
        changed = True
        while True:
            if changed:
                try:
                    await asyncio.to_thread(networks.heal)
                except EngineError as error:
                    _log.error("%s", error.message)
            if await _readable(watch):
                await asyncio.sleep(REST_S)
                changed = watch.rules_changed()
            else:
                changed = await asyncio.to_thread(networks.is_bridge_missing)
    finally:
        watch.close()


async def _readable(watch: Watch) -> bool:
    """Or nothing happened for LOOK_S."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(watch.fileno(), ready.set)
    try:
        async with asyncio.timeout(LOOK_S):
            await ready.wait()
            return True
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(watch.fileno())
