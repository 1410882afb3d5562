"""cgroups version 2 (Documentation/admin-guide/cgroup-v2.rst): one tree at /sys/fs/cgroup."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Sequence
from typing import Final

from engine.kernel import device_rule, syscalls
from engine.kernel.cgroup_files import (
    STOP_S,
    DeviceRule,
    Usage,
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
from engine.model.resources import Resources

ROOT: Final = "/sys/fs/cgroup"
WANTED: Final = frozenset({"cpu", "cpuset", "io", "memory", "pids"})
_DEFAULT_WEIGHT: Final = 100


def main_folder(path: str) -> str:
    return ROOT + path


def places() -> tuple[str, ...]:
    return (ROOT,)


def create(path: str, limits: Resources, devices: Sequence[DeviceRule]) -> None:
    folder = ROOT + path
    make(folder, lambda _folder: None)
    try:
        enable_controllers(folder)
        _write_limits(folder, limits, fresh=True)
        if devices:
            device_rule.attach(folder, devices)
    except BaseException:
        os.rmdir(folder)
        raise


def set_limits(path: str, limits: Resources) -> None:
    folder = ROOT + path
    try:
        make(folder, lambda _folder: None)
    except FileExistsError:
        pass
    enable_controllers(folder)
    _write_limits(folder, limits, fresh=False)


def enable_controllers(folder: str) -> None:
    """So that ``folder`` has them, each node above must pass them on.

    Looked at for every leaf: systemd takes controllers back at the root when it reloads, unless each level below has them too.
    """
    if WANTED & available() <= set(read(folder, "cgroup.controllers").split()):
        return
    nodes = []
    while folder != ROOT:
        folder = os.path.dirname(folder)
        nodes.append(folder)
    for node in reversed(nodes):
        missing = (WANTED & set(read(node, "cgroup.controllers").split())) - set(read(node, "cgroup.subtree_control").split())
        if missing:
            write(node, "cgroup.subtree_control", " ".join(f"+{name}" for name in sorted(missing)))


def available() -> frozenset[str]:
    return frozenset(read(ROOT, "cgroup.controllers").split())


def _write_limits(folder: str, limits: Resources, *, fresh: bool) -> None:
    """Of a fresh one only what was asked for: every file has no limit to begin with."""
    if limits.memory_bytes or not fresh:
        swap = swap_bytes(limits)
        write_if_there(folder, "memory.swap.max", "max" if swap < 0 else swap)
        write(folder, "memory.max", limits.memory_bytes or "max")
    if limits.memory_reservation_bytes or not fresh:
        write(folder, "memory.low", limits.memory_reservation_bytes)
    quota, period = cpu_quota_us(limits)
    if quota or limits.cpu_period_us or not fresh:
        write(folder, "cpu.max", f"{quota or 'max'} {period}")
    if limits.cpu_shares or not fresh:
        write(folder, "cpu.weight", weight(limits.cpu_shares))
    if limits.cpuset_cpus or not fresh:
        write_if_there(folder, "cpuset.cpus", limits.cpuset_cpus or "\n")
    if limits.cpuset_mems or not fresh:
        write_if_there(folder, "cpuset.mems", limits.cpuset_mems or "\n")
    if limits.pids_limit > 0 or not fresh:
        write(folder, "pids.max", limits.pids_limit if limits.pids_limit > 0 else "max")
    _write_io(folder, limits)


def _write_io(folder: str, limits: Resources) -> None:
    """Version 1's names and scale of weights in version 2's files: ``io.bfq.weight`` (1 to 1,000) where that scheduler is,
    else ``io.weight`` (1 to 10,000), which a kernel without CONFIG_BLK_CGROUP_IOCOST has not."""
    weights = [("default", limits.blkio_weight)] if limits.blkio_weight else []
    weights += [(rate.path, rate.rate) for rate in limits.blkio_weight_device]
    for device, value in weights:
        if os.path.exists(f"{folder}/io.bfq.weight"):
            write(folder, "io.bfq.weight", f"{device} {value}")
        else:
            write_if_there(folder, "io.weight", f"{device} {io_weight(value)}")
    for key, rates in (
        ("rbps", limits.blkio_read_bps),
        ("wbps", limits.blkio_write_bps),
        ("riops", limits.blkio_read_iops),
        ("wiops", limits.blkio_write_iops),
    ):
        for rate in rates:
            write(folder, "io.max", f"{rate.path} {key}={rate.rate or 'max'}")


def io_weight(weight: int) -> int:
    """io.weight of version 1's blkio.weight (10 to 1,000), linear, as runc has it."""
    return 1 + (min(max(weight, 10), 1000) - 10) * 9999 // 990


