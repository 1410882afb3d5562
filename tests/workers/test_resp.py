from __future__ import annotations

import asyncio

import pytest

from tests.workers.conftest import RedisServer
from workers.resp import Address, AsyncRedis, Redis, RedisError


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("unix:///run/slipway/redis.sock", Address(path="/run/slipway/redis.sock")),
        ("unix://host:p%40ss@/run/r.sock?db=3", Address(path="/run/r.sock", user="host", password="p@ss", db=3)),
        ("redis://10.0.0.1", Address(host="10.0.0.1")),
        ("redis://:secret@[::1]:6380/2", Address(host="::1", port=6380, password="secret", db=2)),
        ("rediss://panel:x@redis.example:7000/0", Address(host="redis.example", port=7000, tls=True, user="panel", password="x")),
    ],
)
def test_addresses_are_spelled_as_redis_py_spells_them(url: str, address: Address) -> None:
    assert Address.parse(url) == address


@pytest.mark.parametrize("url", ["amqp://host", "/run/redis.sock", "redis://"])
def test_an_address_that_is_none_is_refused_with_a_sentence(url: str) -> None:
    with pytest.raises(ValueError, match="REDIS_URL"):
        Address.parse(url)


def test_a_password_is_never_in_a_repr() -> None:
    assert "secret" not in repr(Address.parse("redis://:secret@host/0"))


@pytest.mark.guest
def test_commands_in_one_write_are_answered_in_order(redis_server: RedisServer) -> None:
    redis = redis_server.client()
    assert redis.execute(("SET", "a", "1"), ("INCR", "a"), ("GET", "a"), ("GET", "nothing")) == [b"OK", 2, b"2", None]


def test_a_refusal_is_an_error_and_the_connection_goes_on(redis_server: RedisServer) -> None:
    redis = redis_server.client()
    with pytest.raises(RedisError, match="not an integer"):
        redis.execute(("SET", "word", "x"), ("INCR", "word"))
    assert redis.execute(("GET", "word")) == [b"x"]


def test_a_connection_that_broke_is_replaced(redis_server: RedisServer) -> None:
    redis = redis_server.client()
    redis.execute(("PING",))
    redis_server.kill()
    with pytest.raises(OSError):
        redis.execute(("PING",))
    redis_server.start()
    assert redis.execute(("PING",)) == [b"PONG"]


def test_users_of_redis_are_who_their_address_says(redis_server: RedisServer) -> None:
    redis_server.client().execute(("ACL", "SETUSER", "host", "on", ">word", "~host.*", "+@all"))
    redis = Redis(Address.parse(f"unix://host:word@{redis_server.socket}"))
    redis.execute(("LPUSH", "host.a", "x"))
    with pytest.raises(RedisError, match="NOPERM"):
        redis.execute(("LPUSH", "panel", "x"))
    with pytest.raises(RedisError, match="WRONGPASS"):
        Redis(Address.parse(f"unix://host:wrong@{redis_server.socket}")).execute(("PING",))


async def test_asyncio_commands_are_pipelined(redis_server: RedisServer) -> None:
    redis = await AsyncRedis.connect(Address.parse(redis_server.url))
    replies = await asyncio.gather(*[redis.execute("INCR", "n") for _ in range(1000)])
    redis.close()
    assert replies == list(range(1, 1001))


async def test_asyncio_commands_under_way_fail_when_redis_dies(redis_server: RedisServer) -> None:
    redis = await AsyncRedis.connect(Address.parse(redis_server.url))
    waiting = redis.execute("BRPOP", "nothing", 0)
    await asyncio.sleep(0.05)
    redis_server.kill()
    with pytest.raises(ConnectionError):
        await waiting
    with pytest.raises(ConnectionError):
        await redis.execute("PING")
