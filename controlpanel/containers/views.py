"""A tenant's container pages. Each view: find within the tenant, call one service or render."""

from __future__ import annotations

import shlex
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from controlpanel.base.errors import http_status
from controlpanel.base.units import show_bytes
from controlpanel.containers import endpoints, health, networking, ports, presentation, projection, references, services
from controlpanel.containers import logs as text_logs
from controlpanel.containers.command import run_command
from controlpanel.containers.forms import RunForm
from controlpanel.containers.listing import listing as context_of_list
from controlpanel.containers.references import References
from controlpanel.hosts import machine
from controlpanel.images import projection as images
from controlpanel.networks import projection as networks
from controlpanel.networks.builtin import HOST
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.pages import act, page, show, tenant_path
from controlpanel.tenants.permissions import may
from engine.errors import EngineError, NotFound


@page("container.view")
async def listing(request: HttpRequest, actor: Actor) -> HttpResponse:
    views = await projection.containers(actor)
    return await show(request, actor, "containers/list.html", {"nav": "containers", **context_of_list(views, request.GET)})


@page("container.create")
async def run(request: HttpRequest, actor: Actor) -> HttpResponse:
    """``docker run -d`` as a form: create, start, then its log."""
    others = sorted(view.name for view in await projection.containers(actor))
    mine = sorted(view.name for view in await networks.networks(actor) if view.user_defined or view.name == HOST)
    initial = {"image": request.GET.get("image", ""), "network": request.GET.get("network", "bridge")}
    form = RunForm(request.POST or None, initial=initial, containers=others, networks=mine)
    status = 200
    if request.method == "POST":
        status = 400
        if form.is_valid():
            try:
                made = await services.create_container(actor, form.to_docker(), name=form.cleaned_data["name"])
            except EngineError as error:
                form.blame(error, machine.here(), await _references(actor, form))
                status = http_status(error)
            else:
                for warning in made.warnings:
                    messages.warning(request, warning)
                return redirect(await _started(request, actor, made.view.name))
    refs = [ref for image in await images.images(actor) for ref in image.refs]
    return await show(request, actor, "containers/run.html", {"nav": "containers", "form": form, "refs": refs}, status=status)


async def _references(actor: Actor, form: RunForm) -> References | None:
    """For who looks for the field to blame; None when one of the names is the culprit."""
    try:
        return (await references.resolve(actor, form.to_docker()))[1]
    except EngineError:
        return None


async def _started(request: HttpRequest, actor: Actor, name: str) -> str:
    """Where to go after the create: its log, or where it is said why it does not run. It is there either way."""
    try:
        await services.start_container(actor, name)
    except EngineError as error:
        messages.error(request, error.message)
        return _path(actor, name)
    return _path(actor, name, "logs")


@page("container.view")
async def overview(request: HttpRequest, actor: Actor, name: str) -> HttpResponse:
    view = await projection.container(actor, name)
    context = {
        "facts": _facts(view),
        "health": presentation.health_card(view, await health.probes(view)),
        "command": run_command(view, await _image_config(actor, view.image_id)),
    }
    return await show_tab(request, actor, view, "overview", context)


@page("container.view")
async def logs(request: HttpRequest, actor: Actor, name: str) -> HttpResponse:
    view = await projection.container(actor, name)
    return await show_tab(request, actor, view, "logs", {"log_command": f"docker logs -f --tail 500 {view.name}"})


@page("container.view")
async def download_log(request: HttpRequest, actor: Actor, name: str) -> HttpResponseBase:
    """The whole log as text, streamed; both streams in the order they were written."""
    response = await text_logs.as_text(actor, name, text_logs.Wanted())
    response.headers["Content-Disposition"] = f'attachment; filename="{name}.log"'
    return response


@require_POST
@page("container.start")
async def start(request: HttpRequest, actor: Actor, name: str) -> HttpResponse:
    return await act(request, services.start_container(actor, name), done=_("%(name)s is running") % {"name": name}, to=_path(actor, name))


