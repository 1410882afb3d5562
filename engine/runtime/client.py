"""Asking keeper and launcher from any root process: engine, host worker, agent, command line.

Blocking, one connection a question (connect(2) on a unix socket costs 20 µs, and no connection can go stale), safe from any
thread. Only ``watch`` and ``launch`` keep theirs.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from engine import errors
from engine.config import EngineConfig
from engine.model.container import LogPolicy
from engine.model.nfs import spelled
from engine.runtime import code, protocol
from engine.runtime.shares import LIMIT_S

ANSWER_TIMEOUT_S: Final = 30.0
START_TIMEOUT_S: Final = 60.0  # of foster, keeper, launcher and logger together; an emulated machine needs it
STOP_TIMEOUT_S: Final = 60.0
LAUNCH_TIMEOUT_S: Final = 60.0
PREPARE_TIMEOUT_S: Final = 1.0  # a launcher that is busier than that need not do anything ahead
RETRY_FOR_S: Final = 5.0  # while a killed launcher is started again
RETRY_EVERY_S: Final = 0.01


class KeeperClient:
    """All methods raise errors.Unavailable when no keeper answers."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config

    def ensure_running(self) -> None:
        """Returns when keeper, launcher and logger answer; starts them, detached from the caller, when they are absent.

        They outlive the caller and get nothing of its environment but PATH, LANG and the two folders.
        """
        deadline = time.monotonic() + START_TIMEOUT_S
        if not self.answers():
            start_foster(self._config)
        while not self.answers():
            if time.monotonic() > deadline:
                raise errors.Unavailable(f"keeper, launcher and logger don't start: see {self._config.data}/log/keeper.log")
            time.sleep(RETRY_EVERY_S)

    def answers(self) -> bool:
        """Whether keeper, launcher and logger are there."""
        try:
            parts = self.parts()
            if not all(parts[name]["pid"] for name in ("launcher", "logger")):
                return False
            for path in (self._config.launcher_socket, self._config.logger_socket):
                protocol.connect(path, timeout_s=1.0).close()
        except errors.Unavailable:
            return False
        return True

    def fds(self, container_id: str, want: Sequence[str]) -> dict[str, int]:
        """Duplicates, close-on-exec, the caller's to close, of what there is of stdin, pty, stdout, stderr, pidfd.

        O_NONBLOCK belongs to the open file, not to the descriptor: output ends and pty have it set (the logger reads them),
        and nobody may change it. NotFound: it does not run.
        """
        words, fds = self._ask("fds", id=container_id, want=list(want))
        return dict(zip(words["have"], fds, strict=True))

    def join(self, container_id: str) -> tuple[dict[str, Any], int]:
        """({"run", "cgroup"}, the pidfd of its first process, the caller's to close). NotFound: it does not run."""
        words, (pidfd,) = self._ask("join", id=container_id)
        return words, pidfd

    def exec_wait(self, container_id: str, exec_id: str) -> dict[str, Any]:
        """Blocks until that exec has ended: {"exit_code", "signal", "finished_at_ns"}. NotFound: there is no record of it."""
        with self._connection(ANSWER_TIMEOUT_S) as sock:
            sock.settimeout(None)
            words: dict[str, Any] = protocol.ask(sock, "exec_wait", id=container_id, exec=exec_id)[0]
            return words

    def close_stdin(self, container_id: str) -> None:
        """The container reads end of file once the caller has closed its own duplicate. NotFound: it does not run."""
        self._ask("close_stdin", id=container_id)

    def signal(self, container_id: str, signal: int) -> None:
        """To its first process. NotFound: it does not run."""
        self._ask("signal", id=container_id, signal=int(signal))

    def list(self) -> Sequence[dict[str, Any]]:
        """What runs: ``{"id", "run", "pid"}`` each."""
        found: list[dict[str, Any]] = []
        with self._connection(ANSWER_TIMEOUT_S) as sock:
            words, _fds = protocol.ask(sock, "list")
            found += words["containers"]
            while words["more"]:
                answer = protocol.receive(sock)
                if answer is None:
                    raise errors.Unavailable("list: the keeper went away")
                words = answer[0]["ok"]
                found += words["containers"]
        return found

    def watch(self) -> Watch:
        """Events from now on. ``list`` after this misses nothing."""
        sock = protocol.connect(self._config.keeper_socket, timeout_s=ANSWER_TIMEOUT_S)
        try:
            protocol.ask(sock, "watch")
        except BaseException:
            sock.close()
            raise
        sock.settimeout(None)
        return Watch(sock)

    def parts(self) -> dict[str, Any]:
        """``{"foster": {"pid"}, "keeper": {"pid", "code"}, name: {"pid" (0: not now), "restarts", "since_ns", "last_exit"}}``."""
        words: dict[str, Any] = self._ask("parts")[0]
        return words

    def supervise(self, name: str, argv: Sequence[str], env: Mapping[str, str]) -> None:
        """Keep this command line running, with ``env`` beside PATH, LANG, SLIPWAY_DATA and SLIPWAY_RUN. Other words replace."""
        self._ask("supervise", name=name, argv=list(argv), env=dict(env))

    def renew(self) -> bool:
        """Foster, keeper, launcher and logger go on with the caller's code and interpreter, if it is another than theirs.

        Containers, their output and the supervised parts go on as they are. Returns whether it was so; raises
        FailedPrecondition when the new code does not run (then the old does), Unsupported when the old cannot do this yet.
        """
        present = self.parts()["keeper"]
        if present.get("code") == code.stamp():
            return False
        self._ask("renew", python=sys.executable, home=str(code.HOME))
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.answers() or (found := self.parts()["keeper"])["pid"] == present["pid"]:
            if time.monotonic() > deadline:
                raise errors.Unavailable(f"the keeper does not come back: see {self._config.data}/log/keeper.log")
            time.sleep(RETRY_EVERY_S)
        if found["code"] != code.stamp():
            raise errors.FailedPrecondition(f"the keeper refuses the new code: see {self._config.data}/log/keeper.log")
        return True

    def stop(self, *, containers: bool = False) -> None:
        """Ends all parts, then the keeper and foster. FailedPrecondition while containers run, unless they may be stopped."""
        self._ask("stop", timeout_s=STOP_TIMEOUT_S, containers=containers)

    def _ask(self, op: str, *, timeout_s: float = ANSWER_TIMEOUT_S, **words: Any) -> tuple[Any, Sequence[int]]:
        with self._connection(timeout_s) as sock:
            return protocol.ask(sock, op, **words)

    @contextmanager
    def _connection(self, timeout_s: float) -> Iterator[socket.socket]:
        sock = protocol.connect(self._config.keeper_socket, timeout_s=timeout_s)
        with sock:
            yield sock


