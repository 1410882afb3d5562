from __future__ import annotations

import time
from typing import Any

import pytest

from engine import disk
from engine.model.codec import to_json
from engine.model.traffic import Counts, month_of
from tests.workers.agent.conftest import TENANT, Host, listens, until
from tests.workers.agent.test_events import durable
from tests.workers.conftest import RedisServer

pytestmark = pytest.mark.requires("root", "overlay", "cgroup", "userns", "nft")


def test_an_agent_that_comes_back_tells_all_that_is_in_the_book(host: Host, agent_redis: RedisServer) -> None:
    """What the one before had not sent is in it; a container that is gone is not told of."""
    web, counts, month = host.create("true"), Counts(into_bytes=1, into_packets=2, out_bytes=3, out_packets=4), month_of(time.time())
    host.agent.kill()
    containers = {web: counts, "ab" * 32: counts}
    disk.write_json(
        host.config.engine / "traffic.json",
        {"id": "first", "months": {month: {"tenants": {TENANT: to_json(counts)}, "containers": to_json(containers)}}},
    )

    def told() -> list[dict[str, Any]]:
        return [event["state"] for event in durable(agent_redis) if event["kind"] == "traffic.counted" and event["object_id"] == "first"]

    host.agent.start()
    until(lambda: bool(told()) and listens(host.config))
    wanted = {"book": "first", "month": month, "tenants": {TENANT: to_json(counts)}, "containers": {web: to_json(counts)}}
    assert told() == [wanted]
