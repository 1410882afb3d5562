"""A tenant's volumes: the list, one of them, its files, what nothing needs any more."""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from controlpanel.base.errors import http_status
from controlpanel.containers.projection import ContainerView
from controlpanel.containers.volumes import users
from controlpanel.dockerapi.volumes import unused
from controlpanel.files import single, volumes
from controlpanel.tenants import projects
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.pages import act, page, show, tenant_path
from controlpanel.volumes import copies, projection, services
from engine.errors import EngineError, FailedPrecondition
from engine.model.volume import VolumeSpec

_SHOWN: Final = 500  # rows of the list
_EDITED_MAX: Final = 256 << 10  # bytes of a file that a page can edit
_KINDS: Final = ((1 << 31, "folder"), (1 << 27, "link"), (0b1111 << 23 | 1 << 19, "other"))  # of Go's os.FileMode


@page("volume.view")
async def listing(request: HttpRequest, actor: Actor) -> HttpResponse:
    query = request.GET.get("q", "").strip()
    mounted = await users(actor)
    project, mine = request.GET.get("project", ""), await projection.volumes(actor)
    found = [spec for spec in mine if query.lower() in spec.name.lower() and (not project or projects.name_of(spec.labels) == project)]
    context = {
        "project": project,
        "projects": sorted({projects.name_of(spec.labels) for spec in mine} - {""}),
        "nav": "volumes",
        "query": query,
        "volumes": [_row(spec, mounted) for spec in found[:_SHOWN]],
        "count": len(found),
        "shown": min(len(found), _SHOWN),
        "create_command": "docker volume create NAME",
    }
    return await show(request, actor, "volumes/list.html", context)


@page("volume.view")
async def one(request: HttpRequest, actor: Actor, name: str) -> HttpResponse:
    spec = await projection.volume(actor, name)
    context: dict[str, Any] = {"nav": "volumes", "volume": _row(spec, await users(actor)), "spec": spec}
    try:
        told = await copies.told(actor, name)
        context["used_bytes"] = told["bytes"]
        context["snapshots"] = [(each, _moment(made_ns)) for each, made_ns in told["snapshots"].items()]
    except EngineError as error:
        context["failure"] = error.message
    context["run_command"] = shlex.join(["docker", "run", "-v", f"{name}:/data", "IMAGE"])
    return await show(request, actor, "volumes/one.html", context)


@page("volume.files_read")
async def files(request: HttpRequest, actor: Actor, name: str) -> HttpResponse:
    """A folder of it, ``?path=``; or a file, to be taken out or, when it is a short text, changed."""
    spec, path = await projection.volume(actor, name), _cleaned(request.GET.get("path", "/"))
    context: dict[str, Any] = {"nav": "volumes", "volume": _row(spec, {}), "path": path, "crumbs": _crumbs(path)}
    status = 200
    try:
        entry = await _entry(actor, name, path)
        if entry is None or entry["kind"] == "folder":
            found, count = await volumes.entries(actor, name, path)
            context |= {"entries": [_shown(each, path) for each in found], "count": count, "listed": len(found)}
        else:
            context |= {"file": entry, "text": await _text(actor, name, entry)}
    except EngineError as error:
        context["failure"], status = error.message, http_status(error)
    return await show(request, actor, "volumes/files.html", context, status=status)


