"""The launcher's part of ``exec``: a process of its own makes in a container that runs, child of the keeper as the container is.

    clone    setns(2) of the pid namespace for our children alone, clone3 (CLONE_PARENT; version 2: into the cgroup), and back
    adopt    the keeper knows it before it executes, so its end is recorded whatever dies meanwhile
    execute  one byte; its socket closes at execve; the asker gets the outer ends of its streams, and nobody else has them

One thread, so nothing else of ours is cloned while the namespace is another's. Drawn in engine.runtime.protocol.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

from engine import errors
from engine.kernel import cgroups, mounts, namespaces, processes, syscalls
from engine.kernel.syscalls import Clone
from engine.model.container import is_container_id
from engine.runtime import joiner, plan
from engine.runtime.birth import Birth
from engine.runtime.last_steps import Filters
from engine.runtime.loop import Connection, say

if TYPE_CHECKING:
    from engine.runtime.launcher import Launcher

_STREAMS: Final = ("stdin", "stdout", "stderr")
_PARENTS_NEW: Final = int(Clone.NEWPID)
_GONE: Final = (errno.ESRCH, errno.ENOENT, errno.ENOMEM, errno.ENODEV)  # what the kernel says of a container that has just ended


class Joining(Birth):
    """One process on its way into a container, for one connection of an engine."""

    op = "exec"
    _no_room = "the limit of processes of the container or its tenant is reached"

    def __init__(self, launcher: Launcher, connection: Connection, words: dict[str, Any], fds: list[int]) -> None:
        super().__init__(launcher, words, fds)
        self._connection = connection
        self._exec = str(words.get("exec"))
        self._let_go = False

    def _make(self, planned: plan.Plan) -> None:
        if not is_container_id(self.id) or not is_container_id(self._exec):
            raise errors.InvalidArgument(f"invalid id {self.id!r} or {self._exec!r}")
        if len(self._target) != 1:
            raise errors.InvalidArgument("exec: the pidfd of the container is needed")
        self._clone(planned, self._launcher.filters(planned))
        self._limit(planned)
        self._listen()
        self._adopt()

    def _clone(self, planned: plan.Plan, filters: Filters) -> None:
        with ExitStack() as inner:  # what only the joiner needs is closed here in any case
            self._step = "make the standard streams"
            wires = self._make_wires(planned, inner)
            self._step = "clone"
            cgroup = cgroups.folder_fd(planned.cgroup)
            if cgroup >= 0:
                inner.callback(os.close, cgroup)
            with self._launcher.pid_namespace.entered(self._target[0]):
                self._pid, self._pidfd = namespaces.clone(0, cgroup=cgroup)
                if self._pid == 0:
                    joiner.run(planned, wires, filters)

    def _make_wires(self, planned: plan.Plan, inner: ExitStack) -> joiner.Wires:
        streams = {}
        if not planned.terminal:
            with mounts.files_owned_by(planned.uid_start, planned.uid_start):  # the joiner gives them to its user
                for name in _STREAMS:
                    if self.words.get(name):
                        ends = os.pipe2(os.O_CLOEXEC)
                        mine, its = ends if name != "stdin" else ends[::-1]
                        inner.callback(os.close, its)
                        self._outer[name], streams[name] = mine, its
        its_end = self._make_socket()
        inner.callback(its_end.close)
        return joiner.Wires(control=its_end.fileno(), target=self._target[0], **streams)

    def _adopt(self) -> None:
        self._told = True
        quiet = bool(self.words.get("quiet"))
        self._launcher.link.ask("exec_adopt", self._adoption_answered, id=self.id, exec=self._exec, pid=self._pid, quiet=quiet)

    def _adopted(self) -> None:
        self._let_go = True
        self._let_execute()

    def _ended(self) -> None:
        if not self._executing:
            self._fail(errors.FailedPrecondition(f"container {self.id} is not running"))  # who else would have killed it
            return
        self.is_over = True
        have = {"pidfd": self._pidfd, **self._outer}
        self._connection.send({"ok": {"pid": self._pid, "started_at_ns": time.time_ns(), "have": list(have)}}, tuple(have.values()))
        self._release()

    def abandoned(self) -> None:
        """The asker's connection closed."""
        if not self.is_over and not self._let_go:
            self._fail(errors.Unavailable("the exec was abandoned"))

    def _fail(self, error: errors.EngineError) -> None:
        if self.is_over:
            return
        self.is_over = True

        def end(_error: errors.EngineError | None = None) -> None:
            if self._pidfd >= 0:
                processes.kill(self._pidfd)
            self._release()
            self._connection.send({"error": error.to_json()})

        if self._told:
            self._launcher.link.ask("exec_failed", end, id=self.id, exec=self._exec)
        else:
            end()

    def _release(self) -> None:
        super()._release()
        self._launcher.done(self._connection)

    def _translated(self, error: OSError) -> errors.EngineError:
        if self._step != "make the standard streams" and error.errno in _GONE:
            return errors.FailedPrecondition("container is not running")
        return super()._translated(error)


class PidNamespace:
    """Ours, to come back to."""

    def __init__(self) -> None:
        self._own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)

    def entered(self, target: int) -> _Entered:
        """Children made in this block are born in the pid namespace of the process that ``target`` (a pidfd) names."""
        return _Entered(self._own, target)


class _Entered:
    def __init__(self, own: int, target: int) -> None:
        self._own, self._target = own, target

    def __enter__(self) -> None:
        syscalls.setns(self._target, _PARENTS_NEW)

    def __exit__(self, *_error: object) -> None:
        try:
            syscalls.setns(self._own, _PARENTS_NEW)
        except OSError as error:  # the next container would be born inside this one
            say(f"no way back from a pid namespace: {error}")
            sys.stderr.flush()
            os._exit(1)
