"""The way up: answers to whoever asked, events to queue ``panel``."""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING, Any

from engine import errors, wire
from engine.model.codec import to_json
from engine.model.event import EventKind
from workers import contract
from workers.outbox import Outbox
from workers.resp import Address, Redis, RedisError, Word

if TYPE_CHECKING:
    from engine.images.store import ImageStore

log = logging.getLogger(__name__)


def answer(reply_to: str, operation: str, outcome: dict[str, Any]) -> list[tuple[Word, ...]]:
    """``outcome`` is {"ok": …} or {"error": …}. The list goes by itself when nobody fetches: its process may be gone."""
    data = wire.encode({"operation": operation, **outcome})
    return [("LPUSH", reply_to, data), ("EXPIRE", reply_to, contract.REPLY_KEEP_S)]


def image_fact(images: ImageStore, image_id: str, refs: list[str] | None) -> tuple[EventKind, dict[str, Any]]:
    """Kind and state of an image's event: it is there under these names (none: untagged), or (None) the tenant has it no more."""
    try:
        record = None if refs is None else images.get(image_id)
    except errors.NotFound:
        record = None
    if record is None:
        return EventKind.IMAGE_REMOVED, {"id": image_id, "refs": []}
    return EventKind.IMAGE_ADDED, {**to_json(record), "refs": refs}


@cache
def redis() -> Redis:
    return Redis(Address.from_environment())


@cache
def outbox() -> Outbox:
    return Outbox(redis())


def push(commands: list[tuple[Word, ...]]) -> None:
    """To Redis, from the calling thread. When Redis is away the asker asks again under the same id, and the agent's inventory
    carries what the events said."""
    try:
        redis().execute(*commands)
    except (OSError, RedisError) as error:
        log.warning("no answer sent: %s", error)
