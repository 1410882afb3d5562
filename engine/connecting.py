"""The networks that a container is in, its names there, and the ports of the host that lead to it: at its start, and while it lives.

    containers/<id>/networks.json    {"endpoints": [EndpointSpec], "ports": [PortBinding], "change"}: what it is in now, whether it runs or
                                     not; missing of one that is in the default bridge alone, or in nothing
    start.json                       "endpoint": of the default bridge, "endpoints": of the others; "ports" with the host's ports

Names are served in networks that tenants made, as Docker has it; in the default bridge there are links alone, in /etc/hosts.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from engine import ceilings, errors
from engine.model.bandwidth import Bandwidth, check_bandwidth
from engine.model.codec import from_json, to_json
from engine.model.container import ContainerSpec, ContainerState
from engine.model.network import DEFAULT, HOST, EndpointSpec, PortBinding, check_endpoint, check_port
from engine.model.rules import Rules, check_rules
from engine.model.tenant import TenantHost
from engine.networks import Endpoint, resolve
from engine.networks.limits import check_size
from engine.networks.names import Member, Names
from engine.spec import options

if TYPE_CHECKING:
    from engine.engine import Engine

_ANY: Final = "0.0.0.0"


def reserve(engine: Engine, owner: TenantHost, spec: ContainerSpec, wanted: Sequence[EndpointSpec]) -> tuple[Endpoint, ...]:
    return engine.networks.reserve(owner, spec.id, wanted) if wanted else ()


def attach(
    engine: Engine, owner: TenantHost, spec: ContainerSpec, reserved: Sequence[Endpoint], ports: Sequence[PortBinding], pid: int
) -> Any:
    """What start.json says of it. What fails leaves what ``Networks.release`` and ``forget`` clear."""
    engine.networks.limit(spec.id, reserved, spec.rules)
    engine.networks.attach(owner, reserved, pid)
    if spec.bandwidth:
        engine.networks.shape(reserved, spec.bandwidth)
    wanted = {each.network_id: each for each in engine.records.wanted(spec)[0]}
    for endpoint in reserved:
        _enter(engine, owner, spec, endpoint, wanted[endpoint.network_id])
    if _has_names(reserved):
        _serve(engine, owner, spec, reserved, list(wanted.values()), pid)
    return record(reserved, _publish(engine, spec, reserved, ports) if ports else ())


def record(reserved: Sequence[Endpoint], ports: Sequence[PortBinding]) -> dict[str, Any]:
    """For start.json."""
    written: dict[str, Any] = {}
    for each in reserved:
        if each.network_id == DEFAULT:
            written["endpoint"] = to_json(each)
        else:
            written.setdefault("endpoints", []).append(to_json(each))
    if ports:
        written["ports"] = to_json(ports)
    return written


def release(engine: Engine, spec: ContainerSpec) -> None:
    """What a run held. The caller asserts that its processes are gone."""
    endpoints, _ports = engine.records.wanted(spec)
    for each in endpoints:
        if each.network_id != DEFAULT:
            engine.netd.leave(each.network_id, spec.id)
    if engine.netd.knows(spec.id):  # also of one that has left its last network with names since; its sockets keep the namespace
        engine.netd.forget(spec.id)
    engine.networks.release(spec.id, [each.network_id for each in endpoints])


def files(engine: Engine, spec: ContainerSpec, owner: TenantHost, reserved: Sequence[Endpoint]) -> dict[str, str]:
    """The texts of /etc/hosts and /etc/resolv.conf."""
    if spec.network_mode == HOST:
        return resolve.of_host(spec)
    gateways = [each.gateway for each in reserved if each.is_way_out] + [each.ipv6_gateway for each in reserved if each.is_ipv6_way_out]
    hosts = resolve.hosts_file(
        spec,
        addresses=[address for each in reserved for address in each.addresses],
        gateway=gateways[0] if gateways else "",
        links=_linked(engine, spec) if any(each.network_id == DEFAULT for each in reserved) else (),
    )
    return {"hosts": hosts, "resolv.conf": resolve.resolv_conf(spec, resolve.host_resolv_conf(), embedded=_has_names(reserved))}


# -- while it lives ------------------------------------------------------------------------------------


def connect(engine: Engine, tenant: str, container_id: str, endpoint: EndpointSpec) -> ContainerState:
    """Moby's refusals. The same endpoint again is once. Of one that does not run it holds from its next start on. After an error everything
    is as before."""
    check_endpoint(endpoint)
    with engine.locked(container_id):
        spec, state = engine.records.spec(container_id, tenant=tenant), engine.records.state(container_id)
        _check_mode(spec)
        owner = engine.tenants.get(tenant)
        engine.networks.network(owner, endpoint.network_id)
        present, ports = engine.records.wanted(spec)
        if endpoint in present:
            return state
        if any(each.network_id == endpoint.network_id for each in present):
            name = engine.networks.network(owner, endpoint.network_id).name
            raise errors.PermissionDenied(f"endpoint with name {spec.name} already exists in network {name}", rule="network")
        changed = (*present, endpoint)
        if not state.has_process:
            engine.records.write_wanted(spec, changed, ports)
            return engine.records.state(container_id)
        before = live = _live(engine, container_id)
        with ExitStack() as undo:
            undo.callback(_lead_back, engine, spec, before, state)
            made = engine.networks.connect(owner, container_id, endpoint, live, state.pid, spec.rules)
            undo.callback(engine.networks.disconnect, container_id, made)
            if endpoint.network_id != DEFAULT:
                undo.callback(engine.netd.leave, endpoint.network_id, container_id)
            if spec.bandwidth:
                engine.networks.shape((made,), spec.bandwidth)
            _enter(engine, owner, spec, made, endpoint)
            live = _rerouted(engine, owner, (*live, made), changed, state.pid)
            held = _publish(engine, spec, live, _asked(state.ports, ports))
            if _has_names(live):
                _serve(engine, owner, spec, live, changed, state.pid)
            _refile(engine, spec, owner, before, live)
            undo.pop_all()
        return _written(engine, spec, live, held, changed, ports)


def disconnect(engine: Engine, tenant: str, container_id: str, network_id: str, *, force: bool = False) -> ContainerState:
    """Moby's refusal for one that is not in it; with ``force`` that is fine."""
    with engine.locked(container_id):
        spec, state = engine.records.spec(container_id, tenant=tenant), engine.records.state(container_id)
        owner = engine.tenants.get(tenant)
        present, ports = engine.records.wanted(spec)
        changed = tuple(each for each in present if each.network_id != network_id)
        if changed == present:
            if force:
                return state
            raise errors.PermissionDenied(f"container {container_id} is not connected to network {network_id}", rule="network")
        if not state.has_process:
            engine.records.write_wanted(spec, changed, ports)
            return engine.records.state(container_id)
        before = live = _live(engine, container_id)
        for endpoint in live:
            if endpoint.network_id == network_id:
                engine.networks.disconnect(container_id, endpoint)
        if network_id != DEFAULT:
            engine.netd.leave(network_id, container_id)
        live = _rerouted(engine, owner, [each for each in live if each.network_id != network_id], changed, state.pid)
        held = _publish(engine, spec, live, _asked(state.ports, ports))
        if any(each.network_id != DEFAULT for each in present):
            _serve(engine, owner, spec, live, changed, state.pid)
        _refile(engine, spec, owner, before, live)
        return _written(engine, spec, live, held, changed, ports)


