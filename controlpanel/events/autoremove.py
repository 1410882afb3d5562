"""``docker run --rm``: a container that asked for it is removed when its run has ended, also when it could not start."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from django.db.models import Q

from controlpanel.base import database, live
from controlpanel.containers import projection, readers, services
from controlpanel.containers.models import Container, Desired
from controlpanel.containers.projection import ContainerView
from controlpanel.containers.recovery import RECALLED
from controlpanel.tenants.actor import system
from controlpanel.tenants.models import Tenant
from engine.errors import EngineError, NotFound
from engine.model.container import Status

log = logging.getLogger(__name__)

_BUSY: Final = (Desired.REMOVED, Desired.RESTARTING)
_tasks: dict[str, asyncio.Task[None]] = {}  # by container id


def _changed(message: live.Message, view: ContainerView | None) -> None:
    view = view or projection.peek(message["tenant"], message["id"])
    if view is not None and view.auto_remove and view.host_seq > 0 and not view.is_running and view.desired not in _BUSY:
        _begin(view.tenant_id, view.id)


def look_again() -> None:
    """At start and after every inventory: what ended while nobody looked, and what a host in a power cut forgot having run."""
    task = asyncio.ensure_future(_look())
    _tasks["look"] = task
    task.add_done_callback(lambda _done: _tasks.pop("look", None))


async def _look() -> None:
    for tenant_id, container_id in await database.read(_ended):
        _begin(tenant_id, container_id)


def _ended() -> list[tuple[int, str]]:
    rows = Container.everywhere.filter(auto_remove=True, status__in=[Status.EXITED.value, Status.CREATED.value])
    rows = rows.filter(Q(host_seq__gt=0) | Q(state__has_key=RECALLED))
    return list(rows.exclude(desired__in=_BUSY).values_list("tenant_id", "engine_id"))


def _begin(tenant_id: int, container_id: str) -> None:
    if container_id not in _tasks:
        task = _tasks[container_id] = asyncio.ensure_future(_remove(tenant_id, container_id))
        task.add_done_callback(lambda _done: _tasks.pop(container_id, None))


async def _remove(tenant_id: int, container_id: str) -> None:
    await readers.have_read(container_id)
    try:
        tenant = await database.read(Tenant.objects.get, pk=tenant_id)
        await services.remove_container(system(tenant), container_id, volumes=True)
    except (NotFound, Tenant.DoesNotExist):
        pass  # somebody was faster
    except EngineError as error:
        log.warning("container %s is not removed yet: %s", container_id[:12], error.message)


async def stop() -> None:
    """Leave what is under way to the next process."""
    tasks: list[asyncio.Task[Any]] = list(_tasks.values())
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


live.on("container", _changed)