def weight(shares: int) -> int:
    """cpu.weight (1 to 10,000) of version 1's shares (2 to 262,144), linear, as runc and crun have it. 0 = the default."""
    if shares <= 0:
        return _DEFAULT_WEIGHT
    return 1 + (min(max(shares, 2), 262_144) - 2) * 9999 // 262_142


def enter(path: str, pid: int) -> None:
    write(ROOT + path, "cgroup.procs", pid)


def join(path: str) -> None:
    write(ROOT + path, "cgroup.procs", 0)


def open_view(path: str) -> list[int]:
    return []


def mount(target: str, flags: int, view: Sequence[int]) -> None:
    syscalls.mount("cgroup", target, "cgroup2", flags)


def pids(path: str) -> list[int]:
    return list_pids(ROOT + path)


def kill_all(path: str) -> None:
    """cgroup.kill, Linux 5.14; frozen ones die too."""
    write_if_there(ROOT + path, "cgroup.kill", 1)


def freeze(path: str) -> None:
    folder = ROOT + path
    write(folder, "cgroup.freeze", 1)
    deadline = time.monotonic() + STOP_S
    while not read_flat(folder, "cgroup.events").get("frozen"):
        if time.monotonic() > deadline:
            write(folder, "cgroup.freeze", 0)
            raise TimeoutError(errno.ETIMEDOUT, "a process does not stop", folder)
        time.sleep(0.001)


def thaw(path: str) -> None:
    write(ROOT + path, "cgroup.freeze", 0)


def remove(path: str) -> None:
    remove_tree(ROOT + path)


def oom_kills(path: str) -> int:
    return _oom_kills(ROOT + path)


def _oom_kills(folder: str) -> int:
    return _key(read(folder, "memory.events"), "oom_kill")


def _key(text: str, key: str) -> int:
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == key:
            return int(value)
    return 0


def usage(path: str) -> Usage:
    folder = ROOT + path
    cpu = read_flat(folder, "cpu.stat")
    memory = read_flat(folder, "memory.stat")
    events = read_flat(folder, "memory.events")
    return Usage(
        cpu_ns=cpu.get("usage_usec", 0) * 1000,
        cpu_user_ns=cpu.get("user_usec", 0) * 1000,
        cpu_system_ns=cpu.get("system_usec", 0) * 1000,
        cpu_periods=cpu.get("nr_periods", 0),
        cpu_throttled_periods=cpu.get("nr_throttled", 0),
        cpu_throttled_ns=cpu.get("throttled_usec", 0) * 1000,
        memory_bytes=int(read(folder, "memory.current")),
        memory_peak_bytes=read_int(folder, "memory.peak"),
        memory_limit_bytes=read_int(folder, "memory.max"),
        memory_inactive_file_bytes=memory.get("inactive_file", 0),
        memory_stat=memory,
        memory_failures=events.get("max", 0),
        oom_kills=events.get("oom_kill", 0),
        pids=read_int(folder, "pids.current"),
        pids_limit=read_int(folder, "pids.max"),
        io=tuple(_io(read(folder, "io.stat"))) if os.path.exists(f"{folder}/io.stat") else (),
    )


def _io(text: str) -> list[tuple[int, int, str, int, int]]:
    """``8:0 rbytes=1 wbytes=2 rios=3 wios=4 …`` a line."""
    found = []
    for line in text.splitlines():
        device, *words = line.split()
        major, _, minor = device.partition(":")
        values = dict(word.partition("=")[::2] for word in words)
        for kind in ("read", "write"):
            size, count = (int(values.get(f"{kind[0]}{unit}", 0)) for unit in ("bytes", "ios"))
            found.append((int(major), int(minor), kind, size, count))
    return found
