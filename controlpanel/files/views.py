"""Pages: files into and out of a container, what it changed, an image of it, and any two containers or images compared."""

from __future__ import annotations

import shlex
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from controlpanel.base.errors import http_status
from controlpanel.containers import projection
from controlpanel.containers.views import show_tab
from controlpanel.files import services, tree
from controlpanel.files.api import side
from controlpanel.images import projection as images
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.pages import act, page, show, tenant_path
from engine.errors import EngineError


@page("container.files_read")
async def changes(request: HttpRequest, actor: Actor, name: str) -> HttpResponse:
    """Against its image."""
    view = await projection.container(actor, name)
    old, new = f"image:{view.image_id}", f"container:{view.name}"
    context = await _difference(actor, old, new)
    context |= {"diff_command": f"docker diff {view.name}", "compare": _compare_path(actor, old, new)}
    return await show_tab(request, actor, view, "changes", context)


@page("container.files_read")
async def files(request: HttpRequest, actor: Actor, name: str) -> HttpResponse:
    """What is at ``?path=``, to be taken out; files go in by REST (js/files.js), which reads them while they arrive."""
    view = await projection.container(actor, name)
    path = request.GET.get("path", "").strip()
    context: dict[str, Any] = {"path": path, "out_command": shlex.join(["docker", "cp", f"{view.name}:{path or '/PATH'}", "."])}
    status = 200
    if path:
        try:
            context["found"] = _found(await services.stat(actor, name, path))
        except EngineError as error:
            context["failure"], status = error.message, http_status(error)
    return await show_tab(request, actor, view, "files", context, status=status)


def _found(said: dict[str, Any]) -> dict[str, Any]:
    """Of Go's os.FileMode the kinds that people tell apart."""
    mode = said["mode"]
    kinds = ((1 << 31, "folder", _("folder")), (1 << 27, "link", _("link")), (0b1111 << 23 | 1 << 19, "other", _("device, pipe or socket")))
    kind, words = next(((kind, words) for bit, kind, words in kinds if mode & bit), ("file", _("file")))
    return {
        "kind": kind,
        "words": words,
        "name": said["name"],
        "size": said["size"],
        "mode": f"{mode & 0o777:04o}",
        "at": datetime.fromisoformat(said["mtime"]),
        "target": said["linkTarget"],
    }


@require_POST
@page("container.commit")
async def commit(request: HttpRequest, actor: Actor, name: str) -> HttpResponse:
    asked = {word: request.POST.get(word, "").strip() for word in ("ref", "author", "comment")}
    changes = [line.strip() for line in request.POST.get("changes", "").splitlines() if line.strip()]
    assert actor.tenant is not None
    deed = services.commit(actor, name, **asked, changes=changes, pause="pause" in request.POST)
    done = _("The image %(name)s was made") % {"name": asked["ref"]} if asked["ref"] else _("The image was made")
    return await act(request, deed, done=done, to=tenant_path(actor.tenant.name, "images") + "/")


@page("container.files_read")
async def compare(request: HttpRequest, actor: Actor) -> HttpResponse:
    """``?old=container:web&new=image:nginx:1``, and ``&path=/etc/f`` for the text of one file."""
    old, new, path = (request.GET.get(name, "") for name in ("old", "new", "path"))
    choices, by_id = await _choices(actor)
    context: dict[str, Any] = {"nav": "containers", "choices": choices, "path": path}
    context |= {"old": by_id.get(old, old), "new": by_id.get(new, new)}
    status = 200
    if old and new:
        said = await (_text(actor, old, new, path) if path else _difference(actor, old, new))
        context |= said
        status = said.get("status", 200)
    return await show(request, actor, "files/compare.html", context, status=status)


async def _difference(actor: Actor, old: str, new: str) -> dict[str, Any]:
    try:
        found = await services.diff(actor, await side(actor, old), await side(actor, new))
    except EngineError as error:
        return {"failure": error.message, "status": http_status(error)}
    return {
        "tokens": tree.tokens(found.lines),
        "counts": tree.counts(found.lines),
        "count": found.count,
        "shown": min(found.count, tree.SHOWN),
        "text_link": f"{_compare_path(actor, old, new)}&path=",
    }


async def _text(actor: Actor, old: str, new: str, path: str) -> dict[str, Any]:
    try:
        text = await services.text_diff(actor, await side(actor, old), await side(actor, new), path)
    except EngineError as error:
        return {"failure": error.message, "status": http_status(error)}
    lines = tree.coloured(text["diff"])
    cut = text["truncated"] or len(lines) == tree.TEXT_LINES
    return {"text": text, "text_lines": lines, "cut": cut, "tree_link": _compare_path(actor, old, new)}


async def _choices(actor: Actor) -> tuple[dict[str, list[tuple[str, str]]], dict[str, str]]:
    """(value, what people read) of every container and image; and which value an image has that is named by its id."""
    containers = [(f"container:{view.name}", view.name) for view in await projection.containers(actor)]
    found, by_id = [], {}
    for view in await images.images(actor):
        values = [(f"image:{ref}", ref) for ref in view.refs] or [(f"image:{view.id}", view.id.removeprefix("sha256:")[:12])]
        by_id[f"image:{view.id}"] = values[0][0]
        found += values
    return {"containers": containers, "images": found}, by_id


def _compare_path(actor: Actor, old: str, new: str) -> str:
    assert actor.tenant is not None
    return f"{tenant_path(actor.tenant.name, 'compare')}?{urlencode({'old': old, 'new': new})}"
