"""Docker's EndpointConfig: how a container is in a network. Read with moby's checks and sentences, and shown again. PURE."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from controlpanel.containers.fields import Object, integer, obj, strings, text
from controlpanel.networks.builtin import BRIDGE
from controlpanel.networks.projection import NetworkView
from engine.errors import InvalidArgument, Unsupported
from engine.model.container import ContainerSpec, ContainerState, endpoints_of
from engine.model.network import DEFAULT, EndpointSpec, EndpointState, Pool, check_endpoint

_MAC: Final = re.compile(r"[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}")
_UNTOUCHED: Final = EndpointSpec()


def read(network: NetworkView, settings: Object, links: Sequence[str] = ()) -> EndpointSpec:
    """InvalidArgument for what moby refuses. ``links``: "<container id>:alias", found already."""
    _refuse_what_is_not_there(settings)
    ipam, aliases = obj(settings, "IPAMConfig"), strings(settings, "Aliases")
    address, ipv6_address = text(ipam, "IPv4Address"), text(ipam, "IPv6Address")
    if wrong := _wrong(network, address, ipv6_address, aliases):
        raise InvalidArgument("invalid endpoint settings:\n" + _joined(wrong))
    endpoint = EndpointSpec(
        network_id=network.id if network.user_defined else DEFAULT,
        aliases=tuple(dict.fromkeys(aliases)),
        links=tuple(dict.fromkeys(links)),
        ip_address=address,
        ipv6_address=ipv6_address,
        mac_address=mac_address(text(settings, "MacAddress")),
        gw_priority=integer(settings, "GwPriority"),
    )
    check_endpoint(endpoint)
    return endpoint


def mac_address(asked: str) -> str:
    """As the host writes it; "" is its choice."""
    if asked and not _MAC.fullmatch(asked):
        raise InvalidArgument(f"invalid MAC address {asked}")
    return asked.lower().replace("-", ":")


def says_something(endpoint: EndpointSpec) -> bool:
    """More than that the container is there."""
    return dataclasses.replace(endpoint, network_id=DEFAULT) != _UNTOUCHED


def _refuse_what_is_not_there(settings: Object) -> None:
    ipam = obj(settings, "IPAMConfig")
    if strings(ipam, "LinkLocalIPs"):
        raise Unsupported("link-local addresses are not supported yet (IPAMConfig.LinkLocalIPs)")
    if obj(settings, "DriverOpts"):
        raise Unsupported("driver options of an endpoint are not supported yet (DriverOpts)")


def _wrong(network: NetworkView, address: str, ipv6_address: str, aliases: Sequence[str]) -> list[str]:
    """All that is wrong with addresses and aliases, in moby's order."""
    found = []
    given = [(4, address, network.asked_pool or Pool())] if address else []
    given += [(6, ipv6_address, network.asked_ipv6_pool or Pool())] if ipv6_address else []
    if not network.user_defined:
        if given:
            found.append("user specified IP address is supported on user defined networks only")
        if aliases:
            found.append("network-scoped alias is supported only for containers in user defined networks")
    found += [f"invalid IPv{version} address: {each}" for version, each, _ in given if not _is_address(each, version)]
    for version, each, pool in given:
        if not pool.subnet and (network.user_defined or version == 6):
            found.append("user specified IP address is supported only when connecting to networks with user configured subnets")
        elif not _is_in(pool, each):
            found.append(f"no configured subnet or ip-range contain the IP address {each}")
    return found


def _is_address(text_: str, version: int) -> bool:
    try:
        return ipaddress.ip_address(text_).version == version and "%" not in text_
    except ValueError:
        return False


def _is_in(pool: Pool, address: str) -> bool:
    if not pool.subnet:
        return False
    subnet = ipaddress.ip_network(pool.subnet)
    return _is_address(address, subnet.version) and ipaddress.ip_address(address) in subnet


def _joined(sentences: Sequence[str]) -> str:
    return sentences[0] if len(sentences) == 1 else "\n".join(f"* {sentence}" for sentence in sentences)


def current(spec: ContainerSpec, state: ContainerState) -> tuple[EndpointState, ...]:
    """A container's parts in networks now; the default bridge has the id "". None of its own for who shares another's."""
    if state.endpoints is not None:
        return state.endpoints
    found = [EndpointState(spec=endpoint) for endpoint in endpoints_of(spec)]
    return tuple(_default_bridge(each, state) if each.spec.network_id == DEFAULT else each for each in found)


def _default_bridge(endpoint: EndpointState, state: ContainerState) -> EndpointState:
    return dataclasses.replace(
        endpoint, ip_address=state.ip_address, prefix_len=state.prefix_len, gateway=state.gateway, mac_address=state.mac_address
    )


def network_name(number: str, known: Mapping[str, str]) -> str:
    """``known``: ContainerView.network_names."""
    return known.get(number, number[:12]) if number != DEFAULT else BRIDGE


def names(spec: ContainerSpec, endpoint: EndpointSpec, name: str) -> list[str]:
    """By which the others of a network know it, in moby's order. ``name``: the container's, which may have changed since."""
    return list(dict.fromkeys([name, *endpoint.aliases, spec.id[:12], *([spec.hostname] if spec.hostname else [])]))


def to_docker(endpoint: EndpointSpec, containers: Mapping[str, str]) -> dict[str, Any]:
    """EndpointConfig's members of what was asked. ``containers``: names by id, of those that links lead to; those of the default bridge are
    HostConfig's to show."""
    found = () if endpoint.network_id == DEFAULT else endpoint.links
    links = [f"{containers.get(number, number[:12])}:{alias}" for number, _colon, alias in (link.partition(":") for link in found)]
    addresses = {"IPv4Address": endpoint.ip_address, "IPv6Address": endpoint.ipv6_address}
    return {
        "IPAMConfig": {name: address for name, address in addresses.items() if address} or None,
        "Links": links or None,
        "Aliases": list(endpoint.aliases) or None,
    }
