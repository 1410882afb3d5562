"""The keeper: parent and reaper of every container, holder of their descriptors, writer of their exits; and nothing else.

One thread, one loop. It may be killed at any time: its containers become foster's children, foster forks the next keeper, and
that one gets every descriptor from the logger, the exits of the meantime from foster's notes, and what had started from ``<run>/running``
(engine.runtime.kept). If foster dies instead, the keeper turns into the foster and forks a keeper: all containers stay
children of the process that was their parent.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from functools import partial
from typing import Any, Final, NamedTuple

from engine import errors
from engine.config import EngineConfig
from engine.disk import write_json
from engine.runtime import code, launcher, logger, protocol
from engine.runtime.exits import LOST, Exit, ExitFile, next_exit, reap, start_time
from engine.runtime.fostered import Fostered, watch_parent
from engine.runtime.kept import Kept, KeptFiles, open_kept
from engine.runtime.kept_execs import Execs
from engine.runtime.logger_link import LoggerLink
from engine.runtime.loop import READABLE, Connection, Loop, Server, close_all, say
from engine.runtime.parts import Parts, fork
from engine.runtime.stopping import Stopping

LIST_CHUNK: Final = 1000  # containers a message
DISK_RETRY_S: Final = 1.0
FAILED_AFTER_S: Final = 30.0  # an ended child of which its launcher says nothing
RENEW: Final = 75  # exit code: foster shall execute the code that renew.json names
STREAMS: Final = ("stdin", "pty", "stdout", "stderr", "pidfd")


class Ending(NamedTuple):
    exit_code: int
    successor: int  # the pid of the next keeper when this process is the foster from now on, else 0


class Keeper:
    def __init__(self, config: EngineConfig, exit_file: ExitFile, foster: int) -> None:
        self._config = config
        self._code = code.stamp()
        self._exit_code = 0
        self._files = KeptFiles(config)
        self._loop = Loop()
        self._fostered = Fostered(self._loop, exit_file)
        self._parts = Parts(config, self._loop, self._fostered)
        self._link = LoggerLink(self._loop, config.logger_socket, on_drained=self._drained)
        self._kept: dict[str, Kept] = {}
        self._draining: dict[tuple[str, int], Kept] = {}
        self._children: dict[int, Kept] = {}
        self._watchers: set[Connection] = set()
        self._execs = Execs(config, self._fostered, self._broadcast)
        self._stopping = Stopping(config, self._loop, self._parts, self._kept, self._draining)
        self._foster_died = False
        self._listen_to_signals()
        self._watch_foster(foster)
        self._recover()
        self._fostered.listen_for_strangers(foster)
        self._server = Server(self._loop, protocol.listen(config.keeper_socket), handle=self._handle, on_close=self._connection_closed)
        self._parts.start_missing()

    def run(self) -> Ending:
        """Until it was stopped or shall be renewed, or, in the process that becomes the foster, until that moment."""
        while True:
            if not self._stopping.is_over:  # its last step may have come while we succeeded
                self._loop.run()
            if not self._foster_died or self._stopping.is_over:  # a foster that dies in that very moment needs no heir
                return Ending(self._exit_code, 0)
            pid = os.fork()
            if pid:
                return Ending(0, pid)
            self._succeed()

    # -- beginnings ------------------------------------------------------------------------------

    def _listen_to_signals(self) -> None:
        reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._loop.add(reading, READABLE, lambda _events: self._signalled(os.read(reading, 4096)))
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, lambda _number, _frame: None)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])

    def _signalled(self, numbers: bytes) -> None:
        if signal.SIGCHLD in numbers:
            self._reap()
        if signal.SIGTERM in numbers:
            if self._kept:
                say(f"SIGTERM ignored: {len(self._kept)} containers run")
            elif not self._stopping.has_begun:
                self._stopping.begin(lambda: None)

    def _watch_foster(self, foster: int) -> None:
        self._foster = foster
        watch_parent(self._loop, foster, self._foster_ended)

    def _foster_ended(self) -> None:
        say("foster died: this process takes its place")
        self._foster_died = True
        self._loop.stop()

    def _succeed(self) -> None:
        """The rest of our life as the new keeper: what were our children are our parent's, the foster's."""
        self._foster_died = False
        self._watch_foster(os.getppid())
        for kept in self._children.values():
            self._await(kept)
        self._children.clear()
        self._execs.give_to_foster()
        self._parts.give_to_foster()
        self._fostered.listen_for_strangers(self._foster)
        self._parts.part("launcher").signal(signal.SIGKILL)  # its containers would be foster's

    def _recover(self) -> None:
        """All that an earlier keeper left."""
        self._parts.recover({"logger": self._start_logger, "launcher": self._start_launcher})
        self._parts.part("launcher").signal(signal.SIGKILL)
        running = {words["id"]: words for words in self._files.running()}
        self._execs.recover(running)
        if self._parts.part("logger").pidfd is not None:
            for words, fds in self._ask_logger():
                started = words["id"] in running and running[words["id"]]["run"] == words["run"]
                if started:
                    del running[words["id"]]
                self._readopt(Kept(words, fds), started)
        for words in running.values():
            self._readopt(open_kept(words), True)

    def _readopt(self, kept: Kept, started: bool) -> None:
        if self._files.has_exit(kept):
            self._files.forget_running(kept)
            if self._link.has(kept.id, kept.run):
                self._draining[kept.id, kept.run] = kept
            else:  # the logger has done with it
                kept.close()
            return
        kept.started = started
        self._kept[kept.id] = kept
        if kept.fds and not self._link.has(kept.id, kept.run):
            self._link.adopt(kept.words, kept.fds)
        self._await(kept)
        if not started:
            self._kill(kept)

    def _await(self, kept: Kept) -> None:
        if kept.ended is None:
            self._fostered.await_exit(kept.process, kept.fds.get("pidfd"), partial(self._stranger_ended, kept))

    def _start_logger(self) -> int:
        listener = protocol.listen(self._config.logger_socket)
        try:
            pid = fork(self._config, "logger", partial(logger.serve, listener, self._config), keep=listener.fileno())
        finally:
            listener.close()
        self._loop.after(0, self._connect_logger)
        return pid

    def _connect_logger(self) -> None:
        self._ask_logger()
        for kept in (*self._draining.values(), *self._kept.values()):
            if kept.fds:
                self._link.adopt(kept.words, kept.fds)

    def _ask_logger(self) -> list[tuple[dict[str, Any], dict[str, int]]]:
        """What it holds; a logger that doesn't answer is killed, and the next one is asked when it has started."""
        try:
            return self._link.connect()
        except (errors.EngineError, OSError) as error:
            say(f"the logger does not answer: {error}")
            self._parts.part("logger").signal(signal.SIGKILL)
            return []

    def _start_launcher(self) -> int:
        return fork(self._config, "launcher", launcher.main)

    # -- questions -------------------------------------------------------------------------------

    def _handle(self, connection: Connection, message: dict[str, Any], fds: list[int]) -> dict[str, Any] | None:
        op = message.get("op")
        if op == "adopt":
            return self._adopt(connection, message, fds)
        close_all(fds)
        answer = {
            "started": self._started,
            "failed": self._failed,
            "fds": self._fds,
            "close_stdin": self._close_stdin,
            "join": self._join,
            "exec_adopt": lambda _connection, message: self._execs.adopt(self._running(message), message),
            "exec_failed": self._execs.failed,
            "exec_wait": self._execs.wait,
            "signal": self._signal,
            "list": self._list,
            "watch": self._watch,
            "supervise": self._supervise,
            "parts": self._list_parts,
            "renew": self._renew,
            "stop": self._stop_asked,
        }.get(str(op))
        if answer is None:
            raise errors.Unsupported(f"the keeper does not know {op!r}")
        return answer(connection, message)

    def _connection_closed(self, connection: Connection) -> None:
        self._watchers.discard(connection)
        self._execs.forget(connection)
        for kept in [kept for kept in self._kept.values() if kept.launcher is connection]:
            kept.launcher = None
            if not kept.started:
                self._kill(kept)

    def _adopt(self, connection: Connection, message: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        words = {key: value for key, value in message.items() if key not in ("v", "op", "have")}
        words["start_time"] = start_time(message["pid"])
        kept = Kept(words, dict(zip(message["have"], fds, strict=True)), connection)
        present = self._kept.get(kept.id)
        if present is not None and not present.started:
            self._kill(present)  # the launch before this one failed, and it may take a moment to die: nobody waits for that
            self._forget(present)
            present = None
        if present is not None or self._stopping.has_begun:
            kept.close()
            raise errors.FailedPrecondition(f"container {kept.id} " + ("is running" if present else "can't start: the keeper stops"))
        kept.prepare_streams()
        self._kept[kept.id] = kept
        self._link.adopt(kept.words, kept.fds)
        if kept.process.start_time:
            self._children[kept.process.pid] = kept
        else:  # it failed at once, and was reaped as nobody's child before we heard of it
            kept.ended = Exit(LOST, 9, time.time_ns())
            self._ended_unstarted(kept)
        return {}

    def _started(self, _connection: Connection, message: dict[str, Any]) -> dict[str, Any]:
        kept = self._launching(message)
        kept.words["started_at_ns"] = int(message.get("started_at_ns") or time.time_ns())
        if kept.ended is None:
            try:
                self._files.note_running(kept)
            except OSError as error:
                self._kill(kept)
                raise errors.Internal(f"container {kept.id} can't be recorded as running: {error.strerror}") from error
        kept.started = True
        kept.launcher = None
        self._broadcast(kept.event("started"))
        if kept.ended is not None:
            self._settle(kept)
        return {}

    def _failed(self, _connection: Connection, message: dict[str, Any]) -> dict[str, Any]:
        self._kill(self._launching(message))
        return {}

    def _launching(self, message: dict[str, Any]) -> Kept:
        kept = self._kept.get(str(message["id"]))
        if kept is None or kept.run != message["run"] or kept.started:
            raise errors.NotFound(f"container {message['id']} is not being launched")
        return kept

    def _running(self, message: dict[str, Any]) -> Kept:
        kept = self._kept.get(str(message["id"]))
        if kept is None or kept.ended is not None:
            raise errors.NotFound(f"container {message['id']} is not running")
        return kept

    def _fds(self, connection: Connection, message: dict[str, Any]) -> None:
        kept = self._running(message)
        have = [name for name in message["want"] if name in STREAMS and name in kept.fds]
        connection.send({"ok": {"have": have}}, tuple(kept.fds[name] for name in have))

    def _join(self, connection: Connection, message: dict[str, Any]) -> None:
        kept = self._running(message)
        if not kept.started or "pidfd" not in kept.fds:
            raise errors.NotFound(f"container {kept.id} is not running")
        connection.send({"ok": {"run": kept.run, "cgroup": kept.words.get("cgroup")}}, (kept.fds["pidfd"],))

    def _close_stdin(self, connection: Connection, message: dict[str, Any]) -> dict[str, Any] | None:
        kept = self._running(message)
        if "stdin" not in kept.fds:
            return {}
        os.close(kept.fds.pop("stdin"))
        self._link.close_stdin(kept.id, lambda: connection.send({"ok": {}}))
        return None

    def _signal(self, _connection: Connection, message: dict[str, Any]) -> dict[str, Any]:
        kept = self._running(message)
        try:
            kept.signal(int(message["signal"]))
        except ProcessLookupError:
            raise errors.NotFound(f"container {kept.id} is not running") from None
        except OSError as error:
            raise errors.InvalidArgument(f"signal {message['signal']}: {error.strerror}") from error
        return {}

    def _list(self, connection: Connection, _message: dict[str, Any]) -> None:
        found = [
            {"id": kept.id, "run": kept.run, "pid": kept.process.pid} for kept in self._kept.values() if kept.started and kept.ended is None
        ]
        for start in range(0, max(1, len(found)), LIST_CHUNK):
            connection.send({"ok": {"containers": found[start : start + LIST_CHUNK], "more": start + LIST_CHUNK < len(found)}})

    def _watch(self, connection: Connection, _message: dict[str, Any]) -> None:
        connection.send({"ok": {}})
        self._watchers.add(connection)

    def _supervise(self, _connection: Connection, message: dict[str, Any]) -> dict[str, Any]:
        if self._stopping.has_begun:
            raise errors.FailedPrecondition("the keeper stops")
        self._parts.supervise(str(message["name"]), [str(word) for word in message["argv"]], dict(message.get("env") or {}))
        return {}

    def _list_parts(self, _connection: Connection, _message: dict[str, Any]) -> dict[str, Any]:
        return {"foster": {"pid": self._foster}, "keeper": {"pid": os.getpid(), "code": self._code}, **self._parts.status()}

    # -- ends ------------------------------------------------------------------------------------

    def _reap(self) -> None:
        """Records first, reaps then: killed in between, foster gets the same child again."""
        while (found := next_exit()) is not None:
            pid, ended = found
            kept = self._children.pop(pid, None)
            if kept is not None:
                kept.ended = ended
                recorded = kept.started and self._files.write_exit(kept)
                reap(pid)
                if recorded:
                    self._announce(kept)
                elif kept.started:
                    self._loop.after(DISK_RETRY_S, partial(self._settle, kept))
                else:
                    self._ended_unstarted(kept)
            elif self._execs.child_ended(pid, ended):
                reap(pid)
            else:
                reap(pid)
                self._parts.child_ended(pid, ended)  # or a child of a launch that never came to adopt

    def _stranger_ended(self, kept: Kept, ended: Exit) -> None:
        kept.ended = ended
        if kept.started:
            self._settle(kept)
        else:
            self._ended_unstarted(kept)

    def _ended_unstarted(self, kept: Kept) -> None:
        """Its launcher will say what that was; without a launcher nobody will."""
        if kept.launcher is None:
            self._forget(kept)
        else:
            self._loop.after(FAILED_AFTER_S, lambda: None if kept.started else self._forget(kept))

    def _kill(self, kept: Kept) -> None:
        """A launch that failed. Forgotten now when the process is gone, else when it ends."""
        kept.launcher = None
        if kept.ended is not None:
            self._forget(kept)
            return
        kept.try_signal(signal.SIGKILL)

    def _forget(self, kept: Kept) -> None:
        if self._kept.get(kept.id) is kept:
            del self._kept[kept.id]
            self._link.forget(kept.id)
            kept.close()
            self._stopping.look()

    def _settle(self, kept: Kept) -> None:
        """exit.json, then everybody hears of it; again later when the disk is full."""
        if self._files.write_exit(kept):
            self._announce(kept)
        else:
            self._loop.after(DISK_RETRY_S, partial(self._settle, kept))

    def _announce(self, kept: Kept) -> None:
        del self._kept[kept.id]
        self._execs.container_ended(kept.id)
        if kept.drained:
            kept.close()
        elif kept.fds:
            self._draining[kept.id, kept.run] = kept
        self._broadcast(kept.event("exited"))
        self._stopping.look()

    def _broadcast(self, message: dict[str, Any]) -> None:
        for watcher in list(self._watchers):
            watcher.send(message)

    def _drained(self, container_id: str, run: int) -> None:
        kept = self._kept.get(container_id)
        if kept is not None and kept.run == run:
            kept.drained = True
            return
        kept = self._draining.pop((container_id, run), None)
        if kept is not None:
            kept.close()
            self._stopping.look()

    def _stop_asked(self, connection: Connection, message: dict[str, Any]) -> None:
        if self._kept and not message.get("containers"):
            raise errors.FailedPrecondition(f"{len(self._kept)} containers run")
        self._stopping.begin(lambda: connection.send({"ok": {}}))

    # -- another code ----------------------------------------------------------------------------

    def renew_parts(self) -> None:
        """Of a renewed keeper: the logger, which went on through all this, begins anew as well. The launcher has already."""
        self._parts.part("logger").signal(signal.SIGTERM)

    def _renew(self, connection: Connection, message: dict[str, Any]) -> None:
        """Like being killed, but foster then executes other code. A launch under way fails, and is asked for again."""
        write_json(self._config.run / "renew.json", {"python": message["python"], "home": message["home"]})
        self._exit_code = RENEW
        connection.send({"ok": {}})
        self._loop.stop()


def main(config: EngineConfig, exit_file: ExitFile, foster: int, *, renewed: bool) -> Ending:
    """In the process forked by foster."""
    sys.stderr.flush()
    keeper = Keeper(config, exit_file, foster)
    if renewed:
        keeper.renew_parts()
    say(f"keeper {os.getpid()} is ready")
    ending = keeper.run()
    _retired.append(keeper)
    return ending


_retired: list[Keeper] = []  # never finalised: descriptors are closed by number when this process becomes the foster
