"""Requests a minute: who asks too often is told when to come back, by every door in its own words."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.test import AsyncClient

from controlpanel.base import database
from controlpanel.tenants import credentials, rates
from engine.errors import RateLimited

LIMIT = 6
KEY = ("token", "abc")


@pytest.fixture(autouse=True)
def few(settings: Any) -> Any:
    settings.RATE_LIMIT = LIMIT
    rates.clear()
    yield
    rates.clear()


def test_a_minutes_worth_at_once_then_as_it_is_earned(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for _ in range(LIMIT):
        rates.spend(KEY)
    with pytest.raises(RateLimited) as caught:
        rates.spend(KEY)
    assert caught.value.detail == {"retry_after_s": 60 / LIMIT}
    rates.spend(("token", "another"))
    now += 60 / LIMIT - 0.01
    with pytest.raises(RateLimited):
        rates.spend(KEY)
    now += 0.01
    rates.spend(KEY)


def test_root_is_not_counted_nor_anybody_without_a_limit(settings: Any) -> None:
    for _ in range(LIMIT * 2):
        rates.spend(("uid", "acme", "0"))
    settings.RATE_LIMIT = 0
    for _ in range(LIMIT * 2):
        rates.spend(KEY)


def test_those_who_were_silent_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "_KNOWN_MAX", 100)
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for number in range(1000):
        now += 1.0
        rates.spend(("token", str(number)))
    assert len(rates._earned_at) <= 101


@pytest.mark.usefixtures("web")
async def test_rest_and_pages_say_429_and_when_to_come_back(people: Any) -> None:
    alice = await database.read(people.actor, people.alice)
    _token, secret = await database.run(lambda: credentials.create_token(alice))
    api, browser = AsyncClient(), AsyncClient()
    await browser.aforce_login(people.alice)
    for client, path, headers in (
        (api, "/api/v1/tenants", {"authorization": f"Bearer {secret}"}),
        (browser, "/t/acme/settings/", {}),
    ):
        for _ in range(LIMIT):
            assert (await client.get(path, headers=headers)).status_code == 200
        refused = await client.get(path, headers=headers)
        assert refused.status_code == 429 and 1 <= int(refused.headers["Retry-After"]) <= 60 / LIMIT
        assert b"requests a minute" in refused.content


@pytest.mark.usefixtures("web")
async def test_each_door_has_a_purse_of_its_own(people: Any) -> None:
    alice = await database.read(people.actor, people.alice)
    for _ in range(2):
        _token, secret = await database.run(lambda: credentials.create_token(alice))
        for _ in range(LIMIT):
            assert (await AsyncClient().get("/api/v1/tenants", headers={"authorization": f"Bearer {secret}"})).status_code == 200
