"""From what was asked for to what the launcher is told: the OCI config at the create, files, address and cgroup at each start."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine import ceilings, devices, errors, neighbours
from engine.kernel import cgroups
from engine.model.codec import to_json
from engine.model.container import ContainerSpec
from engine.model.tenant import TenantHost
from engine.networks import Endpoint
from engine.runtime import client
from engine.spec import options
from engine.spec.generate import generate, host_name

if TYPE_CHECKING:
    from engine.engine import Engine

_FILES = ("hosts", "hostname", "resolv.conf")


def oci_config(engine: Engine, spec: ContainerSpec, tenant: TenantHost) -> dict[str, Any]:
    """What config.json says. PermissionDenied for what the tenant's ceiling does not grant."""
    ceiling = ceilings.read(engine.config, spec.tenant)
    ceilings.check_seccomp(spec, ceiling)
    return generate(
        spec,
        tenant,
        cgroup=engine.cgroup(spec),
        folder=engine.config.container(spec.id),
        nodes=devices.nodes(spec, ceiling),
        device_rules=devices.rules(spec, ceiling),
        own_filter_alone=ceiling.seccomp_unconfined,
    )


def launch(engine: Engine, spec: ContainerSpec, run: int) -> dict[str, Any]:
    """Runs it. What start.json says of it."""
    with engine.files.no_copying(spec.id), neighbours.target(engine, spec) as target:
        return _launch(engine, spec, run, target)


def prepare(engine: Engine, spec: ContainerSpec, owner: TenantHost, config: dict[str, Any]) -> None:
    """Of a container that was just created: its first run is made ready, for most are started at once (engine.runtime.ready).

    What goes wrong here is told when it is started.
    """
    if options.joined(spec):
        return  # the namespaces of whom it joins may be others by then
    with suppress(errors.EngineError, OSError):
        _write_files(engine, spec, None, neighbours.Target())
        engine.tenants.note()
        cgroups.ensure(engine.tenant_cgroup(spec.tenant), owner.limits)
        client.prepare(engine.config, **_words(engine, spec, owner, 1, config))


def _words(engine: Engine, spec: ContainerSpec, owner: TenantHost, run: int, config: dict[str, Any]) -> dict[str, Any]:
    rootfs = {
        "tenant": spec.tenant,
        "uid_start": owner.uid_start,
        "lower": engine.images.lower_dirs(engine.images.get(spec.image_id)),
        "upper": f"rootfs/{spec.id}/upper",
        "work": f"rootfs/{spec.id}/work",
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


def _launch(engine: Engine, spec: ContainerSpec, run: int, target: neighbours.Target) -> dict[str, Any]:
    owner = engine.tenants.get(spec.tenant)
    endpoint = engine.networks.reserve(owner, spec.id) if spec.network_mode == "bridge" else None
    config, named = neighbours.adjusted(engine.oci_config(spec), spec, target.spec)
    _write_files(engine, named, endpoint, target)
    engine.tenants.note()
    cgroups.ensure(engine.tenant_cgroup(spec.tenant), owner.limits)
    with client.launch(engine.config, **_words(engine, spec, owner, run, config), target=target.pidfd) as launched:
        if endpoint is not None:
            try:
                engine.networks.attach(owner, endpoint, launched.pid)
            except errors.FailedPrecondition:  # the process ended before: the launcher knows of what
                launched.start()
                raise
        started_at_ns = launched.start()
    record: dict[str, Any] = {"pid": launched.pid, "started_at_ns": started_at_ns}
    if endpoint is not None:
        record["endpoint"] = to_json(endpoint)
    return record


def _write_files(engine: Engine, spec: ContainerSpec, endpoint: Endpoint | None, target: neighbours.Target) -> None:
    """Who joins a network has the files of whom it belongs to."""
    folder = engine.config.container(spec.id)
    if target.spec is not None and "network" in options.joined(spec):
        other = engine.config.container(target.spec.id)
        for name in _FILES:
            (folder / name).write_text((other / name).read_text())
        return
    _write(folder / "hostname", host_name(spec) + "\n")
    _write(folder / "hosts", engine.networks.hosts_file(spec, endpoint))
    _write(folder / "resolv.conf", engine.networks.resolv_conf(spec))


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
