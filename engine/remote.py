"""Volumes on NFS servers (``-o type=nfs``): only what root granted (engine.ceilings), mounted for each run of a container, gone with it.

Nobody who outlives the container has it mounted or looks into it, so nobody is there to hang with its server: the mount is made by a child
with a limit of time (engine.runtime.shares), before the container is locked, and travels as a descriptor into the container. Who
asks for usage gets 0; files, snapshots and copies are refused (engine.volumes.store). What was granted, and what the server's name meant
then, is looked up at each start: what was taken back is refused from the next one on.

NFS knows no id-mapped mounts. The server sees a container's processes with the tenant's ids on this host, its root as the first of them:
never as 0, so neither root_squash nor its contrary changes anything. Of an export with all_squash it sees anonuid instead, and owners
that are none of the tenant's ids are ``nobody`` in containers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from engine import ceilings, errors
from engine.ceilings import Ceiling
from engine.kernel import nfs
from engine.model.container import ContainerSpec
from engine.model.nfs import MOUNTS_MAX, Export, Share
from engine.model.volume import VOLUME, MountSpec, VolumeSpec
from engine.runtime import client
from engine.runtime.shares import LACKING

if TYPE_CHECKING:
    from engine.engine import Engine


@dataclass(slots=True)
class Mounted:
    """``fds``: by target in the container. ``error``: why there are none."""

    fds: dict[str, int] = field(default_factory=dict)
    error: errors.EngineError | None = None

    def of(self, config: Mapping[str, Any]) -> tuple[int, ...]:
        """In the order of an OCI config's. Raises what mounting them met."""
        if self.error is not None:
            raise self.error
        wanted = [words["destination"] for words in config["mounts"] if words.get("slipway", {}).get("share")]
        if missing := [target for target in wanted if target not in self.fds]:
            raise errors.Unavailable(f"the NFS server of {missing[0]} was not asked, for the container had just been running: try again")
        return tuple(self.fds[target] for target in wanted)


@contextmanager
def mounted(engine: Engine, spec: ContainerSpec) -> Iterator[Mounted]:
    """For a start that follows in the block. Never raises: the start tells, and records, what went wrong."""
    found = Mounted()
    with ExitStack() as held:
        try:
            shares = _shares(engine, spec)
            if shares and not engine.records.state(spec.id).has_process:
                uid_start = engine.tenants.get(spec.tenant).uid_start
                wanted = _wanted(shares, ceilings.read(engine.config, spec.tenant))
                fds = held.enter_context(client.mounted_shares(engine.config, uid_start=uid_start, shares=wanted))
                found.fds = {mount.target: fd for (mount, _share), fd in zip(shares, fds, strict=True)}
        except errors.EngineError as error:
            found.error = error
        yield found


def _shares(engine: Engine, spec: ContainerSpec) -> list[tuple[MountSpec, Share]]:
    shares = {volume.name: share for volume in engine.volumes.of(spec) if (share := volume.share) is not None}
    return [(mount, shares[mount.source]) for mount in spec.mounts if mount.type == VOLUME and mount.source in shares]


def _wanted(shares: list[tuple[MountSpec, Share]], ceiling: Ceiling) -> list[dict[str, Any]]:
    """In the words of engine.runtime.shares."""
    wanted = []
    for mount, share in shares:
        export = granted(ceiling, share)
        wanted.append({
            "address": export.address,
            "path": export.path,
            "port": export.port,
            "versions": share.versions,
            "settings": share.settings,
            "read_only": share.read_only,
            "no_exec": share.no_exec,
            "below": export.below(share),
            "subpath": mount.subpath,
        })  # fmt: skip
    return wanted


def granted(ceiling: Ceiling, share: Share) -> Export:
    """What it lies in, the innermost. PermissionDenied, saying who can change it, when there is none."""
    found = [export for export in ceiling.exports if export.has(share)]
    if not found:
        others = "" if len(set(share.servers)) == 1 else f" (all of {', '.join(dict.fromkeys(share.servers))} must be one server)"
        raise errors.PermissionDenied(
            f"the NFS export {share} is not allowed: root of this host grants exports to a tenant"
            f" with `python3 -m engine --tenant NAME ceiling --nfs SERVER:/PATH`{others}",
            rule="nfs",
        )
    export = max(found, key=lambda each: len(each.path))
    if export.port != share.port:
        raise errors.PermissionDenied(f"port {share.port} of {share} is not allowed: {export} was granted", rule="nfs")
    if export.read_only and not share.read_only:
        raise errors.PermissionDenied(f"the NFS export {share} is allowed read-only alone (o=…,ro): it was granted so", rule="nfs")
    return export


def check_volume(volume: VolumeSpec, ceiling: Ceiling) -> None:
    """Of one that is about to be made. Unsupported by a kernel that has no NFS."""
    if (share := volume.share) is not None:
        granted(ceiling, share)
        if not nfs.is_here():
            raise errors.Unsupported(LACKING)


def check(engine: Engine, spec: ContainerSpec, ceiling: Ceiling) -> None:
    """At a create. The server is asked at the start."""
    shares = _shares(engine, spec)
    if len(shares) > MOUNTS_MAX:
        raise errors.InvalidArgument(f"too many mounts: a container has at most {MOUNTS_MAX} of NFS servers")
    for _mount, share in shares:
        granted(ceiling, share)


def waits_for_servers(engine: Engine, spec: ContainerSpec) -> bool:
    """Whether a start of it may take as long as a server that does not answer is waited for."""
    return bool(_shares(engine, spec))
