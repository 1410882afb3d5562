"""Events: what is kept, and which pass."""

from __future__ import annotations

import time

import pytest

from controlpanel.dockerapi.events import matches
from controlpanel.events.models import Event
from controlpanel.tenants.models import Tenant
from tests.controlpanel.dockerapi.conftest import Api

DIE = Event(
    tenant_id=1, time_ns=5, type="container", action="die", actor_id="ab" * 32,
    attributes={"image": "busybox:1", "name": "web", "exitCode": "3", "tier": "x"},
).to_docker()  # fmt: skip


@pytest.mark.parametrize(
    ("given", "passes"),
    [
        ({}, True),
        ({"type": ["container"]}, True),
        ({"type": ["image"]}, False),
        ({"event": ["start", "die"]}, True),
        ({"event": ["start"]}, False),
        ({"container": ["web"]}, True),
        ({"container": ["abab"]}, True),
        ({"container": ["we"]}, True),  # moby: the beginning of a name is enough
        ({"image": ["busybox"]}, True),
        ({"image": ["busybox:1"]}, True),
        ({"image": ["debian"]}, False),
        ({"label": ["tier=x"]}, True),
        ({"label": ["tier=y"]}, False),
        ({"network": ["web"]}, True),  # and the kind of object does not matter
        ({"scope": ["swarm"]}, False),
        ({"type": ["container"], "event": ["start"]}, False),
    ],
)
def test_filters(given: dict[str, list[str]], passes: bool) -> None:
    assert matches(DIE, given) is passes


def test_past_events_are_told_and_the_stream_ends(api: Api) -> None:
    demo, other = Tenant.objects.get(name="demo"), Tenant.objects.get(name="other")
    now = time.time_ns()
    for tenant, action in ((demo, "create"), (demo, "start"), (other, "create")):
        Event.everywhere.create(
            tenant=tenant, time_ns=now, type="container", action=action, actor_id="x", attributes={"image": "a", "name": "b"}
        )
    answer = api.with_live_feed("GET", f"/events?since=1&until={now // 10**9 + 1}")
    assert [line.count(b'"Action"') for line in answer.body.splitlines()] == [1, 1]
    assert b'"status":"create","id":"x","from":"a","Type":"container"' in answer.body.splitlines()[0]
    assert api.with_live_feed("GET", "/events?since=1&until=2").body == b""
