"""Containers: see the table in workers/contract.py."""

from __future__ import annotations

from typing import Any

from engine import errors
from engine.model.codec import from_json, to_json
from engine.model.container import ContainerSpec
from engine.model.event import EventKind
from engine.model.signals import signal_number
from workers import contract, host
from workers.operation import Act, task


def _seq_before(payload: dict[str, Any]) -> dict[str, Any]:
    return {"seq": host.engine().state(payload["tenant"], payload["id"]).seq}


@task(contract.CREATE_CONTAINER)
def create(act: Act) -> dict[str, Any]:
    """The engine takes the same spec twice as once, so a replay needs nothing special."""
    spec = from_json(ContainerSpec, act.payload["spec"])
    told = act.tell_state(EventKind.CONTAINER_CREATED, host.engine().create(spec))
    return {**told, "volumes": to_json(host.engine().volumes.of(spec))} if spec.mounts else told


@task(contract.START_CONTAINER, mark=_seq_before)
def start(act: Act) -> dict[str, Any]:
    """A replay whose container has moved on since the mark was started by the first try: short ones have ended by now."""
    tenant, container_id, engine = act.payload["tenant"], act.payload["id"], host.engine()
    if act.replay and (state := engine.state(tenant, container_id)).seq > act.mark["seq"]:
        if state.error:
            raise engine.records.failure(state)
        return act.tell_state(EventKind.CONTAINER_STARTED, state)
    try:
        state = engine.start(tenant, container_id)
    except errors.EngineError:
        state = engine.state(tenant, container_id)
        if state.seq > act.mark["seq"]:
            act.tell_state(EventKind.CONTAINER_CREATED, state)  # with its exit code and error, as dockerd leaves it
        raise
    return act.tell_state(EventKind.CONTAINER_STARTED, state)


@task(contract.STOP_CONTAINER)
def stop(act: Act) -> dict[str, Any]:
    """Answers at once; the exit comes as an event."""
    words = act.payload
    signal = signal_number(words["signal"]) if words.get("signal") else 0
    return {"state": to_json(host.engine().stop(words["tenant"], words["id"], signal=signal, timeout_s=words.get("timeout_s")))}


def _run_before(payload: dict[str, Any]) -> dict[str, Any]:
    state = host.engine().state(payload["tenant"], payload["id"])
    return {"run": state.run, "seq": state.seq}


@task(contract.RESTART_CONTAINER, mark=_run_before)
def restart(act: Act) -> dict[str, Any]:
    """Of what runs it answers at once; exit and start come as events. A replay that finds the next run has nothing to do."""
    words, engine = act.payload, host.engine()
    state = engine.state(words["tenant"], words["id"])
    if not (act.replay and state.run > act.mark["run"]):
        signal = signal_number(words["signal"]) if words.get("signal") else 0
        try:
            state = engine.restart(words["tenant"], words["id"], signal=signal, timeout_s=words.get("timeout_s"))
        except errors.EngineError:
            state = engine.state(words["tenant"], words["id"])
            if state.seq > act.mark["seq"] and state.error:
                act.tell_state(EventKind.CONTAINER_CREATED, state)
            raise
    elif state.error:
        raise host.engine().records.failure(state)
    return {"state": to_json(state)}


@task(contract.KILL_CONTAINER)
def kill(act: Act) -> dict[str, Any]:
    """A replay may send the signal twice: the one act here that cannot know whether it has happened."""
    return {"state": to_json(host.engine().kill(act.payload["tenant"], act.payload["id"], int(act.payload["signal"])))}


def _seq_or_gone(payload: dict[str, Any]) -> dict[str, Any]:
    try:
        return _seq_before(payload)
    except errors.NotFound:
        return {"seq": 0}


@task(contract.REMOVE_CONTAINER, mark=_seq_or_gone)
def remove(act: Act) -> dict[str, Any]:
    tenant, container_id = act.payload["tenant"], act.payload["id"]
    force, volumes = bool(act.payload.get("force")), bool(act.payload.get("volumes"))
    gone = host.engine().remove(tenant, container_id, force=force, volumes=volumes)
    act.tell(EventKind.CONTAINER_REMOVED, tenant, container_id, seq=act.mark["seq"], state={})
    return {"volumes": gone} if gone else {}


@task(contract.RENAME_CONTAINER)
def rename(act: Act) -> dict[str, Any]:
    host.engine().rename(act.payload["tenant"], act.payload["id"], act.payload["name"])
    return {}
