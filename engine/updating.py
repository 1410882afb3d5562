"""New limits for a container, also while it runs: the kernel's values, config.json and spec.json change together or not at all."""

from __future__ import annotations

import dataclasses
import errno
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

from engine import ceilings, disk, errors, restarts
from engine.kernel import block_devices, cgroups
from engine.model.container import ContainerState, RestartPolicy, check_spec
from engine.model.resources import Resources
from engine.spec.generate import linux_resources
from engine.volumes import layers

if TYPE_CHECKING:
    from engine.engine import Engine


def update(
    engine: Engine,
    tenant: str,
    container_id: str,
    resources: Resources,
    restart: RestartPolicy | None = None,
    *,
    layer_size: int = 0,
    **shown: Any,
) -> ContainerState:
    """``resources`` are all that shall hold from now on, not only what changes. After an error everything is as before.

    FailedPrecondition when the kernel refuses a value: on version 1 a memory limit below what is in use.
    """
    numbers = numbered(resources)
    if restart is not None:
        restarts.check(restart)
    with engine.locked(container_id), ExitStack() as undo:
        spec = engine.records.spec(container_id, tenant=tenant)
        config = engine.oci_config(spec)
        config_path = engine.config.container(container_id) / "config.json"
        if engine.records.state(container_id).has_process:
            undo.callback(_put_back, engine.cgroup(spec), numbered(spec.resources))
            try:
                _set(engine.cgroup(spec), numbers)
            except OSError as error:
                raise _refused(container_id, resources, error) from error
        undo.callback(disk.write_json, config_path, config)
        changed = {**config["linux"], "resources": {**linux_resources(numbers), "devices": config["linux"]["resources"]["devices"]}}
        disk.write_json(config_path, {**config, "linux": changed})
        changed_spec = dataclasses.replace(spec, resources=resources, shown={**spec.shown, **shown})
        if layer_size:
            changed_spec = dataclasses.replace(changed_spec, layer_size_bytes=layer_size, layer_size_is_part=False)
            check_spec(changed_spec)
            ceilings.layer_size(changed_spec, ceilings.read(engine.config, tenant))
            layers.resize(engine.config, container_id, layer_size)
        engine.records.replace_spec(changed_spec)
        undo.pop_all()
    if restart is not None:
        engine.set_restart_policy(tenant, container_id, restart)
    return engine.records.state(container_id)


def set_wall(engine: Engine, tenant: str, limits: Resources) -> None:
    """Of all that a tenant runs. On version 1 a container's share of the CPUs was cut to the old wall, and has to be set anew."""
    cgroups.set_limits(engine.tenant_cgroup(tenant), limits)
    if cgroups.version() == 1:
        for spec, state in engine.list(tenant):
            if state.has_process and (spec.resources.nano_cpus or spec.resources.cpu_quota_us):
                _put_back(engine.cgroup(spec), numbered(spec.resources))


def numbered(resources: Resources) -> Resources:
    """With devices by number. InvalidArgument for a path that is no block device."""
    try:
        return block_devices.numbered(resources)
    except OSError as error:
        raise errors.InvalidArgument(f"invalid block device path {error.filename}: {error.strerror}") from error


def _set(cgroup: str, limits: Resources) -> None:
    if cgroups.exists(cgroup):  # it may have ended, and been settled, since its state was read
        cgroups.set_limits(cgroup, limits)


def _put_back(cgroup: str, limits: Resources) -> None:
    with suppress(OSError):  # an old limit may be below what is in use by now
        _set(cgroup, limits)


def _refused(container_id: str, resources: Resources, error: OSError) -> errors.EngineError:
    if error.errno == errno.EBUSY and "memory" in str(error.filename):
        why = f"unable to set memory limit to {resources.memory_bytes}: more is in use"
    else:
        why = str(error)
    return errors.FailedPrecondition(f"Cannot update container {container_id}: {why}")
