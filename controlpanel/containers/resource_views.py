"""Pages about what a container may use and what runs in it: limits, processes, pause."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from controlpanel.base.errors import http_status
from controlpanel.containers import limits, limits_form, measuring, pausing, projection, updating
from controlpanel.containers.projection import ContainerView
from controlpanel.containers.views import show_tab
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.pages import act, form_of, page, tenant_path
from engine.errors import EngineError, FailedPrecondition


@require_POST
@page("container.pause")
async def pause(request: HttpRequest, actor: Actor, name: str) -> HttpResponse:
    deed = pausing.pause_container(actor, name)
    return await act(request, deed, done=_("%(name)s is paused") % {"name": name}, to=_path(actor, name, ""))


@require_POST
@page("container.pause")
async def unpause(request: HttpRequest, actor: Actor, name: str) -> HttpResponse:
    deed = pausing.unpause_container(actor, name)
    return await act(request, deed, done=_("%(name)s goes on") % {"name": name}, to=_path(actor, name, ""))


@page("container.view")
async def processes(request: HttpRequest, actor: Actor, name: str) -> HttpResponse:
    """``docker top`` as a table, as it is now."""
    view = await projection.container(actor, name)
    table: dict[str, Any] = {}
    failure = ""
    if view.state.has_process:
        try:
            table = await measuring.processes(actor, view.id)
        except FailedPrecondition:
            pass  # it ended meanwhile
        except EngineError as error:
            failure = error.message
    context = {"table": table, "failure": failure, "top_command": f"docker top {view.name}"}
    return await show_tab(request, actor, view, "processes", context)


@page("container.view")
async def show_limits(request: HttpRequest, actor: Actor, name: str) -> HttpResponse:
    return await _limits(request, actor, await projection.container(actor, name))


@form_of("containers", "{name}", "limits")
@page("container.update")
async def update(request: HttpRequest, actor: Actor, name: str) -> HttpResponse:
    """``docker update`` as a form. What is left as it was is not sent."""
    view = await projection.container(actor, name)
    form = limits_form.LimitsForm(request.POST, initial=limits_form.now(view))
    if not form.is_valid():
        return await _limits(request, actor, view, form=form, status=400)
    try:
        warnings = await updating.update_container(actor, view.id, form.to_docker(limits.swap_of(view.docker_host_config)))
    except EngineError as error:
        form.add_error(None, error.message)
        return await _limits(request, actor, view, form=form, status=http_status(error))
    for warning in warnings:
        messages.warning(request, warning)
    messages.success(request, _("%(name)s has its new limits") % {"name": view.name})
    return redirect(_path(actor, view.name, "limits"))


async def _limits(
    request: HttpRequest,
    actor: Actor,
    view: ContainerView,
    *,
    form: limits_form.LimitsForm | None = None,
    status: int = 200,
) -> HttpResponse:
    context = {
        "form": form or limits_form.LimitsForm(initial=limits_form.now(view)),
        "swap_bytes": limits.swap_of(view.docker_host_config),
    }
    return await show_tab(request, actor, view, "limits", context, status=status)


def _path(actor: Actor, name: str, tab: str) -> str:
    assert actor.tenant is not None
    return tenant_path(actor.tenant.name, "containers", name) + f"/{tab}"
