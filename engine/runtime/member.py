"""The first process of a container, from clone3 to execve.

    launcher → member   "m"  the id maps are written: set up          and what engine.runtime.last_steps says

What the image says is followed only after the root was changed, by a process that is root of nothing but its own user namespace:
no name of an image can reach the host.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final, NoReturn

from engine.errors import InvalidArgument
from engine.kernel import cgroups, loopback, mounts, processes, syscalls
from engine.kernel.syscalls import MS, Clone
from engine.runtime import last_steps
from engine.runtime.last_steps import Filters, Step
from engine.runtime.plan import INIT_INSIDE, Mount, Plan

SET_UP: Final = b"m"

_OF_THE_KERNEL: Final = ("proc", "sysfs")
_PROC_FLAGS: Final = int(MS.NOSUID | MS.NODEV | MS.NOEXEC)  # no mount of proc or sysfs goes without these
_NEWUTS: Final = int(Clone.NEWUTS)
_NEWNET: Final = int(Clone.NEWNET)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wires:
    """The descriptors that a member has of the launcher's."""

    control: int
    root: int  # the overlay, detached
    dev: int  # the tmpfs for /dev, detached
    binds: tuple[int, ...]  # detached, in the order of the plan's bind mounts
    stdin: int = -1  # -1: /dev/null, or a terminal
    stdout: int = -1
    stderr: int = -1

    def all(self) -> list[int]:
        return [fd for fd in (self.control, self.root, self.dev, *self.binds, self.stdin, self.stdout, self.stderr) if fd >= 0]


def run(plan: Plan, wires: Wires, filters: Filters) -> NoReturn:
    """Never returns: execve, or a report and the end."""
    last_steps.run(wires.control, partial(_set_up, plan, wires, filters), last_steps.describe)


def _set_up(plan: Plan, wires: Wires, filters: Filters, step: Step) -> None:
    step.name = "close descriptors"
    last_steps.close_all_but(wires.all())
    step.name = "join the cgroup"
    _enter_cgroup(plan)
    last_steps.await_word(wires.control, SET_UP)
    step.name = "become root of the user namespace"
    os.setresgid(0, 0, 0)
    os.setgroups([])
    os.setresuid(0, 0, 0)
    processes.hide()  # a change of ids made it visible again
    os.umask(0o022)
    os.setsid()
    _build_root(plan, wires, step)
    step.name = "open the standard streams"
    _open_streams(plan, wires)
    step.name = "set host name and network"
    if not plan.joined & _NEWUTS:
        socket.sethostname(plan.hostname)
        if plan.domainname:
            syscalls.setdomainname(plan.domainname)
    if plan.namespaces & _NEWNET:
        loopback.bring_up()
    for path, value in plan.sysctls:
        step.name = f"set sysctl {path.replace('/', '.')}"
        processes.set_sysctl(path, value)
    for path, value in plan.ipc_sysctls:
        step.name = f"set sysctl {path.replace('/', '.')}"
        _set_unless_set(path, value)
    step.name = "hide parts of /proc and /sys"
    mounts.mask(plan.masked)
    for path in plan.read_only:
        mounts.make_read_only(path, _PROC_FLAGS)
    if plan.root_read_only:
        step.name = "make the root read-only"
        mounts.remount("/", MS.RDONLY | MS.NODEV)
    os.umask(plan.umask)
    last_steps.become_user(plan, filters, step, _enter_folder)
    step.name = "find the command"
    program = plan.args[0] if plan.args[0] == INIT_INSIDE else last_steps.find_program(plan.args[0], plan.env.get("PATH", ""))
    last_steps.execute(plan, program, wires.control, step)


def _enter_cgroup(plan: Plan) -> None:
    """Still as the host's root: its keys are not ours, and on cgroup v1 our cgroup's files are its own."""
    with suppress(OSError):  # ENOSYS: a kernel without keys
        syscalls.join_session_keyring()
    if cgroups.version() == 1:
        cgroups.join(plan.cgroup)
        # after that, or the namespace's root would be the launcher's cgroup
        syscalls.unshare(Clone.NEWCGROUP)


