"""Who goes first: the one that has used little, for as long as it acts; and nobody for ever."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from controlpanel.base import precedence
from controlpanel.base.precedence import Precedence
from controlpanel.base.turns import Turns

STORM, CALM = 1, 2


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> Precedence:
    """One tenant has used a second more than the other. A request is under way as long as it likes: machines may be slow."""
    monkeypatch.setattr(precedence, "UNDER_WAY_S", 60.0)
    found = Precedence()
    found.begin_turn(STORM)
    found.end_turn(STORM, 1.0)
    return found


async def is_held(order: Precedence, tenant: int) -> bool:
    entering = asyncio.create_task(order.enter(tenant))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    if entering.done():
        return False
    entering.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await entering
    return True


async def test_the_storm_waits_while_another_has_a_request_under_way(order: Precedence) -> None:
    async with order.request(CALM):
        entering = asyncio.create_task(order.enter(STORM))
        await asyncio.sleep(0.02)
        assert not entering.done()
    await asyncio.wait_for(entering, 10)


async def test_a_light_tenant_is_let_in_at_once_beside_a_storm(order: Precedence) -> None:
    async with order.request(STORM):
        assert not await is_held(order, CALM)


async def test_alone_or_alike_nobody_waits(order: Precedence) -> None:
    assert not await is_held(order, STORM)
    order.begin_turn(CALM)
    order.end_turn(CALM, 0.9)
    async with order.request(CALM):
        assert not await is_held(order, STORM)


async def test_a_stream_of_another_holds_nobody_back(order: Precedence, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precedence, "UNDER_WAY_S", 0.01)
    async with order.request(CALM):  # `docker logs -f`
        await asyncio.sleep(0.02)
        assert not await is_held(order, STORM)


async def test_a_turn_on_a_host_holds_the_storm_back_but_not_for_ever(order: Precedence, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precedence, "HELD_S", 0.05)
    async with Turns(precedence=order).turn(CALM):
        assert await is_held(order, STORM)
        await asyncio.wait_for(order.enter(STORM), 10)


async def test_who_acts_on_and_on_has_soon_used_as_much(order: Precedence) -> None:
    for _ in range(100):
        order.begin_turn(CALM)
        order.end_turn(CALM, 0.02)
    async with order.request(CALM):
        assert not await is_held(order, STORM)
    async with order.request(STORM):
        assert await is_held(order, CALM)


async def test_what_was_used_is_forgotten(order: Precedence, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precedence, "HALF_LIFE_S", 0.01)
    await asyncio.sleep(0.1)
    async with order.request(CALM):
        assert not await is_held(order, STORM)


async def test_who_hangs_up_while_held_is_not_let_in_later(order: Precedence) -> None:
    async with order.request(CALM):
        assert await is_held(order, STORM)  # and hung up
    before = order._of(STORM).used
    await asyncio.sleep(0.05)
    assert not order._held and order._of(STORM).used <= before