@require_POST
@page("container.stop")
async def stop(request: HttpRequest, actor: Actor, name: str) -> HttpResponse:
    return await act(request, services.stop_container(actor, name), done=_("%(name)s has stopped") % {"name": name}, to=_path(actor, name))


@require_POST
@page("container.kill")
async def kill(request: HttpRequest, actor: Actor, name: str) -> HttpResponse:
    deed = services.kill_container(actor, name)
    return await act(request, deed, done=_("%(name)s was sent SIGKILL") % {"name": name}, to=_path(actor, name))


@require_POST
@page("container.remove")
async def remove(request: HttpRequest, actor: Actor, name: str) -> HttpResponse:
    deed = services.remove_container(actor, name, force=request.POST.get("force") == "1")
    return await act(request, deed, done=_("%(name)s was removed") % {"name": name}, to=_path(actor))


async def show_tab(
    request: HttpRequest, actor: Actor, view: projection.ContainerView, tab: str, context: dict[str, Any], *, status: int = 200
) -> HttpResponse:
    """One of a container's pages: templates/containers/<tab>.html in their common frame."""
    tabs = [
        ("overview", _("Overview"), ""),
        ("logs", _("Logs"), "logs"),
        *([("terminal", _("Terminal"), "terminal")] if may(actor, "container.exec") else []),
        ("stats", _("Stats"), "stats"),
        *([("files", _("Files"), "files"), ("changes", _("Changes"), "changes")] if may(actor, "container.files_read") else []),
        ("processes", _("Processes"), "processes"),
        ("limits", _("Limits"), "limits"),
        ("network", _("Network"), "network"),
        ("inspect", _("Inspect"), "inspect"),
    ]
    frame = {
        "nav": "containers",
        "tab": tab,
        "tabs": tabs,
        "row": presentation.row(view),
        "remove_command": f"docker rm -f {view.name}",
    }
    return await show(request, actor, f"containers/{tab}.html", {**frame, **context}, status=status)


async def _image_config(actor: Actor, image_id: str) -> dict[str, Any]:
    """{} when the image is gone."""
    try:
        return dict((await images.image(actor, image_id)).record.config.get("config") or {})
    except NotFound:
        return {}


def _path(actor: Actor, *parts: str) -> str:
    assert actor.tenant is not None
    path = tenant_path(actor.tenant.name, "containers", *parts)
    return path if len(parts) == 2 else path + "/"


def _of_network(view: projection.ContainerView) -> list[tuple[str, str, str]]:
    """Each network with the container's address there, and what of the host leads to its ports."""
    facts = []
    for endpoint in endpoints.current(view.spec, view.state):
        name = endpoints.network_name(endpoint.spec.network_id, view.network_names)
        addresses = " ".join(filter(None, (endpoint.ip_address, endpoint.ipv6_address))) if view.state.has_process else ""
        facts.append((_("Network"), f"{name} {addresses}".rstrip(), addresses))
    if not facts:
        facts.append((_("Network"), networking.shown_mode("", view.spec.network_mode), ""))
    published = [ports.spelled(binding) for binding in ports.current(view.spec, view.state)]
    return [*facts, (_("Ports"), ", ".join(published), "")] if published else facts


def _facts(view: projection.ContainerView) -> list[tuple[str, str, str]]:
    """Title, value, and what the copy button gives ("" for none)."""
    spec = view.spec
    return [
        (_("Id"), view.id[:12], view.id),
        (_("Image"), f"{view.image} ({view.image_id.removeprefix('sha256:')[:12]})", view.image_id),
        (_("Command"), shlex.join(spec.args), ""),
        (_("Restart"), presentation.policy_words(view), ""),
        *_of_network(view),
        (_("Host name"), spec.hostname or view.id[:12], ""),
        (_("User"), spec.user or "root", ""),
        *([(_("Disk, at most"), show_bytes(spec.layer_size_bytes), "")] if spec.layer_size_bytes else []),
        (_("Host"), view.host, ""),
    ]
