"""What processes that died left behind, put right when one begins again: at the start of the host worker, of the agent, of a new keeper."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Final

from engine import adoption, disk, errors, filling, freezing
from engine.builds.running import clear_dead as clear_dead_builds
from engine.model.container import ContainerSpec
from engine.runtime import exits
from engine.volumes import layers

if TYPE_CHECKING:
    from engine.engine import Engine

UNFINISHED_S: Final = 60.0  # a create takes milliseconds: what has no record after a minute never gets one


def recover(engine: Engine) -> None:
    """Half-loaded images, killed builds, trash, addresses and cgroups of containers that ended unseen. Idempotent."""
    try:
        settle_lost(engine)
    except errors.Unavailable:
        pass  # no keeper yet: whoever starts it asks again
    live = set()
    for spec, state in engine.list():
        try:
            with engine.locked(spec.id):
                engine.records.claim_name(engine.records.spec(spec.id))
            if state.has_process:
                live.add(spec.id)
                engine.files.let_go(spec)
                freezing.restore(engine, spec.id)
            elif _adopt(engine, spec):
                live.add(spec.id)
            else:
                engine.settle(spec.id)
        except (errors.NotFound, errors.Unavailable):
            pass  # removed, or ended, meanwhile
    forget_unfinished(engine)
    clear_dead_builds(engine)
    engine.networks.reconcile(live)
    engine.netd.clear(live)
    engine.images.recover()
    engine.volumes.recover()
    filling.recover(engine)
    disk.empty_trash(engine.config.trash)


def settle_lost(engine: Engine) -> None:
    """What ran when the whole machine went down has ended, and nobody saw how: exit code 137. Unavailable without a keeper."""
    believed = [spec for spec, state in engine.list() if state.has_process]
    kept = {words["id"] for words in engine.keeper.list()}  # asked second: what starts meanwhile is not among the believed
    for spec in believed:
        state = engine.records.state(spec.id)  # again: the keeper may have recorded its exit before it was asked
        if spec.id not in kept and state.has_process:
            engine.records.write_exit(spec.id, state.run, exit_code=exits.LOST, signal=signal.SIGKILL)
            engine.settle(spec.id)


def forget_unfinished(engine: Engine) -> None:
    """What a creation that was killed left, once nobody can be at it any more: UNFINISHED_S after the kill."""
    for container_id in engine.records.unfinished(older_than_s=UNFINISHED_S):
        layers.remove(engine.config, container_id)
        disk.to_trash(engine.config.container(container_id), engine.config.trash)
    engine.records.free_names(older_than_s=UNFINISHED_S)
    disk.empty_trash(engine.config.trash)


def _adopt(engine: Engine, spec: ContainerSpec) -> bool:
    """Whether it runs though its start was never recorded, which this does now."""
    with engine.locked(spec.id):
        state = engine.records.state(spec.id)
        if state.has_process or not adoption.runs(engine.config, spec.id, state.run + 1):
            return state.has_process
        record = adoption.record(engine, spec)
        health = {} if spec.health is None else {"health": True}
        engine.records.write_start(spec.id, {"run": state.run + 1, **health, **record})
        return True
