"""A tenant's images: the list, one of them, what nothing needs any more."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from controlpanel.containers import projection as containers
from controlpanel.containers.projection import ContainerView
from controlpanel.images import projection, pruning, services, usage
from controlpanel.images.history import steps
from controlpanel.images.projection import ImageView
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.pages import act, page, show, tenant_path
from engine.errors import InvalidArgument
from engine.model.reference import Reference

_SHOWN = 500  # rows of the list
_SWITCHES = {"Cmd": "CMD", "Entrypoint": "ENTRYPOINT", "WorkingDir": "WORKDIR", "User": "USER", "StopSignal": "STOPSIGNAL"}


@page("image.view")
async def listing(request: HttpRequest, actor: Actor) -> HttpResponse:
    query = request.GET.get("q", "").strip()
    everything = await projection.images(actor)
    views = [view for view in everything if not query or _matches(view, query)]
    used, shared, own = _users(await containers.containers(actor)), usage.shared(everything), await _own(actor)
    context = {
        "nav": "images",
        "query": query,
        "images": [_row(view, own, used.get(view.id, []), shared[view.id]) for view in views[:_SHOWN]],
        "count": len(views),
        "shown": min(len(views), _SHOWN),
        "bytes": usage.total(everything),
        "load_command": "docker load -i image.tar",
    }
    return await show(request, actor, "images/list.html", context)


@page("image.view")
async def one(request: HttpRequest, actor: Actor, name: str) -> HttpResponse:
    view = await projection.image(actor, name)
    everything, own = await projection.images(actor), await _own(actor)
    used = _users(await containers.containers(actor))
    row = _row(view, own, used.get(view.id, []), usage.shared(everything).get(view.id, 0))
    config = view.record.config
    saved = name if name in view.refs else next(iter(view.refs), row["short_id"])
    many = len(own[view.id].refs) > 1 if view.id in own else False
    force = many and not used.get(view.id)  # whatever uses it is named in the refusal
    row |= {
        "name": saved,
        "path": saved if "@" not in saved else row["path"],
        "own": view.id if row["own"] else "",
        "removed_text": saved,
        "remove_command": f"docker rmi {'-f ' if force else ''}{row['short_id'] if many else saved}",
        "force": force,
        "many": many,
    }
    context = {
        "nav": "images",
        "image": row,
        "view": view,
        "users": used.get(view.id, []),
        "platform": "/".join(str(config[each]) for each in ("os", "architecture", "variant") if config.get(each)),
        "author": str(config.get("author") or ""),
        "parent": next((each for each in everything if each.id == view.record.parent), None),
        "steps": [(number, step, _moment(step.created)) for number, step in enumerate(steps(view), 1)][::-1],
        "settings": _settings(config.get("config") or {}),
        "document": json.dumps(config, indent=2, ensure_ascii=False),
        "others": _others(view, everything),
        "this": f"image:{next(iter(view.refs), view.id)}",
        "save_command": shlex.join(["docker", "save", "-o", f"{saved.rpartition('/')[2].partition(':')[0]}.tar", saved]),
        "tag_command": shlex.join(["docker", "tag", saved, "NAME:TAG"]),
        "tag_after": saved,
    }
    return await show(request, actor, "images/one.html", context)


def _matches(view: ImageView, query: str) -> bool:
    return query.lower() in " ".join(view.refs).lower() or view.id.removeprefix("sha256:").startswith(query.removeprefix("sha256:"))


def _users(views: Iterable[ContainerView]) -> Mapping[str, list[ContainerView]]:
    """Containers by the id of their image."""
    found: dict[str, list[ContainerView]] = {}
    for view in views:
        found.setdefault(view.image_id, []).append(view)
    return found


async def _own(actor: Actor) -> Mapping[str, ImageView]:
    return {view.id: view for view in await projection.of_tenant(actor)}


def _row(view: ImageView, own: Mapping[str, ImageView], users: list[ContainerView], shared_bytes: int) -> dict[str, Any]:
    """An image may have names of the tenant and public ones: only the own are the tenant's to remove."""
    mine = own[view.id].refs if view.id in own else ()
    removed = next(iter(mine), view.id if view.id in own else "")
    return {
        "id": view.id,
        "short_id": view.id.removeprefix("sha256:")[:12],
        "refs": {ref: ref not in mine for ref in view.refs},
        "name": next(iter(view.refs), view.id.removeprefix("sha256:")[:12]),
        "path": next((ref for ref in view.refs if "@" not in ref), view.id.removeprefix("sha256:")[:12]),
        "run": next(iter(view.refs), ""),
        "own": removed,
        "removed_text": removed if removed in mine else view.id.removeprefix("sha256:")[:12],
        "remove_command": f"docker rmi {removed if removed in mine else view.id.removeprefix('sha256:')[:12]}",
        "size_bytes": view.record.size_bytes,
        "shared_bytes": shared_bytes,
        "used_by": len(users),
        "created_at": _moment(view.record.created),
    }


