"""Django's cache in Redis: counters of failed logins and the like, which all processes must share. What is in it may be lost.

redis-py, which Django's own backend imports, costs a web process 12 MiB [m]; this is workers.resp, which it has already. Values are
JSON, so that whoever could write to Redis would run nothing here.
"""

from __future__ import annotations

import functools
from typing import Any

import orjson
from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache

from engine.errors import Unavailable
from workers.resp import Address, Redis, RedisError, Reply, Word

TIMEOUT_S = 2.0


class RedisCache(BaseCache):
    """``LOCATION`` is the address, as workers.resp spells it. Raises Unavailable when Redis does not answer."""

    def __init__(self, location: str, params: dict[str, Any]) -> None:
        super().__init__(params)
        self._location = location

    def add(self, key: str, value: Any, timeout: float | None = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """Whether it was set: it is not when the key is there already."""
        return self._set(key, value, timeout, version, "NX") is not None

    def get(self, key: str, default: Any = None, version: int | None = None) -> Any:
        data = self._ask("GET", self.make_and_validate_key(key, version))
        return default if data is None else orjson.loads(data)

    def set(self, key: str, value: Any, timeout: float | None = DEFAULT_TIMEOUT, version: int | None = None) -> None:
        self._set(key, value, timeout, version)

    def delete(self, key: str, version: int | None = None) -> bool:
        return bool(self._ask("DEL", self.make_and_validate_key(key, version)))

    def _set(self, key: str, value: Any, timeout: float | None, version: int | None, *words: Word) -> Reply:
        place, seconds = self.make_and_validate_key(key, version), self.default_timeout if timeout is DEFAULT_TIMEOUT else timeout
        if seconds is None:
            return self._ask("SET", place, orjson.dumps(value), *words)
        if seconds <= 0:
            self._ask("DEL", place)
            return b"OK"
        return self._ask("SET", place, orjson.dumps(value), "PX", max(1, int(seconds * 1000)), *words)

    def _ask(self, *command: Word) -> Reply:
        try:
            return _connection(self._location).execute(command)[0]
        except (OSError, RedisError) as error:
            raise Unavailable(f"Redis does not answer: {error}; an operator can look with ./manage.py status") from error


@functools.cache
def _connection(location: str) -> Redis:
    """One of the process, for all threads: Django makes a cache for each."""
    return Redis(Address.parse(location), timeout_s=TIMEOUT_S)
