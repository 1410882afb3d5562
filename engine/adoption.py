"""A container that was told to execute by an engine which died before it wrote start.json: it runs, and the keeper knows of it.

``<run>/running/<id>.json`` (engine.runtime.kept) says which run, which process, and when it began; the rest is as Engine.start
would have written it. So a start that is asked for again finds it running instead of failing on its cgroup.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine import connecting, errors
from engine.kernel import cgroups
from engine.model.container import ContainerSpec
from engine.runtime import kept

if TYPE_CHECKING:
    from engine.config import EngineConfig
    from engine.engine import Engine
    from engine.runtime.client import KeeperClient


def runs(config: EngineConfig, container_id: str, run: int) -> bool:
    """Whether the keeper holds exactly this run as running."""
    note = kept.running_note(config, container_id)
    return note is not None and int(note["run"]) == run


def record(engine: Engine, spec: ContainerSpec) -> dict[str, Any]:
    """For start.json. Unavailable when it has ended meanwhile: its exit.json says the rest, and who asks again finds that."""
    note = kept.running_note(engine.config, spec.id)
    if note is None:
        raise errors.Unavailable(f"container {spec.id} has just ended")
    found: dict[str, Any] = {"pid": int(note["pid"]), "started_at_ns": int(note.get("started_at_ns", 0))}
    # its leases and ports are kept until its end is settled
    reserved = connecting.reserve(engine, engine.tenants.get(spec.tenant), spec, engine.records.wanted(spec)[0])
    return found | connecting.record(reserved, engine.networks.ports(spec.id))


def end_strays(keeper: KeeperClient, container_id: str, cgroup: str) -> bool:
    """Kills what is in the cgroup of a container that does not run and of which the keeper knows nothing; whether it did.

    Nobody is left who could: keeper, foster and logger were killed at once while its program was being executed.
    """
    try:
        known = any(kept["id"] == container_id for kept in keeper.list())
    except errors.Unavailable:
        return False
    if not known:
        cgroups.kill_all(cgroup)
    return not known
