"""cgroups version 1 (Documentation/admin-guide/cgroup-v1): a tree for each controller, or for several mounted together."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cache
from typing import Final

from engine.kernel import mounts, syscalls
from engine.kernel.cgroup_files import (
    STOP_S,
    DeviceRule,
    Usage,
    below,
    cpu_quota_us,
    list_pids,
    make,
    read,
    read_flat,
    read_int,
    remove_tree,
    swap_bytes,
    write,
    write_if_there,
)
from engine.kernel.syscalls import MS
from engine.model.resources import Resources

WANTED: Final = ("memory", "cpu", "cpuacct", "cpuset", "blkio", "devices", "pids", "freezer")
_UNLIMITED: Final = 1 << 62  # memory.limit_in_bytes without a limit is the largest multiple of a page
_READ_ONLY: Final = int(MS.RDONLY)
_DEFAULT_SHARES: Final = 1024
_TICKS: Final = os.sysconf("SC_CLK_TCK")


@cache
def hierarchies() -> dict[str, str]:
    """Controller → where its tree is mounted; controllers mounted together have the same."""
    found: dict[str, str] = {}
    with open("/proc/self/mountinfo") as lines:
        for line in lines:
            mount, _, filesystem = line.partition(" - ")
            kind, _source, options = filesystem.split()[:3]
            if kind == "cgroup":
                place = mount.split()[4]
                for name in WANTED:
                    if name in options.split(","):
                        found.setdefault(name, place)
    return found


@cache
def places() -> tuple[str, ...]:
    """Of each tree."""
    return tuple(dict.fromkeys(hierarchies().values()))


def _folder(controller: str, path: str) -> str:
    """FileNotFoundError when the controller is not mounted."""
    place = hierarchies().get(controller)
    if place is None:
        raise FileNotFoundError(errno.ENOENT, f"no {controller} controller is mounted", path)
    return place + path


def main_folder(path: str) -> str:
    return _folder("memory", path)


def create(path: str, limits: Resources, devices: Sequence[DeviceRule]) -> None:
    made = []
    try:
        for place in places():
            make(place + path, _prepare)
            made.append(place + path)
        _write_limits(path, limits, fresh=True)
        if devices:
            _write_devices(_folder("devices", path), devices)
    except BaseException:
        for folder in reversed(made):
            os.rmdir(folder)
        raise


def set_limits(path: str, limits: Resources) -> None:
    for place in places():
        try:
            make(place + path, _prepare)
        except FileExistsError:
            pass
    _write_limits(path, limits, fresh=False)


def _prepare(folder: str) -> None:
    """A new cpuset has no cpu and no memory, and takes no process (ENOSPC) until it has: begin with the parent's."""
    if not folder.startswith(hierarchies().get("cpuset", "\0")):
        return
    try:
        if read(folder, "cpuset.cpus").strip():
            return  # its parent passed them on (cgroup.clone_children, which is inherited)
        for name in ("cpuset.cpus", "cpuset.mems"):
            write(folder, name, read(os.path.dirname(folder), name).strip())
        write(folder, "cgroup.clone_children", 1)
    except FileNotFoundError:
        return  # another controller's folder


def _write_limits(path: str, limits: Resources, *, fresh: bool) -> None:
    """Of a fresh one only what was asked for: every file has no limit to begin with."""
    if limits.memory_bytes or not fresh:
        _write_memory(_folder("memory", path), limits)
    if limits.memory_reservation_bytes or not fresh:
        write(_folder("memory", path), "memory.soft_limit_in_bytes", limits.memory_reservation_bytes or -1)
    quota, period = cpu_quota_us(limits)
    if quota or limits.cpu_period_us or not fresh:
        _write_cpu(_folder("cpu", path), quota, period)
    if limits.cpu_shares or not fresh:
        write(_folder("cpu", path), "cpu.shares", limits.cpu_shares or _DEFAULT_SHARES)
    for name, value in (("cpuset.cpus", limits.cpuset_cpus), ("cpuset.mems", limits.cpuset_mems)):
        if value or not fresh:
            folder = _folder("cpuset", path)
            write(folder, name, value or read(os.path.dirname(folder), name).strip())
    if limits.pids_limit > 0 or not fresh:
        write(_folder("pids", path), "pids.max", limits.pids_limit if limits.pids_limit > 0 else "max")
    if limits.memory_swappiness >= 0:
        write(_folder("memory", path), "memory.swappiness", limits.memory_swappiness)
    if limits.oom_kill_disable:
        write(_folder("memory", path), "memory.oom_control", 1)
    if "blkio" in hierarchies():
        _write_blkio(_folder("blkio", path), limits)


