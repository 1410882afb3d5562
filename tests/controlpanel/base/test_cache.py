"""Django's cache in our Redis: what allauth's counters lean on."""

from __future__ import annotations

import time

import pytest
from django.core.cache import cache

from controlpanel.base.cache import RedisCache
from engine.errors import Unavailable


def test_add_is_once_until_it_is_over(redis_server: str) -> None:
    cache.delete("once")
    assert cache.add("once", True, timeout=0.1) and not cache.add("once", True, timeout=10)
    time.sleep(0.15)
    assert cache.add("once", True, timeout=None)
    assert cache.delete("once") and not cache.delete("once")


def test_values_come_back_as_they_were(redis_server: str) -> None:
    for value in ([1780000000.25, 2.0], "y", True, None, {"a": [1]}):
        cache.set("value", value, 10)
        assert cache.get("value", "nothing") == value
    cache.set("value", 1, 0)
    assert cache.get("value", "nothing") == "nothing" and "value" not in cache
    cache.set("value", 1, 10, version=2)
    assert cache.get("value") is None and cache.get("value", version=2) == 1


def test_without_redis_it_says_so() -> None:
    with pytest.raises(Unavailable, match="Redis does not answer"):
        RedisCache("unix:///nowhere/redis.sock", {}).get("x")
