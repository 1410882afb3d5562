"""Who lets go of containers' mounts: a process of the launcher's that holds overlays and NFS mounts until their container has ended.

The last reference to an overlay writes back the whole file system below it (sync_filesystem in ovl_sync_fs), everybody's files, and waits.
Were that the container's own process, its end would be seen as late as that: with a neighbour who copies 100,000 files, 50 ms later [m].
Here nobody waits for it. The launcher itself has one thread, and may have no other (it clones). That of an NFS mount asks the server, who
may never answer: it is a child's of its own.

    launcher → here    a mount's descriptor and the pidfd of its container's first process, in one message; no answer

Killed, it lets go of all at once, and the next message starts another; a message that finds no room is not sent. Then the end waits, as it
would without us.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from contextlib import suppress
from typing import Final, NoReturn

from engine.kernel import processes

_ROOT: Final = b"\0"
_ASIDE: Final = b"\1"
_DESCRIPTORS: Final = 2
_TOGETHER: Final = 64
_TOGETHER_S: Final = 1.0


class Roots:
    """The launcher's side."""

    def __init__(self) -> None:
        self._pid = 0
        self._socket: socket.socket | None = None
        self._dying: list[int] = []

    def begin(self) -> None:
        """Before there is anything to hold, so that no container's start waits for a fork."""
        with suppress(OSError):
            self._line()

    def hold(self, mount: int, pidfd: int, *, aside: bool = False) -> None:
        """Both stay the caller's. Whatever goes wrong, nothing is held. ``aside``: who lets go of it may have to wait without end."""
        message = _ASIDE if aside else _ROOT
        with suppress(OSError):
            try:
                socket.send_fds(self._line(), [message], [mount, pidfd])
            except (BrokenPipeError, ConnectionResetError):
                self._close()
                socket.send_fds(self._line(), [message], [mount, pidfd])

    def _line(self) -> socket.socket:
        self._dying = [pid for pid in self._dying if os.waitpid(pid, os.WNOHANG) == (0, 0)]
        if self._socket is None:
            ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with its:
                parent = os.getpid()
                self._pid = os.fork()
                if self._pid == 0:
                    _run(its.fileno(), parent)
            ours.setblocking(False)
            self._socket = ours
        return self._socket

    def _close(self) -> None:
        """It is dead, or about to be: its last breath lets go of what it held, which nobody waits for."""
        assert self._socket is not None
        self._socket.close()
        self._socket = None
        self._dying.append(self._pid)


def _run(line: int, parent: int) -> NoReturn:
    """In the child. Nothing of the launcher's is kept open: a socket's other end must see when the launcher ends."""
    try:
        processes.die_with_parent()
        if os.getppid() == parent:
            os.closerange(3, line)
            os.closerange(line + 1, os.sysconf("SC_OPEN_MAX"))
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)  # it ends when its line does
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # whoever closes aside leaves no zombie
            _serve(line)
    finally:
        os._exit(0)


def _serve(line: int) -> None:
    sock = socket.socket(fileno=line)
    poll = select.epoll()
    poll.register(line, select.EPOLLIN)
    held: dict[int, tuple[int, bool]] = {}  # pidfd → its container's mount, and whether that is closed aside
    ended: list[int] = []  # roots; let go together, for the first one writes for all
    due = 0.0
    while True:
        events = poll.poll(max(0.0, due - time.monotonic()) if ended else -1)
        if ended and (len(ended) >= _TOGETHER or time.monotonic() >= due):
            for root in ended:
                os.close(root)  # this may take as long as the disk does
            ended.clear()
        for fd, _events in events:
            if fd != line:
                poll.unregister(fd)
                os.close(fd)
                mount, aside = held.pop(fd)
                if aside:
                    _close_aside(mount)
                    continue
                if not ended:
                    due = time.monotonic() + _TOGETHER_S
                ended.append(mount)
                continue
            message, fds, _flags, _address = socket.recv_fds(sock, len(_ROOT), _DESCRIPTORS)
            if not message:
                return
            if len(fds) == _DESCRIPTORS:
                mount, pidfd = fds
                held[pidfd] = mount, message == _ASIDE
                poll.register(pidfd, select.EPOLLIN)
            else:  # no descriptor was free
                for each in fds:
                    os.close(each)


def _close_aside(mount: int) -> None:
    pipe: tuple[int, ...] = ()
    with suppress(OSError):  # no process or no descriptor was free: then here
        pipe = os.pipe()
        if os.fork() == 0:
            _close_last(mount, pipe[0])
    os.close(mount)
    for fd in pipe:
        os.close(fd)


def _close_last(mount: int, told: int) -> NoReturn:
    """In the child. ``told`` ends when the parent has closed its own; else the parent's might be the last, and it would wait."""
    try:
        processes.die_with_parent()
        low, high = sorted((mount, told))
        for first, end in ((3, low), (low + 1, high), (high + 1, os.sysconf("SC_OPEN_MAX"))):
            os.closerange(first, end)  # of everything else we are not the last
        os.read(told, 1)
    finally:
        os._exit(0)
