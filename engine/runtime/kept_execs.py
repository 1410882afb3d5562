"""Processes that joined a container, as the keeper holds them: it is their parent and reaper, and says how they ended.

containers/<id>/execs/<exec>.json   from before it executes, {"id", "exec", "run", "pid", "start_time", "started_at_ns", "quiet"}; at its
                                    end also {"exit_code", "signal", "finished_at_ns"}. The last ENDED_KEPT that ended stay, until the
                                    container is started again or removed

The file is what a keeper after a killed one goes by; foster has noted the exits of the meantime.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, Final

from engine import errors
from engine.config import EngineConfig
from engine.disk import read_json, write_json
from engine.model.container import is_container_id
from engine.runtime.exits import LOST, Exit, Process, open_process, start_time
from engine.runtime.fostered import Fostered
from engine.runtime.kept import Kept
from engine.runtime.loop import Connection, say

ENDED_KEPT: Final = 64  # records of a container

Key = tuple[str, str]  # container, exec


class Execs:
    def __init__(self, config: EngineConfig, fostered: Fostered, tell: Callable[[dict[str, Any]], None]) -> None:
        """``tell`` hears of every end, when it is recorded."""
        self._config, self._fostered, self._tell = config, fostered, tell
        self._running: dict[Key, dict[str, Any]] = {}
        self._children: dict[int, Key] = {}
        self._waiting: dict[Key, list[Connection]] = {}
        self._ended: dict[str, deque[str]] = {}  # container: execs whose records stay, oldest first

    # -- the launcher's words ----------------------------------------------------------------------

    def adopt(self, kept: Kept, message: dict[str, Any]) -> dict[str, Any]:
        """Of a process that joined ``kept``, which runs."""
        key, pid = _key(message), int(message["pid"])
        if key in self._running:
            raise errors.AlreadyExists(f"exec {key[1]} runs already")
        words = {
            "id": key[0],
            "exec": key[1],
            "run": kept.run,
            "pid": pid,
            "start_time": start_time(pid),
            "started_at_ns": time.time_ns(),
            "quiet": bool(message.get("quiet")),
        }
        self._write(words)
        self._running[key] = words
        self._children[pid] = key
        return {}

    def failed(self, _connection: Connection, message: dict[str, Any]) -> dict[str, Any]:
        """It did not come to execve: it never was."""
        key = _key(message)
        words = self._running.pop(key, None)
        if words is not None:
            self._children.pop(words["pid"], None)
        self._path(key).unlink(missing_ok=True)
        self._answer(key, Exit(LOST, 9, time.time_ns()))
        return {}

    # -- who waits ---------------------------------------------------------------------------------

    def wait(self, connection: Connection, message: dict[str, Any]) -> dict[str, Any] | None:
        """Answered when it has ended."""
        key = _key(message)
        if key in self._running:
            self._waiting.setdefault(key, []).append(connection)
            return None
        words = read_json(self._path(key))
        if words is None:
            raise errors.NotFound(f"No such exec instance: {key[1]}")
        return {name: words.get(name, default) for name, default in (("exit_code", LOST), ("signal", 9), ("finished_at_ns", 0))}

    def forget(self, connection: Connection) -> None:
        """It has closed."""
        for waiting in self._waiting.values():
            if connection in waiting:
                waiting.remove(connection)

    # -- ends --------------------------------------------------------------------------------------

    def child_ended(self, pid: int, ended: Exit) -> bool:
        """Whether ``pid`` is one of ours. Recorded when this returns; the caller reaps."""
        key = self._children.pop(pid, None)
        if key is not None:
            self._record(key, ended)
        return key is not None

    def give_to_foster(self) -> None:
        """What were our children are our parent's now."""
        for pid, key in self._children.items():
            self._await(key, Process(pid, self._running[key]["start_time"]))
        self._children.clear()

    def recover(self, containers: Iterable[str]) -> None:
        """What an earlier keeper knew of these."""
        for container_id in containers:
            for path in sorted(self._folder(container_id).glob("*.json"), key=lambda path: path.stat().st_mtime_ns):
                words = read_json(path)
                if words is None:
                    continue
                key = words["id"], words["exec"]
                if "exit_code" in words:
                    self._ended.setdefault(container_id, deque()).append(key[1])
                else:
                    self._running[key] = words
                    self._await(key, Process(words["pid"], words["start_time"]))

    def _await(self, key: Key, process: Process) -> None:
        pidfd = open_process(process)
        try:
            self._fostered.await_exit(process, pidfd, partial(self._record, key))
        finally:
            if pidfd is not None:
                os.close(pidfd)

    def _record(self, key: Key, ended: Exit) -> None:
        """Its file, then everybody hears of it. A full disk keeps nobody waiting."""
        words = self._running.pop(key, None)
        if words is None:
            return
        words |= {"exit_code": ended.exit_code, "signal": ended.signal, "finished_at_ns": ended.time_ns}
        try:
            self._write(words)
        except FileNotFoundError:
            self._ended.pop(key[0], None)  # the container was removed
        except OSError as error:
            say(f"the end of exec {key[1][:12]} is not recorded: {error}")
        else:
            self._trim(key)
        self._answer(key, ended)
        told = {"event": "exec_exited", "id": key[0], "exec": key[1], "oom_killed": False, "time_ns": ended.time_ns}
        self._tell({**told, **{name: words[name] for name in ("run", "pid", "exit_code", "signal", "quiet")}})

    def _answer(self, key: Key, ended: Exit) -> None:
        answer = {"exit_code": ended.exit_code, "signal": ended.signal, "finished_at_ns": ended.time_ns}
        for connection in self._waiting.pop(key, ()):
            connection.send({"ok": answer})

    # -- files -------------------------------------------------------------------------------------

    def _trim(self, key: Key) -> None:
        ended = self._ended.setdefault(key[0], deque())
        ended.append(key[1])
        while len(ended) > ENDED_KEPT:
            self._path((key[0], ended.popleft())).unlink(missing_ok=True)

    def container_ended(self, container_id: str) -> None:
        """Its records stay on disk until it is started again; of them nothing is kept in mind."""
        self._ended.pop(container_id, None)

    def _write(self, words: dict[str, Any]) -> None:
        path = self._path((words["id"], words["exec"]))
        try:
            write_json(path, words)
        except FileNotFoundError:
            if "exit_code" in words:
                raise
            path.parent.mkdir(mode=0o700, exist_ok=True)
            write_json(path, words)

    def _path(self, key: Key) -> Path:
        return self._folder(key[0]) / f"{key[1]}.json"

    def _folder(self, container_id: str) -> Path:
        return exec_folder(self._config, container_id)


def exec_folder(config: EngineConfig, container_id: str) -> Path:
    return config.container(container_id) / "execs"


def _key(message: dict[str, Any]) -> Key:
    """Both become paths."""
    key = str(message.get("id")), str(message.get("exec"))
    if not all(is_container_id(part) for part in key):
        raise errors.InvalidArgument(f"invalid ids {key!r}")
    return key
