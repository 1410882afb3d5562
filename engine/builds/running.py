"""RUN: an ordinary container of the tenant, from its creation to its layer. What it writes is passed on while it runs.

<engine>/builds/running/<build>/<container id>   an empty file for each container, from before it is made until it is gone; the folder is
locked by the build's process, so whoever finds the lock free (``clear_dead``) knows what a killed build left
"""

from __future__ import annotations

import codecs
import fcntl
import os
import secrets
import struct
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from engine import errors
from engine.builds.output import Output
from engine.config import EngineConfig
from engine.images.staging import pinned
from engine.images.trash import sweep_soon
from engine.model.build import BuildRequest
from engine.model.container import ContainerSpec, LogPolicy, is_container_id
from engine.runtime import layers
from engine.runtime.logs import FIRST, LogReader

if TYPE_CHECKING:
    from engine.engine import Engine

LOG: Final = LogPolicy(max_size_bytes=16 << 20, max_files=2)  # the build's own log keeps what was said; this one goes with the container
_FRAME: Final = struct.Struct(">BxxxI")
_STDERR: Final = 2
_LOCKED_S: Final = 5.0
_PIECE: Final = 32 << 10  # characters in one line: as much as moby writes at once


class Cancelled(errors.FailedPrecondition):
    """Whoever asked for the build went away, or its time is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """``image_id``: an image with the layers of the step before, which has a record; the rest is the step's Config."""

    container_id: str
    image_id: str
    shown: str  # the image as people see it
    args: tuple[str, ...]
    env: tuple[str, ...]
    cwd: str
    user: str
    labels: Mapping[str, str]
    network: str
    mounts: tuple[dict[str, Any], ...] = ()  # of the OCI config, beside what every container has


class Containers:
    """Those of one build. A context manager: nothing of them is left when it ends."""

    def __init__(self, engine: Engine, request: BuildRequest) -> None:
        self._engine, self._request = engine, request
        self._folder = engine.config.builds / "running" / request.id
        self._live: set[str] = set()
        self._lock = threading.Lock()
        self._helpers: set[subprocess.Popen[bytes]] = set()
        self._is_cancelled = ""
        self._fd = -1

    def __enter__(self) -> Self:
        deadline = time.monotonic() + _LOCKED_S
        while (fd := _locked(self._folder)) < 0:  # ``clear_dead`` may have it in hand, and take it away
            if time.monotonic() > deadline:
                raise errors.AlreadyExists(f"build {self._request.id} is running already")
            time.sleep(0.01)
        self._fd = fd
        return self

    def __exit__(self, *_error: object) -> None:
        for container_id in list(self._live):
            self.remove(container_id)
        with suppress(OSError):
            self._folder.rmdir()
        os.close(self._fd)

    def cancel(self, why: str) -> None:
        """From any thread: what runs is killed, and nothing more is begun."""
        with self._lock:
            self._is_cancelled = self._is_cancelled or why
            live, helpers = list(self._live), list(self._helpers)
        for helper in helpers:
            helper.kill()
        for container_id in live:
            with suppress(errors.EngineError):
                self._engine.kill(self._request.tenant, container_id, 9)

    def also_kill(self, helper: subprocess.Popen[bytes]) -> None:
        """A process that a cancelled build does not wait for; until ``ended``."""
        with self._lock:
            self._helpers.add(helper)

    def ended(self, helper: subprocess.Popen[bytes]) -> None:
        with self._lock:
            self._helpers.discard(helper)

    def check(self) -> None:
        """Raises Cancelled."""
        if self._is_cancelled:
            raise Cancelled(self._is_cancelled)

    def run(self, run: Run, output: Output) -> int:
        """Its exit code. The container stays, ended and settled, until ``remove``: its writable layer is the step's."""
        spec = self._spec(run)
        with self._lock:
            self.check()
            self._live.add(spec.id)
        (self._folder / spec.id).touch(mode=0o600)
        self._engine.create(spec, mounts=run.mounts)
        self._engine.start(spec.tenant, spec.id)
        if self._is_cancelled:  # it came between our look and the start
            self.cancel(self._is_cancelled)
        self._follow(spec.id, output)
        self._engine.wait(spec.id)
        state = self._engine.settle(spec.id)
        self.check()
        return state.exit_code

    def remove(self, container_id: str) -> None:
        """With its writable layer. Idempotent."""
        self._engine.remove(self._request.tenant, container_id, force=True)
        (self._folder / container_id).unlink(missing_ok=True)
        with self._lock:
            self._live.discard(container_id)

    def _spec(self, run: Run) -> ContainerSpec:
        asked = self._request
        return ContainerSpec(
            id=run.container_id,
            tenant=asked.tenant,
            name=f"build-{run.container_id[:12]}",
            image_id=run.image_id,
            image=run.shown,
            args=run.args,
            env=run.env,
            cwd=run.cwd or "/",
            user=run.user,
            labels=dict(run.labels),
            network_mode="none" if "none" in (run.network, asked.network) else "bridge",
            resources=asked.resources,
            cgroup_parent=asked.cgroup_parent,
            ulimits=asked.ulimits,
            shm_size_bytes=asked.shm_size_bytes,
            extra_hosts=asked.extra_hosts,
            log=LOG,
        )

    def _follow(self, container_id: str, output: Output) -> None:
        """To the end of what it writes. A character that comes in two pieces is put together."""
        decoders = {stream: codecs.getincrementaldecoder("utf-8")("replace") for stream in (1, _STDERR)}
        log = self._engine.config.container(container_id) / "log"
        for stream, data in _framed(LogReader(log, start=FIRST).follow()):
            text = decoders[stream].decode(data)
            for at in range(0, len(text), _PIECE):
                (output.error_text if stream == _STDERR else output.text)(text[at : at + _PIECE])


def _framed(pieces: Iterator[bytes]) -> Iterator[tuple[int, bytes]]:
    """(stream, bytes) of Docker's frames; a piece holds whole ones."""
    for piece in pieces:
        at = 0
        while at < len(piece):
            stream, length = _FRAME.unpack_from(piece, at)
            at += _FRAME.size
            yield stream, piece[at : at + length]
            at += length


def _locked(folder: Path) -> int:
    """A descriptor of the folder that holds its lock, or -1. Made when it is missing."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return -1
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(fd), os.stat(folder)):
            return fd
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(fd)
    return -1


def new_container_id() -> str:
    return secrets.token_hex(32)


def clear_dead(engine: Engine) -> None:
    """What builds left whose process was killed: their containers, and the folders that name these. Idempotent."""
    running = engine.config.builds / "running"
    for folder in running.iterdir() if running.is_dir() else ():
        try:
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _clear(engine, os.listdir(fd), str(folder))
            with engine.images.lock():
                pinned(engine.config)  # its staging folder goes to the trash
            sweep_soon(engine.config.trash)
        except BlockingIOError:
            continue  # it is under way
        finally:
            os.close(fd)


def _clear(engine: Engine, container_ids: Sequence[str], folder: str) -> None:
    for container_id in filter(is_container_id, container_ids):
        with suppress(errors.NotFound):
            engine.remove(engine.records.spec(container_id).tenant, container_id, force=True)
        os.unlink(f"{folder}/{container_id}")
    with suppress(OSError):
        os.rmdir(folder)


def upper_of(config: EngineConfig, container_id: str) -> int:
    """Its writable layer, open; the caller closes it."""
    engine = os.open(config.engine, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return layers.open_to_read(config, engine, layers.upper_and_work(config, container_id)[0], os.O_RDONLY | os.O_DIRECTORY)
    finally:
        os.close(engine)
