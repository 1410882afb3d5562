"""The rate at which a tenant's output becomes log: a burst, then so much a second, each tenant for itself."""

from __future__ import annotations

from engine.runtime.allowance import TURN, Allowances

MIB = 1 << 20


def test_a_burst_is_free_and_then_the_rate_holds() -> None:
    allowances = Allowances(rate=10 * MIB, burst=50 * MIB)
    now, written = 100.0, 0
    while now < 110.0:
        if wait_s := allowances.wait_s("flood", now):
            now += wait_s
        allowances.take("flood", TURN, now)
        written += TURN
    assert 150 * MIB <= written <= 152 * MIB


def test_one_tenants_flood_is_not_anothers_wait() -> None:
    allowances = Allowances(rate=MIB, burst=MIB)
    allowances.take("flood", 8 * MIB, 0.0)
    assert allowances.wait_s("flood", 0.0) == 8.0
    assert allowances.wait_s("calm", 0.0) == 0.0


def test_silence_saves_no_more_than_a_burst() -> None:
    allowances = Allowances(rate=MIB, burst=2 * MIB)
    allowances.take("flood", 1, 0.0)
    allowances.take("flood", 3 * MIB, 1000.0)
    assert allowances.wait_s("flood", 1000.0) == 2.0