def _write_blkio(folder: str, limits: Resources) -> None:
    """Weights need a scheduler that knows them (BFQ; before Linux 5.0 CFQ): without one they have no file and no meaning."""
    if limits.blkio_weight:
        for name in ("blkio.bfq.weight", "blkio.weight"):
            write_if_there(folder, name, limits.blkio_weight)
    for rate in limits.blkio_weight_device:
        for name in ("blkio.bfq.weight_device", "blkio.weight_device"):
            write_if_there(folder, name, f"{rate.path} {rate.rate}")
    for name, rates in (
        ("read_bps", limits.blkio_read_bps),
        ("write_bps", limits.blkio_write_bps),
        ("read_iops", limits.blkio_read_iops),
        ("write_iops", limits.blkio_write_iops),
    ):
        for rate in rates:
            write(folder, f"blkio.throttle.{name}_device", f"{rate.path} {rate.rate}")


def _write_memory(folder: str, limits: Resources) -> None:
    """Memory may never be above memory + swap, so the order depends on where the limits come from: EINVAL tells."""
    swap = swap_bytes(limits)
    both = -1 if swap < 0 else limits.memory_bytes + swap
    try:
        write(folder, "memory.limit_in_bytes", limits.memory_bytes or -1)
        write_if_there(folder, "memory.memsw.limit_in_bytes", both)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        write_if_there(folder, "memory.memsw.limit_in_bytes", both)
        write(folder, "memory.limit_in_bytes", limits.memory_bytes or -1)


def _write_cpu(folder: str, quota: int, period: int) -> None:
    """A share of time above the parent's is EINVAL in version 1; it would mean the parent's, so that is what is written."""
    if quota and read_int(folder, "cpu.cfs_quota_us") > 0:
        write(folder, "cpu.cfs_quota_us", -1)  # else the old quota is measured by the new period for a moment, and may be refused
    write(folder, "cpu.cfs_period_us", period)
    parent = os.path.dirname(folder)
    wall = int(read(parent, "cpu.cfs_quota_us")) if os.path.exists(f"{parent}/cpu.cfs_quota_us") else -1
    if quota and wall > 0:
        quota = min(quota, wall * period // read_int(parent, "cpu.cfs_period_us"))
    try:
        write(folder, "cpu.cfs_quota_us", quota or -1)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        for child in below(folder):  # one of them has more: from now on they have what we have, until theirs is set anew
            if child != folder:
                write(child, "cpu.cfs_quota_us", -1)
        write(folder, "cpu.cfs_quota_us", quota or -1)


def _write_devices(folder: str, rules: Sequence[DeviceRule]) -> None:
    with ExitStack() as files:
        opened = {}
        for allow, name in ((True, "devices.allow"), (False, "devices.deny")):
            opened[allow] = os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CLOEXEC)
            files.callback(os.close, opened[allow])
        for rule in rules:
            if not rule.allow and rule.type != "a":
                # it would only undo an equal rule, and leave open what we were asked to close
                raise OSError(errno.EOPNOTSUPP, "version 1 can't refuse a part of what is allowed", folder)
            numbers = ":".join("*" if number is None else str(number) for number in (rule.major, rule.minor))
            os.write(opened[rule.allow], b"a" if rule.type == "a" else f"{rule.type} {numbers} {rule.access}".encode())


def enter(path: str, pid: int) -> None:
    for place in places():
        write(place + path, "cgroup.procs", pid)


def join(path: str) -> None:
    """Through ``tasks`` with 0 = the calling thread, which needs no lock against forks: half the time, and never a grace period."""
    for place in places():
        write(place + path, "tasks", 0)


def open_view(path: str) -> list[int]:
    """A copy of the mount of each hierarchy, rooted at the path: a file system made anew for the namespace would cost more than that."""
    view = []
    for place in places():
        view.append(syscalls.open_tree(syscalls.AT_FDCWD, place + path, syscalls.OPEN_TREE_CLONE))
    return view


