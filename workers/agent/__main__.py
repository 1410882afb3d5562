"""The agent: ``python -m workers.agent``, root. Supervised by the keeper, so it also serves while panel and workers are down."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from engine.config import EngineConfig
from engine.engine import Engine
from engine.kernel import capabilities, scheduling
from engine.kernel.capabilities import CAP_SYS_RESOURCE
from workers.agent import attach, ceiling, executing, oom, search, size, spec, volumes, walls
from workers.agent.building import BuildOps
from workers.agent.connection import Connection
from workers.agent.events import events
from workers.agent.files import FileOps
from workers.agent.folders import Folders
from workers.agent.follow import Followers, logs
from workers.agent.health import Health, last_probes
from workers.agent.loading import ImageOps
from workers.agent.registries import RegistryOps
from workers.agent.server import Server
from workers.agent.stats import Stats
from workers.agent.terminal import Terminals, resize
from workers.agent.top import top
from workers.agent.traffic import count_traffic
from workers.agent.walks import Walks
from workers.agent.watcher import Watcher
from workers.memory import few_arenas
from workers.resp import Address


def main() -> int:
    if os.geteuid() != 0:
        print("workers.agent must run as root: it reads logs and containers' input", file=sys.stderr)
        return 77  # EX_NOPERM, sysexits.h
    few_arenas(1)
    scheduling.prefer_session()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # a follower is two or three descriptors
    capabilities.give_up(CAP_SYS_RESOURCE)  # it and porter write what tenants send, and who has it writes past every disk quota
    try:
        asyncio.run(_run(EngineConfig.from_environment()))
    except KeyboardInterrupt:
        pass
    return 0


async def _run(config: EngineConfig) -> None:
    engine = Engine(config)
    watcher = Watcher(engine, host=os.environ.get("SLIPWAY_HOST", "local"), redis=Address.from_environment())
    folders, followers, terminals = Folders(watcher), Followers(), Terminals(watcher)
    walks = Walks()
    execs, measured = executing.Executions(watcher), Stats(engine)
    ops: dict[str, Callable[[Connection, dict[str, Any]], Awaitable[None]]] = {
        "attach": partial(attach.attach, watcher, folders, followers, terminals),
        "logs": partial(logs, watcher, followers),
        "stats": measured.stream,
        "sample": measured.sample,
        "top": partial(top, engine),
        "resize": partial(resize, watcher, terminals),
        "exec": partial(executing.exec_, execs),
        "exec_resize": partial(executing.resize, execs),
        "exec_state": partial(executing.state, execs),
        "health": partial(last_probes, engine),
        "size": partial(size.size, engine, walks),
        "spec": partial(spec.spec, engine),
        "volume": partial(volumes.one, engine, walks),
        "volume_usage": partial(volumes.usage, engine, walks),
        "search": partial(search.search, engine),
        "log_use": partial(search.use, engine),
        "ceiling": partial(ceiling.granted, engine),
        "events": partial(events, watcher),
        **FileOps(engine).ops,
        **ImageOps(engine).ops,
        **RegistryOps(engine).ops,
        **BuildOps(engine).ops,
    }
    health = Health(watcher)
    watcher.on_found = health.begin
    await asyncio.gather(
        watcher.run(), health.run(), oom.watch(watcher), walls.guard(engine.networks), count_traffic(watcher), Server(config, ops).run()
    )


if __name__ == "__main__":
    sys.exit(main())
