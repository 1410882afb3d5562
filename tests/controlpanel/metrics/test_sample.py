"""Docker's stats → figures."""

from __future__ import annotations

from typing import Any

from controlpanel.metrics.sample import sample


def stats(cpu: int, system: int, *, rx: int = 0, usage: int = 100 << 20, cache: int = 0) -> dict[str, Any]:
    return {
        "cpu_stats": {"cpu_usage": {"total_usage": cpu}, "system_cpu_usage": system, "online_cpus": 2},
        "memory_stats": {"usage": usage, "limit": 256 << 20, "stats": {"inactive_file": cache}},
        "networks": {"eth0": {"rx_bytes": rx, "tx_bytes": 2 * rx}},
        "pids_stats": {"current": 3},
    }


def test_one_busy_cpu_of_two_is_a_hundred_percent() -> None:
    found = sample(stats(1_000_000_000, 4_000_000_000), stats(0, 2_000_000_000), time_ms=1, interval_s=1)
    assert found.cpu_percent == 100.0


def test_memory_is_without_the_cache_that_would_be_given_back() -> None:
    found = sample(stats(0, 0, cache=40 << 20), None, time_ms=1, interval_s=1)
    assert (found.memory_bytes, found.memory_limit_bytes, found.pids) == (60 << 20, 256 << 20, 3)


def test_rates_are_per_second_and_never_negative() -> None:
    found = sample(stats(0, 0, rx=3000), stats(0, 0, rx=1000), time_ms=1, interval_s=2)
    assert (found.rx_bytes_per_s, found.tx_bytes_per_s) == (1000.0, 2000.0)
    again = sample(stats(0, 0, rx=10), stats(0, 0, rx=1000), time_ms=1, interval_s=1)  # the container was started again
    assert again.rx_bytes_per_s == 0.0


def test_the_first_sample_and_a_stopped_machine_show_no_cpu() -> None:
    assert sample(stats(5, 10), None, time_ms=1, interval_s=1).cpu_percent == 0.0
    assert sample(stats(5, 10), stats(5, 10), time_ms=1, interval_s=1).cpu_percent == 0.0
    assert sample({"cpu_stats": {"cpu_usage": {"total_usage": 1}}}, None, time_ms=1, interval_s=1).memory_bytes == 0
