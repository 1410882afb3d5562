"""Health as moby counts it."""

from __future__ import annotations

import pytest

from engine import health
from engine.model.container import HealthCheck, HealthProbe, HealthState

pytestmark = pytest.mark.guest
S = 10**9
CHECK = HealthCheck(test=("CMD", "true"), interval_ns=30 * S, start_period_ns=10 * S, start_interval_ns=2 * S, retries=2)


def probe(exit_code: int, at_s: int = 60) -> HealthProbe:
    return HealthProbe(started_at_ns=at_s * S, finished_at_ns=at_s * S, exit_code=exit_code, output="")


def after(known: HealthState, *probes: HealthProbe) -> HealthState:
    for one in probes:
        known = health.after_probe(CHECK, known, one, started_at_ns=0)
    return known


def test_one_success_is_healthy_and_enough_failures_in_a_row_are_unhealthy() -> None:
    known = after(HealthState(), probe(0))
    assert (known.status, known.failing_streak) == ("healthy", 0)
    known = after(known, probe(1))
    assert (known.status, known.failing_streak) == ("healthy", 1)
    known = after(known, probe(-1))
    assert (known.status, known.failing_streak) == ("unhealthy", 2)
    assert after(known, probe(0)).status == "healthy"


def test_failures_of_the_start_period_do_not_count_until_it_was_healthy_once() -> None:
    known = after(HealthState(), probe(1, 1), probe(1, 2), probe(1, 3))
    assert (known.status, known.failing_streak, len(known.log)) == ("starting", 0, 3)
    known = after(known, probe(0, 4), probe(1, 5), probe(1, 6))
    assert (known.status, known.failing_streak) == ("unhealthy", 2)
    assert after(HealthState(), probe(1, 11), probe(1, 12)).status == "unhealthy"


def test_the_last_five_probes_are_kept() -> None:
    known = after(HealthState(), *(probe(number) for number in range(8)))
    assert [one.exit_code for one in known.log] == [3, 4, 5, 6, 7]


def test_the_start_interval_rules_within_the_start_period_alone() -> None:
    starting, healthy = HealthState(), HealthState(status="healthy")
    assert health.pause_ns(CHECK, starting, started_at_ns=0, now_ns=5 * S) == 2 * S
    assert health.pause_ns(CHECK, healthy, started_at_ns=0, now_ns=5 * S) == 30 * S
    assert health.pause_ns(CHECK, starting, started_at_ns=0, now_ns=15 * S) == 30 * S


def test_output_is_cut_with_mobys_dots() -> None:
    assert health.output_text(b"x" * 4096) == "x" * 4096
    assert health.output_text(b"x" * 4097) == "x" * 4096 + "..."
    assert health.output_text(b"\xff") == "�"
    assert health.timeout_text(1_500_000_000, "half") == "Health check exceeded timeout (1.5s): half"


@pytest.mark.parametrize(("ns", "text"), [(10**6, "1ms"), (30 * S, "30s"), (90 * S, "1m30s"), (7200 * S, "2h0m0s"), (1500, "1.5µs")])
def test_durations_are_printed_as_go_does(ns: int, text: str) -> None:
    assert health.go_duration(ns) == text
