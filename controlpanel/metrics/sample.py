"""Docker's stats shape → the figures people read. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Of one container over the last interval."""

    time_ms: int  # unix time
    cpu_percent: float  # 100 = one whole cpu
    memory_bytes: int  # without the page cache that the kernel would give back
    memory_limit_bytes: int
    rx_bytes_per_s: float
    tx_bytes_per_s: float
    pids: int


def sample(now: dict[str, Any], before: dict[str, Any] | None, *, time_ms: int, interval_s: float) -> Sample:
    """``before`` is the stats object of ``interval_s`` ago, None for the first (its precpu_stats serve then)."""
    cpu, previous = now["cpu_stats"], before["cpu_stats"] if before else now.get("precpu_stats") or {}
    used = cpu["cpu_usage"]["total_usage"] - (previous.get("cpu_usage") or {}).get("total_usage", 0)
    machine = cpu.get("system_cpu_usage", 0) - previous.get("system_cpu_usage", 0)
    percent = used / machine * (cpu.get("online_cpus") or 1) * 100 if machine > 0 and used > 0 and previous else 0.0
    memory = now.get("memory_stats") or {}
    cache = (memory.get("stats") or {}).get("inactive_file", (memory.get("stats") or {}).get("total_inactive_file", 0))
    return Sample(
        time_ms=time_ms,
        cpu_percent=round(percent, 2),
        memory_bytes=max(0, memory.get("usage", 0) - cache),
        memory_limit_bytes=memory.get("limit", 0),
        rx_bytes_per_s=_rate(now, before, "rx_bytes", interval_s),
        tx_bytes_per_s=_rate(now, before, "tx_bytes", interval_s),
        pids=(now.get("pids_stats") or {}).get("current", 0) or 0,
    )


def _total(stats: dict[str, Any], name: str) -> int:
    return sum(int(link.get(name, 0)) for link in (stats.get("networks") or {}).values())


def _rate(now: dict[str, Any], before: dict[str, Any] | None, name: str, interval_s: float) -> float:
    if before is None or interval_s <= 0:
        return 0.0
    return round(max(0, _total(now, name) - _total(before, name)) / interval_s, 1)
