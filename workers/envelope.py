"""A Celery task as the Redis transport carries it, made without Celery.

Celery's message protocol 2 (docs.celeryq.dev, "Message Protocol") inside kombu's envelope for virtual transports:

    {"body": base64([args, kwargs, embed]), "content-type", "content-encoding", "headers": {…}, "properties": {…}}

Building it takes 9 µs where ``app.amqp.as_task_v2`` and kombu's private channel methods take over 100, and needs neither
package, so the agent and the web process stay small. tests/workers/test_envelope.py holds it against what Celery itself
publishes and against a real worker; kombu is pinned.
"""

from __future__ import annotations

import os
import socket
from base64 import b64encode
from typing import Any, Final

from engine import wire

_EMBED: Final = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
_ORIGIN: Final = f"{os.getpid()}@{socket.gethostname()}"


def envelope(queue: str, task: str, kwargs: dict[str, Any], *, task_id: str, key: str) -> bytes:
    """What to LPUSH to the list ``queue``. ``key``: tasks of one key run in the order they were sent.

    Every call makes another delivery tag, so the same task may be sent again without hiding the first in ``unacked``.
    """
    headers = {
        "lang": "py",
        "task": task,
        "id": task_id,
        "root_id": task_id,
        "parent_id": None,
        "group": None,
        "eta": None,
        "expires": None,
        "retries": 0,
        "timelimit": [None, None],
        "argsrepr": "()",
        "kwargsrepr": "{}",  # payloads may hold what no log should
        "origin": _ORIGIN,
        "ignore_result": True,
        "key": key,
    }
    properties = {
        "correlation_id": task_id,
        "reply_to": "",
        "delivery_mode": 2,
        "delivery_info": {"exchange": "", "routing_key": queue},
        "priority": 0,
        "body_encoding": "base64",
        "delivery_tag": os.urandom(16).hex(),
    }
    return wire.encode(
        {
            "body": b64encode(wire.encode([[], kwargs, _EMBED])).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": headers,
            "properties": properties,
        }
    )
