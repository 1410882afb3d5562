"""Yard: forks a process for each build, which speaks to the client itself. ``python -m engine.builds.yard <descriptor of the socket>``.

    asker → yard     {"op": "build", "cgroup"} + report, client, question     on a socket pair, as to porter (engine.files.porter)
    client → child   the context's tar, half-close (none when the request says where it is)
    child → client   Docker's lines; at the end {"images": pulled ones, "built": {"refs", "record", "time_ns"}}, or one with error,
                     errorDetail and code, and perhaps {"images"}
    child            closes the report, of which it holds the only other end; waits for its tenant's next build, or ends

``question`` is a file in memory: {"request": BuildRequest, "early": what came of the tar, base64, "registries": {host: AuthConfig}}.

Why a process: a build takes minutes and packs, hashes and unpacks whole layers, which would hold up the agent's clients; it ends at once
when it is killed, and counts as its tenant's, in whose cgroup it is born. Why forked: the builder's imports take longer than a small build.
It stays root of the host, as it asks the launcher for containers and writes the store; but it reads layers and contexts without following
anything in them, and what comes from the network comes through a process that is nobody (fetch.py, engine.registries.courier).
"""

from __future__ import annotations

import base64
import gc
import io
import os
import resource
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO, Final, NoReturn, Self, cast

from engine import errors, wire
from engine.builds.builder import Builder, error_line
from engine.config import EngineConfig
from engine.engine import Engine
from engine.files.upload import Upload
from engine.kernel import cgroups, mounts, processes, scheduling
from engine.model.build import BuildRequest
from engine.model.codec import from_json
from engine.model.reference import DEFAULT_DOMAIN, Reference
from engine.registries.auth import NOBODY, Credentials
from engine.runtime import protocol

TIME_LIMIT_S: Final = 3600  # of one build, where nobody says otherwise
_BUFFER: Final = 1 << 20
_FREE: Final = 8  # children that wait
_WAITS_S: Final = 60.0  # each of them
_SMALL: Final = 64 << 20  # bytes of one that may stay
_FLUSH_S: Final = 0.05  # lines that come within it go out together
GONE: Final = "Build cancelled"
_DEFAULT_REGISTRY: Final = f"https://index.{DEFAULT_DOMAIN}/v1/"  # as Docker's clients call it in their configuration


def main(argv: Sequence[str]) -> int:
    asker = socket.socket(fileno=int(argv[1]))
    asker.set_inheritable(False)
    processes.hide()
    scheduling.as_others()
    mounts.private_namespace()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children reap themselves; each reports on a socket of its own
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    engine = Engine(EngineConfig.from_environment())
    gc.collect()
    gc.freeze()  # a child that looks for garbage copies no page of what was there before it
    _Builders(engine, asker).serve()
    return 0


class _Builders:
    """Children, one for each build under way. One that is done waits a while for its tenant's next.

    Who builds once builds again, and a process that has done it is twice as fast as a newborn, whose pages are yet to be copied and whose
    every function is new to the interpreter [m].
    """

    def __init__(self, engine: Engine, asker: socket.socket) -> None:
        self._engine, self._asker = engine, asker
        self._busy: dict[socket.socket, str] = {}  # the cgroup by the line
        self._free: dict[str, tuple[socket.socket, float]] = {}  # line and since when, by cgroup; who waits longest is first

    def serve(self) -> None:
        while True:
            lines = [line for line, _since in self._free.values()]
            for line in select.select([self._asker, *self._busy, *lines], [], [], _WAITS_S if lines else None)[0]:
                message = protocol.receive(line)
                if line is self._asker:
                    if message is None:
                        return
                    self._ask(*message)
                elif message is None or self._busy[line] in self._free:
                    self._dismiss(line)
                else:
                    cgroup = self._busy.pop(line)
                    self._free[cgroup] = (line, time.monotonic())
            for line, since in list(self._free.values()):
                if len(self._free) > _FREE or time.monotonic() - since > _WAITS_S:
                    self._dismiss(line)

    def _ask(self, words: dict[str, Any], fds: list[int]) -> None:
        try:
            self._hand_over(words["cgroup"], words, fds)
        except OSError as error:
            client = fds[words["have"].index("client")]
            _say(client, error_line(errors.Unavailable(f"the host cannot build just now: {error.strerror}")))
        finally:
            for fd in fds:
                os.close(fd)

    def _hand_over(self, cgroup: str, words: dict[str, Any], fds: list[int]) -> None:
        line, _since = self._free.pop(cgroup, (None, 0.0))
        if line is not None:
            try:
                protocol.send(line, words, tuple(fds))
            except OSError:  # it was killed
                line.close()
            else:
                self._busy[line] = cgroup
                return
        self._busy[self._bear(cgroup, words, fds)] = cgroup

    def _bear(self, cgroup: str, words: dict[str, Any], fds: list[int]) -> socket.socket:
        """It has the fds, as it has all of ours."""
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.getpid()
        with its:
            try:
                if cgroups.fork(cgroup) == 0:
                    for line in (self._asker, ours, *self._busy, *(line for line, _since in self._free.values())):
                        line.close()
                    _run(self._engine, cgroup, its, parent, (words, fds))
            except BaseException:
                ours.close()
                raise
        return ours

    def _dismiss(self, line: socket.socket) -> None:
        """It ends when it reads the end of its line, if it has not ended already."""
        self._busy.pop(line, None)
        self._free = {cgroup: free for cgroup, free in self._free.items() if free[0] is not line}
        line.close()