def _open_streams(plan: Plan, wires: Wires) -> None:
    """Descriptors 0, 1, 2."""
    if plan.terminal:
        last_steps.open_terminal(plan, wires.control, console=True)
        return
    stdin = wires.stdin if wires.stdin >= 0 else os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    for number, fd in enumerate((stdin, wires.stdout, wires.stderr)):
        os.dup2(fd, number)
        os.close(fd)


def _enter_folder(path: str) -> None:
    """Made when it is missing, as dockerd does with an image's WorkingDir."""
    try:
        _on_folder(path, os.chdir)
    except NotADirectoryError:
        raise last_steps.refusal(f"Cannot mkdir: {path} is not a directory", 128) from None
    last_steps.check_folder(path)


# -- files ---------------------------------------------------------------------------------------


def _build_root(plan: Plan, wires: Wires, step: Step) -> None:
    step.name = "make /proc and /sys"
    kernel = {mount.target: mounts.kernel_filesystem(mount.kind, mount.options) for mount in plan.mounts if mount.kind in _OF_THE_KERNEL}
    view = cgroups.open_view(plan.cgroup)
    step.name = "change the root"
    mounts.enter_root(wires.root)
    binds = iter(wires.binds)
    for mount in plan.mounts:
        step.name = f"mount {mount.kind} on {mount.target}"
        target, options = mount.target, mount.options
        if mount.kind == "bind":
            _attach(next(binds), _checked(target) if mount.asked else target)
        elif mount.kind in _OF_THE_KERNEL:
            if os.path.islink(target):  # the paths that are masked below it would be elsewhere
                raise InvalidArgument(f"{target} of the image is a symbolic link; it must be a folder")
            _attach(kernel[target], target)
        elif mount.kind == "cgroup":
            _on_folder(target, partial(_mount_cgroup, options.flags, view))
        elif (target, mount.kind) == ("/dev", "tmpfs"):
            _attach(wires.dev, target)
        else:
            _on_folder(target, partial(_mount, mount))
    for fd in (wires.root, wires.dev, *wires.binds, *kernel.values()):
        os.close(fd)


def _checked(target: str) -> str:
    """Where the image's links lead a target that a tenant chose: not over what the kernel tells, parts of which are hidden later."""
    place = os.path.realpath(target)
    if place == "/" or place == "/dev" or f"{place}/".startswith(("/proc/", "/sys/")):
        raise InvalidArgument(f"{target} of the image is a symbolic link to {place}, where nothing can be mounted")
    return place


def _mount_cgroup(flags: int, view: list[int], place: str) -> None:
    cgroups.mount(place, flags, view)


def _mount(mount: Mount, place: str) -> None:
    syscalls.mount(mount.source, place, mount.kind, mount.options.flags, mount.options.data)


def _attach(fd: int, target: str) -> None:
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        _on_folder(target, lambda place: mounts.attach(fd, place))
        return
    try:
        mounts.attach(fd, target)
        return
    except FileNotFoundError:
        place = target
    try:
        _touch(place)
    except OSError:  # its folder is missing, or a symlink points to where something is missing
        place = os.path.realpath(target)
        os.makedirs(os.path.dirname(place), mode=0o755, exist_ok=True)
        _touch(place)
    mounts.attach(fd, place)


def _touch(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))


def _on_folder(target: str, act: Callable[[str], None]) -> None:
    """With the folder made when the image lacks it; also where a symlink (``/var/run``) points to."""
    try:
        act(target)
    except FileNotFoundError:
        place = os.path.realpath(target)
        os.makedirs(place, mode=0o755, exist_ok=True)
        act(place)


def _set_unless_set(path: str, value: str) -> None:
    """Before Linux 6.9 it is not ours to write, and the launcher has."""
    try:
        processes.set_sysctl(path, value)
    except PermissionError:
        if last_steps.read_text(f"/proc/sys/{path}").split() != value.split():
            raise
