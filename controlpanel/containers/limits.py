"""Resource limits as Docker takes them, with moby's checks and sentences (verifyPlatformContainerResources, UpdateContainer). PURE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from controlpanel.containers.fields import Object, flag, integer, objects, text
from controlpanel.hosts.machine import Machine
from engine.errors import FailedPrecondition, InvalidArgument
from engine.model.resources import MEMORY_MIN, DeviceRate, Resources

MINIMUM_SHARES: Final = 2  # of the kernel
_CPUSET_MAX: Final = 8192
_UINT64: Final = 1 << 64

# What ``docker update`` changes of a container that exists; the rest is for its creation alone
_NUMBERS: Final = ("BlkioWeight", "CpuShares", "NanoCpus", "CpuPeriod", "CpuQuota", "Memory", "MemorySwap", "MemoryReservation")
_TEXTS: Final = ("CpusetCpus", "CpusetMems")


@dataclass(frozen=True, slots=True)
class Limits:
    """``discarded``: members of HostConfig that this machine can't honour, each with a sentence in ``warnings``."""

    resources: Resources
    warnings: tuple[str, ...] = ()
    discarded: frozenset[str] = frozenset()


def read(host_config: Object, machine: Machine, *, update: bool = False) -> Limits:
    """``update``: the members are to be laid over those of a container that exists (``merge``)."""
    unsupported = _unsupported(host_config, machine)
    asked = {name: value for name, value in host_config.items() if name not in unsupported}
    warnings = [sentence for sentence in unsupported.values() if sentence]
    _check_memory(asked, update=update)
    _check_cpus(asked, machine)
    if flag(asked, "OomKillDisable") and not integer(asked, "Memory"):
        warnings.append(
            "OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources."
        )
    weight, swappiness = integer(asked, "BlkioWeight"), asked.get("MemorySwappiness")
    if weight and not 10 <= weight <= 1000:
        raise InvalidArgument("Range of blkio weight is from 10 to 1000")
    resources = Resources(
        memory_bytes=integer(asked, "Memory"),
        memory_swap_bytes=max(integer(asked, "MemorySwap"), -1),
        memory_reservation_bytes=max(integer(asked, "MemoryReservation"), 0),
        nano_cpus=integer(asked, "NanoCpus"),
        cpu_shares=integer(asked, "CpuShares"),
        cpu_period_us=integer(asked, "CpuPeriod"),
        cpu_quota_us=max(integer(asked, "CpuQuota"), 0),  # -1 = unlimited
        cpuset_cpus=_cpuset(text(asked, "CpusetCpus"), machine.cpuset_cpus, "cpuset cpus", "CPUs"),
        cpuset_mems=_cpuset(text(asked, "CpusetMems"), machine.cpuset_mems, "cpuset mems", "memory nodes"),
        pids_limit=max(integer(asked, "PidsLimit"), 0),
        memory_swappiness=-1 if swappiness is None else integer(asked, "MemorySwappiness"),
        oom_kill_disable=flag(asked, "OomKillDisable"),
        blkio_weight=weight,
        blkio_weight_device=_rates(asked, "BlkioWeightDevice", "Weight"),
        blkio_read_bps=_rates(asked, "BlkioDeviceReadBps", "Rate"),
        blkio_write_bps=_rates(asked, "BlkioDeviceWriteBps", "Rate"),
        blkio_read_iops=_rates(asked, "BlkioDeviceReadIOps", "Rate"),
        blkio_write_iops=_rates(asked, "BlkioDeviceWriteIOps", "Rate"),
    )
    return Limits(resources, tuple(warnings), frozenset(unsupported))


def merge(host_config: Object, changes: Object) -> dict[str, Any]:
    """HostConfig after ``docker update`` with ``changes``; what is empty in them stays. FailedPrecondition with moby's sentences."""
    current = swap_of(host_config)
    _check_conflicts(host_config, changes)
    memory = integer(changes, "Memory")
    if memory > current and current != -1 and not integer(changes, "MemorySwap"):
        raise FailedPrecondition("Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time")
    merged = dict(host_config)
    for name in _NUMBERS:
        if value := integer(changes, name):
            merged[name] = value
    for name in _TEXTS:
        if words := text(changes, name):
            merged[name] = words
    if changes.get("PidsLimit") is not None:
        merged["PidsLimit"] = max(integer(changes, "PidsLimit"), 0)
    if not integer(changes, "MemorySwap") and (memory or current):
        merged["MemorySwap"] = current  # it was twice the old memory, and stays that
    return merged


def swap_of(host_config: Object) -> int:
    """Memory and swap together, as inspect shows it."""
    return integer(host_config, "MemorySwap") or 2 * integer(host_config, "Memory")


def _check_conflicts(host_config: Object, changes: Object) -> None:
    for new, old, names in (
        ("NanoCpus", "CpuPeriod", ("Nano CPUs", "CPU Period has")),
        ("NanoCpus", "CpuQuota", ("Nano CPUs", "CPU Quota has")),
        ("CpuPeriod", "NanoCpus", ("CPU Period", "NanoCPUs has")),
        ("CpuQuota", "NanoCpus", ("CPU Quota", "NanoCPUs has")),
    ):
        if integer(changes, new) > 0 and integer(host_config, old) > 0:
            raise FailedPrecondition(f"Conflicting options: {names[0]} cannot be updated as {names[1]} already been set")


