"""What a container uses, as a page: live charts, and its traffic by month."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse

from controlpanel.base import database
from controlpanel.containers import projection
from controlpanel.containers.views import show_tab
from controlpanel.metrics import traffic
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.pages import page


@page("container.view")
async def stats(request: HttpRequest, actor: Actor, name: str) -> HttpResponse:
    view = await projection.container(actor, name)
    months = await database.read(traffic.of_container, actor, view.id)
    return await show_tab(request, actor, view, "stats", {"stats_command": f"docker stats {view.name}", "traffic": months})
