"""Fair turns: a tenant alone is not held up, a storm of one does not keep another waiting, nothing is lost when somebody leaves."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from controlpanel.base import turns
from controlpanel.base.turns import Turns


class Acts:
    """Acts of tenants that last until they are ended."""

    def __init__(self, slots: int = 2) -> None:
        self.turns = Turns(slots)
        self.begun: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.over: dict[str, asyncio.Event] = {}

    async def begin(self, tenant: int, *names: str) -> None:
        for name in names:
            self.over[name] = asyncio.Event()
            self.tasks[name] = asyncio.create_task(self._act(tenant, name))
        await asyncio.sleep(0.01)

    async def _act(self, tenant: int, name: str) -> None:
        async with self.turns.turn(tenant):
            self.begun.append(name)
            await self.over[name].wait()

    async def end(self, *names: str) -> None:
        for name in names:
            self.over[name].set()
        await asyncio.sleep(0.01)

    async def cancel(self, name: str) -> None:
        self.tasks[name].cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.tasks[name]
        await asyncio.sleep(0.01)


async def test_a_tenant_alone_waits_for_nothing() -> None:
    acts = Acts()
    await acts.begin(1, *"abcdefgh")
    assert acts.begun == list("abcdefgh")


async def test_a_storm_stands_in_its_own_queue() -> None:
    acts = Acts()
    await acts.begin(2, "calm 1")
    await acts.begin(1, *"abcd")
    assert acts.begun == ["calm 1", "a"]
    await acts.end("calm 1")
    await acts.begin(2, "calm 2")
    assert acts.begun == ["calm 1", "a", "calm 2"]
    await acts.end("a")
    assert acts.begun == ["calm 1", "a", "calm 2", "b"]


async def test_the_queue_moves_on_when_the_others_fall_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "RECENT_S", 0.1)
    acts = Acts()
    await acts.begin(2, "calm")
    await acts.end("calm")
    await acts.begin(1, *"abcd")
    assert acts.begun == ["calm", "a"]
    await asyncio.sleep(0.3)
    assert acts.begun == ["calm", *"abcd"]


async def test_what_lasts_gives_its_turn_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "HOLD_S", 0.05)
    acts = Acts()
    await acts.begin(2, "calm")
    await acts.begin(1, "long", "next")
    assert acts.begun == ["calm", "long"]
    await asyncio.sleep(0.1)
    assert acts.begun == ["calm", "long", "next"]
    await acts.end("long", "next", "calm")
    assert all(tenant.under_way == 0 for tenant in acts.turns._tenants.values())


async def test_who_leaves_the_queue_or_an_act_takes_no_turn_along() -> None:
    acts = Acts()
    await acts.begin(2, "calm")
    await acts.begin(1, *"abc")
    await acts.cancel("b")
    await acts.end("a")
    assert acts.begun == ["calm", "a", "c"]
    await acts.cancel("c")
    await acts.end("calm")
    assert all(tenant.under_way == 0 and not tenant.waiting for tenant in acts.turns._tenants.values())


async def test_with_more_processors_there_is_more_to_share() -> None:
    acts = Acts(slots=8)
    await acts.begin(2, "calm")
    await acts.begin(1, *"abcdef")
    assert acts.begun == ["calm", *"abcd"]
