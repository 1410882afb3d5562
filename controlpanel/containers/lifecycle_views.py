"""Pages of a container's life: restart, a new name, and the removal of all that has ended."""

from __future__ import annotations

from urllib.parse import quote

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST

from controlpanel.base.units import show_bytes
from controlpanel.containers import presentation, pruning, restarting, services
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.pages import act, page, show, tenant_path
from engine.errors import EngineError

_AT_ONCE = 500  # a form's fields are counted (Django's DATA_UPLOAD_MAX_NUMBER_FIELDS)


@require_POST
@page("container.restart")
async def restart(request: HttpRequest, actor: Actor, name: str) -> HttpResponse:
    deed = restarting.restart_container(actor, name)
    return await act(request, deed, done=_("%(name)s was restarted") % {"name": name}, to=f"{_list_path(actor)}{name}/")


@require_POST
@page("container.rename")
async def rename(request: HttpRequest, actor: Actor, name: str) -> HttpResponse:
    new_name = request.POST.get("name", "").strip()
    deed = services.rename_container(actor, name, new_name)
    done = _("%(name)s is %(new)s now") % {"name": name, "new": new_name}
    return await act(request, deed, done=done, to=f"{_list_path(actor)}{quote(new_name, safe='')}/")


@page("container.prune")
async def prune(request: HttpRequest, actor: Actor) -> HttpResponse:
    """First what would go, then the deed."""
    if request.method == "POST":
        chosen = set(request.POST.getlist("id"))  # what was on the page; what has ended since then was not agreed to
        try:
            done = await pruning.prune(actor, lambda view: view.id in chosen)
        except EngineError as error:
            messages.error(request, error.message)
        else:
            count = len(done.ids)
            said = ngettext("%(count)d container removed, %(bytes)s are free", "%(count)d containers removed, %(bytes)s are free", count)
            messages.success(request, said % {"count": count, "bytes": show_bytes(done.bytes)})
        return redirect(_list_path(actor))
    sized = await pruning.sized(actor, at_most=_AT_ONCE)
    context = {
        "nav": "containers",
        "rows": [(presentation.row(view), size) for view, size in sized],
        "bytes": sum(size for _view, size in sized),
        "command": "docker container prune",
    }
    return await show(request, actor, "containers/prune.html", context)


def _list_path(actor: Actor) -> str:
    assert actor.tenant is not None
    return tenant_path(actor.tenant.name, "containers") + "/"
