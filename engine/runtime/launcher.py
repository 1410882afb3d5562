"""The launcher: makes containers out of OCI configs. ``python -m engine.runtime.launcher``, or forked by the keeper.

One thread (it clones without fork's care for others), one epoll loop, no memory of what it launched: the keeper is the parent of
all it makes (CLONE_PARENT) and holds their descriptors. It may be killed at any time: members that have not executed yet end with
it, and the keeper kills what it was not told to have started.

    launch   cgroup · overlay, /dev, binds as detached mounts · pipes · clone3 · id maps · adopt        ~ the launcher's half
             mounts, pivot_root, user, capabilities, seccomp: engine.runtime.member, at the same time   ~ the member's half
    start    one byte to the member; its socket closes at execve
    failed   kill, wait until the keeper has reaped it, remove the cgroup, answer: nothing is left

The launch is engine.runtime.launch, an exec engine.runtime.joining, and what both have in common engine.runtime.birth. Most launches are
made ahead, at the create (engine.runtime.ready). A child beside it (engine.runtime.roots) lets go of what ended containers leave mounted,
and others ask NFS servers (engine.runtime.shares): nothing in here waits for a server or a disk.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from engine import errors
from engine.config import EngineConfig
from engine.kernel import capabilities, cgroups, mounts, processes, syscalls
from engine.runtime import binding, joining, plan, protocol
from engine.runtime.launch import Launch
from engine.runtime.loop import Connection, Loop, Server, close_all, say
from engine.runtime.ready import Ready
from engine.runtime.roots import Roots
from engine.runtime.shares import Shares
from engine.runtime.stores import Stores
from engine.spec.seccomp import compile_profile

FILTERS_KEPT: Final = 64


class KeeperLink:
    """Questions to the keeper over one connection; answers come in the order of the questions."""

    def __init__(self, loop: Loop, sock: socket.socket) -> None:
        self._waiting: deque[Callable[[errors.EngineError | None], None]] = deque()
        self._connection = Connection(loop, sock, on_message=self._answered, on_close=self._lost)

    def ask(self, op: str, then: Callable[[errors.EngineError | None], None], fds: tuple[int, ...] = (), **words: Any) -> None:
        """``then`` gets None, or the error that the keeper answered. The fds stay the caller's."""
        self._waiting.append(then)
        self._connection.send({"v": protocol.VERSION, "op": op, **words}, fds)

    def _answered(self, _connection: Connection, message: dict[str, Any], fds: list[int]) -> None:
        close_all(fds)
        self._waiting.popleft()(errors.from_json(message["error"]) if "error" in message else None)

    def _lost(self, _connection: Connection) -> None:
        """Without the keeper our members would be nobody's; the next keeper starts its own launcher."""
        say("the keeper went away")
        sys.stderr.flush()
        os._exit(1)


class Launcher:
    def __init__(self, config: EngineConfig, keeper: socket.socket) -> None:
        self.config = config
        self.loop = Loop()
        self.link = KeeperLink(self.loop, keeper)
        self.stores = Stores(config)
        self.roots = Roots()
        self.shares = Shares(self.loop)
        self.own_oom_score_adj = processes.oom_score_adj()
        self._filters: dict[bytes, tuple[syscalls.SockFprog, Any]] = {}
        self._launches: dict[Connection, Launch] = {}
        self._joinings: dict[Connection, joining.Joining] = {}
        self.ready = Ready(self.loop, lambda words: Launch(self, None, words, []))
        self.pid_namespace = joining.PidNamespace()
        self._server = Server(self.loop, protocol.listen(config.launcher_socket), handle=self._handle, on_close=self._closed)

    def run(self) -> None:
        # looked up once here instead of in each member
        cgroups.version()
        capabilities.last()
        gc.collect()
        gc.freeze()
        self.roots.begin()
        self.loop.run()

    def filters(self, planned: plan.Plan) -> tuple[syscalls.SockFprog, ...]:
        return tuple(self._filter(profile) for profile in planned.seccomp)

    def _filter(self, profile: Any) -> syscalls.SockFprog:
        """The profile as seccomp(2) takes it; equal programs share their memory."""
        code = compile_profile(profile)
        kept = self._filters.get(code)
        if kept is None:
            buffer = ctypes.create_string_buffer(code)
            kept = syscalls.SockFprog(len(code) // 8, ctypes.addressof(buffer)), buffer
            if len(self._filters) >= FILTERS_KEPT:
                self._filters.clear()
            self._filters[code] = kept
        return kept[0]

    def _handle(self, connection: Connection, message: dict[str, Any], fds: list[int]) -> dict[str, Any] | None:
        op = message.get("op")
        if op == "exec" and connection not in self._joinings:
            self._joinings[connection] = joining.Joining(self, connection, message, fds)
            self._joinings[connection].begin()
            return None
        if op == "launch" and connection not in self._launches:
            self._launch(connection, message, fds)
            return None
        close_all(fds)
        if op == "prepare":
            self.ready.prepare(message)
            return None
        if op == "ready":
            return {"ready": self.ready.has(str(message.get("id")))}
        if op == "mount_nfs":
            self.shares.begin(connection, message)
            return None
        if op == "drop_memory":
            binding.drop_memory(self.config, str(message.get("place")))
            return {}
        if op == "discard":
            self.ready.discard(connection, str(message.get("id")))
            return None
        if op == "launch":
            raise errors.FailedPrecondition("one launch at a time on a connection")
        if op == "start":
            present = self._launches.get(connection)
            if present is None:
                raise errors.FailedPrecondition("start: nothing was launched on this connection")
            present.start()
            return None
        raise errors.Unsupported(f"the launcher does not know {op!r}")

    def _launch(self, connection: Connection, message: dict[str, Any], fds: list[int]) -> None:
        ready = None if fds else self.ready.take(message)
        launch = self._launches[connection] = ready or Launch(self, connection, message, fds)
        if ready is None:
            launch.begin()
        else:
            launch.take_over(connection)

    def is_launching(self, container_id: str, *, but: Launch) -> bool:
        return any(launch.id == container_id for launch in self._launches.values() if launch is not but)

    def done(self, connection: Connection) -> None:
        self._launches.pop(connection, None)
        self._joinings.pop(connection, None)

    def _closed(self, connection: Connection) -> None:
        launch = self._launches.get(connection) or self._joinings.get(connection)
        if launch is not None:
            launch.abandoned()


def main() -> None:
    """In a process whose parent is the keeper. Returns never while the keeper lives."""
    config = EngineConfig.from_environment()
    parent = os.getppid()
    processes.die_with_parent()
    if os.getppid() != parent:
        raise SystemExit("the keeper ended before the launcher had begun")
    keeper = protocol.connect(config.keeper_socket)
    for number in range(1, signal.NSIG):
        if number not in (signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE):
            syscalls.reset_signal(number)  # what is ignored here would be ignored in containers
    os.umask(0o022)
    os.chdir("/")
    mounts.clear_places()
    mounts.ensure_whole_proc(str(config.run / "proc"))
    processes.hide()
    capabilities.keep_on_setfsuid()
    say(f"launcher {os.getpid()} is ready")
    Launcher(config, keeper).run()


if __name__ == "__main__":
    main()
