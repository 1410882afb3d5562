"""The page of a tenant's members and open invitations, in its settings."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from controlpanel.accounts.services import user_named
from controlpanel.base import database
from controlpanel.base.errors import http_status
from controlpanel.base.units import parse_lifetime
from controlpanel.tenants import invitations, queries, roles, services
from controlpanel.tenants.actor import Actor, Role
from controlpanel.tenants.models import ROLES, Project, shown_role
from controlpanel.tenants.pages import act, form_of, page, show, tenant_path
from controlpanel.tenants.permissions import may
from engine.errors import EngineError


@page("member.view")
async def members(request: HttpRequest, actor: Actor) -> HttpResponse:
    return await _members(request, actor)


@form_of("settings", "members")
@page("member.add", fresh=True)
async def add(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Also changes the role of someone who is a member."""
    name, role = request.POST.get("user", "").strip(), request.POST.get("role", "")
    deed = database.run(lambda: services.add_member(actor, user_named(name), role))
    words = {"name": name, "role": shown_role(role)}
    return await act(request, deed, done=_("%(name)s belongs to the tenant as %(role)s.") % words, to=_path(actor))


@form_of("settings", "members")
@page("member.remove", fresh=True)
async def remove(request: HttpRequest, actor: Actor) -> HttpResponse:
    name = request.POST.get("user", "")
    deed = database.run(lambda: services.remove_member(actor, user_named(name)))
    return await act(request, deed, done=_("%(name)s no longer belongs to the tenant") % {"name": name}, to=_path(actor))


@form_of("settings", "members")
@page("member.add", fresh=True)
async def invite(request: HttpRequest, actor: Actor) -> HttpResponseBase:
    """Answers with the page itself: the link is shown once and is in no address of ours."""
    asked = {name: request.POST.get(name, "").strip() for name in ("role", "project", "name")}
    lifetime = parse_lifetime(request.POST.get("expires", ""))
    try:
        made, secret = await database.run(lambda: invitations.invite(actor, **asked, lifetime=lifetime))
    except EngineError as error:
        return await _members(request, actor, refusal=error)
    link = request.build_absolute_uri(reverse("invitation", args=[secret]))
    return await _members(request, actor, link=link, made=made)


@require_POST
@page("member.add")
async def revoke(request: HttpRequest, actor: Actor, number: int) -> HttpResponse:
    deed = database.run(invitations.revoke, actor, number)
    return await act(request, deed, done=_("The invitation no longer works."), to=_path(actor))


def _path(actor: Actor) -> str:
    assert actor.tenant is not None
    return tenant_path(actor.tenant.name, "settings", "members")


async def _members(request: HttpRequest, actor: Actor, **context: Any) -> HttpResponse:
    makes_owners = actor.role is Role.OWNER
    people = await database.read(_people, actor)
    built_in = [(value, words) for value, words in ROLES if makes_owners or value != Role.OWNER]
    named = {"roles": [*built_in, *((name, name) for name in people["own"])]}
    shown = {"nav": "settings", "tab": "members", **named, **people, **context}
    status = http_status(context["refusal"]) if "refusal" in context else 200
    response = await show(request, actor, "tenants/members.html", shown, status=status)
    if context:
        response.headers["Cache-Control"] = "no-store"
    return response


def _people(actor: Actor) -> dict[str, Any]:
    return {
        "members": queries.members_of(actor),
        "own": [role.name for role in roles.roles(actor) if not role.built_in] if may(actor, "role.view") else [],
        "projects": [project.name for project in Project.objects.for_actor(actor).order_by("name")] if may(actor, "member.grant") else [],
        "invitations": invitations.open_invitations(actor) if may(actor, "member.add") else [],
    }
