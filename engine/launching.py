"""From what was asked for to what the launcher is told: the OCI config at the create, files, address and cgroup at each start."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine import binds, ceilings, connecting, devices, errors, neighbours, remote, volatile
from engine.kernel import cgroups
from engine.model.container import ContainerSpec
from engine.model.network import HOST
from engine.model.tenant import TenantHost
from engine.model.volume import IMAGE
from engine.networks import Endpoint, ProcessEnded
from engine.runtime import client, layers
from engine.spec import options
from engine.spec.generate import generate, host_name
from engine.volumes.store import DISK

if TYPE_CHECKING:
    from engine.engine import Engine

_FILES = ("hosts", "hostname", "resolv.conf")


def oci_config(engine: Engine, spec: ContainerSpec, tenant: TenantHost) -> dict[str, Any]:
    """What config.json says. PermissionDenied for what the tenant's ceiling does not grant."""
    ceiling = ceilings.read(engine.config, spec.tenant)
    ceilings.check_privileges(spec, ceiling)
    ceilings.check_seccomp(spec, ceiling)
    ceilings.check_network(spec, ceiling)
    mounted = engine.volumes.of(spec)
    spec = binds.resolved(spec, mounted)
    return generate(
        spec,
        tenant,
        cgroup=engine.cgroup(spec),
        folder=engine.config.container(spec.id),
        nodes=devices.nodes(spec, ceiling),
        device_rules=devices.rules(spec, ceiling),
        own_filter_alone=ceiling.seccomp_unconfined and spec.seccomp_alone,
        volumes=engine.config.volumes / spec.tenant,
        disks=[volume.name for volume in mounted if volume.limit == DISK],
        in_memory={volume.name: volume.options.get("o", "") for volume in mounted if volume.in_memory},
        shares=[volume.name for volume in mounted if volume.share is not None],
        binds=binds.words(spec, ceiling),
        images={each.source: engine.images.lower_dirs(engine.images.get(each.source)) for each in spec.mounts if each.type == IMAGE},
    )


def launch(engine: Engine, spec: ContainerSpec, run: int, mounted: remote.Mounted) -> dict[str, Any]:
    """Runs it. What start.json says of it."""
    with engine.files.no_copying(spec.id), volatile.held(engine, spec), neighbours.target(engine, spec) as target:
        return _launch(engine, spec, run, target, mounted)


def prepare(engine: Engine, spec: ContainerSpec, owner: TenantHost, config: dict[str, Any]) -> None:
    """Of a container that was just created: its first run is made ready, for most are started at once (engine.runtime.ready).

    What goes wrong here is told when it is started.
    """
    if options.joined(spec) or volatile.of(engine, spec) or remote.waits_for_servers(engine, spec):
        return  # the namespaces of whom it joins may be others by then, nobody would know of its memory, and no server be asked
    with suppress(errors.EngineError, OSError), engine.locked(spec.id):  # as a start: nobody exchanges its volumes' files meanwhile
        _write_files(engine, spec, owner, (), neighbours.Target())
        engine.tenants.note()
        cgroups.ensure(engine.tenant_cgroup(spec.tenant), owner.limits)
        client.prepare(engine.config, **_words(engine, spec, owner, 1, config))


def _words(engine: Engine, spec: ContainerSpec, owner: TenantHost, run: int, config: dict[str, Any]) -> dict[str, Any]:
    upper, work = layers.upper_and_work(engine.config, spec.id)
    rootfs = {
        "tenant": spec.tenant,
        "uid_start": owner.uid_start,
        "lower": engine.images.lower_dirs(engine.images.get(spec.image_id)),
        "upper": upper,
        "work": work,
    }
    log_dir = engine.config.container(spec.id) / "log"
    return {
        "id": spec.id,
        "run": run,
        "config": config,
        "rootfs": rootfs,
        "log_dir": log_dir,
        "log": spec.log,
        "stdin": spec.open_stdin,
    }


def _launch(engine: Engine, spec: ContainerSpec, run: int, target: neighbours.Target, mounted: remote.Mounted) -> dict[str, Any]:
    owner = engine.tenants.get(spec.tenant)
    wanted, ports = engine.records.wanted(spec)
    reserved = connecting.reserve(engine, owner, spec, wanted)
    config, named = neighbours.adjusted(engine.oci_config(spec), spec, target.spec)
    _write_files(engine, named, owner, reserved, target)
    engine.tenants.note()
    cgroups.ensure(engine.tenant_cgroup(spec.tenant), owner.limits)
    if spec.network_mode == HOST:
        engine.networks.wall_off(owner)
    words = _words(engine, spec, owner, run, config)
    with client.launch(engine.config, **words, target=target.pidfd, shares=mounted.of(config)) as launched:
        connected: dict[str, Any] = {}
        if reserved:
            try:
                connected = connecting.attach(engine, owner, spec, reserved, ports, launched.pid)
            except ProcessEnded:  # the launcher knows of what
                launched.start()
                raise
        started_at_ns = launched.start()
    return {"pid": launched.pid, "started_at_ns": started_at_ns, **connected}


def _write_files(engine: Engine, spec: ContainerSpec, owner: TenantHost, reserved: Sequence[Endpoint], target: neighbours.Target) -> None:
    """Who joins a network has the files of whom it belongs to."""
    folder = engine.config.container(spec.id)
    if target.spec is not None and "network" in options.joined(spec):
        other = engine.config.container(target.spec.id)
        for name in _FILES:
            (folder / name).write_text((other / name).read_text())
        return
    _write(folder / "hostname", host_name(spec) + "\n")
    for name, text in connecting.files(engine, spec, owner, reserved).items():
        _write(folder / name, text)


def _write(path: Path, text: str) -> None:
    """In place, for it may be mounted; and only what is not there already."""
    with suppress(FileNotFoundError):
        if path.read_text() == text:
            return
    path.write_text(text)


def prune_parents(engine: Engine, spec: ContainerSpec) -> None:
    """The cgroups between the tenant's and the container's, as far as nobody else is in them."""
    parents = options.parent_cgroup(spec)
    while parents:
        if not cgroups.remove_empty(engine.tenant_cgroup(spec.tenant) + parents):
            return
        parents = parents.rpartition("/")[0]
