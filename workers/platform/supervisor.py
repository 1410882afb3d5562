"""``python -m workers.platform.supervisor``: keeps redis, web and the two workers running until SIGTERM. One thread.

    children     started, restarted with back-off (0.1 s doubling to 10 s; from the start again after 10 s of life)
    notify.sock  sd_notify(3) of web: READY, STATUS, and listening sockets to keep (workers/platform/notify.py)
    supervisor.sock   root only, the engine's message form: {"op": "parts"} · {"op": "restart", "name"}
    tending      every 2 s a short-lived child makes sure that the keeper and its agent are there
    logs         looked after every 30 s

It holds the listeners for HTTP and TLS, so that the addresses stay ours while web restarts. It ends by SIGTERM or SIGINT: web and the
workers first, Redis when they are gone; the keeper and the containers stay.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from engine import errors
from engine.runtime import protocol
from workers.platform import logfiles, parts, tending
from workers.platform.notify import FdStore, NotifySocket
from workers.platform.parts import Part
from workers.platform.places import Places
from workers.platform.sockets import open_http
from workers.platform.spawn import spawn

BACKOFF_FIRST_S: Final = 0.1
BACKOFF_LAST_S: Final = 10.0
TEND_EVERY_S: Final = 2.0
ROTATE_EVERY_S: Final = 30.0
_HTTP: Final = "http"
_TLS: Final = "tls"


@dataclass(slots=True)
class Child:
    """A part and its life so far. Times are time.monotonic()."""

    part: Part
    pid: int = 0  # 0: not running
    started_at: float = 0.0
    due_at: float | None = 0.0  # when to start it; None: it runs, or shall not
    backoff_s: float = BACKOFF_FIRST_S
    restarts: int = -1
    ready: bool = False
    status: str = ""  # its own words (STATUS=)
    last_exit: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.part.name,
            "pid": self.pid or None,
            "restarts": max(self.restarts, 0),
            "ready": self.ready,
            "status": self.status,
            "last_exit": self.last_exit,
        }


class Supervisor:
    """``tend`` forks a child that looks after the keeper and returns its pid."""

    def __init__(self, places: Places, release: str, family: Sequence[Part], tend: Callable[[], int]) -> None:
        self._places = places
        self._release = release
        self._children = {part.name: Child(part) for part in family}
        self._fork_tender = tend
        self._doors = {}
        if places.panel_here:
            self._doors[_HTTP] = open_http(places.http)
            if places.tls:
                self._doors[_TLS] = open_http(places.tls, "SLIPWAY_TLS")
        self._notify = NotifySocket(places.notify_socket, parts.gid())
        self._store = FdStore()
        self._control = protocol.listen(places.supervisor_socket)
        self._control.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._wake, wake_end = socket.socketpair()
        for end in (self._wake, wake_end):
            end.setblocking(False)
        self._wake_end = wake_end
        self._stopping = False
        self._tender = 0
        self._tend_at = 0.0
        self._rotate_at = time.monotonic() + ROTATE_EVERY_S

    def run(self) -> None:
        """Until a signal asks to end and everything ended."""
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the terminal may go: up --detach, or a lost ssh session
        signal.set_wakeup_fd(self._wake_end.fileno(), warn_on_full_buffer=False)
        for source in (self._wake, self._notify, self._control):
            self._selector.register(source, selectors.EVENT_READ)
        while not (self._stopping and not self._running()):
            self._start_due()
            for key, _ in self._selector.select(self._patience()):
                self._react(key.fileobj)
            self._look_after()
        self._places.supervisor_socket.unlink(missing_ok=True)
        self._places.notify_socket.unlink(missing_ok=True)

    # -- children

    def _running(self) -> list[Child]:
        return [child for child in self._children.values() if child.pid]

    def _start_due(self) -> None:
        now = time.monotonic()
        for child in self._children.values():
            if child.due_at is not None and child.due_at <= now:
                try:
                    self._start(child)
                except OSError as error:  # no room for its log, no memory for a process
                    child.due_at = now + child.backoff_s
                    _say(f"{child.part.name} does not start: {error}; again in {child.backoff_s:.1f} s")
                    child.backoff_s = min(child.backoff_s * 2, BACKOFF_LAST_S)

    def _start(self, child: Child) -> None:
        part = child.part
        log = logfiles.open_log(self._places.log, part.name)
        doors = {label: door.fileno() for label, door in self._doors.items()}
        listen = {**doors, **self._store.items()} if part.takes_sockets and doors else {}
        try:
            child.pid = spawn(
                part.argv,
                environment=part.environment,
                folder=part.folder,
                log_fd=log,
                identity=part.identity,
                listen=listen,
                end_with=part.end_with,
            )
        finally:
            os.close(log)
        child.started_at, child.due_at, child.ready, child.status = (time.monotonic(), None, False, "")
        child.restarts += 1

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._tender:
                self._tender = 0
            for child in self._running():
                if child.pid == pid:
                    self._ended(child, os.waitstatus_to_exitcode(status))

    def _ended(self, child: Child, code: int) -> None:
        lived_s = time.monotonic() - child.started_at
        child.pid, child.ready = 0, False
        child.last_exit = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        if self._stopping:
            return
        if lived_s > BACKOFF_LAST_S:
            child.backoff_s = BACKOFF_FIRST_S
        child.due_at = time.monotonic() + child.backoff_s
        _say(f"{child.part.name} ended after {lived_s:.1f} s ({child.last_exit}); next start in {child.backoff_s:.1f} s")
        child.backoff_s = min(child.backoff_s * 2, BACKOFF_LAST_S)

    # -- events

    def _patience(self) -> float:
        now = time.monotonic()
        moments = [child.due_at for child in self._children.values() if child.due_at is not None]
        if not self._stopping:
            moments += [self._tend_at, self._rotate_at]
        return max(0.0, min(moments, default=now + 1.0) - now)

    def _react(self, source: Any) -> None:
        if source is self._wake:
            signals = self._wake.recv(4096)
            self._reap()
            if signal.SIGTERM in signals or signal.SIGINT in signals:
                self._stop()
        elif source is self._notify:
            self._hear()
        elif source is self._control:
            self._answer()

    def _hear(self) -> None:
        while (message := self._notify.receive()) is not None:
            child = next((child for child in self._running() if child.pid == message.pid), None)
            if child is None or not child.part.takes_sockets:
                for fd in message.fds:
                    os.close(fd)
                continue
            self._store.take(message)
            child.ready = child.ready or message.words.get("READY") == "1"
            child.status = message.words.get("STATUS", child.status)

    def _answer(self) -> None:
        """One question a connection; short, so nobody else waits for it."""
        with contextlib.suppress(OSError, ValueError):
            connection, _ = self._control.accept()
            with connection:
                connection.settimeout(1.0)
                received = protocol.receive(connection)
                if received is None:
                    return
                question, fds = received
                for fd in fds:
                    os.close(fd)
                try:
                    protocol.send(connection, {"ok": self._do(question)})
                except errors.EngineError as error:
                    protocol.send(connection, {"error": error.to_json()})

    def _do(self, question: dict[str, Any]) -> dict[str, Any]:
        if question.get("op") == "parts":
            children = [child.to_json() for child in self._children.values()]
            return {"pid": os.getpid(), "release": self._release, "http": self._places.http, "tls": self._places.tls, "parts": children}
        if question.get("op") == "restart":
            child = self._children.get(str(question.get("name")))
            if child is None:
                raise errors.NotFound(f"no part {question.get('name')}: there are {', '.join(self._children)}")
            if child.pid:
                child.backoff_s = BACKOFF_FIRST_S
                os.kill(child.pid, child.part.end_with)
            return {}
        raise errors.InvalidArgument(f"the supervisor does not know {question.get('op')!r}")

    def _look_after(self) -> None:
        now = time.monotonic()
        if self._stopping:
            return
        if now >= self._tend_at:
            self._tend_at = now + TEND_EVERY_S
            if not self._tender:
                self._tender = self._fork_tender()
        if now >= self._rotate_at:
            self._rotate_at = now + ROTATE_EVERY_S
            with contextlib.suppress(OSError):  # a full disk; at the next turn again
                logfiles.rotate(self._places.log)

    # -- the end

    def _stop(self) -> None:
        """Everybody but Redis, then Redis: the workers give back what they hold."""
        if self._stopping:
            return
        self._stopping = True
        _say("stopping; containers go on")
        for child in self._children.values():
            child.due_at = None
        self._end([child for child in self._running() if child.part.name != parts.REDIS])
        self._end(self._running())

    def _end(self, children: list[Child]) -> None:
        for child in children:
            os.kill(child.pid, child.part.end_with)
        deadline = time.monotonic() + max((child.part.grace_s for child in children), default=0.0)
        while any(child.pid for child in children):
            if time.monotonic() > deadline:
                for child in children:
                    if child.pid:
                        os.kill(child.pid, signal.SIGKILL)
                deadline += 1.0
            time.sleep(0.01)
            self._reap()


def _say(line: str) -> None:
    """Into the log; on a full disk into nothing, and the platform goes on."""
    with contextlib.suppress(OSError):
        os.write(sys.stderr.fileno(), f"{line}\n".encode())


def main() -> int:
    os.umask(0o027)
    release = Path.cwd()
    places = Places.from_environment()
    try:
        family = parts.supervised(places, release)
        Supervisor(places, release.name, family, lambda: tending.fork(places, release)).run()
    except OSError as error:
        print(f"slipway: {error.strerror}: {error.filename or places.http}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
