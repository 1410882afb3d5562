"""In which networks a new container is, and how: NetworkMode, EndpointsConfig, Links and MacAddress of a create request. PURE.

moby's rule: NetworkMode says the main network, and when EndpointsConfig names any, only those that it names count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from controlpanel.containers import endpoints
from controlpanel.containers.fields import Object, flag, obj, strings, text
from controlpanel.containers.options import CONTAINER
from controlpanel.containers.references import References
from controlpanel.networks.builtin import BRIDGE, HOST, NONE
from controlpanel.networks.projection import NetworkView
from engine.errors import InvalidArgument
from engine.model.network import EndpointSpec

MAC_DEPRECATED: Final = "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead."

PORTS_DISCARDED: Final = "Published ports are discarded when using host network mode"


@dataclass(frozen=True, slots=True)
class Networking:
    """``mode`` as ContainerSpec has it; ``names`` of the networks by id, for ever."""

    mode: str
    endpoints: tuple[EndpointSpec, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def read(asked: Object, host_config: Object, networking: Object, known: References) -> Networking:
    """``asked``: Config as the client sent it; ``networking``: its NetworkingConfig."""
    mode = text(host_config, "NetworkMode")
    if mode.startswith(CONTAINER):
        return Networking(mode)
    wanted, main = _wanted(mode, obj(networking, "EndpointsConfig"), known), _network(mode, known)
    if HOST in wanted:
        return _of_host(asked, host_config, wanted)
    warnings = _container_wide_mac(asked, main, wanted)
    made, names = [], {}
    legacy = strings(host_config, "Links") if main.name == BRIDGE else []
    for name, (network, settings) in wanted.items():
        links = [_link(word, known) for word in (*strings(settings, "Links"), *(legacy if network is main else ()))]
        try:
            endpoint = endpoints.read(network, settings, links)
        except InvalidArgument as error:
            raise InvalidArgument(f"invalid config for network {name}: {error.message}", **error.detail) from None
        if network.user_defined:
            names[network.id] = network.name
        if network.user_defined or endpoints.says_something(endpoint):
            made.append(endpoint)
    if flag(asked, "NetworkDisabled") or list(wanted) == [NONE]:
        return Networking(NONE, warnings=warnings)
    if NONE in wanted:
        raise InvalidArgument("container cannot be connected to multiple networks with one of the networks in private (none) mode")
    has_bridge = any(not network.user_defined for network, _settings in wanted.values())
    return Networking(BRIDGE if has_bridge else "user", tuple(made), names, warnings)


def _of_host(asked: Object, host_config: Object, wanted: Mapping[str, Any]) -> Networking:
    if list(wanted) != [HOST]:
        raise InvalidArgument("container cannot be disconnected from host network or connected to host network")
    if strings(host_config, "Links"):
        raise InvalidArgument("conflicting options: host type networking can't be used with links. This would result in undefined behavior")
    if text(asked, "MacAddress"):
        raise InvalidArgument("conflicting options: mac-address and the network mode")
    return Networking(HOST, warnings=(PORTS_DISCARDED,) if obj(host_config, "PortBindings") else ())


def _wanted(mode: str, given: Object, known: References) -> dict[str, tuple[NetworkView, dict[str, Any]]]:
    """The networks by name, the main one first, with what was asked of each."""
    found: dict[str, tuple[NetworkView, dict[str, Any]]] = {}
    for word in sorted(given, key=lambda word: _network(word, known).id != _network(mode, known).id):
        network = _network(word, known)
        found[network.name] = network, dict(obj(given, word))
    return found or {_network(mode, known).name: (_network(mode, known), {})}


def _network(word: str, known: References) -> NetworkView:
    """What another process removed meanwhile is not 404: on a create that word makes docker run pull the image."""
    network = known.networks.get(word)
    if network is None:
        raise InvalidArgument(f"network {word} not found")
    return network


def _container_wide_mac(asked: Object, main: NetworkView, wanted: dict[str, tuple[NetworkView, dict[str, Any]]]) -> tuple[str, ...]:
    """It is the main network's. ``wanted`` is changed."""
    address = text(asked, "MacAddress")
    if not address:
        return ()
    try:
        endpoints.mac_address(address)
    except InvalidArgument as error:
        raise InvalidArgument(f"invalid config for network {main.name}: {error.message}") from None
    network, settings = wanted.setdefault(main.name, (main, {}))
    if text(settings, "MacAddress") not in ("", address):
        raise InvalidArgument(
            "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty"
        )
    wanted[main.name] = network, {**settings, "MacAddress": address}
    return (MAC_DEPRECATED,)


def _link(words: str, known: References) -> str:
    """``db``, ``db:alias``; "<id>:alias"."""
    name, colon, alias = words.partition(":")
    if not words:
        raise InvalidArgument("empty string specified for links")
    if not name or ":" in alias:
        raise InvalidArgument(f"bad format for links: {words}")
    if name not in known.containers:
        raise InvalidArgument(f"could not get container for {name}: No such container: {name}")
    return f"{known.containers[name]}:{alias if colon else name.removeprefix('/')}"


def shown_mode(asked: str, mode: str) -> str:
    """HostConfig.NetworkMode as ``inspect`` shows it: the client's own word for a network of the tenant's."""
    return asked if mode in (BRIDGE, "user") and asked not in ("", "default") else mode
