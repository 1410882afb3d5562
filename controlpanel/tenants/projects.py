"""Projects of a tenant, which are compose's: the label ``com.docker.compose.project`` puts a container, volume or network into one.

A project is there from its first object on, or from the first quota that somebody gives it; when neither is left, it goes. Labels of an
object never change, so neither does its project.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from django.db import transaction

from controlpanel.audit import services as audit
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.models import Project, Tenant
from controlpanel.tenants.permissions import LABEL, require
from controlpanel.tenants.quota import ledger
from controlpanel.tenants.quota.resources import BY_COLUMN, OF_PROJECT, PROJECTS, Use, check_limit
from engine.errors import FailedPrecondition, InvalidArgument, NotFound

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")  # compose's, in the length of a tenant's


def name_of(labels: Mapping[str, str]) -> str:
    """The project of an object with these labels; "" for none. What compose would not take as a name is a label like any other."""
    name = labels.get(LABEL, "")
    return name if _NAME.fullmatch(name) else ""


def check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidArgument(f"invalid project name {name!r}: use 1 to 63 lower-case letters, digits, dashes and underscores")


def number_of(tenant_id: int, labels: Mapping[str, str]) -> int | None:
    """The same as the project's number, made when absent, whatever the quota says: for an object that is there. Inside a transaction."""
    name = name_of(labels)
    if not name:
        return None
    ledger.account(tenant_id)
    number: int = Project.everywhere.get_or_create(tenant_id=tenant_id, name=name)[0].pk
    return number


def number_for(tenant_id: int, name: str) -> int:
    """The number of the project of that name, made when absent and the quota has room: for what is given to it before anything is in it.
    Inside a transaction."""
    check_name(name)
    account = ledger.account(tenant_id, name)
    account.admit({})
    assert account.project_id is not None
    return account.project_id


def left(tenant_id: int, project_id: int | None) -> None:
    """An object of it has gone; was it the last, and has nobody given the project a quota, it goes, too. Inside the same transaction."""
    if project_id is None:
        return
    ledger.account(tenant_id)  # nobody puts something into it meanwhile
    project = Project.everywhere.filter(pk=project_id).first()
    if project is not None and not _is_kept(project):
        project.delete()


def _is_kept(project: Project) -> bool:
    """By a limit, or by whatever points to it: objects, and all that apps above may give a project."""
    if any(getattr(project, column) for column in OF_PROJECT):
        return True
    others = [relation.get_accessor_name() for relation in Project._meta.related_objects]
    return any(getattr(project, str(name)).exists() for name in others)


def projects(actor: Actor) -> list[Project]:
    """Of the actor's tenant, by name."""
    require(actor, "project.view")
    return list(Project.objects.for_actor(actor).order_by("name"))


def project(actor: Actor, name: str) -> Project:
    require(actor, "project.view")
    found: Project | None = Project.objects.for_actor(actor).filter(name=name).first()
    if found is None:
        raise no_such_project(name)
    return found


def no_such_project(name: str) -> NotFound:
    return NotFound(f"No such project: {name}")


def use(actor: Actor, name: str) -> list[Use]:
    return ledger.use_of_project(project(actor, name))


@transaction.atomic
def change_quota(actor: Actor, name: str, **limits: int) -> Project | None:
    """Made when absent. Each limit is within the tenant's own; 0 is none. None: without a limit and empty, it has gone."""
    require(actor, "project.quota")
    assert actor.tenant is not None
    tenant = Tenant.objects.get(pk=actor.tenant.pk)
    for column, value in limits.items():
        _check(tenant, column, value)
    found: Project = Project.everywhere.get(pk=number_for(tenant.pk, name))
    for column, value in limits.items():
        setattr(found, column, value)
    found.save(update_fields=list(limits))
    audit.record(actor, "project.quota", name, **limits)
    left(tenant.pk, found.pk)
    return Project.everywhere.filter(pk=found.pk).first()


def _check(tenant: Tenant, column: str, value: int) -> None:
    if column not in OF_PROJECT:
        raise InvalidArgument(f"there is no limit called {column} of a project")
    check_limit(column, value)
    limit, name = getattr(tenant, column), BY_COLUMN[column].name
    if limit and value > limit:
        raise FailedPrecondition(
            f"{name} of a project may not be more than the tenant's: tenant {tenant.name} is limited to {limit}, asked was {value}"
        )


def shown(project: Project) -> dict[str, Any]:
    return {"name": project.name, "created_at": project.created_at, **ledger.limits_of(project)}


ledger.counted(PROJECTS, Project, "COUNT(*)")
