"""``python3 -m engine exec``: a command in a container, joined to the person's own terminal or pipes."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import secrets
import select
import signal
import struct
import sys
import termios
import threading
from typing import Final

from engine import executions, terminal
from engine.engine import Engine
from engine.executions import Execution
from engine.model.execution import ExecSpec

_CHUNK: Final = 64 << 10


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("exec", help="run a command in a container that runs")
    parser.add_argument("-i", "--interactive", action="store_true", help="our stdin is its stdin")
    parser.add_argument("-t", "--tty", action="store_true", help="give it a terminal")
    parser.add_argument("-d", "--detach", action="store_true", help="leave it running")
    parser.add_argument("-e", "--env", action="append", default=[], metavar="NAME=value")
    parser.add_argument("-u", "--user", default="")
    parser.add_argument("-w", "--workdir", default="")
    parser.add_argument("container")
    parser.add_argument("args", nargs=argparse.REMAINDER)
    parser.set_defaults(command=_exec)


def _exec(engine: Engine, asked: argparse.Namespace) -> int:
    container = engine.find(asked.tenant, asked.container)
    spec = ExecSpec(
        id=secrets.token_hex(32),
        args=tuple(asked.args),
        env=tuple(asked.env),
        cwd=asked.workdir,
        user=asked.user,
        tty=asked.tty and not asked.detach,
        stdin=asked.interactive and not asked.detach,
        stdout=not asked.detach,
        stderr=not asked.detach,
    )
    with engine.exec(asked.tenant, container.id, spec) as execution:
        if asked.detach:
            return 0
        with contextlib.ExitStack() as stack:
            if spec.tty and sys.stdin.isatty():
                _follow_size(execution.fds["pty"])
                if spec.stdin:
                    stack.enter_context(terminal.raw())
            _copy(execution, feeding=spec.stdin)
        return executions.wait(engine, container.id, spec.id)


def _follow_size(master: int) -> None:
    """Its terminal has the size of ours, now and whenever that changes."""

    def resize(*_signal: object) -> None:
        fcntl.ioctl(master, termios.TIOCSWINSZ, fcntl.ioctl(sys.stdin.fileno(), termios.TIOCGWINSZ, struct.pack("4H", 0, 0, 0, 0)))

    signal.signal(signal.SIGWINCH, resize)
    resize()


def _copy(execution: Execution, *, feeding: bool) -> None:
    """Output here, our input there, until the command has ended and nothing is left to read."""
    fds, poll = execution.fds, select.poll()
    outputs = {fds[name]: where for name, where in (("stdout", 1), ("stderr", 2), ("pty", 1)) if name in fds}
    for fd in (*outputs, fds["pidfd"]):
        poll.register(fd, select.POLLIN)
    if feeding:  # a command that waits for us to read must not keep us waiting for it to read
        target = os.dup(fds["pty"]) if "pty" in fds else execution.take("stdin")
        threading.Thread(target=_feed, args=(target,), daemon=True).start()
    while True:
        ready = {fd for fd, _events in poll.poll()}
        found = False
        for fd in [fd for fd in outputs if fd in ready]:
            data = _read(fd)
            if data:
                found = True
                _write(outputs[fd], data)
            else:
                poll.unregister(fd)
                del outputs[fd]
        if not found and fds["pidfd"] in ready:
            return


def _feed(target: int) -> None:
    """Our end of file is the command's."""
    with contextlib.suppress(OSError):  # it reads no more
        while data := os.read(sys.stdin.fileno(), _CHUNK):
            _write(target, data)
    os.close(target)


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, _CHUNK)
    except OSError:  # EIO: nobody has the terminal open any more
        return b""


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