def _settings(config: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """What of its config people look for: (instruction, lines)."""
    found: list[tuple[str, list[str]]] = []
    for member, word in _SWITCHES.items():
        value = config.get(member)
        if value:
            found.append((word, [shlex.join(value) if isinstance(value, list) else str(value)]))
    for member, word in (("Env", "ENV"), ("OnBuild", "ONBUILD")):
        if config.get(member):
            found.append((word, [str(each) for each in config[member]]))
    for member, word in (("ExposedPorts", "EXPOSE"), ("Volumes", "VOLUME")):
        if config.get(member):
            found.append((word, sorted(config[member])))
    if config.get("Labels"):
        found.append(("LABEL", [f"{name}={value}" for name, value in sorted(config["Labels"].items())]))
    if config.get("Healthcheck"):
        found.append(("HEALTHCHECK", [json.dumps(config["Healthcheck"], ensure_ascii=False)]))
    return found


def _others(view: ImageView, everything: list[ImageView]) -> list[tuple[str, str, bool]]:
    """(value, text, chosen) of the images it may be compared with; first what it was made from, or one of the same name."""
    repositories = {ref.rpartition(":")[0] for ref in view.refs}

    def nearness(other: ImageView) -> int:
        if other.id == view.record.parent:
            return 0
        return 1 if any(ref.rpartition(":")[0] in repositories for ref in other.refs) else 2

    others = sorted((other for other in everything if other.id != view.id), key=nearness)
    named = [(next(iter(other.refs), other.id.removeprefix("sha256:")[:12]), other) for other in others]
    return [(f"image:{next(iter(other.refs), other.id)}", text, number == 0) for number, (text, other) in enumerate(named)]


@page("image.prune")
async def prune(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Shows what would go; a POST takes it away."""
    assert actor.tenant is not None
    named = (request.POST if request.method == "POST" else request.GET).get("all") == "1"
    users = _users(await containers.everything(actor))
    if request.method == "POST":
        kept = set(request.POST.getlist("id"))  # what was shown: an image that came meanwhile stays
        deed = pruning.prune(actor, users, named=named, test=lambda view: view.id in kept)
        return await act(request, deed, done=_("Unused images were removed"), to=tenant_path(actor.tenant.name, "images") + "/")
    everything, own = await projection.images(actor), await _own(actor)
    found = await pruning.prunable(actor, users, named=named)
    context = {
        "nav": "images",
        "named": named,
        "images": [_row(view, own, [], 0) for view in found],
        "bytes": usage.freed(everything, found),
        "command": "docker image prune -a" if named else "docker image prune",
    }
    return await show(request, actor, "images/prune.html", context)


@require_POST
@page("image.remove")
async def remove(request: HttpRequest, actor: Actor) -> HttpResponse:
    """``image``: a name or an id. ``force``: by all its names."""
    name = request.POST.get("image", "")
    assert actor.tenant is not None
    deed = services.remove(actor, name, force="force" in request.POST)
    to = tenant_path(actor.tenant.name, "images") + "/"
    if back := request.POST.get("back", ""):  # an image that has other names is still there
        to = f"{tenant_path(actor.tenant.name, 'images', 'view')}/{back}"
    return await act(request, deed, done=_("%(name)s was removed") % {"name": name}, to=to)


@require_POST
@page("image.tag")
async def tag(request: HttpRequest, actor: Actor) -> HttpResponse:
    name, ref = request.POST.get("image", ""), request.POST.get("ref", "").strip()
    assert actor.tenant is not None
    deed = services.tag(actor, name, ref)
    done = _("It is also called %(name)s now") % {"name": _familiar(ref)}
    return await act(request, deed, done=done, to=f"{tenant_path(actor.tenant.name, 'images', 'view')}/{name}")


def _familiar(ref: str) -> str:
    try:
        return str(Reference.parse(ref))
    except InvalidArgument:
        return ref


def _moment(created: str) -> datetime | None:
    try:
        return datetime.fromisoformat(created).astimezone(UTC)
    except ValueError:
        return None
