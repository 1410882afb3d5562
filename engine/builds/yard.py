"""Yard: forks a process for each build, which speaks to the client itself. ``python -m engine.builds.yard <descriptor of the socket>``.

    asker → yard     {"op": "build", "cgroup"} + report, client, question     on a socket pair, as to porter (engine.files.porter)
    client → child   the context's tar, half-close (none when the request says where it is)
    child → client   Docker's lines; at the end {"images": pulled ones, "built": {"refs", "record", "time_ns"}}, or one with error,
                     errorDetail and code, and perhaps {"images"}
    child            ends; the report, of which it holds the only other end, says so

``question`` is a file in memory: {"request": BuildRequest, "early": what came of the tar, base64, "registries": {host: AuthConfig}}.

Why a process: a build takes minutes and packs, hashes and unpacks whole layers, which would hold up the agent's clients; it ends at once
when it is killed, and counts as its tenant's, in whose cgroup it is born. Why forked: the builder's imports take longer than a small build.
It stays root of the host, as it asks the launcher for containers and writes the store; but it reads layers and contexts without following
anything in them, and what comes from the network comes through a process that is nobody (fetch.py, engine.registries.courier).
"""

from __future__ import annotations

import base64
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
from contextlib import suppress
from typing import Any, BinaryIO, Final, NoReturn, cast

from engine import errors, wire
from engine.builds.builder import Builder, error_line
from engine.config import EngineConfig
from engine.engine import Engine
from engine.files.upload import Upload
from engine.kernel import cgroups, mounts, processes
from engine.model.build import BuildRequest
from engine.model.codec import from_json
from engine.model.reference import DEFAULT_DOMAIN, Reference
from engine.registries.auth import NOBODY, Credentials
from engine.runtime import protocol

TIME_LIMIT_S: Final = 3600  # of one build, where nobody says otherwise
_BUFFER: Final = 1 << 20
_FLUSH_S: Final = 0.05  # lines that come within it go out together
GONE: Final = "Build cancelled"
_DEFAULT_REGISTRY: Final = f"https://index.{DEFAULT_DOMAIN}/v1/"  # as Docker's clients call it in their configuration


def main(argv: Sequence[str]) -> int:
    asker = socket.socket(fileno=int(argv[1]))
    asker.set_inheritable(False)
    processes.hide()
    mounts.private_namespace()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children reap themselves; each reports on a socket of its own
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    config = EngineConfig.from_environment()
    while (message := protocol.receive(asker)) is not None:
        words, fds = message
        named = dict(zip(words["have"], fds, strict=True))
        parent = os.getpid()
        try:
            if cgroups.fork(words["cgroup"]) == 0:
                asker.close()
                _run(config, words["cgroup"], named, parent)
        except OSError as error:
            _say(named["client"], error_line(errors.Unavailable(f"the host cannot build just now: {error.strerror}")))
        finally:
            for fd in fds:
                os.close(fd)
    return 0


def _run(config: EngineConfig, cgroup: str, fds: dict[str, int], parent: int) -> NoReturn:
    """In the child; never returns to the code that forked."""
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # it waits for its own helpers
        processes.die_with_parent()
        if os.getppid() == parent:
            if cgroups.version() == 1:
                cgroups.join(cgroup)
            with os.fdopen(fds["question"], "rb", closefd=False) as file:
                file.seek(0)
                question = wire.decode(file.read())
            _Child(config, question, fds["client"]).run()
    except BaseException as error:
        with suppress(OSError):
            fault = errors.Internal(f"the build failed on the host: {type(error).__name__}: {error}")
            _say(fds["client"], {**error_line(fault), "code": fault.code})
    finally:
        os._exit(0)


class _Child:
    def __init__(self, config: EngineConfig, question: dict[str, Any], client: int) -> None:
        self._engine = Engine(config)
        self._request = from_json(BuildRequest, question["request"])
        self._registries = dict(question.get("registries") or {})
        self._early = base64.b64decode(question.get("early") or "")
        self._client = client
        self._pulled: list[dict[str, Any]] = []
        self._out = _Lines(client)

    def run(self) -> None:
        try:
            builder = Builder(self._engine, self._request, pull=self._pull)
            threading.Thread(target=self._watch, args=(builder,), name="watch", daemon=True).start()
            upload = Upload(self._early, self._client)
            stream = None if self._request.remote else cast(BinaryIO, io.BufferedReader(upload, _BUFFER))
            image_id = builder.build(stream, self._out.say)
            (image,) = self._engine.described(self._request.tenant, [image_id])
            self._out.say({"images": self._pulled, "built": image})
            self._out.flush()
        except errors.EngineError as error:
            self._out.say({**error_line(error), "code": error.code})
            if self._pulled:
                self._out.say({"images": self._pulled})
            with suppress(OSError):
                self._out.flush()
                _swallow(self._client)
        except BrokenPipeError:
            pass  # nobody listens, and the builder has cleared up

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

    def _watch(self, builder: Builder) -> None:
        """Until the client is gone or the time is over. Both directions of the socket are shut then: POLLHUP, which nobody asks for."""
        poll = select.poll()
        poll.register(self._client, 0)
        limit_s = self._request.time_limit_s or TIME_LIMIT_S
        if poll.poll(limit_s * 1000):
            builder.cancel(GONE)
        else:
            builder.cancel(f"the build took longer than {limit_s} seconds, the limit of this host")


class _Lines:
    """To the client; small ones together. From any thread, one at a time (engine.builds.output sees to that)."""

    def __init__(self, client: int) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._buffer = bytearray()
        self._flusher = threading.Event()
        threading.Thread(target=self._flush_soon, name="lines", daemon=True).start()

    def say(self, line: dict[str, Any]) -> None:
        with self._lock:
            self._buffer += wire.encode(line) + b"\n"
            if len(self._buffer) > _BUFFER:
                self._write()
        self._flusher.set()

    def flush(self) -> None:
        with self._lock:
            self._write()

    def _flush_soon(self) -> None:
        while self._flusher.wait():
            self._flusher.clear()
            with suppress(OSError):
                self.flush()
            time.sleep(_FLUSH_S)

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
