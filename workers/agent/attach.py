"""Op ``attach``: a container's output from now on, and its input, before or while it runs.

client ── stdin ──▶ pipe or pty, by a duplicate of the keeper's descriptor
client ◀── output ── log files, from where they end now: a slow client costs the container and the others nothing
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final

from engine import errors
from engine.engine import Engine
from engine.model.container import ContainerSpec
from engine.runtime.logs import LogReader, Position, end_position
from workers.agent import detach
from workers.agent.connection import Connection
from workers.agent.folders import Folders
from workers.agent.follow import Follow, Followers
from workers.agent.terminal import Terminals
from workers.agent.watcher import Watcher
from workers.agent.words import text

_CHUNK: Final = 256 << 10


async def attach(
    watcher: Watcher, folders: Folders, followers: Followers, terminals: Terminals, client: Connection, words: dict[str, Any]
) -> None:
    engine = watcher.engine
    spec = engine.spec(words["tenant"], words["id"])
    keys = detach.parse(text(words, "detach_keys") or detach.DEFAULT) if spec.tty else b""
    start, run = _place(engine, spec.id)
    reader = LogReader(
        engine.config.container(spec.id) / "log",
        stdout=bool(words.get("stdout", True)),
        stderr=bool(words.get("stderr", True)),
        frames=not (spec.tty or words.get("raw")),
        start=None if words.get("logs") else start,
    )
    follow = Follow(watcher, followers, spec.id, reader)

    def look_at_record() -> None:
        """A start that failed ends the attachment: no run will."""
        state = engine.records.state(spec.id)
        if state.run >= run and state.error:
            follow.end()

    async with contextlib.AsyncExitStack() as stack:
        stack.callback(reader.close)
        stack.enter_context(folders.watching(spec.id, look_at_record))
        started = asyncio.Event()
        stack.enter_context(watcher.starting(spec.id, started.set))
        if engine.records.state(spec.id).has_process:
            started.set()
        await client.send(b'{"ok":{"tty":%s}}\n' % (b"true" if spec.tty else b"false"))
        output = asyncio.ensure_future(follow.send(client, complete=lambda: engine.records.state(spec.id).run >= run))
        stack.push_async_callback(_cancel, output)
        if not (words.get("stdin") and spec.open_stdin):
            await output
            return
        pump = asyncio.ensure_future(_pump_input(terminals, spec, client, keys, started))
        stack.push_async_callback(_cancel, pump)
        await asyncio.wait((output, pump), return_when=asyncio.FIRST_COMPLETED)
        if not output.done() and not pump.result():
            await output
        if output.done():
            output.result()
    await client.finish()


def _place(engine: Engine, container_id: str) -> tuple[Position, int]:
    """(the end of its log, the run whose output follows): the present one, or the next.

    A run that began and ended while we looked is the one meant: its output lies behind the position.
    """
    before = engine.records.state(container_id)
    start = end_position(engine.config.container(container_id) / "log")
    state = engine.records.state(container_id)
    if state.has_process or state.run > before.run:
        return start, state.run
    return start, state.run + 1


async def _pump_input(terminals: Terminals, spec: ContainerSpec, client: Connection, keys: bytes, started: asyncio.Event) -> bool:
    """Whether the attachment ends with it: by detach keys, or as dockerd ends it when input ends that may be opened again."""
    typed = detach.KeyFilter(keys)
    await started.wait()
    try:
        opened = await terminals.open(spec)
    except errors.NotFound:
        return False  # it has ended again, or somebody else closed its input
    try:
        while data := await client.receive(_CHUNK):
            if keys:
                data = typed.feed(data)
            await opened.write(data)
            if typed.found:
                return True
    except OSError:
        return False  # the container reads no more
    finally:
        terminals.close(spec.id, opened)
    if spec.stdin_once and not spec.tty:
        await terminals.end_of_file(spec.id)
        return False
    return True


async def _cancel(task: asyncio.Future[Any]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
