"""Pages: a tenant's networks, one with who is in it, the form that makes one; a container's networks and ports."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from controlpanel.base.errors import http_status
from controlpanel.containers import endpoints, ports, projection, publishing
from controlpanel.containers.projection import ContainerView
from controlpanel.containers.views import show_tab
from controlpanel.networks import connecting, creation, limiting, members, services
from controlpanel.networks import projection as known
from controlpanel.networks.api import pool_words
from controlpanel.networks.forms import BandwidthForm, ConnectForm, NetworkForm, PortsForm, RulesForm
from controlpanel.networks.projection import NetworkView
from controlpanel.tenants import projects
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.pages import act, form_of, page, show, tenant_path
from engine.errors import EngineError
from engine.model.network import EndpointState, PortBinding

_JOINABLE = ("bridge", "user")  # modes of containers that can be connected


@page("network.view")
async def listing(request: HttpRequest, actor: Actor) -> HttpResponse:
    used: dict[str, int] = {}
    views = [view for view in await known.networks(actor) if view.ready]
    for view in views:
        used[view.id] = len(await members.of(actor, view))
    project = request.GET.get("project", "")
    context = {
        "nav": "networks",
        "networks": [_row(view, used[view.id]) for view in views if not project or projects.name_of(view.labels) == project],
        "project": project,
        "projects": sorted({projects.name_of(view.labels) for view in views} - {""}),
        "command": "docker network create backend",
    }
    return await show(request, actor, "networks/list.html", context)


@page("network.create")
async def new(request: HttpRequest, actor: Actor) -> HttpResponse:
    form, status = NetworkForm(request.POST or None), 200
    if request.method == "POST":
        status = 400
        if form.is_valid():
            try:
                made = await services.create_network(actor, form.to_docker())
            except EngineError as error:
                form.add_error(_cause(error.message, form), error.message)
                status = http_status(error)
            else:
                return redirect(_path(actor, "view", made.name))
    return await show(request, actor, "networks/new.html", {"nav": "networks", "form": form}, status=status)


def _cause(message: str, form: NetworkForm) -> str | None:
    """The field that a refusal is about, by moby's words. They do not tell which of two subnets overlaps."""
    words = (
        ("invalid gateway", "gateway"),
        ("invalid ip-range", "ip_range"),
        ("invalid auxiliary", "reserved"),
        ("invalid subnet", "subnet"),
        ("Pool overlaps", "subnet"),
        ("already exists", "name"),
        ("network name", "name"),
        ("predefined", "name"),
        ("MTU", "mtu"),
    )
    field = next((field for sentence, field in words if sentence in message), None)
    ipv6_subnet = form.cleaned_data["ipv6_subnet"]
    is_about_it = ipv6_subnet and (ipv6_subnet in message or not form.cleaned_data["subnet"])
    return "ipv6_subnet" if field == "subnet" and is_about_it else field


@page("network.view")
async def one(request: HttpRequest, actor: Actor, name: str) -> HttpResponse:
    view = await known.network(actor, name)
    return await _one(request, actor, view)


async def _one(
    request: HttpRequest,
    actor: Actor,
    view: NetworkView,
    form: ConnectForm | None = None,
    status: int = 200,
    rules_form: RulesForm | None = None,
) -> HttpResponse:
    everything, inside = await projection.containers(actor), await members.of(actor, view)
    asleep = [each for each in everything if not each.state.has_process and members.in_network(each, view)]
    others = sorted(each.name for each in everything if _can_join(each, view))
    context = {
        "nav": "networks",
        "network": _row(view, len(inside)),
        "members": inside,
        "asleep": sorted(asleep, key=lambda each: each.name),
        "form": form or ConnectForm(networks=[view.name], containers=others, initial={"network": view.name}),
        "others": others,
        "rules_form": rules_form or RulesForm(rules=view.rules),
    }
    return await show(request, actor, "networks/one.html", context, status=status)


def _can_join(container: ContainerView, view: NetworkView) -> bool:
    return container.spec.network_mode in _JOINABLE and members.in_network(container, view) is None and view.driver == "bridge"


