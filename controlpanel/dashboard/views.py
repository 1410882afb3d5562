"""Where a person lands, and the pages of a tenant that belong to no single app."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils.translation import check_for_language
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST
from django.views.i18n import set_language as set_language_cookie

from controlpanel.accounts.models import Token
from controlpanel.accounts.services import set_language, user_named
from controlpanel.audit.models import Record
from controlpanel.base import database
from controlpanel.base.templatetags.figures import iec
from controlpanel.base.units import parse_lifetime
from controlpanel.containers import presentation, projection
from controlpanel.containers.listing import listing
from controlpanel.containers.log_search import bytes_used
from controlpanel.containers.projection import ContainerView
from controlpanel.containers.views import show_tab
from controlpanel.dockerapi.inspect import document
from controlpanel.hosts.models import Operation
from controlpanel.tenants import queries, services
from controlpanel.tenants.actor import Actor, Role
from controlpanel.tenants.models import Membership, Tenant
from controlpanel.tenants.pages import LAST_TENANT, act, page, show, tenant_path
from controlpanel.tenants.permissions import may
from engine.errors import Unavailable

ATTENTION_SHOWN = 10
OPERATIONS_SHOWN = 10
OPERATIONS_PAGE = 200
AUDIT_PAGE = 100


async def home(request: HttpRequest) -> HttpResponseBase:
    """The tenant this browser was in last, or the first."""
    request.user = user = await request.auser()
    if not user.is_authenticated:
        return redirect("login")
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
    views = await projection.containers(actor)
    rows = [presentation.row(view) for view in views]
    context = {
        "nav": "overview",
        "meters": [*_meters(actor.tenant, views), *await _log_meter(actor)],
        "attention": [row for row in rows if row.tone in ("red", "yellow")][:ATTENTION_SHOWN],
        "endpoint_command": f"export DOCKER_HOST={actor.tenant.endpoint}",
        "operations": await database.read(_operations, actor, OPERATIONS_SHOWN),
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


@page("member.view")
async def settings(request: HttpRequest, actor: Actor) -> HttpResponse:
    return await _settings(request, actor, secret="")


@require_POST
@page("member.add")
async def add_member(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Also changes the role of someone who is a member."""
    name, role = request.POST.get("user", "").strip(), _role(request)
    deed = database.run(lambda: services.add_member(actor, user_named(name), role))
    return await act(request, deed, done=_("%(name)s belongs to the tenant") % {"name": name}, to=_settings_path(actor))


@require_POST
@page("member.remove")
async def remove_member(request: HttpRequest, actor: Actor) -> HttpResponse:
    name = request.POST.get("user", "")
    deed = database.run(lambda: services.remove_member(actor, user_named(name)))
    return await act(request, deed, done=_("%(name)s no longer belongs to the tenant") % {"name": name}, to=_settings_path(actor))


@require_POST
@page("token.create")
async def make_token(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Answers with the page itself: the secret is shown once and is in no URL."""
    lifetime = parse_lifetime(request.POST.get("expires", ""))
    name = request.POST.get("name", "").strip()[:100]
    _made, secret = await database.run(services.create_token, actor, role=_role(request), name=name, lifetime=lifetime)
    return await _settings(request, actor, secret=secret)


@require_POST
@page("token.revoke")
async def revoke_token(request: HttpRequest, actor: Actor, token_id: int) -> HttpResponse:
    deed = database.run(services.revoke_token, actor, token_id)
    return await act(request, deed, done=_("The token no longer works."), to=_settings_path(actor))


def _role(request: HttpRequest) -> Role:
    """A word that is none of ours gives the least."""
    asked = request.POST.get("role", "")
    return Role(asked) if asked in set(Role) else Role.VIEWER


def _settings_path(actor: Actor) -> str:
    assert actor.tenant is not None
    return tenant_path(actor.tenant.name, "settings") + "/"


async def _settings(request: HttpRequest, actor: Actor, *, secret: str) -> HttpResponse:
    context = {"nav": "settings", "secret": secret, "roles": Membership.ROLES, **await database.read(_people, actor)}
    return await show(request, actor, "dashboard/settings.html", context)


def _people(actor: Actor) -> dict[str, Any]:
    return {
        "members": queries.members_of(actor),
        "tokens": [_token(token) for token in queries.tokens_of(actor)] if may(actor, "token.view") else [],
        "audit": [_audited(record) for record in Record.objects.for_tenant(actor.tenant_number)[:AUDIT_PAGE]]
        if may(actor, "audit.view")
        else [],
    }


def _token(token: Token) -> dict[str, Any]:
    names = ("pk", "prefix", "name", "expires_at", "is_expired", "last_used_at", "last_used_from")
    role = dict(Membership.ROLES).get(token.role, token.role)
    return {**{name: getattr(token, name) for name in names}, "role_words": role, "owner": token.user.username if token.user else ""}


def _audited(record: Record) -> dict[str, Any]:
    return {
        "at": datetime.fromtimestamp(record.time_ns / 1e9, UTC),
        "who": record.actor,
        "verb": record.verb,
        "object": record.object,
        "origin": f"{record.door} {record.address}".strip(),
    }


def _operations(actor: Actor, count: int) -> list[dict[str, Any]]:
    return [_shown(operation) for operation in Operation.objects.for_actor(actor).order_by("-created_at")[:count]]


def _shown(operation: Operation) -> dict[str, Any]:
    took = (operation.finished_at - operation.created_at).total_seconds() if operation.finished_at else None
    names = ("verb", "object", "actor", "door", "state", "outcome", "created_at")
    return {**{name: getattr(operation, name) for name in names}, "took": "–" if took is None else _duration(took)}


def _duration(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _meters(tenant: Tenant, views: list[ContainerView]) -> list[dict[str, Any]]:
    """What runs and what that may take at most, of the tenant's wall: the sums that admission compares."""
    running = [view for view in views if view.is_running]
    memory = sum(view.spec.resources.memory_bytes for view in running)
    cpus = sum(view.spec.resources.nano_cpus for view in running)
    pids = sum(max(0, view.spec.resources.pids_limit) for view in running)
    return [
        _meter(_("Running"), len(running), tenant.containers_max, str),
        _meter(_("CPU promised"), cpus, tenant.nano_cpus, lambda value: f"{value / 1e9:g}"),
        _meter(_("Memory promised"), memory, tenant.memory_bytes, iec),
        _meter(_("Processes promised"), pids, tenant.pids, str),
    ]


async def _log_meter(actor: Actor) -> list[dict[str, Any]]:
    """Without the host's answer the page comes without it."""
    try:
        return [_meter(_("Logs on disk"), await bytes_used(actor), 0, iec)]
    except Unavailable:
        return []


def _meter(title: str, value: int, limit: int, words: Callable[[int], str]) -> dict[str, Any]:
    shown = {"title": title, "used": words(value), "limit": words(limit) if limit else ""}
    return {**shown, "value": value, "maximum": limit, "low": limit * 3 // 4, "high": limit * 9 // 10}
