"""The page on which images come from registries and go to them. Its forms speak to REST, which tells how far it is."""

from __future__ import annotations

import shlex

from django.http import HttpRequest, HttpResponse

from controlpanel.images import projection
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.pages import page, show


@page("image.pull")
async def registry(request: HttpRequest, actor: Actor) -> HttpResponse:
    """``?pull=`` and ``?push=`` fill the forms."""
    own = sorted({ref for view in await projection.images(actor) for ref in view.refs if "@" not in ref and "/" in ref})
    chosen = request.GET.get("push", "")
    context = {
        "nav": "images",
        "pull": request.GET.get("pull", "")[:400],
        "push": chosen[:400],
        "names": own[:1000],
        "pull_command": shlex.join(["docker", "pull", request.GET.get("pull", "") or "HOST/PATH:TAG"]),
        "push_command": shlex.join(["docker", "push", chosen or "HOST/PATH:TAG"]),
    }
    return await show(request, actor, "images/registry.html", context)