@require_POST
@page("network.connect")
async def connect(request: HttpRequest, actor: Actor) -> HttpResponse:
    """``back``: network or container, whose page the form was on."""
    containers = [view.name for view in await projection.containers(actor)]
    form = ConnectForm(request.POST, networks=[view.name for view in await known.networks(actor)], containers=containers)
    if form.is_valid():
        words = form.cleaned_data
        try:
            await connecting.connect(actor, words["network"], words["container"], form.to_docker())
        except EngineError as error:
            form.add_error(None, error.message)
        else:
            return redirect(_back(request, actor, words["network"], words["container"]))
    name = request.POST.get("container" if request.POST.get("back") == "container" else "network", "")
    if request.POST.get("back") == "container":
        return await _of_container(request, actor, await projection.container(actor, name), connect_form=form, status=400)
    return await _one(request, actor, await known.network(actor, name), form, 400)


@require_POST
@page("network.connect")
async def disconnect(request: HttpRequest, actor: Actor) -> HttpResponse:
    network, container = request.POST.get("network", ""), request.POST.get("container", "")
    deed = connecting.disconnect(actor, network, container)
    words = {"container": container, "network": network}
    done = _("%(container)s is not in %(network)s any more") % words
    return await act(request, deed, done=done, to=_back(request, actor, network, container))


def _back(request: HttpRequest, actor: Actor, network: str, container: str) -> str:
    assert actor.tenant is not None
    if request.POST.get("back") == "container":
        return tenant_path(actor.tenant.name, "containers", container, "network")
    return _path(actor, "view", network)


@form_of("networks", "view", "{name}")
@page("network.rules")
async def limit_network(request: HttpRequest, actor: Actor, name: str) -> HttpResponse:
    view, form, status = await known.network(actor, name), RulesForm(request.POST), 400
    if form.is_valid():
        try:
            await limiting.limit_network(actor, view.id, form.to_rules())
        except EngineError as error:
            form.add_error(None, error.message)
            status = http_status(error)
        else:
            return redirect(_path(actor, "view", view.name))
    return await _one(request, actor, view, None, status, form)


@require_POST
@page("network.remove")
async def remove(request: HttpRequest, actor: Actor) -> HttpResponse:
    name = request.POST.get("network", "")
    return await act(request, services.remove_network(actor, name), done=_("%(name)s was removed") % {"name": name}, to=_path(actor))


