"""Op ``events``: everything this host has, then everything that happens. For the panel alone.

The subscription begins before the inventory is taken, so nothing falls between; what is told twice carries the same seq.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any, Final

from engine import executions
from engine.engine import Engine
from engine.errors import InvalidArgument
from engine.model.codec import to_json
from engine.model.container import Status
from engine.model.event import Event, EventKind
from workers.agent.connection import Connection
from workers.agent.executing import exec_event
from workers.agent.folders import image_event, image_names
from workers.agent.watcher import KINDS, Watcher
from workers.contract import BEAT_S

_BACKLOG: Final = 10_000  # events a panel may be behind before it is cut off; it comes back and gets the inventory


async def events(watcher: Watcher, client: Connection, words: dict[str, Any]) -> None:
    """``since_seq``: {container id: seq} of what need not be told again."""
    known: dict[str, int] = words.get("since_seq") or {}
    if not isinstance(known, dict) or not all(isinstance(seq, int) for seq in known.values()):
        raise InvalidArgument("since_seq must be an object of whole numbers")
    queue: asyncio.Queue[Event] = asyncio.Queue(_BACKLOG)
    behind = asyncio.get_running_loop().create_future()

    def give_up() -> None:
        if not behind.done():
            behind.set_result(None)

    def listener(event: Event) -> None:
        try:
            queue.put_nowait(event)
        except asyncio.QueueFull:
            give_up()

    with watcher.listening(listener), watcher.trusting(give_up):
        await client.send(b'{"ok":{}}\n')
        await client.send(await asyncio.to_thread(_inventory, watcher.engine, watcher.host, known))
        while not behind.done():
            try:
                async with asyncio.timeout(BEAT_S):
                    lines = [_line(await queue.get())]
            except TimeoutError:
                lines = [b'{"beat":%d}\n' % time.time_ns()]
            while not queue.empty():
                lines.append(_line(queue.get_nowait()))
            await client.send(b"".join(lines))


def _line(event: Event) -> bytes:
    return json.dumps(to_json(event), separators=(",", ":")).encode() + b"\n"


def _inventory(engine: Engine, host: str, known: dict[str, int]) -> bytes:
    lines, now = [], time.time_ns()
    for spec, state in engine.list():
        if state.seq > known.get(spec.id, -1):
            kind = KINDS.get(state.status, EventKind.CONTAINER_EXITED)
            event = Event(kind=kind, tenant=spec.tenant, object_id=spec.id, seq=state.seq, time_ns=now, host=host, state=to_json(state))
            lines.append(_line(event))
        if state.status in (Status.RUNNING, Status.PAUSED):
            ended = (found for found in executions.states(engine, spec.id) if not found.running)
            lines += [_line(exec_event(found, spec.tenant, host)) for found in ended]
    seen_ns = time.time_ns()
    for volume in engine.volumes.list():
        state, kind = to_json(volume), EventKind.VOLUME_ADDED
        lines.append(_line(Event(kind=kind, tenant=volume.tenant, object_id=volume.name, seq=seen_ns, time_ns=now, host=host, state=state)))
    for network in engine.networks.specs():
        state, kind = to_json(network), EventKind.NETWORK_ADDED
        lines.append(_line(Event(kind=kind, tenant=network.tenant, object_id=network.id, seq=seen_ns, time_ns=now, host=host, state=state)))
    for tenant, images in image_names(engine).items():
        lines += [_line(image_event(engine, host, tenant, image_id, refs, seen_ns=seen_ns)) for image_id, refs in images.items()]
    return b"".join([*lines, b'{"inventory":"done"}\n'])
