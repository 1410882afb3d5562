from __future__ import annotations

import json
from base64 import b64decode
from typing import Any

from celery import Celery

from tests.workers.conftest import RedisServer
from workers.app import broker_url
from workers.envelope import envelope


def test_ours_is_what_celery_itself_publishes(redis_server: RedisServer) -> None:
    """Whatever Celery writes that is not a mere report about the sender, we write, too; kombu is pinned, so this says when it moves."""
    app = Celery("test", broker=broker_url(redis_server.url))
    app.conf.task_create_missing_queues = True
    kwargs = {"operation": "7", "payload": {"name": "köln"}}
    app.send_task("slipway.test", kwargs=kwargs, task_id="7", queue="host.test", ignore_result=True, headers={"key": "k"})
    app.close()
    (theirs_raw,) = redis_server.client().execute(("RPOP", "host.test"))
    theirs, ours = json.loads(theirs_raw), json.loads(envelope("host.test", "slipway.test", kwargs, task_id="7", key="k"))

    assert json.loads(b64decode(ours["body"])) == json.loads(b64decode(theirs["body"]))
    assert {name: ours[name] for name in ("content-type", "content-encoding")} == {
        name: theirs[name] for name in ("content-type", "content-encoding")
    }
    for words in (ours["properties"], theirs["properties"]):
        words.pop("delivery_tag")
        words.pop("reply_to")
        words["delivery_info"].pop("exchange")  # theirs is named like the queue; a queue without a binding is reached by its name
    assert ours["properties"] == theirs["properties"]
    reports = {"argsrepr", "kwargsrepr", "origin"}
    assert _without(ours["headers"], reports) == {
        name: value for name, value in _without(theirs["headers"], reports).items() if name in ours["headers"]
    }
    assert theirs["headers"].keys() - ours["headers"].keys() <= {
        "shadow", "group_index", "replaced_task_nesting", "stamped_headers", "stamps", "x-death"
    }  # fmt: skip


def test_the_same_task_sent_twice_has_two_delivery_tags() -> None:
    tags = {json.loads(envelope("q", "t", {}, task_id="1", key=""))["properties"]["delivery_tag"] for _ in range(2)}
    assert len(tags) == 2


def _without(words: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in words.items() if name not in names}
