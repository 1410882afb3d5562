"""Docker's events about what changes no row: somebody attached, a terminal has another size."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from django.db import Error

from controlpanel.base import database
from controlpanel.containers import rows
from controlpanel.containers.models import Container
from controlpanel.containers.projection import ContainerView

log = logging.getLogger(__name__)

_telling: set[asyncio.Task[None]] = set()


def tell(view: ContainerView, action: str, **attributes: str) -> None:
    """Nobody waits for it; what is asked afterwards is told afterwards, because there is one writer."""
    task: asyncio.Task[None] = asyncio.create_task(_tell(view.id, action, attributes))
    _telling.add(task)
    task.add_done_callback(_telling.discard)


async def _tell(container_id: str, action: str, attributes: dict[str, Any]) -> None:
    try:
        await database.run(_write, container_id, action, attributes)
    except Error as error:
        log.warning("event %s of %s: %s", action, container_id[:12], error)


def _write(container_id: str, action: str, attributes: dict[str, Any]) -> None:
    row = Container.everywhere.filter(engine_id=container_id).first()
    if row is not None:  # else it was removed meanwhile
        rows.event(row, action, **attributes)
