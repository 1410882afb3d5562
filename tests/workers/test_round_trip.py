"""Panel to host and back, through a real Redis and a real worker process; and what is left when one of them is killed."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from controlpanel.hosts.dispatch import Dispatcher
from engine import errors
from tests.workers.conftest import RedisServer, WorkerProcess
from workers import contract
from workers.resp import Address

QUEUE = "host.test"


class Asker:
    """A Dispatcher, and what the worker did."""

    def __init__(self, dispatcher: Dispatcher, data: Path) -> None:
        self.dispatcher, self.data = dispatcher, data

    async def call(self, task: str, *, key: str = "", operation: str = "", timeout_s: float = 30, **payload: Any) -> dict[str, Any]:
        operation = operation or str(uuid.uuid4())
        return await self.dispatcher.call(QUEUE, task, payload, key=key, operation=operation, timeout_s=timeout_s)

    async def until(self, count: int, act: str) -> None:
        """Until so many acts of this sort have begun."""
        async with asyncio.timeout(20):
            while sum(line.startswith(act) for line in self.acts()) < count:  # noqa: ASYNC110  another process writes them
                await asyncio.sleep(0.01)

    def acts(self) -> list[str]:
        path = self.data / "acts"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
async def ask(environment: dict[str, str], counting_worker: WorkerProcess) -> AsyncIterator[Asker]:
    dispatcher = Dispatcher(Address.parse(environment["REDIS_URL"]))
    asker = Asker(dispatcher, Path(environment["SLIPWAY_DATA"]))
    await asker.call(contract.PING)
    yield asker
    await dispatcher.close()


async def test_an_answer_comes_back(ask: Asker, counting_worker: WorkerProcess) -> None:
    assert (await ask.call(contract.PING))["pid"] == counting_worker.pid
    assert await ask.call("test.make", name="boat") == {"name": "boat"}


async def test_an_answer_nobody_understands_keeps_no_other_back(ask: Asker, redis_server: RedisServer) -> None:
    for rubbish in (b"\xff", b"[]", b"{}"):
        redis_server.client().execute(("LPUSH", ask.dispatcher._reply_to, rubbish))
    assert await ask.call("test.make", name="boat", timeout_s=5) == {"name": "boat"}


async def test_the_hosts_refusal_arrives_as_the_error_it_was(ask: Asker) -> None:
    with pytest.raises(errors.QuotaExceeded, match="no more boats") as caught:
        await ask.call("test.fail")
    assert caught.value.detail == {"limit": 3}


async def test_a_bug_on_the_host_tells_nothing_but_where_to_look(ask: Asker) -> None:
    with pytest.raises(errors.Internal, match="host-worker log") as caught:
        await ask.call("test.fail", bug=True)
    assert "secret" not in str(caught.value)


async def test_the_same_operation_twice_acts_once_and_answers_twice(ask: Asker) -> None:
    operation = str(uuid.uuid4())
    for _ in range(2):
        assert await ask.call("test.make", name="boat", operation=operation) == {"name": "boat"}
    assert ask.acts() == ["make boat"]


async def test_asking_twice_at_once_shares_the_answer(ask: Asker) -> None:
    operation = str(uuid.uuid4())
    answers = await asyncio.gather(*[ask.call("test.make", name="boat", operation=operation, linger_s=0.2) for _ in range(5)])
    assert answers == [{"name": "boat"}] * 5
    assert ask.acts() == ["make boat"]


async def test_tasks_of_one_key_keep_their_order(ask: Asker) -> None:
    names = [str(number) for number in range(30)]
    await asyncio.gather(*[ask.call("test.sleep", key="one", name=name, for_s=0.001) for name in names])
    assert ask.acts() == [f"{word} {name}" for name in names for word in ("begin", "end")]


async def test_slow_tasks_of_other_keys_are_in_nobodys_way(ask: Asker) -> None:
    slow = [asyncio.ensure_future(ask.call("test.sleep", key=f"slow {number}", name="slow", for_s=3)) for number in range(40)]
    await asyncio.sleep(0.3)
    began = time.monotonic()
    await asyncio.gather(*[ask.call("test.sleep", key=f"fast {number}", name="fast", for_s=0) for number in range(20)])
    assert time.monotonic() - began < 2
    await asyncio.gather(*slow)


async def test_a_burst_beyond_the_prefetch_limit_does_not_stall(ask: Asker) -> None:
    """Celery's loop sleeps up to 10 s with all it may take taken, unless the pool wakes it."""
    began = time.monotonic()
    await asyncio.gather(*[ask.call("test.sleep", key=f"{number % 7}", name="x", for_s=0) for number in range(500)])
    assert time.monotonic() - began < 8
    assert Counter(ask.acts()) == {"begin x": 500, "end x": 500}


async def test_what_was_taken_up_too_late_is_not_done(ask: Asker, counting_worker: WorkerProcess) -> None:
    counting_worker.kill()
    with pytest.raises(errors.Unavailable, match="does not answer"):
        await ask.call("test.make", name="boat", timeout_s=0.3)
    counting_worker.start()
    await ask.call(contract.PING)
    assert ask.acts() == []


