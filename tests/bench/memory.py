"""What an engine itself takes of the machine: PSS and CPU time over its processes, its containers' own left out."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable

from tests.bench.client import Engine, peer_pid, processes

# a process below a container's cgroup carries the 64 digits of its id there (dockerd, podman and we alike)
_IN_CONTAINER = re.compile(r"[0-9a-f]{64}")
# monitors that dockerd and podman leave as children of init
_MONITORS = re.compile(r"containerd-shim|conmon")


def peer_roots(engine: Engine) -> Callable[[], set[int]]:
    """Another engine: whoever listens on its socket, and its kind's monitors (run one engine of a kind while measuring)."""
    return lambda: {peer_pid(engine.path)} | {pid for pid, (_parent, line, _group) in processes().items() if _MONITORS.search(line)}


def cpu_s(roots: set[int]) -> float:
    """User and system time of the engine's processes since each began, seconds (proc_pid_stat)."""
    total = 0
    for pid in own_processes(roots):
        try:
            with open(f"/proc/{pid}/stat") as file:
                fields = file.read().rsplit(")", 1)[1].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def own_processes(roots: set[int]) -> list[int]:
    """``roots`` and their descendants, but for what is in containers."""
    table = processes()
    mine, grew = roots & table.keys(), True
    while grew:
        more = {pid for pid, (parent, _line, _group) in table.items() if parent in mine} - mine
        mine |= more
        grew = bool(more)
    return [pid for pid in mine if not _IN_CONTAINER.search(table[pid][2])]


def pss_mib(roots: set[int]) -> float:
    """Of the engine's processes."""
    return pss_mib_of(own_processes(roots))


def pss_mib_of(pids: Iterable[int]) -> float:
    """Proportional set size, MiB (proc_pid_smaps_rollup)."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup") as file:
                total += next(int(line.split()[1]) for line in file if line.startswith("Pss:"))
        except (OSError, StopIteration):
            continue
    return total / 1024
