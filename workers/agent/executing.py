"""Ops ``exec``, ``exec_resize``, ``exec_state``: commands in running containers, their streams and terminals.

client ── stdin ──▶ pipe or pty ── command ── pipes or pty ──▶ frames or raw bytes ──▶ client

This process alone holds the streams. A client that reads slowly holds up its own command (as with dockerd) and nobody else; one that
goes away, or detaches, leaves the command running, and what it writes from then on is read and dropped. How it ended comes from the
keeper: it is told to the panels before the client's stream ends, so that an inspect right after it knows the exit code.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import select
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from engine import errors, executions
from engine.executions import Execution
from engine.kernel import pty
from engine.model.codec import from_json, to_json
from engine.model.event import Event, EventKind
from engine.model.execution import ExecSpec, ExecState
from workers.agent import detach
from workers.agent.connection import Connection, writable
from workers.agent.watcher import Watcher
from workers.agent.words import integer, text

_CHUNK: Final = 256 << 10
_PIPE_SIZE: Final = 1 << 20  # bytes; /proc/sys/fs/pipe-max-size of an untouched system
_STREAMS: Final = {"stdout": 1, "stderr": 2, "pty": 0}  # number of the frames; 0: raw
_KEEPERS_WORD_S: Final = 10.0  # a command's end and the keeper's record of it are a moment apart, or a killed keeper's return


class Executions:
    """All that clients of this agent run. Lives in the event loop."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher, self.engine = watcher, watcher.engine
        self._loop = asyncio.get_running_loop()
        self._ends: dict[str, tuple[str, asyncio.Future[None]]] = {}  # exec: (container, its end was told)
        self._terminals: dict[str, int] = {}  # exec: the master
        self._draining: set[asyncio.Task[None]] = set()
        watcher.on_exec_exit = self._heard_exit
        watcher.on_catch_up = self._look_again

    # -- facts -----------------------------------------------------------------------------------

    def _heard_exit(self, message: dict[str, Any]) -> None:
        """The keeper's word."""
        if not message["quiet"]:
            try:
                state = executions.state_of(self.engine, message["id"], message["exec"])
            except errors.NotFound:  # the container is removed, or the record by whoever asked for it
                state = None
            if state is not None:
                self._tell(state)
        self._resolve(message["exec"])

    def _tell(self, state: ExecState) -> None:
        tenant = self._watcher.tenant_of(state.container_id)
        if tenant:
            self._watcher.tell(exec_event(state, tenant, self._watcher.host))

    def _resolve(self, exec_id: str) -> None:
        _container, told = self._ends.get(exec_id, ("", None))
        if told is not None and not told.done():
            told.set_result(None)

    def _look_again(self) -> None:
        """The keeper was away: what ended meanwhile nobody told."""
        for exec_id, (container_id, _told) in list(self._ends.items()):
            try:
                state = executions.state_of(self.engine, container_id, exec_id)
            except errors.NotFound:
                self._resolve(exec_id)
                continue
            if not state.running:
                self._tell(state)
                self._resolve(exec_id)

    # -- running ---------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def begun(
        self, tenant: str, container_id: str, spec: ExecSpec, *, hang_up: bool = False
    ) -> AsyncIterator[tuple[Execution, asyncio.Future[None]]]:
        """With the future of its end. Left before that, it runs on without us; with ``hang_up`` it ends then: by the end of its
        terminal (SIGHUP), or, without one, by SIGKILL."""
        told: asyncio.Future[None] = self._loop.create_future()
        self._ends[spec.id] = container_id, told
        asked = asyncio.ensure_future(asyncio.to_thread(self.engine.exec, tenant, container_id, spec))
        try:
            execution = await asyncio.shield(asked)
        except asyncio.CancelledError:  # the client hung up: the thread goes on

            def left(done: asyncio.Future[Execution]) -> None:
                if done.cancelled() or done.exception():  # nobody is left to be told why
                    self._ends.pop(spec.id, None)
                    return
                _unblock(done.result())
                self._leave(done.result(), hang_up=hang_up)

            asked.add_done_callback(left)
            raise
        except BaseException:
            del self._ends[spec.id]
            raise
        try:
            _unblock(execution)
            if "pty" in execution.fds:
                self._terminals[spec.id] = execution.fds["pty"]
            yield execution, told
        finally:
            self._leave(execution, hang_up=hang_up)

    def _leave(self, execution: Execution, *, hang_up: bool) -> None:
        """Nobody listens any more: its output is dropped until it ends, its input has ended; or it ends now."""
        if hang_up:
            if "pty" not in execution.fds:
                execution.kill()
            self._end(execution)
            return
        if "stdin" in execution.fds:
            self._close(execution, "stdin")
        _container, told = self._ends.get(execution.id, ("", None))
        if told is None or told.done():
            self._end(execution)
            return
        task = asyncio.ensure_future(self._drain(execution, told))
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)

    async def _drain(self, execution: Execution, told: asyncio.Future[None]) -> None:
        try:
            async for _number, _data in Output(execution):
                pass
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(told, _KEEPERS_WORD_S)
        finally:
            self._end(execution)

    def _end(self, execution: Execution) -> None:
        self._ends.pop(execution.id, None)
        self._terminals.pop(execution.id, None)
        execution.close()

    def _close(self, execution: Execution, name: str) -> None:
        fd = execution.take(name)
        self._loop.remove_writer(fd)
        os.close(fd)

    # -- streams ---------------------------------------------------------------------------------

    async def feed(self, execution: Execution, client: Connection, keys: bytes) -> bool:
        """Client → command, until the client's end of file (then the command reads end of file) or detach keys: True."""
        name = "pty" if "pty" in execution.fds else "stdin"
        typed = detach.KeyFilter(keys)
        with contextlib.suppress(OSError, KeyError):  # the command reads no more, or has ended
            while data := await client.receive(_CHUNK):
                view = memoryview(typed.feed(data) if keys else data)
                while view:
                    try:
                        view = view[os.write(execution.fds[name], view) :]
                    except BlockingIOError:
                        await writable(self._loop, execution.fds[name])
                if typed.found:
                    return True
        with contextlib.suppress(OSError):
            while await client.receive(_CHUNK):
                pass  # a client that still writes must not wait for somebody who never reads
        if name == "stdin" and "stdin" in execution.fds:
            self._close(execution, "stdin")
        return False

    def resize(self, exec_id: str, rows: int, columns: int) -> None:
        """NotFound: it has no terminal, or has ended."""
        master = self._terminals.get(exec_id)
        if master is None:
            raise errors.NotFound(f"No such exec instance: {exec_id}")
        pty.set_window_size(master, rows=rows, columns=columns)