def _unsupported(host_config: Object, machine: Machine) -> Mapping[str, str]:
    """Members to pass over: the sentence that says so; "" where nothing was asked for."""
    found: dict[str, str] = {}
    if host_config.get("MemorySwappiness") == -1:
        found["MemorySwappiness"] = ""
    elif host_config.get("MemorySwappiness") is not None and machine.cgroup_version == 2:
        found["MemorySwappiness"] = (
            "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded."
        )
    if host_config.get("OomKillDisable") is not None and machine.cgroup_version == 2:
        asked = flag(host_config, "OomKillDisable")
        found["OomKillDisable"] = "Your kernel does not support OomKillDisable. OomKillDisable discarded." if asked else ""
    if not machine.blkio_weight:
        if integer(host_config, "BlkioWeight") > 0:
            found["BlkioWeight"] = "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded."
        if host_config.get("BlkioWeightDevice"):
            found["BlkioWeightDevice"] = (
                "Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device discarded."
            )
    if integer(host_config, "CpuPercent") > 0:
        found["CpuPercent"] = "linux does not support CPU percent. Percent discarded."
    return found


def _check_memory(asked: Object, *, update: bool) -> None:
    memory, swap, reservation = integer(asked, "Memory"), integer(asked, "MemorySwap"), integer(asked, "MemoryReservation")
    if memory != 0 and memory < MEMORY_MIN:
        raise InvalidArgument("Minimum memory limit allowed is 6MB")
    if memory > 0 and 0 < swap < memory:
        raise InvalidArgument("Minimum memoryswap limit should be larger than memory limit, see usage")
    if memory == 0 and swap > 0 and not update:
        raise InvalidArgument("You should always set the Memory limit when using Memoryswap limit, see usage")
    if 0 < reservation < MEMORY_MIN:
        raise InvalidArgument("Minimum memory reservation allowed is 6MB")
    if memory > 0 and reservation > memory:
        raise InvalidArgument("Minimum memory limit can not be less than memory reservation limit, see usage")
    if asked.get("MemorySwappiness") is not None and not 0 <= integer(asked, "MemorySwappiness") <= 100:
        raise InvalidArgument(f"Invalid value: {asked['MemorySwappiness']}, valid memory swappiness range is 0-100")


def _check_cpus(asked: Object, machine: Machine) -> None:
    nano, shares = integer(asked, "NanoCpus"), integer(asked, "CpuShares")
    period, quota = integer(asked, "CpuPeriod"), integer(asked, "CpuQuota")
    if nano > 0 and (period > 0 or quota > 0):
        raise InvalidArgument(f"Conflicting options: Nano CPUs and CPU {'Period' if period > 0 else 'Quota'} cannot both be set")
    if nano < 0 or 0 < nano < 10_000_000 or nano > machine.cpus * 1_000_000_000:
        raise InvalidArgument(f"range of CPUs is from 0.01 to {machine.cpus}.00, as there are only {machine.cpus} CPUs available")
    if shares < 0:
        raise InvalidArgument(f"invalid CPU shares ({shares}): value must be a positive integer")
    if 0 < shares < MINIMUM_SHARES:
        raise InvalidArgument(f"the minimum allowed cpu-shares is {MINIMUM_SHARES}")
    if period != 0 and not 1000 <= period <= 1_000_000:
        raise InvalidArgument("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
    if 0 < quota < 1000:
        raise InvalidArgument("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    for name in ("IOMaximumIOps", "IOMaximumBandwidth"):
        if integer(asked, name):
            kind = "IOPs" if name.endswith("IOps") else "bandwidth"
            raise InvalidArgument(f"invalid option: QoS maximum {kind} configuration is not supported on linux")


def _cpuset(value: str, available: str, what: str, kind: str) -> str:
    if not value:
        return ""
    try:
        wanted = _numbers(value)
    except ValueError as error:
        raise InvalidArgument(f"Invalid value {value} for {what}: {error}") from None
    if not wanted <= _numbers(available):
        raise InvalidArgument(f"Requested {kind} are not available - requested {value}, available: {available}")
    return value


def _numbers(text: str) -> frozenset[int]:
    """The kernel's list format, cpuset(7): ``0-3,7``. ValueError with moby's words."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not (first.isascii() and first.isdecimal()) or (dash and not (last.isascii() and last.isdecimal())):
            raise ValueError(f"invalid format: {text}")
        begin, end = int(first[:9]), int((last or first)[:9])
        if begin > end:
            raise ValueError(f"invalid format: {text}")
        if end > _CPUSET_MAX:
            raise ValueError(f"value of out range, maximum is {_CPUSET_MAX}")
        found.update(range(begin, end + 1))
    return frozenset(found)


def _rates(asked: Object, name: str, key: str) -> tuple[DeviceRate, ...]:
    found = []
    for entry in objects(asked, name):
        path, rate = text(entry, "Path"), entry.get(key, 0)
        if isinstance(rate, bool) or not isinstance(rate, int) or not 0 <= rate < _UINT64:
            raise InvalidArgument(f"invalid JSON: {key} of {name} must be a number from 0", field=name)
        if key == "Weight" and not 10 <= rate <= 1000:
            raise InvalidArgument(f"Range of blkio weight is from 10 to 1000 ({name} of {path})")
        if not path.startswith("/dev/") or "\0" in path:
            raise InvalidArgument(f"invalid block device path {path!r} ({name})")
        if rate:  # 0 is no limit
            found.append(DeviceRate(path=path, rate=rate))
    return tuple(found)