def mount(target: str, flags: int, view: Sequence[int]) -> None:
    """A tmpfs with a folder for each hierarchy, as every distribution laid it out."""
    read_only = flags & _READ_ONLY
    syscalls.mount("tmpfs", target, "tmpfs", flags - read_only, "mode=755")
    for name, fd in zip(map(os.path.basename, places()), view, strict=True):
        os.mkdir(f"{target}/{name}", 0o755)
        mounts.set_flags(fd, flags)
        mounts.attach(fd, f"{target}/{name}")
        os.close(fd)
    for controller, place in hierarchies().items():
        name = os.path.basename(place)
        if controller != name:
            os.symlink(name, f"{target}/{controller}")
    if read_only:
        mounts.remount(target, flags)


def pids(path: str) -> list[int]:
    return list_pids(main_folder(path))


def kill_all(path: str) -> None:
    """Frozen first, so that none of them makes another meanwhile; the signal takes effect when they are thawed."""
    if not os.path.isdir(_folder("freezer", path)):
        return
    try:
        freeze(path)
    except TimeoutError:
        pass  # one sits in the kernel; the others are to die all the same
    for pid in list_pids(_folder("freezer", path)):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    for folder in below(_folder("freezer", path)):  # each may have been frozen for itself
        write(folder, "freezer.state", "THAWED")


def freeze(path: str) -> None:
    folder = _folder("freezer", path)
    deadline = time.monotonic() + STOP_S
    while True:
        write(folder, "freezer.state", "FROZEN")  # again: a fork may have slipped through
        if read(folder, "freezer.state").strip() == "FROZEN":
            return
        if time.monotonic() > deadline:
            thaw(path)
            raise TimeoutError(errno.ETIMEDOUT, "a process does not stop", folder)
        time.sleep(0.001)


def thaw(path: str) -> None:
    write(_folder("freezer", path), "freezer.state", "THAWED")


def remove(path: str) -> None:
    for place in places():
        remove_tree(place + path)


def oom_kills(path: str) -> int:
    words = read(_folder("memory", path), "memory.oom_control").split()
    return int(words[words.index("oom_kill") + 1])


def usage(path: str) -> Usage:
    memory, cpu, accounts = (_folder(name, path) for name in ("memory", "cpu", "cpuacct"))
    stat = read_flat(memory, "memory.stat")
    throttling = read_flat(cpu, "cpu.stat")
    times = read_flat(accounts, "cpuacct.stat")
    limit = read_int(memory, "memory.limit_in_bytes")
    return Usage(
        cpu_ns=int(read(accounts, "cpuacct.usage")),
        cpu_user_ns=times.get("user", 0) * 10**9 // _TICKS,
        cpu_system_ns=times.get("system", 0) * 10**9 // _TICKS,
        cpu_periods=throttling.get("nr_periods", 0),
        cpu_throttled_periods=throttling.get("nr_throttled", 0),
        cpu_throttled_ns=throttling.get("throttled_time", 0),
        memory_bytes=read_int(memory, "memory.usage_in_bytes"),
        memory_peak_bytes=read_int(memory, "memory.max_usage_in_bytes"),
        memory_limit_bytes=0 if limit > _UNLIMITED else limit,
        memory_inactive_file_bytes=stat.get("total_inactive_file", 0),
        memory_stat=stat,
        memory_failures=read_int(memory, "memory.failcnt"),
        oom_kills=read_flat(memory, "memory.oom_control").get("oom_kill", 0),
        pids=read_int(_folder("pids", path), "pids.current"),
        pids_limit=read_int(_folder("pids", path), "pids.max"),
        cpu_of_each_ns=tuple(int(word) for word in read(accounts, "cpuacct.usage_percpu").split()),
        io=_io(_folder("blkio", path)),
    )


def _io(folder: str) -> tuple[tuple[int, int, str, int, int], ...]:
    """``254:0 Read 4096`` a line, then a total; bytes and operations in two files."""
    counts: dict[tuple[int, int, str], list[int]] = {}
    for index, name in enumerate(("blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_serviced_recursive")):
        try:
            lines = read(folder, name).splitlines()
        except FileNotFoundError:
            continue
        for line in lines:
            device, _, rest = line.partition(" ")
            kind, _, value = rest.partition(" ")
            if value:  # not the last line, the total of all devices
                major, _, minor = device.partition(":")
                counts.setdefault((int(major), int(minor), kind), [0, 0])[index] = int(value)
    return tuple((*key, *values) for key, values in counts.items())  # type: ignore[misc]