def publish(engine: Engine, tenant: str, container_id: str, ports: Sequence[PortBinding]) -> ContainerState:
    """These and no other ones from now on. After an error everything is as before."""
    for port in ports:
        check_port(port)
    with engine.locked(container_id):
        spec, state = engine.records.spec(container_id, tenant=tenant), engine.records.state(container_id)
        ceilings.check_ports(ports, ceilings.read(engine.config, tenant))
        endpoints, before = engine.records.wanted(spec)
        if state.has_process:
            live = _live(engine, container_id)
            try:
                held = _publish(engine, spec, live, ports)
            except BaseException:
                _publish(engine, spec, live, state.ports or ())
                raise
            begun = engine.records.begun(container_id)
            engine.records.write_start(container_id, {**begun, "ports": to_json(held)})
        if tuple(ports) != before or state.has_process:
            engine.records.write_wanted(spec, endpoints, tuple(ports))
        return engine.records.state(container_id)


def limit(engine: Engine, tenant: str, container_id: str, rules: Rules) -> ContainerState:
    """Other allow-lists, from now on; what they leave out ends."""
    check_rules(rules)
    check_size(rules)
    with engine.locked(container_id):
        spec, state = engine.records.spec(container_id, tenant=tenant), engine.records.state(container_id)
        _check_mode(spec)
        engine.records.replace_spec(replace(spec, rules=rules))
        if state.has_process:
            engine.networks.limit(container_id, _live(engine, container_id), rules)
        return state


