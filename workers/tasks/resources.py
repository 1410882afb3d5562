"""Pausing and limits of containers: see the table in workers/contract.py."""

from __future__ import annotations

from typing import Any

from engine import freezing
from engine.model.codec import from_json, to_json
from engine.model.container import ContainerState, RestartPolicy
from engine.model.event import EventKind
from engine.model.resources import Resources
from workers import contract, host
from workers.operation import Act, task


def _change_before(payload: dict[str, Any]) -> dict[str, Any]:
    state = host.engine().state(payload["tenant"], payload["id"])
    return {"seq": state.seq, "change": state.change}


def _is_done(act: Act) -> bool:
    """Whether the first try of a replay has got as far as the record. Then the freezer follows the record, whatever was left undone."""
    tenant, container_id = act.payload["tenant"], act.payload["id"]
    state = host.engine().state(tenant, container_id)
    if not act.replay or (state.seq, state.change) <= (act.mark["seq"], act.mark["change"]):
        return False
    freezing.restore(host.engine(), container_id)
    return True


def _moved(act: Act, state: ContainerState) -> dict[str, Any]:
    return act.tell_state(EventKind.CONTAINER_CHANGED, state)


@task(contract.PAUSE_CONTAINER, mark=_change_before)
def pause(act: Act) -> dict[str, Any]:
    tenant, container_id = act.payload["tenant"], act.payload["id"]
    if _is_done(act):
        return _moved(act, host.engine().state(tenant, container_id))
    return _moved(act, host.engine().pause(tenant, container_id))


@task(contract.UNPAUSE_CONTAINER, mark=_change_before)
def unpause(act: Act) -> dict[str, Any]:
    tenant, container_id = act.payload["tenant"], act.payload["id"]
    if _is_done(act):
        return _moved(act, host.engine().state(tenant, container_id))
    return _moved(act, host.engine().unpause(tenant, container_id))


@task(contract.UPDATE_CONTAINER)
def update(act: Act) -> dict[str, Any]:
    """The same limits twice are once."""
    words = act.payload
    restart = from_json(RestartPolicy, words["restart"]) if words.get("restart") else None
    shown = {"host_config": words["host_config"]} if words.get("host_config") else {}
    resources, layer_size = from_json(Resources, words["resources"]), int(words.get("layer_size_bytes") or 0)
    state = host.engine().update(words["tenant"], words["id"], resources, restart, layer_size=layer_size, **shown)
    return {"state": to_json(state)}
