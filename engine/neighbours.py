"""Starting a container in namespaces of another one of the same tenant: ``--network container:web``, and so for ipc, pid and uts.

When the other ends: with its pid namespace all processes in it end, ours too (exit code 137). Its network namespace lives on as long
as we do, but its address is free again and the firewall lets nothing of it pass. A new start joins the new run.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine import errors
from engine.model.container import ContainerSpec, Status
from engine.model.network import HOST
from engine.spec import options
from engine.spec.generate import host_name

if TYPE_CHECKING:
    from engine.engine import Engine

_SHAREABLE = ("shareable", options.CONTAINER)


@dataclass(frozen=True, slots=True)
class Target:
    """``pidfd`` of its first process; -1: nothing is joined. ``spec`` None then."""

    pidfd: int = -1
    spec: ContainerSpec | None = None


@contextmanager
def target(engine: Engine, spec: ContainerSpec) -> Iterator[Target]:
    """The container to join, running until the block ends or found dead by the launcher. Sentences and refusals are moby's."""
    joined = options.joined(spec)
    if not joined:
        yield Target()
        return
    other = _checked(engine, spec, joined)
    try:
        _words, pidfd = engine.keeper.join(other.id)
    except errors.NotFound:
        raise _refusal(next(iter(joined)), other, Status.EXITED) from None
    try:
        yield Target(pidfd, other)
    finally:
        os.close(pidfd)


def check_create(engine: Engine, spec: ContainerSpec) -> None:
    """What a create can already say: the container is there, and it is one."""
    joined = options.joined(spec)
    if len(set(joined.values())) > 1:
        raise errors.InvalidArgument("namespaces of two containers cannot be joined at once: they belong to different users")
    for kind, container_id in joined.items():
        if _find(engine, spec, container_id).network_mode == HOST and kind == "network":
            raise errors.InvalidArgument(f"container {container_id} is in the host's network: ask for that (--network host)")


def _find(engine: Engine, spec: ContainerSpec, container_id: str) -> ContainerSpec:
    """InvalidArgument, as moby has it: on a create a client takes "not found" for the image."""
    try:
        return engine.records.spec(container_id, tenant=spec.tenant)
    except errors.NotFound:
        raise errors.InvalidArgument(f"No such container: {container_id}") from None


def _checked(engine: Engine, spec: ContainerSpec, joined: dict[str, str]) -> ContainerSpec:
    kind, container_id = next(iter(joined.items()))
    other = _find(engine, spec, container_id)
    status = engine.records.state(other.id).status
    if status not in (Status.RUNNING, Status.PAUSED):
        raise _refusal(kind, other, status)
    if "ipc" in joined and not other.ipc_mode.startswith(_SHAREABLE):
        raise errors.InvalidArgument(
            f"failed to join IPC namespace: container {other.id}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)"
        )
    return other


def _refusal(kind: str, other: ContainerSpec, status: Status) -> errors.EngineError:
    if kind == "network":
        return errors.FailedPrecondition(
            f"cannot join network namespace of a non running container: container {other.name} is {status.value}"
        )
    return errors.FailedPrecondition(f"failed to join {kind.upper()} namespace: container {other.id} is not running")


def adjusted(config: dict[str, Any], spec: ContainerSpec, other: ContainerSpec | None) -> tuple[dict[str, Any], ContainerSpec]:
    """Who shares a network has one host name with whom it shares it, as in moby."""
    if other is None or "network" not in options.joined(spec):
        return config, spec
    named = dataclasses.replace(spec, hostname=host_name(other), domainname=other.domainname)
    old, new = f"HOSTNAME={host_name(spec)}", f"HOSTNAME={host_name(named)}"
    env = [new if item == old else item for item in config["process"]["env"]]
    process = {**config["process"], "env": env}
    return {**config, "process": process, "hostname": named.hostname, "domainname": named.domainname}, named
