"""Limits, in kernel terms. 0 means unlimited for every field unless it says otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MEMORY_MIN: Final = 6 << 20  # moby's; with much less nothing starts


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRate:
    """A limit on one block device of the host: ``path`` /dev/sda; ``rate`` bytes or operations a second, or a weight."""

    path: str
    rate: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Of one container, or (cpu, memory, pids) the wall around all of a tenant."""

    memory_bytes: int = 0
    memory_swap_bytes: int = 0  # memory + swap, as Docker counts; -1 = unlimited swap; 0 = twice the memory
    memory_reservation_bytes: int = 0
    nano_cpus: int = 0  # 1e9 = one cpu
    cpu_shares: int = 0
    cpu_period_us: int = 0
    cpu_quota_us: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids_limit: int = 0  # -1 and 0 = unlimited
    memory_swappiness: int = -1  # 0..100 (cgroup v1 alone); -1 = the system's
    oom_kill_disable: bool = False  # cgroup v1 alone
    blkio_weight: int = 0  # 10..1000
    blkio_weight_device: tuple[DeviceRate, ...] = ()
    blkio_read_bps: tuple[DeviceRate, ...] = ()
    blkio_write_bps: tuple[DeviceRate, ...] = ()
    blkio_read_iops: tuple[DeviceRate, ...] = ()
    blkio_write_iops: tuple[DeviceRate, ...] = ()
