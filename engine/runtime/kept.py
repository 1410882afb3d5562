"""One run of one container as the keeper holds it, and the two files that outlive the keeper.

<run>/running/<id>.json     from started to the exit: the words of adopt, for the keeper after a killed one
containers/<id>/exit.json   how it ended, for everybody
"""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from engine.config import EngineConfig
from engine.disk import read_json, write_json
from engine.kernel import cgroups
from engine.runtime.exits import Exit, Process, open_process
from engine.runtime.loop import Connection, close_all, say

PIPE_SIZE: Final = 1 << 20  # bytes; /proc/sys/fs/pipe-max-size of an untouched system


class Kept:
    """``words`` are those of adopt, and ``start_time``. launching → running (started) → draining (ended, the logger still reads)."""

    def __init__(self, words: dict[str, Any], fds: dict[str, int], launcher: Connection | None = None) -> None:
        self.words, self.fds, self.launcher = words, fds, launcher
        self.id, self.run = str(words["id"]), int(words["run"])
        self.process = Process(int(words["pid"]), int(words["start_time"]))
        self.started = False
        self.ended: Exit | None = None
        self.oom_killed = False
        self.drained = False  # the logger may be done before the keeper has heard of the end

    def prepare_streams(self) -> None:
        """Wide pipes, and for a terminal the spool that logger and keeper share (engine.runtime.logger)."""
        if "pty" in self.fds:
            self.fds["spool_out"], self.fds["spool_in"] = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        for name in ("stdout", "stderr", "spool_in"):
            if name in self.fds:
                _enlarge_pipe(self.fds[name])

    def signal(self, number: int) -> None:
        """ProcessLookupError when it has ended."""
        if "pidfd" not in self.fds:
            raise ProcessLookupError
        signal.pidfd_send_signal(self.fds["pidfd"], number)

    def try_signal(self, number: int) -> None:
        try:
            self.signal(number)
        except ProcessLookupError:
            pass  # it has ended; the exit comes

    def thaw(self) -> None:
        """What is paused does not take a signal before, on cgroup version 1 not even SIGKILL."""
        try:
            cgroups.thaw(str(self.words["cgroup"]))
        except (OSError, KeyError):
            pass  # it has ended

    def close(self) -> None:
        close_all(list(self.fds.values()))
        self.fds.clear()

    def event(self, kind: str) -> dict[str, Any]:
        """For watchers."""
        ended = self.ended if kind == "exited" else None
        return {
            "event": kind,
            "id": self.id,
            "run": self.run,
            "pid": self.process.pid,
            "exit_code": ended.exit_code if ended else 0,
            "signal": ended.signal if ended else 0,
            "oom_killed": self.oom_killed,
            "time_ns": ended.time_ns if ended else self.words["started_at_ns"],
        }


class KeptFiles:
    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._folder = config.run / "running"
        self._folder.mkdir(mode=0o700, exist_ok=True)

    def running(self) -> Iterator[dict[str, Any]]:
        """The words of every container that an earlier keeper knew as running. What it was writing when it was killed is cleared away."""
        for unfinished in self._folder.glob(".*"):
            unfinished.unlink(missing_ok=True)
        for path in self._folder.glob("*.json"):
            words = read_json(path)
            if words is not None:
                yield words

    def note_running(self, kept: Kept) -> None:
        write_json(self._path(kept), kept.words)

    def has_exit(self, kept: Kept) -> bool:
        record = read_json(self._config.container(kept.id) / "exit.json")
        return record is not None and record["run"] == kept.run

    def write_exit(self, kept: Kept) -> bool:
        """exit.json, then the running file goes. False: the disk refused, try again."""
        assert kept.ended is not None
        kept.oom_killed = _oom_killed(str(kept.words.get("cgroup") or ""))
        record = {
            "run": kept.run,
            "exit_code": kept.ended.exit_code,
            "signal": kept.ended.signal,
            "oom_killed": kept.oom_killed,
            "finished_at_ns": kept.ended.time_ns,
            "started_at_ns": int(kept.words.get("started_at_ns", 0)),
        }
        try:
            write_json(self._config.container(kept.id) / "exit.json", record)
        except FileNotFoundError:
            pass  # the container was removed: nobody asks any more
        except OSError as error:
            say(f"exit of {kept.id[:12]} is not recorded yet: {error}")
            return False
        self.forget_running(kept)
        return True

    def forget_running(self, kept: Kept) -> None:
        self._path(kept).unlink(missing_ok=True)

    def _path(self, kept: Kept) -> Path:
        return self._folder / f"{kept.id}.json"


def running_note(config: EngineConfig, container_id: str) -> dict[str, Any] | None:
    """The words of adopt, ``start_time`` and ``started_at_ns`` of a container that runs; None when none does."""
    note: dict[str, Any] | None = read_json(config.run / "running" / f"{container_id}.json")
    return note


def open_kept(words: dict[str, Any]) -> Kept:
    """From a running file: with its pidfd when that very process still runs, without any descriptor when it doesn't."""
    pidfd = open_process(Process(words["pid"], words["start_time"]))
    return Kept(words, {} if pidfd is None else {"pidfd": pidfd})


def _oom_killed(cgroup: str) -> bool:
    """Whether the kernel killed a process there for memory. A cgroup that is gone, or unreadable, tells of no such thing."""
    try:
        return bool(cgroup) and cgroups.oom_kills(cgroup) > 0
    except (OSError, ValueError):
        return False


def _enlarge_pipe(fd: int) -> None:
    """A reader that pauses must not stop a writer at 64 KiB; a system that allows less keeps what it allows."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
    except PermissionError:
        pass
