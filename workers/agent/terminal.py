"""Containers' input: stdin pipes and terminals, by duplicates of what the keeper holds; op ``resize``."""

from __future__ import annotations

import asyncio
import fcntl
import os
import struct
import termios
from typing import Any, Final

from engine import errors
from engine.model.container import ContainerSpec
from workers.agent.connection import Connection, writable
from workers.agent.watcher import Watcher
from workers.agent.words import integer

_SIZES: Final = 4096  # terminals that wait for their start with a size; of more the oldest are forgotten


class Input:
    """The write end of one container's stdin or terminal, for one client."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._loop = asyncio.get_running_loop()

    async def write(self, data: bytes) -> None:
        """Waits while the container does not read. OSError: it never will (EPIPE, EIO), or ``close`` was called meanwhile (EBADF)."""
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:
                await writable(self._loop, self._fd)

    def close(self) -> None:
        if self._fd >= 0:
            self._loop.remove_writer(self._fd)
            os.close(self._fd)
            self._fd = -1


class Terminals:
    """Who writes to which container, and the sizes of terminals that don't exist yet."""

    def __init__(self, watcher: Watcher) -> None:
        self._keeper = watcher.engine.keeper
        self._inputs: dict[str, set[Input]] = {}
        self._sizes: dict[str, tuple[int, int]] = {}
        watcher.on_start = self._started

    async def open(self, spec: ContainerSpec) -> Input:
        """NotFound: it does not run."""
        kind = "pty" if spec.tty else "stdin"
        fds = await self._duplicates(spec.id, kind)
        if kind not in fds:
            raise errors.NotFound("its input is closed")
        fd = fds[kind]
        if not spec.tty:  # a description of our own: not blocking, without changing that for whoever shares the keeper's
            try:
                own = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            finally:
                os.close(fd)
            fd = own
        opened = Input(fd)
        self._inputs.setdefault(spec.id, set()).add(opened)
        return opened

    async def _duplicates(self, container_id: str, kind: str) -> dict[str, int]:
        """The client may hang up meanwhile: the thread goes on, and what it brings is closed. Open it would keep end of file from
        the container for ever."""
        asked = asyncio.ensure_future(asyncio.to_thread(self._keeper.fds, container_id, [kind]))
        try:
            return await asyncio.shield(asked)
        except asyncio.CancelledError:
            asked.add_done_callback(_close_unused)
            raise

    def close(self, container_id: str, opened: Input) -> None:
        opened.close()
        inputs = self._inputs.get(container_id, set())
        inputs.discard(opened)
        if not inputs:
            self._inputs.pop(container_id, None)

    async def end_of_file(self, container_id: str) -> None:
        """Closes every write end there is, ours and the keeper's."""
        for opened in list(self._inputs.get(container_id, ())):
            self.close(container_id, opened)
        try:
            await asyncio.to_thread(self._keeper.close_stdin, container_id)
        except errors.NotFound:
            pass  # it has ended

    async def resize(self, spec: ContainerSpec, rows: int, columns: int) -> None:
        """Now, or at the next start."""
        self._sizes.pop(spec.id, None)
        self._sizes[spec.id] = (rows, columns)
        if len(self._sizes) > _SIZES:
            del self._sizes[next(iter(self._sizes))]
        await self._apply_size(spec.id)

    def _started(self, container_id: str) -> None:
        if container_id in self._sizes:
            self._applying = asyncio.ensure_future(self._apply_size(container_id))

    async def _apply_size(self, container_id: str) -> None:
        try:
            fds = await self._duplicates(container_id, "pty")
        except errors.NotFound:
            return
        size = self._sizes.pop(container_id, (0, 0))
        for fd in fds.values():
            try:
                fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))  # the kernel sends SIGWINCH
            finally:
                os.close(fd)


async def resize(watcher: Watcher, terminals: Terminals, client: Connection, words: dict[str, Any]) -> None:
    spec = watcher.engine.spec(words["tenant"], words["id"])
    rows, columns = integer(words, "rows", -1), integer(words, "columns", -1)
    if not (0 <= rows < 1 << 16 and 0 <= columns < 1 << 16):
        raise errors.InvalidArgument(f"a terminal of {rows} rows and {columns} columns")
    if spec.tty:
        await terminals.resize(spec, rows, columns)
    await client.send(b'{"ok":{}}\n')


def _close_unused(asked: asyncio.Future[dict[str, int]]) -> None:
    if not asked.cancelled() and asked.exception() is None:
        for fd in asked.result().values():
            os.close(fd)
