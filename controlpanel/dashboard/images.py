"""A tenant's images, with how many of its containers use each."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from controlpanel.containers import projection as containers
from controlpanel.images import projection, services
from controlpanel.images.projection import ImageView
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.pages import act, page, show, tenant_path


@page("image.view")
async def listing(request: HttpRequest, actor: Actor) -> HttpResponse:
    used = Counter(view.image_id for view in await containers.containers(actor))
    images = [await _shown(actor, image, used[image.id]) for image in await projection.images(actor)]
    context = {"nav": "images", "images": images, "load_command": "docker load -i image.tar"}
    return await show(request, actor, "images/list.html", context)


async def _shown(actor: Actor, image: ImageView, used_by: int) -> dict[str, Any]:
    """An image may have names of the tenant and public ones: only the own are the tenant's to remove."""
    public = {ref: (await projection.image(actor, ref)).public for ref in image.refs}
    own = next((ref for ref in image.refs if not public[ref]), "" if image.public else image.id)
    return {
        "id": image.id,
        "short_id": image.id.removeprefix("sha256:")[:12],
        "refs": public,
        "run": next(iter(image.refs), ""),
        "own": own,
        "remove_command": f"docker rmi {own}",
        "size_bytes": image.record.size_bytes,
        "used_by": used_by,
        "created_at": _moment(image.record.created),
    }


@require_POST
@page("image.remove")
async def remove(request: HttpRequest, actor: Actor) -> HttpResponse:
    name = request.POST.get("image", "")
    assert actor.tenant is not None
    deed = services.remove(actor, name)
    return await act(request, deed, done=_("%(name)s was removed") % {"name": name}, to=tenant_path(actor.tenant.name, "images") + "/")


def _moment(created: str) -> datetime | None:
    try:
        return datetime.fromisoformat(created).astimezone(UTC)
    except ValueError:
        return None
