"""Events on their durable way: many in a message, in order, also past a Redis that is away."""

from __future__ import annotations

import json
from base64 import b64decode

from engine.model.event import Event, EventKind
from tests.workers.conftest import RedisServer
from workers.outbox import BATCH, KEPT, Outbox
from workers.resp import Address, Redis


def event(number: int) -> Event:
    return Event(kind=EventKind.CONTAINER_EXITED, tenant="acme", object_id="f" * 64, seq=number, time_ns=number, host="local", state={})


def messages(redis_server: RedisServer) -> list[list[int]]:
    """The numbers of the events in each message, in the order the panel's worker takes them."""
    (found,) = redis_server.client().execute(("LRANGE", "panel", 0, -1))
    bodies = [json.loads(b64decode(json.loads(message)["body"])) for message in reversed(found)]
    return [[words["seq"] for words in body[1]["events"]] for body in bodies]


def test_what_happens_within_a_moment_is_one_message(redis_server: RedisServer) -> None:
    redis_server.client().execute(("DEL", "panel"))
    outbox = Outbox(Redis(Address.parse(redis_server.url)))
    outbox.put()
    outbox.put(*[event(number) for number in range(BATCH + 1)])
    outbox.put(event(BATCH + 1))
    assert outbox.flush()
    assert messages(redis_server) == [list(range(BATCH)), [BATCH, BATCH + 1]]
    assert outbox.flush()
    assert len(messages(redis_server)) == 2


def test_a_redis_that_is_away_costs_no_event(redis_server: RedisServer) -> None:
    redis_server.client().execute(("DEL", "panel"))
    outbox = Outbox(Redis(Address.parse(redis_server.url)))
    redis_server.kill()
    outbox.put(event(1), event(2))
    assert not outbox.flush()
    outbox.put(event(3))
    redis_server.start()
    assert outbox.flush()
    assert messages(redis_server) == [[1, 2], [3]]


def test_of_more_than_can_wait_the_oldest_are_left_out(redis_server: RedisServer) -> None:
    redis_server.client().execute(("DEL", "panel"))
    outbox = Outbox(Redis(Address.parse(redis_server.url)))
    redis_server.kill()
    outbox.put(event(0))
    assert not outbox.flush()
    outbox.put(*[event(number) for number in range(1, KEPT + 11)])
    assert not outbox.flush()
    redis_server.start()
    assert outbox.flush()
    assert [number for batch in messages(redis_server) for number in batch] == [0, *range(11, KEPT + 11)]
