"""A person's terminal joined to a running container: its output here, our keys there. For the engine's own command line."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import struct
import sys
import termios
import threading
import tty
from collections.abc import Iterator
from pathlib import Path

from engine import errors
from engine.runtime.client import KeeperClient
from engine.runtime.logs import LogReader, Position

CHUNK = 64 << 10


def follow(log: Path, *, start: Position, has_tty: bool) -> None:
    """Copies output to our stdout and stderr until the container's output ends."""
    if has_tty:
        for piece in LogReader(log, frames=False, start=start).follow():
            _write(sys.stdout.fileno(), piece)
        return
    other = threading.Thread(target=_copy_stream, args=(log, start, sys.stderr.fileno()), daemon=True)
    other.start()
    _copy_stream(log, start, sys.stdout.fileno())
    other.join()


def _copy_stream(log: Path, start: Position, target: int) -> None:
    out = target == sys.stdout.fileno()
    for piece in LogReader(log, frames=False, stdout=out, stderr=not out, start=start).follow():
        _write(target, piece)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def feed(keeper: KeeperClient, container_id: str, *, has_tty: bool) -> None:
    """Copies our stdin to the container, in a thread of its own; our end of file is the container's."""
    try:
        fds = keeper.fds(container_id, ["pty" if has_tty else "stdin"])
    except errors.NotFound:
        return  # it has ended already
    if fds:
        target = fds["pty" if has_tty else "stdin"]
        threading.Thread(target=_feed, args=(keeper, container_id, target, has_tty), daemon=True).start()


def _feed(keeper: KeeperClient, container_id: str, target: int, has_tty: bool) -> None:
    try:
        while data := os.read(sys.stdin.fileno(), CHUNK):
            view = memoryview(data)
            while view:
                try:
                    view = view[os.write(target, view) :]
                except BlockingIOError:
                    select.select([], [target], [])
    except OSError:
        pass  # the container has ended: nobody reads any more
    finally:
        os.close(target)
    if not has_tty:
        with contextlib.suppress(errors.EngineError):
            keeper.close_stdin(container_id)


@contextlib.contextmanager
def raw() -> Iterator[None]:
    """Our terminal passes every key on, for the time of the block."""
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    tty.setraw(fd)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def follow_size(keeper: KeeperClient, container_id: str) -> None:
    """The container's terminal gets the size of ours, now and whenever it changes. TIOCSWINSZ, ioctl_tty(2)."""

    def resize(*_signal: object) -> None:
        size = fcntl.ioctl(sys.stdin.fileno(), termios.TIOCGWINSZ, struct.pack("4H", 0, 0, 0, 0))
        try:
            pty = keeper.fds(container_id, ["pty"])["pty"]
        except (errors.NotFound, KeyError):
            return
        try:
            fcntl.ioctl(pty, termios.TIOCSWINSZ, size)
        finally:
            os.close(pty)

    signal.signal(signal.SIGWINCH, resize)
    resize()
