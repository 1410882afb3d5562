"""SLIPWAY_PANEL=elsewhere: the host's parts here, web and the panel's worker in containers (docker/)."""

from __future__ import annotations

from pathlib import Path

import pytest

from workers.platform import checks, parts
from workers.platform.places import Places
from workers.platform.say import Refusal

BOTH = {"REDIS_URL": "redis://redis.example.org", "DATABASE_URL": "postgres://db.example.org/slipway"}


def places(**variables: str) -> Places:
    return Places.from_environment({"SLIPWAY_DATA": "/tmp/never", **variables})


def test_the_hosts_parts_alone_are_run_and_the_others_are_waited_for_by_nobody() -> None:
    away = places(SLIPWAY_PANEL="elsewhere", **BOTH)
    checks.require_panel(away)
    assert parts.elsewhere(away) == {"redis", "web", "panel-worker"}
    assert parts.elsewhere(places()) == frozenset()
    assert parts.elsewhere(places(REDIS_URL="redis://redis.example.org")) == {"redis"}


def test_the_supervisor_gets_no_part_of_the_panel() -> None:
    names = [part.name for part in parts.supervised(places(SLIPWAY_PANEL="elsewhere", **BOTH), Path("/tmp/never"))]
    assert names == ["host-worker"]


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({"SLIPWAY_PANEL": "nowhere"}, "say here, or elsewhere"),
        ({"SLIPWAY_PANEL": "elsewhere"}, "needs REDIS_URL and DATABASE_URL"),
        ({"SLIPWAY_PANEL": "elsewhere", "REDIS_URL": "redis://redis.example.org"}, "needs REDIS_URL and DATABASE_URL"),
    ],
)
def test_what_both_sides_must_share_is_asked_for(variables: dict[str, str], why: str) -> None:
    with pytest.raises(Refusal, match=why):
        checks.require_panel(places(**variables))