def shape(engine: Engine, tenant: str, container_id: str, bandwidth: Bandwidth) -> ContainerState:
    """Other limits, from now on."""
    check_bandwidth(bandwidth)
    with engine.locked(container_id):
        spec, state = engine.records.spec(container_id, tenant=tenant), engine.records.state(container_id)
        _check_mode(spec)
        if state.has_process:
            engine.networks.shape(_live(engine, container_id), bandwidth)
        engine.records.replace_spec(replace(spec, bandwidth=bandwidth))
        return state


def renamed(engine: Engine, spec: ContainerSpec) -> None:
    """It answers to its new name; ``spec`` has it."""
    live = {each.network_id: each for each in _live(engine, spec.id)}
    for each in engine.records.wanted(spec)[0]:
        if each.network_id in live:
            _enter(engine, engine.tenants.get(spec.tenant), spec, live[each.network_id], each)


def _check_mode(spec: ContainerSpec) -> None:
    if spec.network_mode == "none":
        sentence = "container cannot be connected to multiple networks with one of the networks in private (none) mode"
        raise errors.PermissionDenied(sentence, rule="network")
    if spec.network_mode == HOST or spec.network_mode.startswith(options.CONTAINER):
        sentence = "container sharing network namespace with another container or host cannot be connected to any other network"
        raise errors.PermissionDenied(sentence, rule="network")


# -- inside --------------------------------------------------------------------------------------------


def _live(engine: Engine, container_id: str) -> tuple[Endpoint, ...]:
    begun = engine.records.begun(container_id)
    found = [begun["endpoint"]] if begun.get("endpoint") else []
    return tuple(from_json(Endpoint, each) for each in (*found, *begun.get("endpoints", ())))


def _written(
    engine: Engine,
    spec: ContainerSpec,
    live: Sequence[Endpoint],
    held: Sequence[PortBinding],
    wanted: tuple[EndpointSpec, ...],
    ports: tuple[PortBinding, ...],
) -> ContainerState:
    begun = {name: value for name, value in engine.records.begun(spec.id).items() if name not in ("endpoint", "endpoints", "ports")}
    engine.records.write_start(spec.id, {**begun, **record(live, held)})
    engine.records.write_wanted(spec, wanted, ports)
    return engine.records.state(spec.id)


def _rerouted(
    engine: Engine, owner: TenantHost, live: Sequence[Endpoint], wanted: Sequence[EndpointSpec], pid: int
) -> tuple[Endpoint, ...]:
    """The default routes go where they would go at a start."""
    ipv4, ipv6 = engine.networks.ways_out(owner, wanted)
    changed = tuple(replace(each, is_way_out=each.network_id == ipv4, is_ipv6_way_out=each.network_id == ipv6) for each in live)
    for before, now in zip(live, changed, strict=True):
        if (now.is_way_out and not before.is_way_out) or (now.is_ipv6_way_out and not before.is_ipv6_way_out):
            engine.networks.route(now, pid)
    return changed


def _lead_back(engine: Engine, spec: ContainerSpec, before: Sequence[Endpoint], state: ContainerState) -> None:
    """Default routes and ports, after a connect that failed; its interface is gone."""
    for each in before:
        if each.is_way_out or each.is_ipv6_way_out:
            engine.networks.route(each, state.pid)
    _publish(engine, spec, before, state.ports or ())


def _publish(engine: Engine, spec: ContainerSpec, live: Sequence[Endpoint], ports: Sequence[PortBinding]) -> tuple[PortBinding, ...]:
    """By the networks of its default routes; a container that has none is reached by nobody."""
    ipv4, ipv6 = next((each for each in live if each.is_way_out), None), next((each for each in live if each.is_ipv6_way_out), None)
    way = ipv4 or ipv6
    if way is None or not ports:
        if engine.networks.ports(spec.id):
            engine.networks.unpublish(spec.id)
            engine.netd.release(spec.id)
        return ()
    ceilings.check_ports(ports, ceilings.read(engine.config, spec.tenant))
    wanted = ports if ipv4 else _by_ipv6(ports, engine.networks.ports(spec.id))
    held = engine.netd.hold(spec.id, wanted, target=str(way), tenant=spec.tenant)
    engine.networks.publish(spec.id, way, held, ipv6=ipv6)
    return tuple(held)