class Output:
    """What a command writes: pairs of a frame's stream number (0: raw) and bytes, until all is read of one that has ended.

    What it left running may hold the streams open: when the command itself has ended and nothing is left to read, that is the end.
    """

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._open = {execution.fds[name]: number for name, number in _STREAMS.items() if name in execution.fds}
        self._loop = asyncio.get_running_loop()
        self._ready = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[tuple[int, bytes]]:
        pidfd = self._execution.fds["pidfd"]
        while True:
            ended, found = has_ended(pidfd), False
            for number, data in self._read():
                found = True
                yield number, data
            if found:
                await asyncio.sleep(0)  # who reads as fast as it is written must not keep the others waiting
            elif ended:
                return
            else:
                await self._wait(pidfd)

    def _read(self) -> Iterator[tuple[int, bytes]]:
        for fd, number in list(self._open.items()):
            try:
                data = os.read(fd, _CHUNK)
            except BlockingIOError:
                continue
            except OSError:  # EIO: nobody has the terminal open any more
                data = b""
            if data:
                yield number, data
            else:
                del self._open[fd]

    async def _wait(self, pidfd: int) -> None:
        fds = [*self._open, pidfd]
        self._ready.clear()
        for fd in fds:
            self._loop.add_reader(fd, self._ready.set)
        try:
            await self._ready.wait()
        finally:
            for fd in fds:
                self._loop.remove_reader(fd)


def has_ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


async def exec_(executing: Executions, client: Connection, words: dict[str, Any]) -> None:
    spec = _spec(words)
    keys = detach.parse(text(words, "detach_keys") or detach.DEFAULT) if spec.tty else b""
    hang_up = bool(words.get("hang_up"))
    async with executing.begun(words["tenant"], words["id"], spec, hang_up=hang_up) as (execution, told):
        ok = {"tty": spec.tty, "pid": execution.pid, "started_at_ns": execution.started_at_ns}
        await client.send(json.dumps({"ok": ok}, separators=(",", ":")).encode() + b"\n")
        if words.get("detach"):
            return
        output = asyncio.ensure_future(_send(execution, client))
        feed = asyncio.ensure_future(executing.feed(execution, client, keys)) if spec.stdin else None
        try:
            await asyncio.wait([task for task in (output, feed) if task], return_when=asyncio.FIRST_COMPLETED)
            if feed is not None and feed.done() and feed.result():
                return
            await output
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(told), _KEEPERS_WORD_S)
        finally:
            for task in (output, feed):
                if task is not None:
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)
    await client.finish()


async def _send(execution: Execution, client: Connection) -> None:
    async for number, data in Output(execution):
        if number:
            await client.send(bytes((number, 0, 0, 0)) + len(data).to_bytes(4, "big") + data)
        else:
            await client.send(data)


def _spec(words: dict[str, Any]) -> ExecSpec:
    try:
        return from_json(ExecSpec, words.get("exec"))
    except (TypeError, ValueError) as error:
        raise errors.InvalidArgument(f"exec: {error}") from None


async def resize(executing: Executions, client: Connection, words: dict[str, Any]) -> None:
    rows, columns = integer(words, "rows", -1), integer(words, "columns", -1)
    if not (0 <= rows < 1 << 16 and 0 <= columns < 1 << 16):
        raise errors.InvalidArgument(f"a terminal of {rows} rows and {columns} columns")
    executions.state(executing.engine, words["tenant"], words["id"], text(words, "exec"))
    executing.resize(text(words, "exec"), rows, columns)
    await client.send(b'{"ok":{}}\n')


async def state(executing: Executions, client: Connection, words: dict[str, Any]) -> None:
    found = executions.state(executing.engine, words["tenant"], words["id"], text(words, "exec"))
    await client.send(json.dumps({"ok": {"state": to_json(found)}}, separators=(",", ":")).encode() + b"\n")


def exec_event(found: ExecState, tenant: str, host: str) -> Event:
    """That it ended."""
    return Event(
        kind=EventKind.EXEC_EXITED, tenant=tenant, object_id=found.id, seq=1, time_ns=time.time_ns(), host=host, state=to_json(found)
    )


def _unblock(execution: Execution) -> None:
    """Its streams for this loop: nothing of them may wait. Wide pipes, as far as this system allows."""
    for name, fd in execution.fds.items():
        if name != "pidfd":
            os.set_blocking(fd, False)
        if name in ("stdout", "stderr"):
            with contextlib.suppress(OSError):
                fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
