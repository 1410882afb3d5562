"""Which containers are in a network now, with which addresses: those that run."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from controlpanel.containers import endpoints
from controlpanel.containers import projection as containers
from controlpanel.containers.projection import ContainerView
from controlpanel.networks.builtin import BRIDGE, HOST, NONE
from controlpanel.networks.projection import NetworkView
from controlpanel.tenants.actor import Actor
from engine.model.network import DEFAULT, EndpointSpec, EndpointState


@dataclass(frozen=True, slots=True)
class Member:
    view: ContainerView
    endpoint: EndpointState
    endpoint_id: str

    @property
    def name(self) -> str:
        return self.view.name

    @property
    def address(self) -> str:
        """With the length of its prefix; "" of what has none."""
        return f"{self.endpoint.ip_address}/{self.endpoint.prefix_len}" if self.endpoint.ip_address else ""

    @property
    def ipv6_address(self) -> str:
        return f"{self.endpoint.ipv6_address}/{self.endpoint.ipv6_prefix_len}" if self.endpoint.ipv6_address else ""


def endpoint_id(container_id: str, network_id: str) -> str:
    """64 digits that stay, as long as the container is in the network."""
    return hashlib.sha256(f"slipway endpoint {container_id} {network_id}".encode()).hexdigest()


async def of(actor: Actor, network: NetworkView) -> list[Member]:
    """Those that the actor knows of, by name."""
    return _members(await containers.containers(actor), network)


async def all_of(actor: Actor, network: NetworkView) -> list[Member]:
    """Whoever asks, for what a decision rests on."""
    return _members(await containers.everything(actor), network)


def _members(views: list[ContainerView], network: NetworkView) -> list[Member]:
    found = []
    for view in views:
        endpoint = in_network(view, network)
        if endpoint is not None and view.state.has_process:
            found.append(Member(view, endpoint, endpoint_id(view.id, network.id)))
    return sorted(found, key=lambda member: member.name)


def in_network(view: ContainerView, network: NetworkView) -> EndpointState | None:
    """The container's part in it, also while it does not run."""
    if not network.user_defined and network.name in (HOST, NONE):
        return EndpointState(spec=EndpointSpec(network_id=network.name)) if view.spec.network_mode == network.name else None
    wanted = DEFAULT if not network.user_defined and network.name == BRIDGE else network.id
    return next((each for each in endpoints.current(view.spec, view.state) if each.spec.network_id == wanted), None)


async def used(actor: Actor) -> set[str]:
    """Ids of the networks that running containers are in; "" is the default bridge."""
    running = [view for view in await containers.everything(actor) if view.state.has_process]
    return {endpoint.spec.network_id for view in running for endpoint in endpoints.current(view.spec, view.state)}