async def test_a_late_question_tells_what_was_done_and_begins_nothing(ask: Asker) -> None:
    """How the sweeper asks."""
    done, never = str(uuid.uuid4()), str(uuid.uuid4())
    await ask.call("test.make", name="boat", operation=done)
    late = {"key": "", "expires_at": 1.0}
    assert await ask.dispatcher.outcome(QUEUE, "test.make", {"name": "boat"}, operation=done, **late) == {"ok": {"name": "boat"}}
    refused = await ask.dispatcher.outcome(QUEUE, "test.make", {"name": "raft"}, operation=never, **late)
    assert refused["error"]["code"] == "unavailable"
    assert ask.acts() == ["make boat"]


async def test_a_worker_killed_in_the_midst_finishes_the_act_when_it_is_back(ask: Asker, counting_worker: WorkerProcess) -> None:
    asked = asyncio.ensure_future(ask.call("test.make", name="boat", linger_s=1.0))
    await ask.until(1, "make boat")
    counting_worker.kill()
    counting_worker.start()
    assert await asked == {"name": "boat"}
    assert ask.acts() == ["make boat"]


async def test_kills_amid_a_stream_of_tasks_lose_none_and_double_none(ask: Asker, counting_worker: WorkerProcess) -> None:
    async def make(number: int) -> str:
        await asyncio.sleep(number * 0.005)
        return str((await ask.call("test.make", name=f"boat {number}", key=f"{number % 20}", timeout_s=60))["name"])

    asked = [asyncio.ensure_future(make(number)) for number in range(600)]
    for _ in range(3):
        await asyncio.sleep(0.6)
        counting_worker.kill()
        counting_worker.start()
    assert await asyncio.gather(*asked) == [f"boat {number}" for number in range(600)]
    assert sorted(ask.acts()) == sorted(f"make boat {number}" for number in range(600))


async def test_a_call_outlives_a_redis_that_is_killed(ask: Asker, redis_server: RedisServer) -> None:
    """This Redis keeps nothing on disk: queue, unacknowledged and answers are all gone."""
    asked = [asyncio.ensure_future(ask.call("test.make", name=f"boat {number}", linger_s=1.0)) for number in range(5)]
    await ask.until(5, "make boat")
    redis_server.kill()
    asked += [asyncio.ensure_future(ask.call("test.make", name=f"raft {number}")) for number in range(5)]
    await asyncio.sleep(0.5)
    redis_server.start()
    began = time.monotonic()
    names = [answer["name"] for answer in await asyncio.gather(*asked)]
    assert names == [f"boat {number}" for number in range(5)] + [f"raft {number}" for number in range(5)]
    assert len(ask.acts()) == 10
    assert time.monotonic() - began < 10


async def test_without_redis_a_call_ends_with_a_clear_error(ask: Asker, redis_server: RedisServer) -> None:
    redis_server.kill()
    with pytest.raises(errors.Unavailable, match="Redis does not answer"):
        await ask.call("test.make", name="boat", timeout_s=0.5)
    redis_server.start()


async def test_a_second_worker_of_the_same_queue_is_kept_out(ask: Asker, environment: dict[str, str]) -> None:

    second = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "tests.workers.counting"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode == 75
    assert "another worker already serves queue host.test" in second.stderr


async def test_a_worker_that_is_asked_to_end_finishes_what_it_does(ask: Asker, counting_worker: WorkerProcess) -> None:
    asked = asyncio.ensure_future(ask.call("test.make", name="boat", linger_s=0.5))
    await ask.until(1, "make boat")
    code = await asyncio.to_thread(counting_worker.signal, 15)
    assert await asked == {"name": "boat"}
    assert code == 0


async def test_a_tenant_who_waits_for_himself_holds_up_nobody(ask: Asker) -> None:
    """More than there are threads, in all the forms that a payload has; in the line the order of a key holds."""
    forms = ({"tenant": "loud"}, {"spec": {"tenant": "loud"}}, {"volume": {"tenant": "loud"}})
    waiting = [
        asyncio.ensure_future(ask.call("test.sleep", key=f"key{number % 40}", name=f"{number:03}", for_s=0.3, **forms[number % 3]))
        for number in range(120)
    ]
    await ask.until(8, "begin")
    for tenant in ("quiet", ""):
        begun = time.monotonic()
        await ask.call("test.sleep", name="other", for_s=0, tenant=tenant)
        assert time.monotonic() - begun < 0.25
    await asyncio.gather(*waiting)
    running, most, order = 0, 0, []
    for act in ask.acts():
        word, name = act.split()
        if name != "other":
            running += 1 if word == "begin" else -1
            most = max(most, running)
            order += [int(name)] if word == "begin" else []
    assert most == 8 and sorted(order) == list(range(120))
    for key in range(40):
        assert [number for number in order if number % 40 == key] == [key, key + 40, key + 80]