def _by_ipv6(ports: Sequence[PortBinding], held: Sequence[PortBinding]) -> list[PortBinding]:
    """Of a container without IPv4. moby's "every address" is every IPv6 address then; what is for an IPv4 address waits until the container
    has one. What is held stays as it is: nobody else gets it meanwhile."""
    return [
        port if port in held else replace(port, host_ip=port.host_ip or "::")
        for port in ports
        if port in held or not _is_ipv4(port.host_ip)
    ]


def _asked(held: Sequence[PortBinding] | None, ports: Sequence[PortBinding]) -> Sequence[PortBinding]:
    """``ports``, at the ports of the host that they have already, and with what waited for IPv4."""
    held = held or ()
    have, asked = {_place(port) for port in held}, {_place(port) for port in ports}
    both = [replace(port, host_ip=_ANY) for port in held if port.host_ip == "::" and _place(port) not in asked]
    waiting = [*both, *(port for port in ports if _is_ipv4(port.host_ip))]
    return [*held, *(port for port in waiting if _place(port) not in have)] if held else ports


def _place(port: PortBinding) -> tuple[str, int, str]:
    return port.host_ip, port.container_port, port.protocol


def _is_ipv4(host_ip: str) -> bool:
    return bool(host_ip) and ":" not in host_ip


def _refile(engine: Engine, spec: ContainerSpec, owner: TenantHost, before: Sequence[Endpoint], now: Sequence[Endpoint]) -> None:
    """hosts and resolv.conf as a start would write them now, unless somebody in the container has changed them."""
    folder = engine.config.container(spec.id)
    with suppress(FileNotFoundError, errors.InvalidArgument):  # whom it is linked to has ended
        written = files(engine, spec, owner, before)
        for name, text in files(engine, spec, owner, now).items():
            if (folder / name).read_text() == written[name] != text:
                (folder / name).write_text(text)  # in place: it is mounted


def _has_names(live: Sequence[Endpoint]) -> bool:
    return any(each.network_id != DEFAULT for each in live)


def _enter(engine: Engine, owner: TenantHost, spec: ContainerSpec, endpoint: Endpoint, wanted: EndpointSpec) -> None:
    if endpoint.network_id != DEFAULT:
        member = Member(spec.id, spec.name, wanted.aliases, endpoint.ip_address, endpoint.ipv6_address)
        engine.netd.enter(endpoint.network_id, engine.networks.network(owner, endpoint.network_id).name, member)


def _serve(
    engine: Engine, owner: TenantHost, spec: ContainerSpec, live: Sequence[Endpoint], wanted: Sequence[EndpointSpec], pid: int
) -> None:
    links = {alias: number for each in wanted for number, _, alias in (link.partition(":") for link in each.links)}
    names = Names(
        networks=tuple(each.network_id for each in live if each.network_id != DEFAULT),
        links=links,
        servers=spec.dns,
        forward=any(each.is_way_out or each.is_ipv6_way_out for each in live),
    )
    with engine.networks.inside(pid) as netns:
        engine.netd.serve(spec.id, netns, names)


def _linked(engine: Engine, spec: ContainerSpec) -> list[tuple[str, str]]:
    """Of the default bridge: (address, names) of those it is linked to, which must run."""
    found = []
    for each in engine.records.wanted(spec)[0]:
        for link in each.links if each.network_id == DEFAULT else ():
            number, _, alias = link.partition(":")
            other, state = engine.records.spec(number, tenant=spec.tenant), engine.records.state(number)
            if not state.has_process:
                raise errors.InvalidArgument(f"Cannot link to a non running container: /{other.name} AS /{spec.name}/{alias}")
            if not state.ip_address:
                raise errors.InvalidArgument(f"container {other.id} not attached to default bridge network")
            found.append((state.ip_address, f"{alias} {other.hostname or other.id[:12]} {other.name}"))
    return found
