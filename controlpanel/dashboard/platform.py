"""Pages of the platform's operators: the tenants, and a visit in one of them as one of its members."""

from __future__ import annotations

from typing import Any, Final

from django.db.models import Count
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST

from controlpanel.accounts.services import user_named
from controlpanel.base import database
from controlpanel.base.errors import http_status
from controlpanel.tenants import impersonation, queries
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.models import Impersonation, Membership, Tenant
from controlpanel.tenants.pages import platform_page, tenant_path
from engine.errors import EngineError

SHOWN: Final = 200
MINUTES: Final = (15, 30, 60)


@platform_page("tenant.list")
async def tenants(request: HttpRequest, actor: Actor) -> HttpResponse:
    name = request.GET.get("name", "").strip()[:63]
    return render(request, "platform/tenants.html", {"nav": "tenants", "name": name, **await database.read(_tenants, name)})


def _tenants(name: str) -> dict[str, Any]:
    found = Tenant.objects.filter(name__icontains=name).order_by("name")
    rows = list(found.annotate(members=Count("memberships", distinct=True), running=Count("containers", distinct=True))[: SHOWN + 1])
    return {"tenants": rows[:SHOWN], "more": len(rows) > SHOWN}


@platform_page("tenant.impersonate", fresh=True)
async def visit(request: HttpRequest, actor: Actor, tenant: str) -> HttpResponseBase:
    """The form, and its sending. A session visits one tenant at a time."""
    problem = ""
    if request.method == "POST":
        try:
            row = await database.run(_begin, actor, tenant, request.POST.dict())
        except EngineError as error:
            problem, status = error.message, http_status(error)
        else:
            await request.session.aset(impersonation.SESSION_KEY, row.pk)
            return redirect(tenant_path(tenant) + "/")
    members = await database.read(_members, tenant)
    context = {"nav": "tenants", "tenant": tenant, "members": members, "minutes": MINUTES, "problem": problem, "asked": request.POST}
    return render(request, "platform/visit.html", context, status=status if problem else 200)


def _begin(actor: Actor, tenant: str, words: dict[str, str]) -> Impersonation:
    minutes = words.get("minutes", "")
    return impersonation.start(
        actor,
        queries.tenant_named(tenant),
        user_named(words.get("member", "")),
        minutes=int(minutes) if minutes.isascii() and minutes.isdecimal() and len(minutes) < 5 else 0,
        reason=words.get("reason", ""),
    )


def _members(tenant: str) -> list[Membership]:
    rows = Membership.everywhere.filter(tenant=queries.tenant_named(tenant), user__is_active=True)
    return list(rows.select_related("user").order_by("user__username"))


@require_POST
@platform_page("tenant.impersonate")
async def end_visit(request: HttpRequest, actor: Actor) -> HttpResponseBase:
    key = await request.session.apop(impersonation.SESSION_KEY, None)
    if isinstance(key, int):
        await database.run(impersonation.end, actor, key, "ended by the operator")
    return redirect("platform")
