"""One launch: a container from its OCI config to its execve, or to nothing at all; as drawn above engine.runtime.launcher."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, Final

from engine import errors
from engine.kernel import cgroups, mounts, namespaces, paths, processes
from engine.kernel.syscalls import Clone
from engine.model.container import is_container_id
from engine.runtime import binding, layers, member, neighbour, plan
from engine.runtime.birth import Birth
from engine.runtime.last_steps import Filters
from engine.runtime.loop import Connection, close_all, say

if TYPE_CHECKING:
    from engine.runtime.launcher import Launcher

REAP_LOOK_S: Final = 0.001
REAP_LIMIT_S: Final = 10.0  # a killed process that is not gone by then sits in the kernel; the error is answered all the same
_NEWCGROUP: Final = int(Clone.NEWCGROUP)


class Launch(Birth):
    """One container on its way, for one connection of an engine; made ahead (engine.runtime.ready) it has none until it is taken over."""

    op = "launch"
    _no_room = "the tenant's limit of processes is reached"

    def __init__(self, launcher: Launcher, connection: Connection | None, words: dict[str, Any], fds: list[int]) -> None:
        super().__init__(launcher, words, fds)
        self._connection = connection
        self._run = int(words.get("run", 0))
        self._cgroup = ""
        self._is_adopted = False
        self._started_asked = False
        self._planned: plan.Plan | None = None

    # -- launch ----------------------------------------------------------------------------------

    def take_over(self, connection: Connection) -> None:
        """It was made ahead, and is launched now."""
        assert self._planned is not None
        self._connection = connection
        if not self._planned.terminal or "pty" in self._outer:
            self._adopt(self._planned.terminal)

    def _make(self, planned: plan.Plan) -> None:
        if not is_container_id(self.id):
            raise errors.InvalidArgument(f"invalid container id {self.id!r}")
        if len(self._target) != bool(planned.joined) + sum(mount.share for mount in planned.mounts):
            raise errors.InvalidArgument("launch: the pidfd of the container to join is needed, a mount for each share, and no more")
        self._planned = planned
        filters = self._launcher.filters(planned)
        self._make_cgroup(planned)
        self._clone(planned, filters)
        self._listen()
        if not planned.joined:
            self._set_up(planned)

    def _make_cgroup(self, planned: plan.Plan) -> None:
        self._step = "make the cgroup"
        try:
            cgroups.create(planned.cgroup, planned.limits, planned.devices)
        except FileExistsError:  # of a launcher that was killed, when nobody of this one is at it and no process is in it
            if self._launcher.is_launching(self.id, but=self):
                raise
            cgroups.remove(planned.cgroup)
            cgroups.create(planned.cgroup, planned.limits, planned.devices)
        self._cgroup = planned.cgroup

    def _clone(self, planned: plan.Plan, filters: Filters) -> None:
        with ExitStack() as inner:  # what only the member needs is closed here in any case
            wires = self._prepare(planned, inner)
            self._step = "clone"
            cgroup = cgroups.folder_fd(planned.cgroup)
            if cgroup >= 0:
                inner.callback(os.close, cgroup)
            flags = 0 if planned.joined else planned.namespaces if cgroup >= 0 else planned.namespaces & ~_NEWCGROUP
            self._pid, self._pidfd = namespaces.clone(flags, cgroup=cgroup)
            if self._pid == 0 and planned.joined:
                neighbour.run(planned, wires, filters, self._target[0])
            if self._pid == 0:
                member.run(planned, wires, filters)
            if not planned.joined:  # else the process is the helper that makes the member
                self._launcher.roots.hold(wires.root, self._pidfd)
                for share in self._target:
                    self._launcher.roots.hold(share, self._pidfd, aside=True)

    def _born(self, pid: int, pidfd: int) -> None:
        """The helper has made the member."""
        assert self._planned is not None
        os.close(self._pidfd)
        self._pid, self._pidfd = pid, pidfd
        try:
            self._set_up(self._planned)
        except OSError as error:
            self._fail(self._translated(error))

    def _set_up(self, planned: plan.Plan) -> None:
        if not planned.joined:
            self._step = "write the id maps"
            ids = [(0, planned.uid_start, planned.ids)]
            namespaces.write_id_maps(self._pid, ids, ids)
        self._limit(planned)
        if planned.ipc_sysctls:
            self._set_ipc_sysctls(planned)
        assert self._socket is not None
        self._socket.send(member.SET_UP)
        if self._connection is not None and not planned.terminal:
            self._adopt(False)

    def _set_ipc_sysctls(self, planned: plan.Plan) -> None:
        """From outside: before Linux 6.9 the host's root writes them, in the namespace that it is in; since then the container's
        root alone (the member)."""
        with namespaces.ipc_of(self._pidfd):
            for path, value in planned.ipc_sysctls:
                self._step = f"set sysctl {path.replace('/', '.')}"
                with suppress(PermissionError):
                    processes.set_sysctl(path, value)

    def _prepare(self, planned: plan.Plan, inner: ExitStack) -> member.Wires:
        """All descriptors of the member. Ours (its socket, the outer stream ends) are kept in this object."""

        def keep(fd: int) -> int:
            inner.callback(os.close, fd)
            return fd

        self._step = "open the store"
        rootfs = self.words["rootfs"]
        store = self._launcher.stores.open(rootfs["tenant"], planned.uid_start, planned.ids)
        folder = os.O_PATH | os.O_DIRECTORY
        lower = [keep(paths.open_beneath(store, name, folder)) for name in rootfs["lower"]]
        binds, shares = [], iter(self._target[bool(planned.joined) :])
        for mount in planned.mounts:
            self._step = f"open what is mounted on {mount.target}"
            if mount.source.startswith(plan.JOINED):
                binds.append(-1)  # the helper's to find
            elif mount.share:
                binds.append(keep(binding.shared(next(shares), mount)))
            elif mount.kind == "bind":
                binds.append(keep(binding.detached(self._launcher.config, store, planned, mount)))
        dev = next((mount.options for mount in planned.mounts if (mount.target, mount.kind) == ("/dev", "tmpfs")), None)
        if dev is None:
            raise errors.Unsupported("a config without a tmpfs on /dev is not supported")
        streams = {}
        self._step = "mount the root"
        names, ids = (rootfs["upper"], rootfs["work"]), {"uid_start": planned.uid_start, "ids": planned.ids}
        with (
            layers.opened(self._launcher.config, store, *names, **ids) as (upper, work),
            mounts.files_owned_by(planned.uid_start, planned.uid_start),
        ):
            root = keep(mounts.overlay(lower, upper, work))
            self._step = "make /dev"
            device_folder = keep(mounts.device_tmpfs(dev, planned.nodes))
            self._step = "make the standard streams"
            if not planned.terminal:
                streams = self._make_streams(keep)
        return member.Wires(control=keep(self._make_socket().detach()), root=root, dev=device_folder, binds=tuple(binds), **streams)

    def _make_streams(self, keep: Callable[[int], int]) -> dict[str, int]:
        inner = {}
        if self.words.get("stdin"):
            reading, self._outer["stdin"] = os.pipe2(os.O_CLOEXEC)
            inner["stdin"] = keep(reading)
        for name in ("stdout", "stderr"):
            self._outer[name], writing = os.pipe2(os.O_CLOEXEC)
            inner[name] = keep(writing)
        return inner

    def _adopt(self, terminal: bool) -> None:
        have = {"pidfd": self._pidfd, **self._outer}
        self._told = True
        self._launcher.link.ask(
            "adopt",
            self._adoption_answered,
            tuple(have.values()),
            id=self.id,
            run=self._run,
            pid=self._pid,
            tty=terminal,
            tenant=self.words["rootfs"]["tenant"],
            cgroup=self._cgroup,
            log_dir=self.words.get("log_dir"),
            log=self.words.get("log"),
            have=list(have),
        )
        close_all(list(self._outer.values()))
        self._outer.clear()

    def _adopted(self) -> None:
        self._is_adopted = True
        self._answer({"ok": {"pid": self._pid}})

    # -- start -----------------------------------------------------------------------------------

    def start(self) -> None:
        if self.is_over or self._socket is None:
            return  # the answer is on its way
        if not self._is_adopted or self._started_asked:
            raise errors.FailedPrecondition("start: not now")
        self._started_asked = True
        self._launcher.loop.change(self._socket.fileno(), 0)  # of what it says from now on nothing matters before its end (EPOLLHUP)
        self._let_execute()

    def _heard(self, message: Mapping[str, Any], fds: list[int]) -> None:
        if "born" in message:
            self._born(int(message["born"]), fds[0])
            return
        super()._heard(message, fds)
        if self._connection is not None:  # a terminal, without which the keeper is not told
            self._adopt(True)

    def _ended(self) -> None:
        if self._executing:
            self._started()
        else:
            self._fail(errors.Internal("the container's first process was killed before it could execute"))

    def _started(self) -> None:
        self.is_over = True
        started_at_ns = time.time_ns()
        self._release()

        def answer(error: errors.EngineError | None) -> None:
            self._done()
            if error is not None:
                self._answer({"error": error.to_json()})
            else:
                self._answer({"ok": {"pid": self._pid, "started_at_ns": started_at_ns}})

        self._launcher.link.ask("started", answer, id=self.id, run=self._run, started_at_ns=started_at_ns)

    # -- failure ---------------------------------------------------------------------------------

    def abandoned(self) -> None:
        """The engine's connection closed. Once told to execute it goes on and is recorded: the engine's next process must find
        that it ran, or it would run twice."""
        if not self.is_over and not self._started_asked:
            self._fail(errors.Unavailable("the launch was abandoned"))

    def _fail(self, error: errors.EngineError) -> None:
        if self.is_over:
            return
        self.is_over = True
        if self._pidfd >= 0:
            processes.kill(self._pidfd)
        if self._told:
            self._launcher.link.ask("failed", lambda _error: None, id=self.id, run=self._run)
        deadline = time.monotonic() + REAP_LIMIT_S

        def look() -> None:
            if self._pidfd >= 0 and not processes.is_reaped(self._pidfd) and time.monotonic() < deadline:
                self._launcher.loop.after(REAP_LOOK_S, look)
                return
            self._release()
            self._remove_cgroup()
            self._done()
            self._answer({"error": error.to_json()})

        look()

    def _done(self) -> None:
        if self._connection is None:
            self._launcher.ready.ended(self)
        else:
            self._launcher.done(self._connection)

    def _answer(self, message: dict[str, Any]) -> None:
        if self._connection is not None:
            self._connection.send(message)

    def _remove_cgroup(self) -> None:
        if self._cgroup:
            try:
                cgroups.remove(self._cgroup)
            except OSError as error:
                say(f"cgroup {self._cgroup} stays: {error}")

    def _translated(self, error: OSError) -> errors.EngineError:
        step = self._step
        if step == "make the cgroup" and (isinstance(error, FileExistsError) or error.errno == errno.EBUSY):
            return errors.Unavailable("an earlier start of this container is just being ended, or it runs")  # asked again for a while
        if step == "make the cgroup":
            name = os.path.basename(error.filename or "cgroup")  # where the host keeps it is not for tenants
            return errors.InvalidArgument(f"the kernel refuses a limit: {error.strerror} ({name})", errno=error.errno)
        if step.startswith("set sysctl"):
            return errors.InvalidArgument(f"{step}: {error.strerror}", errno=error.errno)
        if step == "clone" and error.errno == errno.ENOSPC:
            return errors.Unavailable(
                "this machine has no more namespaces to give: its administrator raises user.max_user_namespaces and its like (sysctl)",
                errno=error.errno,
            )
        return super()._translated(error)
