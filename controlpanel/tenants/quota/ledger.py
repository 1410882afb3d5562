"""The one ledger: what a tenant and its projects have taken of their quotas, and whether more may be taken.

Nothing is booked. Every figure is a sum over the rows that hold the things, read in one statement inside the transaction that adds the
next one: so it is right at once after a removal, a crash or a restored row, and there is nothing to reconcile. What a host makes on its
own (volumes) has no row yet while it is asked; its Operation says meanwhile what is reserved.

    account    takes the tenant's lock and reads the limits (SQLite has one writer; PostgreSQL: FOR NO KEY UPDATE until the commit)
    admit      QuotaExceeded, naming resource, limit, used and asked, of the project first, then of the tenant
    rows       are written by the caller, in the same transaction, with ``account.project_id``

Which rows hold what, the apps that own them say: ``counted`` at import, one or more sources for a resource.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from django.db import connection, models

from controlpanel.tenants.models import Project, Tenant
from controlpanel.tenants.quota.resources import (
    BY_NAME,
    DECLARED,
    OF_PROJECT,
    OF_TENANT,
    PROJECTS,
    RESOURCES,
    WARNING,
    Resource,
    Use,
    amount,
)
from engine.errors import NotFound, QuotaExceeded

Counting = Callable[[int], int]  # of a tenant, by its number
Warned = Callable[[int, str, Resource, int, int], None]  # tenant, project or "", resource, limit, used

_TENANT: Final = "tenant_id"
_PROJECT: Final = "project_id"
_sources: dict[str, list[tuple[str, str, str, str]]] = {}  # resource → table, sum, condition, column of the project
_counting: dict[str, list[Counting]] = {}
_warned: list[Warned] = []


def counted(resource: str, model: type[models.Model], what: str, *, where: str = "", project: str = _PROJECT) -> None:
    """``what`` is an SQL aggregate over rows of ``model``, of which ``where`` holds. ``project``: the column with the project's number."""
    assert resource in BY_NAME
    _sources.setdefault(resource, []).append((model._meta.db_table, what, where, project))
    _statement.cache_clear()


def counted_by(resource: str, count: Counting) -> None:
    """For what no plain sum tells: added to those that do. Called inside the transaction."""
    assert resource in BY_NAME
    _counting.setdefault(resource, []).append(count)


def on_warning(handler: Warned) -> None:
    """Call ``handler`` in the transaction that takes an owner past 80 % of a limit."""
    _warned.append(handler)


# -- admission ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class Owner:
    """A tenant or a project, with the limits that are not 0, by resource."""

    number: int
    name: str
    words: str  # as refusals call it
    limits: dict[str, int]


class Account:
    """One tenant's books until the end of the transaction; ``project`` those of the project that the things belong to."""

    def __init__(self, tenant: Owner, project: Owner | None, new_project: str) -> None:
        self.tenant = tenant
        self.project = project
        self._new_project = new_project

    @property
    def project_id(self) -> int | None:
        """After ``admit``."""
        return self.project.number if self.project is not None else None

    def admit(self, asked: Mapping[str, int]) -> None:
        """``asked``: what is added, by resource; none of it is none asked. QuotaExceeded when it is more than is left.

        A project that was not there is made.
        """
        wanted = {name: count for name, count in asked.items() if count > 0}
        if self._new_project:
            wanted[PROJECTS] = 1
        if self.project is not None:
            self._admit(self.project, wanted, _PROJECT)
        self._admit(self.tenant, wanted, _TENANT)
        if self._new_project:
            made = Project.everywhere.create(tenant_id=self.tenant.number, name=self._new_project)
            self.project, self._new_project = Owner(made.pk, self._new_project, "", {}), ""

    def check_alone(self, asked: Mapping[str, int]) -> None:
        """QuotaExceeded for what could never be admitted, were it all there is."""
        for owner in self._owners():
            for name, count in asked.items():
                if 0 < owner.limits.get(name, 0) < count:
                    raise _exceeded(owner, BY_NAME[name], owner.limits[name], 0, count)

    def check_declared(self, taken: Mapping[str, int]) -> None:
        """A project's share of memory, cpu and processes is the sum of what its containers declare: one without could take it all.

        ``taken``: those of a container that are to be looked at, 0 where it declares none.
        """
        if self.project is None:
            return
        for name in sorted(DECLARED & taken.keys() & self.project.limits.keys()):
            if taken[name] <= 0:
                limit = self.project.limits[name]
                raise QuotaExceeded(
                    f"quota of {self.project.words}: {name} is limited to {amount(BY_NAME[name], limit)}, so that each of its containers "
                    f"needs a limit of its own: give this one {_OPTIONS[name]}",
                    rule=f"quota.{name}",
                    limit=limit,
                    asked=0,
                )

    def left(self, name: str) -> int | None:
        """What may still be taken; None = as much as you like."""
        found = [
            owner.limits[name] - _use(owner.number, column, (name,))[name]
            for owner, column in ((self.tenant, _TENANT), (self.project, _PROJECT))
            if owner is not None and name in owner.limits
        ]
        return max(0, min(found)) if found else None

    def limit(self, name: str) -> int:
        """The smaller one of both; 0 = none."""
        return min((owner.limits[name] for owner in self._owners() if name in owner.limits), default=0)

    def passed(self, name: str, added: int) -> None:
        """Of what was not asked for but has come: a warning when that is past 80 % of the tenant's limit."""
        if name in self.tenant.limits:
            now = _use(self.tenant.number, _TENANT, (name,))[name]
            self._passed(self.tenant, name, now - added, now)

    def _passed(self, owner: Owner, name: str, before: int, now: int) -> None:
        limit = owner.limits[name]
        if before < WARNING * limit <= now:
            for handler in _warned:
                handler(self.tenant.number, "" if owner is self.tenant else owner.name, BY_NAME[name], limit, now)

    def _owners(self) -> list[Owner]:
        return [owner for owner in (self.project, self.tenant) if owner is not None]

    def _admit(self, owner: Owner, asked: Mapping[str, int], column: str) -> None:
        limited = tuple(name for name in asked if name in owner.limits)
        if not limited:
            return
        used = _use(owner.number, column, limited)
        for name in limited:
            resource, limit = BY_NAME[name], owner.limits[name]
            if used[name] + asked[name] > limit:
                raise _exceeded(owner, resource, limit, used[name], asked[name])
        for name in limited:
            self._passed(owner, name, used[name], used[name] + asked[name])


