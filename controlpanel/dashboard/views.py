"""Where a person lands, and the pages of a tenant that belong to no single app."""

from __future__ import annotations

import json
from typing import Any

from django.conf import settings as dj_settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils.translation import check_for_language
from django.views.decorators.http import require_POST
from django.views.i18n import set_language as set_language_cookie

from controlpanel.accounts.models import Certificate, Token
from controlpanel.accounts.services import set_language
from controlpanel.base import database
from controlpanel.base.errors import http_status
from controlpanel.containers import presentation, projection
from controlpanel.containers.listing import listing
from controlpanel.containers.views import show_tab
from controlpanel.dashboard import policy, quotas
from controlpanel.dockerapi.inspect import document
from controlpanel.hosts import ceilings, log_use
from controlpanel.hosts.models import Operation
from controlpanel.metrics import traffic
from controlpanel.tenants import projects, queries, roles
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.models import ROLES, Project, shown_role
from controlpanel.tenants.pages import LAST_TENANT, page, show, tenant_path
from controlpanel.tenants.permissions import may
from controlpanel.tenants.quota import ledger
from engine.errors import EngineError
from engine.model.bandwidth import spelled

ATTENTION_SHOWN = 10
OPERATIONS_SHOWN = 10
MONTHS_SHOWN = 12
OPERATIONS_PAGE = 200


async def home(request: HttpRequest) -> HttpResponseBase:
    """The tenant this browser was in last, or the first."""
    request.user = user = await request.auser()
    if not user.is_authenticated:
        return redirect("account_login")
    names = [membership.tenant.name for membership in await database.read(queries.memberships_of, user)]
    if not names:
        return render(request, "dashboard/no_tenant.html", {"command": f"sudo ./manage.py member add TENANT {user} --role developer"})
    last = request.COOKIES.get(LAST_TENANT, "")
    return redirect(tenant_path(last if last in names else names[0]) + "/")


@require_POST
async def speak(request: HttpRequest) -> HttpResponseBase:
    """The language of this browser, and of the account wherever it logs in. The page is kept."""
    user = await request.auser()
    language = request.POST.get("language", "")
    if user.is_authenticated and check_for_language(language):
        await database.run(set_language, user, language)
    return set_language_cookie(request)


@page("tenant.view")
async def overview(request: HttpRequest, actor: Actor) -> HttpResponse:
    assert actor.tenant is not None
    views, whole = await projection.containers(actor), may(actor, "usage.view")
    rows = [presentation.row(view) for view in views]
    context = {
        "nav": "overview",
        "meters": quotas.meters(await log_use.with_logs(actor.tenant)) if whole else [],
        "attention": [row for row in rows if row.tone in ("red", "yellow")][:ATTENTION_SHOWN],
        "endpoint_command": f"export DOCKER_HOST={actor.tenant.endpoint}",
        "operations": await database.read(_operations, actor, OPERATIONS_SHOWN),
        "traffic": (await database.read(traffic.of_tenant, actor))[:MONTHS_SHOWN] if whole else [],
        "rates": [spelled(actor.tenant.bandwidth_in), spelled(actor.tenant.bandwidth_out)],
        **listing(views, request.GET),
    }
    return await show(request, actor, "dashboard/overview.html", context)


@page("tenant.view")
async def operations(request: HttpRequest, actor: Actor) -> HttpResponse:
    context = {"nav": "operations", "operations": await database.read(_operations, actor, OPERATIONS_PAGE)}
    return await show(request, actor, "dashboard/operations.html", context)


@page("container.view")
async def inspect(request: HttpRequest, actor: Actor, name: str) -> HttpResponse:
    """The very document that ``docker inspect`` prints."""
    view = await projection.container(actor, name)
    text = json.dumps([await document(actor, view)], indent=4, ensure_ascii=False)
    context = {"document": text, "inspect_command": f"docker inspect {view.name}"}
    return await show_tab(request, actor, view, "inspect", context)


@page("tenant.view")
async def settings(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Tokens, certificates and the quota. Who may see keys is asked where they are read."""
    return await show_settings(request, actor)


def settings_path(actor: Actor) -> str:
    assert actor.tenant is not None
    return tenant_path(actor.tenant.name, "settings") + "/"


async def show_settings(request: HttpRequest, actor: Actor, *, secret: str = "", refusal: EngineError | None = None) -> HttpResponse:
    """``secret``: of the token that was made just now. ``refusal``: why none was."""
    assert actor.tenant is not None
    shown = {"secret": secret, "refusal": refusal, "tls": dj_settings.TLS_PORT}
    context = {
        "nav": "settings",
        **shown,
        "quotas": quotas.table(await log_use.with_logs(actor.tenant)) if may(actor, "usage.view") else [],
        "policy": policy.table(actor.tenant.policy, await ceilings.of_tenant(actor.tenant)),
        "projects": await database.read(lambda: [_project(each) for each in projects.projects(actor)])
        if may(actor, "project.view")
        else [],
        **await database.read(_secrets, actor),
    }
    status = http_status(refusal) if refusal else 200
    return await show(request, actor, "dashboard/settings.html", context, status=status)


def _project(project: Project) -> dict[str, Any]:
    return {"name": project.name, "quotas": [row for row in quotas.table(ledger.use_of_project(project)) if row["value"] or row["limit"]]}


def _secrets(actor: Actor) -> dict[str, Any]:
    own = [(role.name, role.name) for role in roles.roles(actor) if not role.built_in] if may(actor, "role.view") else []
    return {
        "roles": [*ROLES, *own],
        "tokens": [_key(row) for row in queries.tokens_of(actor)] if may(actor, "token.view") else [],
        "certificates": [_key(row) for row in queries.certificates_of(actor)] if may(actor, "certificate.view") else [],
    }


def _key(row: Token | Certificate) -> dict[str, Any]:
    names = ("pk", "prefix", "name", "project", "verbs", "expires_at", "is_expired", "last_used_at", "last_used_from")
    role = shown_role(row.role)
    return {**{name: getattr(row, name) for name in names}, "role_words": role, "owner": row.user.username if row.user else ""}


def _operations(actor: Actor, count: int) -> list[dict[str, Any]]:
    """Who does not see the whole tenant sees what he began."""
    found = Operation.objects.for_actor(actor).order_by("-created_at")
    if not may(actor, "usage.view"):
        found = found.filter(actor=actor.label[:200])
    return [_shown(operation) for operation in found[:count]]


def _shown(operation: Operation) -> dict[str, Any]:
    took = (operation.finished_at - operation.created_at).total_seconds() if operation.finished_at else None
    names = ("verb", "object", "actor", "door", "state", "outcome", "created_at")
    return {**{name: getattr(operation, name) for name in names}, "took": "–" if took is None else _duration(took)}


def _duration(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
