"""Whose build is next: turns go to tenants, not to who asks most."""

from __future__ import annotations

import asyncio

import pytest

from engine.errors import RateLimited
from workers.agent import building
from workers.agent.building import Turns


async def _nothing() -> None:
    pass


class Queue:
    def __init__(self, places: int, at_most: int = 0) -> None:
        self.turns = Turns(places, at_most or places)
        self.order: list[str] = []
        self.release: dict[str, asyncio.Event] = {}

    def ask(self, name: str) -> asyncio.Task[None]:
        self.release[name] = asyncio.Event()
        return asyncio.ensure_future(self._build(name))

    async def _build(self, name: str) -> None:
        async with self.turns.turn(name[0], _nothing):
            self.order.append(name)
            await self.release[name].wait()

    async def end(self, name: str) -> None:
        self.release[name].set()
        await settle()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_place_goes_to_whom_has_least() -> None:
    async def run() -> list[str]:
        queue = Queue(2)
        tasks = [queue.ask(name) for name in ("a1", "a2", "a3", "a4", "b1", "b2", "c1")]
        await settle()
        assert queue.order == ["a1", "a2"]
        for name in ("a1", "a2", "b1", "c1", "a3", "b2", "a4"):
            await queue.end(name)
        await asyncio.gather(*tasks)
        return queue.order

    order = asyncio.run(run())
    assert sorted(order[:4]) == ["a1", "a2", "b1", "c1"] and sorted(order) == ["a1", "a2", "a3", "a4", "b1", "b2", "c1"]


def test_who_leaves_the_queue_keeps_no_place() -> None:
    async def run() -> list[str]:
        queue = Queue(1)
        first, gone, last = (queue.ask(name) for name in ("a1", "b1", "c1"))
        await settle()
        gone.cancel()
        await settle()
        await queue.end("a1")
        assert queue.order == ["a1", "c1"]
        await queue.end("c1")
        again = queue.ask("b2")
        await settle()
        assert queue.order[-1] == "b2"
        await queue.end("b2")
        await asyncio.gather(first, last, again)
        return queue.order

    assert asyncio.run(run()) == ["a1", "c1", "b2"]


def test_a_place_given_to_one_that_left_goes_on() -> None:
    async def run() -> list[str]:
        queue = Queue(1)
        first, gone, last = (queue.ask(name) for name in ("a1", "b1", "c1"))
        await settle()
        queue.release["a1"].set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        gone.cancel()
        queue.release["c1"].set()
        queue.release["b1"].set()
        await asyncio.gather(first, last)
        return queue.order

    assert asyncio.run(run())[-1] == "c1"


def test_who_has_none_under_way_does_not_wait_for_others() -> None:
    async def run() -> None:
        queue = Queue(2, at_most=4)
        tasks = [queue.ask(name) for name in ("a1", "a2", "a3", "b1", "b2", "c1", "d1")]
        await settle()
        assert queue.order == ["a1", "a2", "b1", "c1"]  # d1 is beyond what is possible at all
        await queue.end("a1")
        assert queue.order[4:] == ["d1"]
        for name in ("a2", "b1", "c1", "d1", "a3", "b2"):
            await queue.end(name)
        await asyncio.gather(*tasks)
        assert sorted(queue.order[5:]) == ["a3", "b2"]

    asyncio.run(run())


def test_too_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        monkeypatch.setattr(building, "WAITING_MAX", 1)
        queue = Queue(1)
        tasks = [queue.ask(name) for name in ("a1", "a2")]
        await settle()
        with pytest.raises(RateLimited, match="1 builds of tenant a wait already"):
            await queue.ask("a3")
        await queue.end("a1")
        await queue.end("a2")
        await asyncio.gather(*tasks)

    asyncio.run(run())
