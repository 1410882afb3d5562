"""Processes that the kernel killed for memory, also where the container lives on: noticed within a second, recorded, told.

One number of the whole machine says whether there is anything to look for (``oom_kill`` of proc_vmstat(5), cgroups included), so
a thousand idle containers cost one read a second. An exit is not told here: the keeper looks at the counter when it records one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

from engine import errors
from engine.kernel import processes
from workers.agent.watcher import Watcher

log = logging.getLogger(__name__)

_EVERY_S: Final = 1.0


async def watch(watcher: Watcher) -> None:
    """For ever. What was started before this agent was is looked at once, whatever the number says."""
    began_ns, seen = time.time_ns(), processes.oom_kills()
    looked: set[str] = set()
    while True:
        kills, running = processes.oom_kills(), watcher.running()
        looked &= running.keys()
        early = {container_id for container_id, started_at_ns in running.items() if started_at_ns < began_ns}
        for container_id in early - looked if kills == seen else running:
            await _look(watcher, container_id)
        seen, looked = kills, looked | early
        await asyncio.sleep(_EVERY_S)


async def _look(watcher: Watcher, container_id: str) -> None:
    try:
        if await asyncio.to_thread(watcher.engine.note_oom, container_id):
            watcher.changed(container_id)
    except errors.NotFound:
        pass  # removed meanwhile
    except (errors.EngineError, OSError) as error:
        log.warning("out of memory in %s: %s", container_id[:12], error)