_OPTIONS: Final = {"cpu": "--cpus (cpus in a compose file)", "memory": "--memory (mem_limit)", "pids": "--pids-limit (pids_limit)"}


def account(tenant_id: int, project: str = "") -> Account:
    """Inside a transaction, before the rows are read that are to be changed. ``project``: a name, "" for none.

    NotFound when the tenant has gone meanwhile.
    """
    with connection.cursor() as cursor:
        cursor.execute(_limits_of_tenant(connection.vendor), [tenant_id])
        found = cursor.fetchone()
        if found is None:
            raise NotFound("No such tenant: it was deleted a moment ago")
        name, *limits = found
        tenant = Owner(tenant_id, name, f"tenant {name}", _limits(OF_TENANT, limits))
        if not project:
            return Account(tenant, None, "")
        cursor.execute(_limits_of_project(), [tenant_id, project])
        found = cursor.fetchone()
    if found is None:
        return Account(tenant, None, project)
    number, *limits = found
    return Account(tenant, Owner(number, project, f"project {project} of tenant {name}", _limits(OF_PROJECT, limits)), "")


def _limits(columns: Iterable[str], values: Iterable[int]) -> dict[str, int]:
    return {_RESOURCE_OF[column]: value for column, value in zip(columns, values, strict=True) if value}


_RESOURCE_OF: Final = {resource.column: resource.name for resource in RESOURCES}


@cache
def _limits_of_tenant(vendor: str) -> str:
    lock = " FOR NO KEY UPDATE" if vendor == "postgresql" else ""
    return f"SELECT {_quoted('name', *OF_TENANT)} FROM {_quoted(Tenant._meta.db_table)} WHERE id = %s{lock}"


@cache
def _limits_of_project() -> str:
    return f"SELECT {_quoted('id', *OF_PROJECT)} FROM {_quoted(Project._meta.db_table)} WHERE tenant_id = %s AND name = %s"


def _exceeded(owner: Owner, resource: Resource, limit: int, used: int, asked: int) -> QuotaExceeded:
    more = f"{asked} more {'was' if asked == 1 else 'were'} asked"
    return QuotaExceeded(
        f"quota of {owner.words}: {resource.name} is limited to {amount(resource, limit)}, {used} are in use and {more}",
        rule=f"quota.{resource.name}",
        limit=limit,
        used=used,
        asked=asked,
    )


# -- counting ----------------------------------------------------------------------------------------


def use_of_tenant(tenant: Tenant) -> list[Use]:
    """Of every resource, in the order of RESOURCES; what only hosts know is None."""
    used = _use(tenant.pk, _TENANT, tuple(resource.name for resource in RESOURCES))
    return [Use(resource, getattr(tenant, resource.column), used.get(resource.name)) for resource in RESOURCES]


def use_of_project(project: Project) -> list[Use]:
    resources = tuple(resource for resource in RESOURCES if resource.of_project)
    used = _use(project.pk, _PROJECT, tuple(resource.name for resource in resources))
    return [Use(resource, getattr(project, resource.column), used.get(resource.name)) for resource in resources]


def _use(number: int, owner: str, names: tuple[str, ...]) -> dict[str, int]:
    """Of these resources, as far as rows tell."""
    known = tuple(name for name in names if name in _sources)
    found: dict[str, int] = {}
    if known:
        statement, times = _statement(owner, known)
        with connection.cursor() as cursor:
            cursor.execute(statement, [number] * times)
            found = dict(zip(known, map(int, cursor.fetchone()), strict=True))
    if owner == _TENANT:
        for name in _counting.keys() & set(names):
            found[name] = found.get(name, 0) + sum(count(number) for count in _counting[name])
    return found


@cache
def _statement(owner: str, names: tuple[str, ...]) -> tuple[str, int]:
    """One SELECT with a column for each resource, and how often the owner's number is given. Each part reads an index alone."""
    columns, times = [], 0
    for name in names:
        parts = []
        for table, what, where, project in _sources[name]:
            column = _TENANT if owner == _TENANT else project
            condition = f" AND {where}" if where else ""
            parts.append(f"COALESCE((SELECT {what} FROM {_quoted(table)} WHERE {column} = %s{condition}), 0)")
            times += 1
        columns.append(" + ".join(parts))
    return f"SELECT {', '.join(columns)}", times


def _quoted(*names: str) -> str:
    return ", ".join(connection.ops.quote_name(name) for name in names)


def limits_of(owner: Tenant | Project) -> dict[str, Any]:
    """Column → limit."""
    return {column: getattr(owner, column) for column in (OF_TENANT if isinstance(owner, Tenant) else OF_PROJECT)}
