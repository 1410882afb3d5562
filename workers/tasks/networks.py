"""Networks, containers' parts in them, and published ports: see the table in workers/contract.py.

Every act is one that may be done twice: a replay does it again, and the engine says what is so then.
"""

from __future__ import annotations

import time
from typing import Any, Final

from engine import errors
from engine.model.bandwidth import Bandwidth
from engine.model.codec import from_json, to_json
from engine.model.event import EventKind
from engine.model.network import EndpointSpec, NetworkSpec, PortBinding
from engine.model.rules import Rules
from workers import contract, host
from workers.operation import Act, task

_SETTLED_S: Final = 2.0


@task(contract.CREATE_NETWORK)
def create(act: Act) -> dict[str, Any]:
    return {"spec": to_json(host.engine().create_network(from_json(NetworkSpec, act.payload["spec"])))}


@task(contract.REMOVE_NETWORK)
def remove(act: Act) -> dict[str, Any]:
    """A container gives its addresses back a moment after its end was told: ``docker stop`` and ``network rm`` follow each other."""
    until = time.monotonic() + _SETTLED_S
    while True:
        try:
            host.engine().remove_network(act.payload["tenant"], act.payload["id"])
            return {}
        except errors.PermissionDenied:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)


@task(contract.CONNECT_NETWORK)
def connect(act: Act) -> dict[str, Any]:
    words = act.payload
    endpoint = from_json(EndpointSpec, words["endpoint"])
    return act.tell_state(EventKind.CONTAINER_CHANGED, host.engine().connect(words["tenant"], words["id"], endpoint))


@task(contract.DISCONNECT_NETWORK)
def disconnect(act: Act) -> dict[str, Any]:
    words = act.payload
    state = host.engine().disconnect(words["tenant"], words["id"], words["network"], force=bool(words.get("force")))
    return act.tell_state(EventKind.CONTAINER_CHANGED, state)


@task(contract.LIMIT_NETWORK)
def limit_network(act: Act) -> dict[str, Any]:
    words = act.payload
    return {"spec": to_json(host.engine().limit_network(words["tenant"], words["id"], from_json(Rules, words["rules"])))}


@task(contract.LIMIT_CONTAINER)
def limit_container(act: Act) -> dict[str, Any]:
    words = act.payload
    return {"state": to_json(host.engine().limit(words["tenant"], words["id"], from_json(Rules, words["rules"])))}


@task(contract.SHAPE_CONTAINER)
def shape_container(act: Act) -> dict[str, Any]:
    words = act.payload
    return {"state": to_json(host.engine().shape(words["tenant"], words["id"], from_json(Bandwidth, words["bandwidth"])))}


@task(contract.PUBLISH_PORTS)
def publish(act: Act) -> dict[str, Any]:
    words = act.payload
    ports = tuple(from_json(PortBinding, port) for port in words["ports"])
    return act.tell_state(EventKind.CONTAINER_CHANGED, host.engine().publish(words["tenant"], words["id"], ports))
