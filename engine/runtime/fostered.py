"""Waiting for the end of processes that are not our children: foster's, or, when a foster was killed, init's; and foster's own.

Of foster's there will be a note (engine.runtime.exits). Of init's the kernel is asked: it tells of each exit (proc_events), it
shows a zombie, and from 6.15 on it remembers. Where all are silent the exit code is 137.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from engine.kernel import proc_events
from engine.runtime.exits import LOST, Exit, ExitFile, Process, exit_of_stranger, from_status, parent
from engine.runtime.loop import READABLE, Loop, say

_PATIENCE_S: Final = 2.0  # between a process' end and foster's note of it
_LOOK_EVERY_S: Final = 0.02
_FORGET_AFTER_S: Final = 1.0


class Fostered:
    """Calls back once for each awaited process. Foster's note comes first, then what the kernel shows, then 137: nobody knows."""

    def __init__(self, loop: Loop, exit_file: ExitFile) -> None:
        self._loop, self._file = loop, exit_file
        self._awaited: dict[Process, tuple[int, Callable[[Exit], None]]] = {}
        self._notes: dict[Process, Exit] = {}
        self._events: socket.socket | None = None
        loop.add(exit_file.event_fd, READABLE, lambda _events: self._look())

    def await_exit(self, process: Process, pidfd: int | None, callback: Callable[[Exit], None]) -> None:
        """``pidfd`` is duplicated; None when the process is gone already: then the notes decide at once.

        Asked again for the same process, the later callback counts: a keeper that took parts over and then loses its own
        foster asks twice.
        """
        if pidfd is None:
            self._notes.update(self._file.read_new())
            callback(self._notes.pop(process, Exit(LOST, 9, time.time_ns())))
            return
        if process in self._awaited:
            self._awaited[process] = self._awaited[process][0], callback
            return
        own = os.dup(pidfd)
        self._awaited[process] = own, callback
        self._loop.add(own, READABLE, partial(self._ended, process))
        self._look()

    def listen_for_strangers(self, foster: int) -> None:
        """To be called when the foster is another than before: what was the old one's has become init's."""
        if self._events is not None or all(parent(process.pid) in (0, foster) for process in self._awaited):
            return
        try:
            self._events = proc_events.listen_to_exits()
        except OSError as error:
            say(f"exits of processes that are not foster's may be missed: {error}")
            return
        self._loop.add(self._events.fileno(), READABLE, lambda _events: self._hear())

    def _hear(self) -> None:
        assert self._events is not None
        awaited = {process.pid: process for process in self._awaited}
        ended = {awaited[pid]: from_status(status) for pid, status in proc_events.read_exits(self._events) if pid in awaited}
        for process, found in ended.items():
            self._notes.setdefault(process, found)
            self._tell(process, self._notes.pop(process))

    def _look(self) -> None:
        self._notes.update(self._file.read_new())
        for process in [process for process in self._awaited if process in self._notes]:
            self._tell(process, self._notes.pop(process))

    def _ended(self, process: Process, _events: int) -> None:
        self._loop.remove(self._awaited[process][0])
        self._ask(process, time.monotonic() + _PATIENCE_S)

    def _ask(self, process: Process, deadline: float) -> None:
        self._look()
        if process not in self._awaited:
            return
        known = exit_of_stranger(process, self._awaited[process][0])
        if known is None and time.monotonic() < deadline:
            self._loop.after(_LOOK_EVERY_S, partial(self._ask, process, deadline))
            return
        self._look()  # who reaped it noted it first
        if process in self._awaited:
            self._tell(process, known or Exit(LOST, 9, time.time_ns()))

    def _tell(self, process: Process, ended: Exit) -> None:
        pidfd, callback = self._awaited.pop(process)
        self._loop.remove(pidfd)
        os.close(pidfd)
        callback(ended)
        if not self._awaited:
            self._loop.after(_FORGET_AFTER_S, self._forget)

    def _forget(self) -> None:
        """Later, because a keeper that has just begun does not yet await all that it will."""
        if not self._awaited:
            self._notes.clear()
            self._file.clear()
            if self._events is not None:
                self._loop.remove(self._events.fileno())
                self._events.close()
                self._events = None


def watch_parent(loop: Loop, pid: int, ended: Callable[[], None]) -> None:
    """``ended`` is called once, from the loop; at once when the process ``pid`` is not our parent any more."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        loop.after(0, ended)
        return
    if os.getppid() != pid:
        os.close(pidfd)
        loop.after(0, ended)
        return

    def tell(_events: int) -> None:
        loop.remove(pidfd)
        os.close(pidfd)
        ended()

    loop.add(pidfd, READABLE, tell)