@page("network.prune")
async def prune(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Shows what would go; a POST takes it away."""
    if request.method == "POST":
        kept = set(request.POST.getlist("id"))  # what was shown: a network that came meanwhile stays
        deed = services.prune_networks(actor, lambda view: view.id in kept)
        return await act(request, deed, done=_("Unused networks were removed"), to=_path(actor))
    rows = [_row(view, 0) for view in await services.prunable(actor)]
    context = {"nav": "networks", "networks": rows, "command": "docker network prune"}
    return await show(request, actor, "networks/prune.html", context)


# -- a container's -----------------------------------------------------------------------------------


@page("container.view")
async def of_container(request: HttpRequest, actor: Actor, name: str) -> HttpResponse:
    return await _of_container(request, actor, await projection.container(actor, name))


async def _of_container(
    request: HttpRequest,
    actor: Actor,
    view: ContainerView,
    *,
    connect_form: ConnectForm | None = None,
    ports_form: PortsForm | None = None,
    rules_form: RulesForm | None = None,
    bandwidth_form: BandwidthForm | None = None,
    status: int = 200,
) -> HttpResponse:
    networks = [network for network in await known.networks(actor) if network.ready]
    free = [network.name for network in networks if _can_join(view, network)]
    asked = "\n".join(ports.spelled(binding) for binding in view.spec.ports)
    published = ports.current(view.spec, view.state)
    context = {
        "networks": [_endpoint(view, each) for each in endpoints.current(view.spec, view.state)],
        "mode": view.spec.network_mode,
        "connect_form": connect_form or ConnectForm(networks=free, containers=[view.name], initial={"container": view.name}),
        "free": free,
        "ports": [_port(binding) for binding in published],
        "exposed": [f"{number}/{protocol}" for number, protocol in ports.exposed(view.docker_config)],
        "ports_form": ports_form or PortsForm(initial={"ports": asked}),
        "rules_form": rules_form or RulesForm(rules=view.spec.rules),
        "bandwidth_form": bandwidth_form or BandwidthForm(bandwidth=view.spec.bandwidth),
        "has_own_network": view.spec.network_mode in _JOINABLE,
    }
    return await show_tab(request, actor, view, "network", context, status=status)


@form_of("containers", "{name}", "network")
@page("container.update")
async def change_ports(request: HttpRequest, actor: Actor, name: str) -> HttpResponse:
    assert actor.tenant is not None
    view = await projection.container(actor, name)
    form = PortsForm(request.POST)
    if not form.is_valid():
        return await _of_container(request, actor, view, ports_form=form, status=400)
    try:
        await publishing.publish_ports(actor, view.id, ports.bindings(form.cleaned_data["ports"]))
    except EngineError as error:
        form.add_error("ports", error.message)
        return await _of_container(request, actor, view, ports_form=form, status=http_status(error))
    return redirect(tenant_path(actor.tenant.name, "containers", view.name, "network"))


@form_of("containers", "{name}", "network")
@page("container.rules")
async def limit_container(request: HttpRequest, actor: Actor, name: str) -> HttpResponse:
    assert actor.tenant is not None
    view, form, status = await projection.container(actor, name), RulesForm(request.POST), 400
    if form.is_valid():
        try:
            await limiting.limit_container(actor, view.id, form.to_rules())
        except EngineError as error:
            form.add_error(None, error.message)
            status = http_status(error)
        else:
            return redirect(tenant_path(actor.tenant.name, "containers", view.name, "network"))
    return await _of_container(request, actor, view, rules_form=form, status=status)


@form_of("containers", "{name}", "network")
@page("container.bandwidth")
async def shape_container(request: HttpRequest, actor: Actor, name: str) -> HttpResponse:
    assert actor.tenant is not None
    view, form, status = await projection.container(actor, name), BandwidthForm(request.POST), 400
    if form.is_valid():
        try:
            await limiting.shape_container(actor, view.id, form.to_bandwidth())
        except EngineError as error:
            form.add_error(None, error.message)
            status = http_status(error)
        else:
            return redirect(tenant_path(actor.tenant.name, "containers", view.name, "network"))
    return await _of_container(request, actor, view, bandwidth_form=form, status=status)


def _endpoint(view: ContainerView, each: EndpointState) -> dict[str, Any]:
    running = view.state.has_process
    return {
        "name": endpoints.network_name(each.spec.network_id, view.network_names),
        "address": f"{each.ip_address}/{each.prefix_len}" if running and each.ip_address else "",
        "ipv6_address": f"{each.ipv6_address}/{each.ipv6_prefix_len}" if running and each.ipv6_address else "",
        "mac_address": each.mac_address if running else each.spec.mac_address,
        "gateway": each.gateway if running else "",
        "ipv6_gateway": each.ipv6_gateway if running else "",
        "interface": each.interface if running else "",
        "aliases": each.spec.aliases,
    }


def _port(binding: PortBinding) -> dict[str, str]:
    host = f"{binding.host_port}-{binding.host_port_end}" if binding.host_port_end else str(binding.host_port or "")
    address = f"[{binding.host_ip}]" if ":" in binding.host_ip else binding.host_ip
    return {"host": host, "address": address, "inside": f"{binding.container_port}/{binding.protocol}"}


def _row(view: NetworkView, used_by: int) -> dict[str, Any]:
    return {
        "id": view.id,
        "short_id": view.id[:12],
        "name": view.name,
        "driver": view.driver,
        "own": view.user_defined,
        **pool_words(view),
        "internal": view.internal,
        "isolated": not view.icc,
        "mtu": view.mtu,
        "options": {name: value for name, value in view.options.items() if view.user_defined and name not in (creation.MTU, creation.ICC)},
        "labels": view.labels,
        "used_by": used_by,
        "created_at": datetime.fromtimestamp(view.created_ns / 1e9, UTC),
        "remove_command": shlex.join(["docker", "network", "rm", view.name]),
    }


def _path(actor: Actor, *parts: str) -> str:
    assert actor.tenant is not None
    path = tenant_path(actor.tenant.name, "networks", *parts)
    return path if parts else path + "/"
