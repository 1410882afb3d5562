"""Walks through a tenant's trees: shared, one at a time, and in nobody's way."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable

import pytest

from workers.agent.walks import Walks


async def test_one_of_a_tenant_at_a_time_and_nobody_else_waits() -> None:
    shared, gate, begun = Walks(), threading.Event(), []

    def slow(word: str) -> Callable[[], str]:
        def walk() -> str:
            begun.append(word)
            assert gate.wait(20)
            return word

        return walk

    same = [asyncio.ensure_future(shared.share("loud", "volumes", walk=slow("volumes"))) for _ in range(100)]
    others = [asyncio.ensure_future(shared.share("loud", "volume", str(number), walk=slow(str(number)))) for number in range(100)]
    left = asyncio.ensure_future(shared.share("loud", "volumes", walk=slow("volumes")))
    await asyncio.sleep(0.05)
    left.cancel()
    assert await asyncio.wait_for(shared.share("quiet", "volumes", walk=lambda: "quiet"), 5) == "quiet"
    assert await asyncio.wait_for(asyncio.to_thread(lambda: "exec"), 5) == "exec"
    assert begun == ["volumes"]
    gate.set()
    assert await asyncio.gather(*same) == ["volumes"] * 100
    assert await asyncio.gather(*others) == [str(number) for number in range(100)]
    assert begun == ["volumes", *(str(number) for number in range(100))]


async def test_an_answer_is_kept_for_moments_and_a_failure_is_not() -> None:
    shared, answers = Walks(), iter(range(10))
    assert [await shared.share("acme", "volumes", walk=lambda: next(answers), kept_s=0.2) for _ in range(3)] == [0, 0, 0]
    await asyncio.sleep(0.3)
    assert await shared.share("acme", "volumes", walk=lambda: next(answers), kept_s=0.2) == 1
    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            await shared.share("acme", "gone", walk=lambda: os.stat("/nowhere"), kept_s=9)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await asyncio.sleep(0.3)
    assert not shared._answers and not shared._turns
