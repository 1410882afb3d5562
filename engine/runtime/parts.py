"""The processes a keeper keeps alive: launcher and logger, and any command line it was asked to (``supervise``).

A part that ends is started again, at once the first time, then after a delay that doubles up to 5 s, until it has lived for
10 s. What runs is noted in ``<run>/parts.json``, so that a new keeper finds the parts of a killed one instead of starting
them twice. Standard output and error of each go to ``<data>/log/<name>.log``.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from engine import errors
from engine.config import EngineConfig
from engine.disk import write_json
from engine.kernel import scheduling
from engine.runtime.exits import Exit, Process, open_process, start_time
from engine.runtime.fostered import Fostered
from engine.runtime.loop import Loop, say

FIRST_DELAY_S: Final = 0.1
LAST_DELAY_S: Final = 5.0
HEALTHY_AFTER_S: Final = 10.0
KILL_AFTER_S: Final = 5.0  # SIGKILL for a part that does not follow SIGTERM
LOG_LIMIT: Final = 8 << 20  # bytes; then <name>.log becomes <name>.log.1
LOG_LOOK_S: Final = 60.0


class Part:
    """``argv`` is None for a built-in part. ``pid`` is 0 while it does not run."""

    def __init__(self, name: str, argv: list[str] | None, env: dict[str, str], start: Callable[[], int]) -> None:
        self.name, self.argv, self.env, self.start = name, argv, env, start
        self.process = Process(0, 0)
        self.pidfd: int | None = None
        self.since_ns = 0
        self.restarts = -1
        self.last_exit: dict[str, int] | None = None
        self.delay_s = 0.0
        self.wanted = True

    @property
    def pid(self) -> int:
        return self.process.pid if self.pidfd is not None else 0

    def signal(self, number: int) -> None:
        if self.pidfd is not None:
            try:
                signal.pidfd_send_signal(self.pidfd, number)
            except ProcessLookupError:
                pass

    def status(self) -> dict[str, Any]:
        return {"pid": self.pid, "restarts": max(0, self.restarts), "since_ns": self.since_ns, "last_exit": self.last_exit}

    def record(self) -> dict[str, Any]:
        return {**self.status(), "argv": self.argv, "env": self.env, "start_time": self.process.start_time}


class Parts:
    def __init__(self, config: EngineConfig, loop: Loop, fostered: Fostered) -> None:
        self._config, self._loop, self._fostered = config, loop, fostered
        self._parts: dict[str, Part] = {}
        self._ended_hook: Callable[[], None] | None = None
        self._path = config.run / "parts.json"
        self._loop.after(LOG_LOOK_S, self._look_at_logs)

    # -- wishes ----------------------------------------------------------------------------------

    def recover(self, builtin: dict[str, Callable[[], int]]) -> None:
        """Takes over what an earlier keeper of this run folder supervised; nothing is started yet."""
        try:
            records: dict[str, Any] = json.loads(self._path.read_bytes())
        except (FileNotFoundError, ValueError):
            records = {}
        for name, record in records.items():
            if record["argv"] is None and name not in builtin:
                continue
            part = self._new_part(name, record["argv"], record["env"], builtin.get(name))
            part.restarts, part.last_exit = record["restarts"], record["last_exit"]
            part.process, part.since_ns = Process(record["pid"], record["start_time"]), record["since_ns"]
            part.pidfd = open_process(part.process)
            if part.pidfd is not None:
                self._fostered.await_exit(part.process, part.pidfd, partial(self._ended, part))
        for name, start in builtin.items():
            if name not in self._parts:
                self._new_part(name, None, {}, start)

    def start_missing(self) -> None:
        for part in self._parts.values():
            if part.pidfd is None:
                self._start(part)

    def supervise(self, name: str, argv: list[str], env: dict[str, str]) -> None:
        """The same words again change nothing; other words end the old process, and the new one follows it."""
        present = self._parts.get(name)
        if present is not None and present.argv is None:
            raise errors.InvalidArgument(f"{name} is the keeper's own part")
        if not name.isidentifier() and not name.replace("-", "_").isidentifier():
            raise errors.InvalidArgument(f"invalid part name {name!r}")
        if present is not None and (present.argv, present.env) == (argv, env):
            return
        if present is None:
            self._start(self._new_part(name, argv, env, None))
            return
        present.argv, present.env, present.start = argv, env, self._spawner(name, argv, env)
        present.delay_s = 0.0
        if present.pidfd is None:
            self._start(present)
        else:
            self._end(present)

    def part(self, name: str) -> Part:
        return self._parts[name]

    def status(self) -> dict[str, Any]:
        return {name: part.status() for name, part in self._parts.items()}

    def stop(self, names: list[str], then: Callable[[], None]) -> None:
        """Ends these for good; ``then`` is called when none of them runs."""
        for name in names:
            self._parts[name].wanted = False
            self._end(self._parts[name])

        def look() -> None:
            if all(self._parts[name].pidfd is None for name in names):
                self._ended_hook = None
                then()

        self._ended_hook = look
        self._loop.after(0, look)

    def names(self) -> list[str]:
        return list(self._parts)

    # -- facts -----------------------------------------------------------------------------------

    def child_ended(self, pid: int, ended: Exit) -> bool:
        """Whether ``pid`` was a part."""
        for part in self._parts.values():
            if part.pid == pid:
                self._ended(part, ended)
                return True
        return False

    def give_to_foster(self) -> None:
        """Our process became the foster: what was our child is now only awaited."""
        for part in self._parts.values():
            if part.pidfd is not None:
                self._fostered.await_exit(part.process, part.pidfd, partial(self._ended, part))

    # -- inside ----------------------------------------------------------------------------------

    def _new_part(self, name: str, argv: list[str] | None, env: dict[str, str], start: Callable[[], int] | None) -> Part:
        part = Part(name, argv, env, start or self._spawner(name, argv or [], env))
        self._parts[name] = part
        return part

    def _spawner(self, name: str, argv: list[str], env: dict[str, str]) -> Callable[[], int]:
        return partial(spawn, self._config, name, argv, env)

    def _start(self, part: Part) -> None:
        if part.pidfd is not None or not part.wanted:
            return
        part.restarts += 1
        part.since_ns = time.time_ns()
        try:
            pid = part.start()
        except OSError as error:
            part.last_exit = {"exit_code": 127, "signal": 0}
            say(f"{part.name} does not start: {error}")
            self._again(part)
            return
        part.process = Process(pid, start_time(pid))
        part.pidfd = os.pidfd_open(pid)
        self._write()

    def _ended(self, part: Part, ended: Exit) -> None:
        if part.pidfd is not None:
            os.close(part.pidfd)
            part.pidfd = None
        part.last_exit = {"exit_code": ended.exit_code, "signal": ended.signal}
        if part.wanted:
            say(f"{part.name} ended: exit code {ended.exit_code}")
            if time.time_ns() - part.since_ns > HEALTHY_AFTER_S * 1e9:
                part.delay_s = 0.0
            self._again(part)
        if self._ended_hook is not None:
            self._ended_hook()

    def _again(self, part: Part) -> None:
        delay_s = part.delay_s
        part.delay_s = min(LAST_DELAY_S, max(FIRST_DELAY_S, 2 * delay_s))
        self._loop.after(delay_s, partial(self._start, part))

    def _end(self, part: Part) -> None:
        process = part.process
        part.signal(signal.SIGTERM)

        def insist() -> None:
            if part.process == process:
                part.signal(signal.SIGKILL)

        self._loop.after(KILL_AFTER_S, insist)

    def _write(self) -> None:
        try:
            write_json(self._path, {name: part.record() for name, part in self._parts.items()})
        except OSError as error:  # the next change is written again
            say(f"{self._path} is not up to date: {error}")

    def _look_at_logs(self) -> None:
        for name in ("keeper", *self._parts):
            rotate(log_path(self._config, name))
        self._loop.after(LOG_LOOK_S, self._look_at_logs)


def log_path(config: EngineConfig, name: str) -> str:
    return f"{config.data}/log/{name}.log"


def open_log(config: EngineConfig, name: str) -> int:
    os.makedirs(config.data / "log", mode=0o755, exist_ok=True)
    return os.open(log_path(config, name), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)


def rotate(path: str) -> None:
    """A log that grew too long is copied to ``.1`` and emptied in place: its writer has it open and knows nothing of us."""
    try:
        size = os.stat(path).st_size
    except FileNotFoundError:
        return
    if size < LOG_LIMIT:
        return
    with open(path, "r+b") as log, open(f"{path}.1", "wb") as old:
        while os.sendfile(old.fileno(), log.fileno(), None, 1 << 20):
            pass
        log.truncate(0)


def spawn(config: EngineConfig, name: str, argv: list[str], env: dict[str, str]) -> int:
    """Executes a command line in a session of its own; of our descriptors it gets none. Returns its pid."""
    log = open_log(config, name)
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        base = {key: os.environ[key] for key in ("PATH", "LANG", "SLIPWAY_DATA", "SLIPWAY_RUN") if key in os.environ}
        return os.posix_spawnp(
            argv[0],
            argv,
            {**base, **env},
            file_actions=[(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)],
            setsid=True,
            setsigmask=[],
            setsigdef=[signal.SIGCHLD, signal.SIGTERM, signal.SIGPIPE],
        )
    finally:
        os.close(log)
        os.close(null)


def fork(config: EngineConfig, name: str, run: Callable[[], None], *, keep: int | None = None) -> int:
    """Runs ``run`` in a child that shares this warm interpreter's pages and keeps one descriptor of ours. Returns its pid.

    The child never returns into the caller's frames, so that no object of ours is finalised there: they would close
    descriptors by numbers that mean something else by then.
    """
    log = open_log(config, name)
    pid = os.fork()
    if pid:
        os.close(log)
        return pid
    code = 1
    try:
        gc.freeze()
        os.setsid()
        scheduling.prefer_session()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        top = os.sysconf("SC_OPEN_MAX")
        if keep is None:
            os.closerange(3, top)
        else:
            os.closerange(3, keep)
            os.closerange(keep + 1, top)
        run()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
