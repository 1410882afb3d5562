"""Looking into a running container: its processes, and what it uses just now. The host's agent answers; nothing is stored."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

from controlpanel.base import database
from controlpanel.containers import rows
from controlpanel.containers.projection import ContainerView, container
from controlpanel.hosts import streams
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.permissions import require
from engine.errors import FailedPrecondition
from engine.model.container import Status

_CHUNK: Final = 64 << 10


async def processes(actor: Actor, name: str, options: str = "") -> dict[str, Any]:
    """{"titles", "processes"} as ps(1) of the host prints them with ``options``; "" is -ef. moby's sentences."""
    require(actor, "container.view")
    view = await container(actor, name)
    if view.status is Status.RESTARTING:
        raise FailedPrecondition(f"Container {view.id} is restarting, wait until the container is running")
    if not view.state.has_process:
        raise FailedPrecondition(f"container {view.id} is not running")
    found, _reader, writer = await streams.open_stream("top", view.spec.tenant, view.id, options=options)
    writer.close()
    await database.run(_tell_top, view.id)
    return found


def _tell_top(container_id: str) -> None:
    row = rows.locked(container_id)
    if row is not None:
        rows.event(row, "top")


async def sample(view: ContainerView) -> dict[str, Any] | None:
    """One stats object of Docker's shape, without ``precpu_stats``; None when it does not run. The caller has authorised."""
    try:
        found, _reader, writer = await streams.open_stream("sample", view.spec.tenant, view.id)
    except FailedPrecondition:
        return None  # it ended meanwhile
    writer.close()
    return found


async def samples(view: ContainerView, interval_s: float) -> AsyncIterator[bytes]:
    """Lines of such objects until it ends; from the second on with the one before as ``precpu_stats``. The caller has authorised."""
    _ok, reader, writer = await streams.open_stream("stats", view.spec.tenant, view.id, interval_s=interval_s, count=0)

    async def lines() -> AsyncIterator[bytes]:
        try:
            while data := await reader.read(_CHUNK):
                yield data
        finally:
            writer.transport.abort()

    return lines()