def _run(engine: Engine, cgroup: str, line: socket.socket, parent: int, first: tuple[dict[str, Any], list[int]]) -> NoReturn:
    """In the child; never returns to the code that forked."""
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # it waits for its own helpers
        processes.die_with_parent()
        if os.getppid() == parent:
            if cgroups.version() == 1:
                cgroups.join(cgroup)
            message: tuple[dict[str, Any], list[int]] | None = first
            while message is not None and _build(engine, *message):
                protocol.send(line, {"free": True})
                message = protocol.receive(line)
    finally:
        os._exit(0)


def _build(engine: Engine, words: dict[str, Any], fds: list[int]) -> bool:
    """Whether this process is as good as before."""
    named = dict(zip(words["have"], fds, strict=True))
    try:
        with os.fdopen(named["question"], "rb", closefd=False) as file:
            file.seek(0)
            question = wire.decode(file.read())
        return _Build(engine, question, named["client"]).run() and processes.resident_bytes() < _SMALL
    except BaseException as error:
        with suppress(OSError):
            fault = errors.Internal(f"the build failed on the host: {type(error).__name__}: {error}")
            _say(named["client"], {**error_line(fault), "code": fault.code})
        return False
    finally:
        for fd in fds:
            os.close(fd)


class _Build:
    def __init__(self, engine: Engine, question: dict[str, Any], client: int) -> None:
        self._engine = engine
        self._request = from_json(BuildRequest, question["request"])
        self._registries = dict(question.get("registries") or {})
        self._early = base64.b64decode(question.get("early") or "")
        self._client = client
        self._pulled: list[dict[str, Any]] = []
        self._out = _Lines(client)

    def run(self) -> bool:
        """Whether it came to an image."""
        try:
            builder = Builder(self._engine, self._request, pull=self._pull)
            with self._out, self._watching(builder):
                self._make(builder)
            return True
        except errors.EngineError as error:
            self._out.say({**error_line(error), "code": error.code})
            if self._pulled:
                self._out.say({"images": self._pulled})
            with suppress(OSError):
                self._out.flush()
                _swallow(self._client)
        except BrokenPipeError:
            pass  # nobody listens, and the builder has cleared up
        return False

    def _make(self, builder: Builder) -> None:
        upload = Upload(self._early, self._client)
        stream = None if self._request.remote else cast(BinaryIO, io.BufferedReader(upload, _BUFFER))
        image_id = builder.build(stream, self._out.say)
        (image,) = self._engine.described(self._request.tenant, [image_id])
        self._out.say({"images": self._pulled, "built": image})
        self._out.flush()

    def _pull(self, name: str, platform: str) -> Iterator[dict[str, Any]]:
        credentials = _credentials(self._registries, name)
        transfer = self._engine.pull(self._request.tenant, name, platform=platform, credentials=credentials)
        try:
            for line in transfer:
                if "images" in line:
                    self._pulled += line["images"]
                else:
                    yield line
        finally:
            transfer.cancel()  # nothing, when it is through

    @contextmanager
    def _watching(self, builder: Builder) -> Iterator[None]:
        over = os.eventfd(0, os.EFD_CLOEXEC)
        watch = threading.Thread(target=self._watch, args=(builder, over), name="watch", daemon=True)
        watch.start()
        try:
            yield
        finally:
            os.eventfd_write(over, 1)
            watch.join()
            os.close(over)

    def _watch(self, builder: Builder, over: int) -> None:
        """Until the client is gone or the time is over. Both directions of the socket are shut then: POLLHUP, which nobody asks for."""
        poll = select.poll()
        poll.register(self._client, 0)
        poll.register(over, select.POLLIN)
        limit_s = self._request.time_limit_s or TIME_LIMIT_S
        events = [fd for fd, _event in poll.poll(limit_s * 1000)]
        if not events:
            builder.cancel(f"the build took longer than {limit_s} seconds, the limit of this host")
        elif over not in events:
            builder.cancel(GONE)


class _Lines:
    """To the client; small ones together. From any thread, one at a time (engine.builds.output sees to that). A context manager."""

    def __init__(self, client: int) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._buffer = bytearray()
        self._said, self._over = threading.Event(), threading.Event()
        self._flusher = threading.Thread(target=self._flush_soon, name="lines", daemon=True)

    def __enter__(self) -> Self:
        self._flusher.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._said.set()
        self._flusher.join()

    def say(self, line: dict[str, Any]) -> None:
        with self._lock:
            self._buffer += wire.encode(line) + b"\n"
            if len(self._buffer) > _BUFFER:
                self._write()
        self._said.set()

    def flush(self) -> None:
        with self._lock:
            self._write()

    def _flush_soon(self) -> None:
        while self._said.wait() and not self._over.is_set():
            self._said.clear()
            with suppress(OSError):
                self.flush()
            self._over.wait(_FLUSH_S)

    def _write(self) -> None:
        data, self._buffer = bytes(self._buffer), bytearray()
        view = memoryview(data)
        while view:
            view = view[os.write(self._client, view) :]


def _credentials(registries: Mapping[str, Any], name: str) -> Credentials:
    """Of X-Registry-Config: {host: AuthConfig}; the default registry has an address of its own there."""
    domain = Reference.parse(name).domain
    found = registries.get(domain) or (registries.get(_DEFAULT_REGISTRY) if domain == DEFAULT_DOMAIN else None)
    return Credentials.from_words(found) if isinstance(found, dict) else NOBODY


def _say(client: int, line: dict[str, Any]) -> None:
    with suppress(OSError):
        os.write(client, wire.encode(line) + b"\n")


def _swallow(client: int) -> None:
    """What the client still sends, so that it gets to read the error; a reset would take that away."""
    sock = socket.socket(fileno=os.dup(client))
    sock.shutdown(socket.SHUT_WR)
    while sock.recv(_BUFFER):
        pass


if __name__ == "__main__":
    sys.exit(main(sys.argv))
