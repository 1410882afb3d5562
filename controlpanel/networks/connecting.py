"""Connecting containers with networks and taking them out, while they run or not: one act on the container's host.

The container's state in the host's answer says in which networks it is from now on.
"""

from __future__ import annotations

from typing import Any, Final

from controlpanel.base import database
from controlpanel.containers import endpoints, references
from controlpanel.containers import rows as containers
from controlpanel.containers.acts import begin, named, row_of
from controlpanel.containers.fields import Object, strings
from controlpanel.containers.models import Desired
from controlpanel.containers.options import CONTAINER
from controlpanel.containers.projection import ContainerView, container
from controlpanel.hosts import operations
from controlpanel.hosts.models import Operation
from controlpanel.networks.builtin import HOST, NONE
from controlpanel.networks.members import in_network
from controlpanel.networks.projection import NetworkView, network
from controlpanel.networks.services import check_word
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.permissions import require
from engine.errors import EngineError, FailedPrecondition, InvalidArgument, PermissionDenied, Unsupported
from engine.model import codec
from engine.model.container import ContainerState
from engine.model.network import DEFAULT, EndpointSpec
from workers import contract

NOT_CONNECTED: Final = "network.not_connected"  # rule of a refusal

_PRIVATE: Final = "container cannot be connected to multiple networks with one of the networks in private (none) mode"
_SHARED: Final = "container sharing network namespace with another container or host cannot be connected to any other network"


async def connect(actor: Actor, network_name: str, container_name: str, settings: Object) -> None:
    """``settings``: Docker's EndpointConfig. Of a container that does not run, being in it already is fine, as in moby."""
    require(actor, "network.connect")
    view = await container(actor, check_word(container_name))
    if network_name == HOST:
        raise InvalidArgument("cannot connect container to host network - container must be created in host network mode")
    where = await network(actor, network_name)
    if view.spec.network_mode == HOST or view.spec.network_mode.startswith(CONTAINER):
        raise InvalidArgument(_SHARED)
    if NONE in (where.name if not where.user_defined else "", view.spec.network_mode):
        raise InvalidArgument(_PRIVATE)
    if in_network(view, where) is not None:
        if view.is_running:
            raise PermissionDenied(f"endpoint with name {view.name} already exists in network {where.name}", rule="network.connected")
        return
    linked = await references.linked(actor, settings)
    links = [
        f"{linked[name]}:{alias or name}" for name, _colon, alias in (link.partition(":") for link in strings(settings, "Links")) if name
    ]
    endpoint = endpoints.read(where, settings, links)
    await operations.ask(await database.run(_begin_connect, actor, view.id, where, endpoint))


def _begin_connect(actor: Actor, container_id: str, where: NetworkView, endpoint: EndpointSpec) -> Operation:
    row = row_of(container_id)
    _refuse_removed(row.desired, container_id)
    if where.user_defined and where.id not in row.network_names:
        row.network_names = {**row.network_names, where.id: where.name}
        containers.save(row, "network_names")
    words, detail = {"endpoint": codec.to_json(endpoint)}, {"network": where.name}
    return begin(actor, row, "connect", contract.CONNECT_NETWORK, **named(row), **words, detail=detail)


async def disconnect(actor: Actor, network_name: str, container_name: str, *, force: bool = False) -> None:
    require(actor, "network.connect")
    view = await container(actor, check_word(container_name))
    where = await network(actor, network_name)
    if where.name == NONE and view.spec.network_mode == NONE:
        raise Unsupported("a container that was made without a network stays without: make it anew with one")
    if where.name == HOST and view.spec.network_mode == HOST:
        raise InvalidArgument("container cannot be disconnected from host network or connected to host network")
    if in_network(view, where) is None:
        the = "" if view.is_running else "the "
        raise FailedPrecondition(f"container {view.id} is not connected to {the}network {where.name}", rule=NOT_CONNECTED)
    await operations.ask(await database.run(_begin_disconnect, actor, view.id, where, force))


def _begin_disconnect(actor: Actor, container_id: str, where: NetworkView, force: bool) -> Operation:
    row = row_of(container_id)
    _refuse_removed(row.desired, container_id)
    words = {"network": where.id if where.user_defined else DEFAULT, "force": force}
    return begin(actor, row, "disconnect", contract.DISCONNECT_NETWORK, **named(row), **words, detail={"network": where.name})


def _refuse_removed(desired: str, container_id: str) -> None:
    if desired == Desired.REMOVED:
        raise FailedPrecondition(f"container {container_id} is marked for removal and cannot be connected or disconnected to the network")


def _connected(operation: Operation, ok: dict[str, Any], error: EngineError | None) -> ContainerView | None:
    """Of a container that does not run moby tells nothing: it is in its networks from its start on."""
    return _moved(operation, ok, error, "connect", operation.payload["endpoint"]["network_id"], always=False)


def _disconnected(operation: Operation, ok: dict[str, Any], error: EngineError | None) -> ContainerView | None:
    return _moved(operation, ok, error, "disconnect", operation.payload["network"], always=True)


def _moved(
    operation: Operation, ok: dict[str, Any], error: EngineError | None, action: str, number: str, *, always: bool
) -> ContainerView | None:
    row = containers.locked(operation.payload["id"])
    if row is None or error is not None:
        return None
    state = codec.from_json(ContainerState, ok["state"])
    if state.has_process or always:
        containers.network_event(row, number, action)
    return containers.observe(row, state)


operations.on_answer(contract.CONNECT_NETWORK, _connected)
operations.on_answer(contract.DISCONNECT_NETWORK, _disconnected)
