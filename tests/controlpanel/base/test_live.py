"""The live feed: in this process at once and in order, from other processes through Redis, never blocked by a slow reader."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import redis

from controlpanel.base import database, live

pytestmark = pytest.mark.usefixtures("web")


async def test_subscribers_get_their_tenants_messages_and_kinds(people: Any) -> None:
    with live.subscribe(1, "event") as mine, live.subscribe(2) as other:
        live.publish({"kind": "event", "tenant": 1, "id": 1})
        live.publish({"kind": "container", "tenant": 1, "id": "x", "removed": True})
        live.publish({"kind": "event", "tenant": 2, "id": 2})
        assert (await mine.next())[0]["id"] == 1
        assert (await other.next())[0]["id"] == 2
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(mine.next(), 0.05)


async def test_other_processes_hear_and_are_heard(people: Any, redis_server: str) -> None:
    client = redis.Redis.from_url(redis_server)
    listener = client.pubsub(ignore_subscribe_messages=True)
    listener.subscribe(live.CHANNEL)
    listener.get_message(timeout=1)
    live.publish({"kind": "event", "tenant": 1, "id": 7})
    with live.subscribe(1) as mine:
        for _ in range(100):
            if found := listener.get_message(timeout=0.02):
                break
            await asyncio.sleep(0.01)
        assert [message["id"] for message in json.loads(found["data"][16:])] == [7]
        await mine.next()  # our own, once
        client.publish(live.CHANNEL, "0" * 16 + json.dumps([{"kind": "event", "tenant": 1, "id": 8}]))
        assert (await asyncio.wait_for(mine.next(), 2))[0]["id"] == 8
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(mine.next(), 0.05)
    listener.close()
    client.close()


async def test_a_slow_reader_loses_its_own_oldest(people: Any) -> None:
    with live.subscribe(1) as slow:
        for number in range(live.BACKLOG + 5):
            live.publish({"kind": "event", "tenant": 1, "id": number})
        await asyncio.sleep(0.1)
        assert slow.lost == 5 and (await slow.next())[0]["id"] == 5


async def test_a_message_nobody_understands_does_not_end_the_feed(people: Any, redis_server: str) -> None:
    client = redis.Redis.from_url(redis_server)
    with live.subscribe(1) as mine:
        client.publish(live.CHANNEL, b"\xff not json")
        await asyncio.sleep(0.5)
        client.publish(live.CHANNEL, "0" * 16 + json.dumps([{"kind": "event", "tenant": 1, "id": 9}]))
        assert (await asyncio.wait_for(mine.next(), 3))[0]["id"] == 9
    client.close()


async def test_what_a_write_tells_arrives_before_its_caller_goes_on(people: Any) -> None:
    seen: list[Any] = []
    live.on("test-order", lambda message, row: seen.append((message["id"], row)))
    try:
        await database.run(live.on_commit, {"kind": "test-order", "tenant": 1, "id": 1}, "row")
        assert seen == [(1, "row")]
    finally:
        live._handlers.pop("test-order")
