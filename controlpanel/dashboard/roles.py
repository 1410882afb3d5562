"""The page of a tenant's roles, groups and grants, in its settings; and why somebody may do something or may not."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from controlpanel.accounts.services import user_named
from controlpanel.base import database
from controlpanel.tenants import explaining, groups, roles
from controlpanel.tenants.actor import Actor, Role
from controlpanel.tenants.models import ROLES
from controlpanel.tenants.pages import act, form_of, page, show, tenant_path
from controlpanel.tenants.permissions import may
from controlpanel.tenants.verbs import VERBS
from engine.errors import EngineError


@page("role.view")
async def listing(request: HttpRequest, actor: Actor) -> HttpResponse:
    """With ``verb`` in the address also the answer to "why"."""
    asked = {name: request.GET.get(name, "").strip() for name in ("user", "verb", "project")}
    context = {"nav": "settings", "tab": "roles", "verbs": sorted(VERBS), "asked": asked, **await database.read(_shown, actor)}
    if asked["verb"]:
        try:
            words = {"project": asked["project"] or None, "user": asked["user"]}
            context["verdict"] = await database.read(lambda: explaining.explain(actor, asked["verb"], **words))
        except EngineError as error:
            context["refusal"] = error.message
    return await show(request, actor, "tenants/roles.html", context)


@form_of("settings", "roles")
@page("role.create", fresh=True)
async def create(request: HttpRequest, actor: Actor) -> HttpResponse:
    name = request.POST.get("role", "").strip()
    deed = database.run(roles.create_role, actor, name, _verbs(request))
    return await act(request, deed, done=_("There is a role %(name)s now.") % {"name": name}, to=_path(actor))


@form_of("settings", "roles")
@page("role.change", fresh=True)
async def change(request: HttpRequest, actor: Actor) -> HttpResponse:
    name = request.POST.get("role", "")
    deed = database.run(roles.change_role, actor, name, _verbs(request))
    return await act(request, deed, done=_("The role %(name)s was changed.") % {"name": name}, to=_path(actor))


@form_of("settings", "roles")
@page("role.remove", fresh=True)
async def remove(request: HttpRequest, actor: Actor) -> HttpResponse:
    name = request.POST.get("role", "")
    deed = database.run(roles.remove_role, actor, name)
    return await act(request, deed, done=_("%(name)s was removed") % {"name": name}, to=_path(actor))


@form_of("settings", "roles")
@page("group.create", fresh=True)
async def create_group(request: HttpRequest, actor: Actor) -> HttpResponse:
    name = request.POST.get("group", "").strip()
    deed = database.run(groups.create_group, actor, name)
    return await act(request, deed, done=_("There is a group %(name)s now.") % {"name": name}, to=_path(actor))


@form_of("settings", "roles")
@page("group.change", fresh=True)
async def add_to_group(request: HttpRequest, actor: Actor) -> HttpResponse:
    group, user = request.POST.get("group", ""), request.POST.get("user", "").strip()
    deed = database.run(lambda: groups.add_to_group(actor, group, user_named(user)))
    return await act(request, deed, done=_("%(name)s is in group %(group)s.") % {"name": user, "group": group}, to=_path(actor))


@form_of("settings", "roles")
@page("group.change", fresh=True)
async def take_from_group(request: HttpRequest, actor: Actor) -> HttpResponse:
    group, user = request.POST.get("group", ""), request.POST.get("user", "")
    deed = database.run(lambda: groups.take_from_group(actor, group, user_named(user)))
    return await act(request, deed, done=_("%(name)s is in group %(group)s no more.") % {"name": user, "group": group}, to=_path(actor))


@form_of("settings", "roles")
@page("group.remove", fresh=True)
async def remove_group(request: HttpRequest, actor: Actor) -> HttpResponse:
    name = request.POST.get("group", "")
    deed = database.run(groups.remove_group, actor, name)
    return await act(request, deed, done=_("%(name)s was removed") % {"name": name}, to=_path(actor))


@form_of("settings", "roles")
@page("member.grant", fresh=True)
async def grant(request: HttpRequest, actor: Actor) -> HttpResponse:
    """``whom``: a user, or group:NAME."""
    role, whom, project = (request.POST.get(name, "").strip() for name in ("role", "whom", "project"))
    is_group = whom.startswith("group:")
    words = {"group_name": whom.removeprefix("group:")} if is_group else {"user": whom}
    deed = database.run(lambda: groups.grant(actor, role, project=project, **words))
    return await act(request, deed, done=_("The role was granted."), to=_path(actor))


@require_POST
@page("member.grant", fresh=True)
async def revoke(request: HttpRequest, actor: Actor, number: int) -> HttpResponse:
    deed = database.run(groups.revoke, actor, number)
    return await act(request, deed, done=_("The role was taken back."), to=_path(actor))


def _path(actor: Actor) -> str:
    assert actor.tenant is not None
    return tenant_path(actor.tenant.name, "settings", "roles")


def _verbs(request: HttpRequest) -> list[str]:
    return request.POST.get("verbs", "").replace(",", " ").split()


def _shown(actor: Actor) -> dict[str, Any]:
    words = dict(ROLES)
    found = [{**role._asdict(), "words": words.get(role.name, role.name)} for role in roles.roles(actor)]
    return {
        "tenant_roles": found,
        "grantable": [role for role in found if role["name"] != Role.OWNER],
        "groups": groups.groups(actor) if may(actor, "group.view") else [],
        "grants": groups.grants(actor) if may(actor, "member.view") else [],
    }
