"""One sample of a container in the shape of Docker's ``GET /containers/{id}/stats``, for cgroup v1 and v2 alike."""

from __future__ import annotations

import errno
import os
import time
from typing import Any

from engine.kernel import cgroups
from engine.kernel.cgroup_files import Usage
from engine.model.container import ContainerSpec
from engine.model.network import HOST
from engine.runtime.logs import docker_time

# Of files of a process or cgroup that goes or is gone
ENDED = frozenset({errno.ENOENT, errno.ESRCH, errno.EINVAL, errno.ENODEV})

_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
_CPUS = os.sysconf("SC_NPROCESSORS_ONLN")
_IO_TABLES = (
    "io_service_bytes", "io_serviced", "io_queue", "io_service_time", "io_wait_time", "io_merged", "io_time", "sectors"
)  # fmt: skip
_V1_COUNTERS = frozenset({
    "cache", "rss", "rss_huge", "mapped_file", "dirty", "writeback", "pgpgin", "pgpgout", "pgfault", "pgmajfault", "inactive_anon",
    "active_anon", "inactive_file", "active_file", "unevictable", "hierarchical_memory_limit", "hierarchical_memsw_limit",
})  # fmt: skip
_LINK_COLUMNS = {
    "rx_bytes": 0,
    "rx_packets": 1,
    "rx_errors": 2,
    "rx_dropped": 3,
    "tx_bytes": 8,
    "tx_packets": 9,
    "tx_errors": 10,
    "tx_dropped": 11,
}


def sample(spec: ContainerSpec, pid: int, cgroup: str, *, wall_bytes: int = 0) -> dict[str, Any]:
    """``precpu_stats`` is empty: whoever streams puts the sample before there. ``wall_bytes``: the tenant's memory, 0 = no limit.

    OSError with one of ENDED: it ended meanwhile.
    """
    usage = cgroups.usage(cgroup)
    networks = {} if spec.network_mode == HOST else _networks(pid)
    return {
        "name": f"/{spec.name}",
        "id": spec.id,
        "read": docker_time(time.time_ns()),
        "preread": "0001-01-01T00:00:00Z",
        "num_procs": 0,
        "pids_stats": {"current": usage.pids} | ({"limit": usage.pids_limit} if usage.pids_limit else {}),
        "blkio_stats": _blkio(usage),
        "storage_stats": {},
        "cpu_stats": {
            "cpu_usage": {
                "total_usage": usage.cpu_ns,
                **({"percpu_usage": usage.cpu_of_each_ns} if usage.cpu_of_each_ns else {}),
                "usage_in_kernelmode": usage.cpu_system_ns,
                "usage_in_usermode": usage.cpu_user_ns,
            },
            "system_cpu_usage": _machine_cpu_ns(),
            "online_cpus": _CPUS,
            "throttling_data": {
                "periods": usage.cpu_periods,
                "throttled_periods": usage.cpu_throttled_periods,
                "throttled_time": usage.cpu_throttled_ns,
            },
        },
        "precpu_stats": {
            "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
            "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
        },
        "memory_stats": _memory(usage, wall_bytes),
        **({"networks": networks} if networks else {}),
    }


def _memory(usage: Usage, wall_bytes: int) -> dict[str, Any]:
    """moby leaves zeros out, and of version 1's counters those that came after its list was written."""
    memory: dict[str, Any] = {"usage": usage.memory_bytes}
    stat = usage.memory_stat
    if cgroups.version() == 1:
        if usage.memory_peak_bytes:
            memory["max_usage"] = usage.memory_peak_bytes
        if usage.memory_failures:
            memory["failcnt"] = usage.memory_failures
        stat = {name: value for name, value in stat.items() if name.removeprefix("total_") in _V1_COUNTERS}
    limits = [limit for limit in (usage.memory_limit_bytes, wall_bytes, _machine_memory_bytes()) if limit]
    return {**memory, "stats": stat, "limit": min(limits)}


def _blkio(usage: Usage) -> dict[str, Any]:
    """moby has empty lists on version 1, where more was counted once, and null on version 2."""
    first = cgroups.version() == 1
    tables: dict[str, Any] = {f"{name}_recursive": [] if first else None for name in _IO_TABLES}
    tables["io_service_bytes_recursive"] = [_io(entry, entry[3]) for entry in usage.io]
    if first:
        tables["io_serviced_recursive"] = [_io(entry, entry[4]) for entry in usage.io]
    return tables


def _io(entry: tuple[int, int, str, int, int], value: int) -> dict[str, Any]:
    return {"major": entry[0], "minor": entry[1], "op": entry[2], "value": value}


def _networks(pid: int) -> dict[str, dict[str, int]]:
    """Counters of every link but lo in the container's network namespace, proc_pid_net_dev(5)."""
    found = {}
    with open(f"/proc/{pid}/net/dev") as file:
        for line in file.readlines()[2:]:
            name, _colon, numbers = line.partition(":")
            if name.strip() != "lo":
                values = numbers.split()
                found[name.strip()] = {key: int(values[column]) for key, column in _LINK_COLUMNS.items()}
    return found


def _machine_cpu_ns() -> int:
    """Time of all cpus in every state since boot, proc_stat(5)."""
    with open("/proc/stat") as file:
        ticks = sum(int(word) for word in file.readline().split()[1:9])
    return ticks * (10**9 // _CLOCK_TICKS)


def _machine_memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