class Watch:
    """Started and exited containers, as drawn in engine.runtime.protocol. Iterating ends when the keeper goes away."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def fileno(self) -> int:
        """For poll and event loops: when readable, ``next`` does not block."""
        return self._sock.fileno()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self

    def __next__(self) -> dict[str, Any]:
        try:
            received = protocol.receive(self._sock)
        except OSError:
            received = None
        if received is None:
            raise StopIteration
        return received[0]

    def close(self) -> None:
        self._sock.close()

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


class Launch:
    """A container whose namespaces exist and whose process waits for ``start``."""

    def __init__(self, sock: socket.socket, pid: int) -> None:
        self._sock, self.pid = sock, pid

    def start(self) -> int:
        """Executes it. Returns the unix time in ns; raises what the launcher says, with ``exit_code`` in the detail."""
        words, _fds = protocol.ask(self._sock, "start")
        return int(words["started_at_ns"])


@contextmanager
def launch(engine: EngineConfig, *, target: int = -1, shares: Sequence[int] = (), **words: Any) -> Iterator[Launch]:
    """Makes the container's process; leaving the block without ``start`` kills it, and nothing is left. ``words``: ``_launch_words``.

    ``target``: the pidfd of a container whose namespaces the config joins. ``shares``: the mounts of its NFS volumes, in its order.

    A launcher that was killed is started again within milliseconds, so it is asked again for a while; only what failed before
    a process existed is repeated.
    """
    asked = _launch_words(**words)
    deadline = time.monotonic() + RETRY_FOR_S
    while True:
        sock = _reach_launcher(engine, deadline)
        try:
            answer, _fds = protocol.ask(sock, "launch", (*((target,) if target >= 0 else ()), *shares), **asked)
            break
        except errors.Unavailable:
            sock.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(RETRY_EVERY_S)
        except BaseException:
            sock.close()
            raise
    with sock:
        yield Launch(sock, int(answer["pid"]))


def prepare(engine: EngineConfig, **words: Any) -> None:
    """A launch in these words is to be expected soon. Returns at once; nobody hears what becomes of it."""
    with suppress(errors.Unavailable), protocol.connect(engine.launcher_socket, timeout_s=PREPARE_TIMEOUT_S) as sock, suppress(OSError):
        protocol.send(sock, {"v": protocol.VERSION, "op": "prepare", **_launch_words(**words)})


def _launch_words(
    *,
    id: str,
    run: int,
    config: Mapping[str, Any],
    rootfs: Mapping[str, Any],
    log_dir: Path,
    log: LogPolicy | None = None,
    stdin: bool = True,
) -> dict[str, Any]:
    log = log or LogPolicy()
    return {
        "id": id,
        "run": run,
        "config": dict(config),
        "rootfs": dict(rootfs),
        "log_dir": str(log_dir),
        "log": {"max_size_bytes": log.max_size_bytes, "max_files": log.max_files},
        "stdin": stdin,
    }


def _reach_launcher(engine: EngineConfig, deadline: float) -> socket.socket:
    """Unavailable when it is not back by then."""
    while True:
        try:
            return protocol.connect(engine.launcher_socket, timeout_s=LAUNCH_TIMEOUT_S)
        except errors.Unavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(RETRY_EVERY_S)


def is_ready(engine: EngineConfig, container_id: str) -> bool:
    """Whether one made ahead waits for its launch."""
    try:
        with protocol.connect(engine.launcher_socket, timeout_s=ANSWER_TIMEOUT_S) as sock:
            return bool(protocol.ask(sock, "ready", id=container_id)[0]["ready"])
    except errors.Unavailable:
        return False


def discard(engine: EngineConfig, container_id: str) -> None:
    """Returns when none made ahead is left. A launcher that is away took its own along."""
    with suppress(errors.Unavailable), protocol.connect(engine.launcher_socket, timeout_s=ANSWER_TIMEOUT_S) as sock:
        protocol.ask(sock, "discard", id=container_id)


def drop_memory(engine: EngineConfig, place: str) -> None:
    """The tmpfs that the launcher has mounted there. Unavailable."""
    with protocol.connect(engine.launcher_socket, timeout_s=ANSWER_TIMEOUT_S) as sock:
        protocol.ask(sock, "drop_memory", place=place)


@contextmanager
def mounted_shares(engine: EngineConfig, *, uid_start: int, shares: Sequence[Mapping[str, Any]]) -> Iterator[list[int]]:
    """Detached mounts, which are to be launched with before the block ends (engine.runtime.shares). Unavailable without an answer."""
    with _reach_launcher(engine, time.monotonic() + RETRY_FOR_S) as sock:
        sock.settimeout(LIMIT_S + ANSWER_TIMEOUT_S)
        began = time.monotonic()
        try:
            _ok, fds = protocol.ask(sock, "mount_nfs", uid_start=uid_start, shares=list(shares))
        except errors.Unavailable:
            if time.monotonic() - began < LIMIT_S - 1:
                raise
            names = ", ".join(dict.fromkeys(spelled(share["address"], share["path"]) for share in shares))
            raise errors.Unavailable(f"{names}: the NFS server does not answer: nothing came for {LIMIT_S} s") from None
        try:
            yield fds
        finally:
            for fd in fds:
                os.close(fd)


def join(engine: EngineConfig, pidfd: int, **words: Any) -> tuple[dict[str, Any], dict[str, int]]:
    """Runs a process in the container that ``pidfd`` names: ({"pid", "started_at_ns"}, its descriptors by name). What fails leaves nothing.

    A launcher that was killed is back within milliseconds and is asked again, but not once it was asked: it may run already.
    """
    with _reach_launcher(engine, time.monotonic() + RETRY_FOR_S) as sock:
        answer, fds = protocol.ask(sock, "exec", (pidfd,), **words)
    return answer, dict(zip(answer["have"], fds, strict=True))


def start_foster(config: EngineConfig) -> None:
    """Returns once foster has left the caller's process tree. Where one serves this run folder already, the new one ends."""
    env = {key: os.environ[key] for key in ("PATH", "LANG") if key in os.environ}
    env |= {"SLIPWAY_DATA": str(config.data.absolute()), "SLIPWAY_RUN": str(config.run.absolute()), "PYTHONPATH": str(code.HOME)}
    (config.data / "log").mkdir(mode=0o755, parents=True, exist_ok=True)
    log = os.open(config.data / "log" / "keeper.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-S", "-m", "engine.runtime.foster", "--detach"],  # -S: third-party folders aren't needed
            env,
            file_actions=[(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)],
            setsigmask=[],
        )
    finally:
        os.close(log)
        os.close(null)
    os.waitpid(pid, 0)