@page("volume.prune")
async def prune(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Shows what would go; a POST takes it away."""
    assert actor.tenant is not None
    named = (request.POST if request.method == "POST" else request.GET).get("all") == "1"
    if request.method == "POST":
        kept = set(request.POST.getlist("name"))  # what was shown: one that came meanwhile stays
        names = [spec.name for spec in await unused(actor, named=named) if spec.name in kept]
        to = tenant_path(actor.tenant.name, "volumes") + "/"
        return await act(request, services.prune(actor, names), done=_("Unused volumes were removed"), to=to)
    context = {
        "nav": "volumes",
        "named": named,
        "volumes": [_row(spec, {}) for spec in await unused(actor, named=named)],
        "command": "docker volume prune -a" if named else "docker volume prune",
    }
    return await show(request, actor, "volumes/prune.html", context)


@require_POST
@page("volume.create")
async def create(request: HttpRequest, actor: Actor) -> HttpResponse:
    name, size = (request.POST.get(word, "").strip() for word in ("name", "size"))
    deed = services.create(actor, name, options={"size": size} if size else {})
    return await act(request, deed, done=_("The volume was made"), to=_path(actor))


@require_POST
@page("volume.remove")
async def remove(request: HttpRequest, actor: Actor, name: str) -> HttpResponse:
    return await act(request, services.remove(actor, name), done=_("%(name)s was removed") % {"name": name}, to=_path(actor))


@require_POST
@page("volume.view")
async def change(request: HttpRequest, actor: Actor, name: str, verb: str) -> HttpResponse:
    """rename, clone, resize, and the snapshots' take, restore and drop. Who may is the services' to say."""
    word = request.POST.get("word", "").strip()
    if verb == "rename":
        return await act(request, copies.rename(actor, name, word), done=_("It has another name now"), to=_path(actor))
    if verb == "clone":
        return await act(request, copies.clone(actor, name, word), done=_("The copy was made"), to=_path(actor))
    deed, done = {
        "resize": (copies.resize, _("It has another size now")),
        "take": (_take, _("The snapshot was taken")),
        "restore": (_restore, _("It is as it was in the snapshot")),
        "drop": (_drop, _("The snapshot was removed")),
    }[verb]
    return await act(request, deed(actor, name, word), done=done, to=_path(actor, name))


async def _take(actor: Actor, name: str, word: str) -> None:
    await copies.snapshot(actor, name, word, "take")


async def _restore(actor: Actor, name: str, word: str) -> None:
    await copies.snapshot(actor, name, word, "restore")


async def _drop(actor: Actor, name: str, word: str) -> None:
    await copies.snapshot(actor, name, word, "remove")


@require_POST
@page("volume.files_write")
async def save(request: HttpRequest, actor: Actor, name: str) -> HttpResponse:
    """The text of one file, or (``remove``) its end."""
    path = _cleaned(request.POST.get("path", ""))
    if "remove" in request.POST:
        return await act(
            request, volumes.remove(actor, name, path), done=_("It was removed"), to=_files_path(actor, name, path, above=True)
        )
    text = request.POST.get("text", "").replace("\r\n", "\n").encode()
    return await act(request, _write(actor, name, path, text), done=_("The file was saved"), to=_files_path(actor, name, path))


async def _write(actor: Actor, name: str, path: str, text: bytes) -> None:
    """With the owner and the mode that it has."""
    entry = await _entry(actor, name, path)
    if entry is None or entry["kind"] != "file":
        raise FailedPrecondition(_("there is no such file any more"))
    if len(text) > _EDITED_MAX:
        raise FailedPrecondition(_("the text is too long"))
    folder, base = single.split(path)
    mode = int(entry["mode"], 8)
    await volumes.upload(actor, name, folder, single.wrap(base, len(text), _once(text), mode=mode, uid=entry["uid"], gid=entry["gid"]))


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _entry(actor: Actor, name: str, path: str) -> dict[str, Any] | None:
    """None: the volume's own root."""
    if path == "/":
        return None
    said = await volumes.stat(actor, name, path)
    folder, base = posixpath.split(path)
    found, _count = await volumes.entries(actor, name, folder)
    owner = next((each for each in found if each["name"] == base), {"uid": 0, "gid": 0})
    return _shown({**said, "uid": owner["uid"], "gid": owner["gid"]}, folder)


async def _text(actor: Actor, name: str, entry: Mapping[str, Any]) -> str | None:
    """None: what is long, or no text."""
    if entry["kind"] != "file" or entry["size"] > _EDITED_MAX:
        return None
    async with volumes.download(actor, name, entry["path"]) as chunks:
        file = await single.unwrap(chunks)
        data = b"".join([chunk async for chunk in file.chunks])
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def _shown(entry: Mapping[str, Any], folder: str) -> dict[str, Any]:
    mode = entry["mode"]
    kind = next((kind for bits, kind in _KINDS if mode & bits), "file")
    return {
        "name": entry["name"],
        "path": posixpath.join(folder, entry["name"]),
        "kind": kind,
        "size": entry["size"],
        "mode": f"{mode & 0o777:04o}",
        "uid": entry["uid"],
        "gid": entry["gid"],
        "target": entry["linkTarget"],
        "at": datetime.fromisoformat(entry["mtime"]),
    }


def _crumbs(path: str) -> list[tuple[str, str]]:
    """(name, path) of each folder on the way, without the root."""
    parts = [part for part in path.split("/") if part]
    return [(part, "/" + "/".join(parts[: number + 1])) for number, part in enumerate(parts)]


def _cleaned(path: str) -> str:
    return "/" + posixpath.normpath("/" + path).lstrip("/")


def _path(actor: Actor, name: str = "") -> str:
    assert actor.tenant is not None
    return tenant_path(actor.tenant.name, "volumes", "view", name) if name else tenant_path(actor.tenant.name, "volumes") + "/"


def _files_path(actor: Actor, name: str, path: str, *, above: bool = False) -> str:
    assert actor.tenant is not None
    query = urlencode({"path": posixpath.dirname(path) if above else path})
    return f"{tenant_path(actor.tenant.name, 'volumes', 'files', name)}?{query}"


def _row(spec: VolumeSpec, mounted: Mapping[str, list[ContainerView]]) -> dict[str, Any]:
    return {
        "name": spec.name,
        "short": spec.name[:12] if spec.anonymous else spec.name,
        "anonymous": spec.anonymous,
        "size_bytes": spec.size_bytes,
        "is_disk": spec.limit == "disk",
        "elsewhere": _elsewhere(spec),
        "labels": sorted(spec.labels.items()),
        "options": sorted(spec.options.items()),
        "created_at": _moment(spec.created_ns),
        "used_by": [view.name for view in mounted.get(spec.name, ())],
        "remove_command": f"docker volume rm {spec.name}",
    }


def _elsewhere(spec: VolumeSpec) -> str:
    """Where the files are of a volume that has none of its own on the host's disk."""
    if spec.folder:
        return _("on the host, in %(folder)s") % {"folder": spec.folder}
    if spec.in_memory:
        return _("in memory, as long as a container runs with it")
    if (share := spec.share) is not None:
        return _("on an NFS server, %(share)s; here only in containers that run with it") % {"share": share}
    return ""


def _moment(ns: int) -> datetime:
    return datetime.fromtimestamp(ns / 1e9, UTC)
