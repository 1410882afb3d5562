"""A host worker whose acts leave marks that a test can count: ``python -m tests.workers.counting``.

Everything but the acts is the real thing: queue, pool, journal, answers, restoring.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import workers.ping  # noqa: F401  registers slipway.ping
from engine import errors
from workers import contract, host
from workers.consume import consume
from workers.operation import Act, task

DATA = Path(os.environ["SLIPWAY_DATA"])


def _note(word: str) -> None:
    fd = os.open(DATA / "acts", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, f"{word}\n".encode())
    os.close(fd)


def _made(payload: dict[str, Any]) -> dict[str, Any]:
    return {"existed": (DATA / payload["name"]).exists()}


@task("test.make", mark=_made)
def make(act: Act) -> dict[str, Any]:
    """An act that cannot be repeated without the mark: a second making of the same thing is an error."""
    path = DATA / act.payload["name"]
    if not (act.replay and not act.mark["existed"] and path.exists()):
        if path.exists():
            raise errors.AlreadyExists(f"{path.name} exists")
        _note(f"make {path.name}")
        path.touch()
    time.sleep(act.payload.get("linger_s", 0))
    return {"name": path.name}


@task("test.sleep")
def sleep(act: Act) -> dict[str, Any]:
    _note(f"begin {act.payload['name']}")
    time.sleep(act.payload["for_s"])
    _note(f"end {act.payload['name']}")
    return {}


@task("test.fail")
def fail(act: Act) -> dict[str, Any]:
    if act.payload.get("bug"):
        raise KeyError("secret")
    raise errors.QuotaExceeded("no more boats", limit=3)


if __name__ == "__main__":
    engine = DATA / "engine"
    queue = contract.host_queue(host.name())
    sys.exit(consume(queue, consumer=queue, lock=engine / "host-worker.lock", threads=64, sent_again=True, begin=host.journal))
