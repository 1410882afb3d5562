"""Deleting a tenant: first a mark that can be taken back, later, or at once with ``--now``, everything.

    mark       doors close (sockets, tokens, pages answer 403 with the way back), containers are stopped; nothing is lost
    restore    doors open, and what ran is started again
    purge      containers, volumes, then the host's place of the tenant with networks, images, ids, then all rows; and a look for the rest

Each step may be done twice, so a purge that was interrupted is done again. It is done by a command or the panel's worker, which have no
live feed: nothing here waits for one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Iterable
from datetime import timedelta
from typing import Any, Final

from django.db import connection
from django.utils import timezone

from controlpanel.audit import services as audit
from controlpanel.base import database
from controlpanel.builds import logs as build_logs
from controlpanel.builds.models import Build
from controlpanel.containers import projection, services
from controlpanel.containers.models import Container, Desired
from controlpanel.hosts import dispatch, tenants
from controlpanel.tenancy import report
from controlpanel.tenancy.report import Report
from controlpanel.tenants import services as rows
from controlpanel.tenants.actor import Actor, system
from controlpanel.tenants.models import Tenant
from controlpanel.tenants.permissions import require
from controlpanel.volumes import projection as volumes
from controlpanel.volumes import services as volume_services
from controlpanel.volumes.models import Volume
from engine.errors import EngineError

log = logging.getLogger(__name__)

GRACE: Final = timedelta(days=7)
_STOPPING_S: Final = 60.0
_LOOK_EACH_S: Final = 0.2
_TAKEN_OVER: Final = timedelta(hours=1)  # by the schedule, should the command that deletes a tenant at once be killed


async def mark(actor: Actor, tenant: Tenant, *, grace: timedelta = GRACE) -> Tenant:
    """Returns when its containers have been told to stop."""
    running = await database.read(_running, tenant)
    tenant = await database.run(lambda: rows.mark_tenant(actor, tenant, grace=grace, ran=running))
    await _each(services.signal_stop(system(tenant), container_id) for container_id in running)
    return tenant


async def restore(actor: Actor, tenant: Tenant) -> Tenant:
    """Returns when what ran has been started; what cannot be is left stopped, and said in the log."""
    ran = await database.run(rows.restore_tenant, actor, tenant)
    await _each(_start_again(tenant, container_id) for container_id in ran)
    return tenant


async def _start_again(tenant: Tenant, container_id: str) -> None:
    """One that is still being stopped has to end first."""
    deadline = time.monotonic() + _STOPPING_S
    while time.monotonic() < deadline and await database.read(_is_stopping, container_id):  # noqa: ASYNC110  no live feed tells
        await asyncio.sleep(_LOOK_EACH_S)
    _forget(tenant)
    await services.start_container(system(tenant), container_id)


def _is_stopping(container_id: str) -> bool:
    row = Container.everywhere.filter(engine_id=container_id).first()
    return row is not None and row.desired == Desired.STOPPED and row.takes_as_running


async def purge(actor: Actor, tenant: Tenant) -> Report:
    """Everything of it, at once. Raises what a host refuses, and can be asked again then; the row goes last."""
    require(actor, "tenant.delete")
    if tenant.delete_at is None:
        tenant = await database.run(lambda: rows.mark_tenant(actor, tenant, grace=_TAKEN_OVER, ran=[]))  # nobody makes more meanwhile
    before = await database.read(report.rows_of, tenant.pk)
    who = system(tenant)
    _forget(tenant)
    ids = await database.read(lambda: list(Container.everywhere.filter(tenant=tenant).values_list("engine_id", flat=True)))
    await _all(services.remove_container(who, container_id, force=True) for container_id in ids)
    _forget(tenant)
    names = await database.read(lambda: list(Volume.everywhere.filter(tenant=tenant).values_list("name", flat=True)))
    await _all(volume_services.remove(who, name, force=True) for name in names)
    hosts = await tenants.remove_from_hosts(actor, tenant)
    builds = await database.read(lambda: list(Build.everywhere.filter(tenant=tenant).values_list("build_id", flat=True)))
    found = await database.run(_end, actor, tenant, before, hosts)
    for build_id in builds:
        build_logs.remove(build_id)
    return await report.with_socket(found, tenant)


def purge_due() -> int:
    """For the schedule: tenants whose grace is over. How many went."""
    connection.close_if_unusable_or_obsolete()
    done = 0
    for tenant in Tenant.objects.filter(delete_at__lte=timezone.now()):
        try:
            found = asyncio.run(_purge_once(tenant))
        except EngineError as error:  # its host is away, say: again at the next turn
            log.warning("tenant %s is not deleted yet: %s", tenant.name, error.message)
            continue
        done += 1
        log.info("tenant %s is deleted: %s", tenant.name, "nothing is left" if found.is_clean else f"left: {found.left}")
    return done


async def _purge_once(tenant: Tenant) -> Report:
    try:
        return await purge(system(), tenant)
    finally:
        await dispatch.close()


def _end(actor: Actor, tenant: Tenant, before: dict[str, int], hosts: dict[str, dict[str, Any]]) -> Report:
    """One transaction: the rows go, are looked for, and what was found is audited."""
    number, name = tenant.pk, tenant.name
    rows.delete_tenant(actor, tenant)
    found = report.made(name, before, report.rows_of(number), hosts)
    audit.record(actor, "tenant.report", name, tenant_number=number, removed=found.removed, left=found.left)
    return found


def _running(tenant: Tenant) -> list[str]:
    return [row.engine_id for row in Container.everywhere.filter(tenant=tenant) if row.takes_as_running]


def _forget(tenant: Tenant) -> None:
    """What this process has read of it before: it hears of no changes."""
    projection.forget_tenant(tenant.pk)
    volumes.clear()


async def _all(acts: Iterable[Awaitable[Any]]) -> None:
    """All of them are tried before the first failure is raised."""
    failures = [each for each in await asyncio.gather(*acts, return_exceptions=True) if isinstance(each, BaseException)]
    if failures:
        raise failures[0]


async def _each(acts: Iterable[Awaitable[Any]]) -> None:
    for each in await asyncio.gather(*acts, return_exceptions=True):
        if isinstance(each, EngineError):
            log.warning("%s", each.message)
        elif isinstance(each, BaseException):
            raise each
