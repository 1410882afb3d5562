"""The engine of one host: the façade that wires the rooms. Read ``create``, ``start`` and ``settle`` first.

Any root process may have an Engine (host worker, agent, command line): what is known lies in files (engine.records), what runs
belongs to the keeper, and a container is locked by flock(2) while it is started, settled or removed. What a crash left behind is
engine.recovery's.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any, BinaryIO

from engine import (
    adoption,
    ceilings,
    connecting,
    disk,
    errors,
    executions,
    filling,
    freezing,
    image_facts,
    launching,
    neighbours,
    processes,
    remains,
    remote,
    restarts,
    sampling,
    updating,
)
from engine.config import EngineConfig
from engine.endings import Endings
from engine.files.files import Files
from engine.images.store import ImageStore
from engine.images.streams import Readable
from engine.kernel import cgroups
from engine.model.bandwidth import Bandwidth
from engine.model.container import ContainerSpec, ContainerState, RestartPolicy, Status, check_spec
from engine.model.execution import ExecSpec
from engine.model.network import EndpointSpec, NetworkSpec, PortBinding
from engine.model.resources import Resources
from engine.model.rules import Rules
from engine.model.tenant import TenantHost
from engine.model.volume import VolumeSpec, check_volume
from engine.networks import Networks
from engine.networks.netd_client import NetdClient
from engine.records import Records
from engine.registries.registries import Recorded, Registries, Transfer
from engine.restarts import Restart
from engine.runtime.client import KeeperClient
from engine.spec import options
from engine.tenants import Tenants
from engine.traffic import TrafficBook
from engine.volumes import layers
from engine.volumes.store import Volumes

Listing = list[tuple[ContainerSpec, ContainerState]]
Strings = list[str]  # inside the class ``list`` is the method

NOT_STARTED = 128  # exit code of a start that failed for a reason of ours, as dockerd has it


class Engine:
    """Methods raise engine.errors; each says what it leaves behind when it fails, which is nothing unless stated."""

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        for folder in (config.engine, config.containers, config.names, config.rootfs, config.trash):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.tenants = Tenants(config)
        self.instance = self.tenants.instance()
        self.images = ImageStore(config)
        self.networks = Networks(config, self.tenants)
        self.traffic = TrafficBook(config, self.networks)
        self.registries = Registries(config, self.tenants, self.images, self.networks)
        self.netd = NetdClient(config)
        self.keeper = KeeperClient(config)
        self.records = Records(config)
        self.volumes = Volumes(config, self.records)
        self.files = Files(self)
        self.endings = Endings(self)

    # -- tenants ---------------------------------------------------------------------------------

    def ensure_tenant(
        self,
        name: str,
        *,
        limits: Resources | None = None,
        force_no_new_privileges: bool | None = None,
        bandwidth: Bandwidth | None = None,
        log_bytes: int | None = None,
        registries: tuple[str, ...] | None = None,
    ) -> TenantHost:
        """The tenant's place on this host, made on first use; new limits take effect at once on what runs."""
        tenant = self.tenants.ensure(
            name,
            limits=limits,
            force_no_new_privileges=force_no_new_privileges,
            bandwidth=bandwidth,
            log_bytes=log_bytes,
            registries=registries,
        )
        if limits is not None:
            updating.set_wall(self, name, limits)
        if bandwidth is not None:
            self.networks.shape_tenants()
        return tenant

    def remove_tenant(self, name: str, *, with_data: bool = False) -> None:
        """FailedPrecondition while it has containers or volumes: they are somebody's data. ``with_data``: they go, too."""
        remains.end(self, name, with_data=with_data)

    # -- life of a container ---------------------------------------------------------------------

    def create(self, spec: ContainerSpec, *, mounts: Sequence[dict[str, Any]] = ()) -> ContainerState:
        """Records it and makes its writable layer; nothing runs. The same spec twice is once.

        ``mounts``: of the OCI config, behind those that every container has: folders of the engine's, for one run (engine.builds.mounting).
        """
        check_spec(spec)
        options.check(spec)
        neighbours.check_create(self, spec)
        try:
            if self.records.spec(spec.id, tenant=spec.tenant) == spec:
                return self.records.state(spec.id)
        except errors.NotFound:
            pass
        tenant = self.ensure_tenant(spec.tenant)
        layer_size = ceilings.layer_size(spec, ceilings.read(self.config, spec.tenant))
        self.images.resolve(spec.tenant, spec.image_id)  # NotFound for another tenant's, whatever the panel thinks
        with ExitStack() as held, ExitStack() as undo:
            filling.take(self, spec, tenant, held, undo)
            config = self._new_config(spec, tenant)
            config["mounts"] += mounts
            if (self.config.rootfs / spec.id).exists():  # of a create that was killed: without a record it is nobody's
                layers.remove(self.config, spec.id)
            layers.create(self.config, spec.id, layer_size)
            undo.callback(layers.remove, self.config, spec.id)
            with self.volumes.kept(spec):
                self.records.add(spec, config)
            undo.pop_all()
        launching.prepare(self, spec, tenant, config)
        return self.records.state(spec.id)

    def create_volume(self, spec: VolumeSpec) -> VolumeSpec:
        """The one of that name that is there already. PermissionDenied for a folder or an NFS export that was not granted."""
        check_volume(spec)
        filling.check_granted(spec, ceilings.read(self.config, spec.tenant))
        return self.volumes.create(spec)

    def start(self, tenant: str, container_id: str) -> ContainerState:
        """Runs it. Already running: nothing happens. A start that fails is recorded (exit code 126, 127, 128) and raised."""
        with remote.mounted(self, self.records.spec(container_id, tenant=tenant)) as mounted, self.locked(container_id):
            spec, state = self.records.spec(container_id, tenant=tenant), self.records.state(container_id)
            return state if state.has_process else self._start(spec, state, mounted)

    def start_again(self, container_id: str, restart: Restart) -> ContainerState | None:
        """What the agent decided. None: somebody stopped, started or removed it meanwhile."""
        try:
            if not self._awaits(container_id, restart):
                return None
            with remote.mounted(self, self.records.spec(container_id)) as mounted, self.locked(container_id):
                spec, state = self.records.spec(container_id), self.records.state(container_id)
                return self._start(spec, state, mounted, restart) if self._awaits(container_id, restart) else None
        except errors.NotFound:
            return None

    def _awaits(self, container_id: str, restart: Restart) -> bool:
        state = self.records.state(container_id)
        return state.status is Status.RESTARTING and state.run == restart.run

    def _start(self, spec: ContainerSpec, state: ContainerState, mounted: remote.Mounted, restart: Restart | None = None) -> ContainerState:
        """``restart``: it is the policy that starts it."""
        run = state.run + 1
        # what an earlier run left
        released = self.endings.release(spec, unless=lambda: adoption.runs(self.config, spec.id, run), but_ready=run == 1)
        executions.forget(self.config, spec.id)
        record: dict[str, Any] = {"run": run}
        if spec.health is not None:
            record["health"] = True
        if restart is not None:
            record |= {"restart_count": restart.count, "restart_delay_ms": restart.delay_ms}
        try:
            record |= launching.launch(self, spec, run, mounted) if released else adoption.record(self, spec)
        except errors.EngineError as error:
            self._not_started(spec, state, record, error)
            raise
        except OSError as error:
            internal = errors.Internal(f"start container {spec.id}: {error}")
            self._not_started(spec, state, record, internal)
            raise internal from error
        self.records.write_start(spec.id, record)
        return self.records.state(spec.id)

    def _not_started(self, spec: ContainerSpec, before: ContainerState, record: dict[str, Any], error: errors.EngineError) -> None:
        """Recorded as a run that ended; ``exit_code`` in the error's detail tells the panel so."""
        if isinstance(error, errors.Unavailable) and "restart_count" in record:
            self.endings.release(spec)  # the launcher is just away: a restart by the policy is tried again
            return
        exit_code = int(error.detail.setdefault("exit_code", NOT_STARTED))
        times = {"started_at_ns": before.started_at_ns, "finished_at_ns": before.finished_at_ns}
        self.records.write_start(spec.id, {**record, **times, "error": error.message, "code": error.code, "exit_code": exit_code})
        self.endings.release(spec)

    def kill(self, tenant: str, container_id: str, signal: int) -> ContainerState:
        return self.endings.kill(tenant, container_id, signal)

    def stop(self, tenant: str, container_id: str, *, signal: int = 0, timeout_s: int | None = None) -> ContainerState:
        return self.endings.stop(tenant, container_id, signal=signal, timeout_s=timeout_s)

    def restart(self, tenant: str, container_id: str, *, signal: int = 0, timeout_s: int | None = None) -> ContainerState:
        """Of what runs: a stop, after which the agent starts it again. Else a start, which has happened when this returns."""
        if self.state(tenant, container_id).has_process:
            state = self.endings.stop(tenant, container_id, signal=signal, timeout_s=timeout_s, restart=restarts.ASKED)
            if state.has_process or state.status is Status.RESTARTING:
                return state
        return self.start(tenant, container_id)

    def enforce_stop(self, container_id: str, run: int) -> None:
        self.endings.enforce_stop(container_id, run)

    def remove(self, tenant: str, container_id: str, *, force: bool = False, volumes: bool = False) -> Strings:
        """``volumes``: with those that have no name and nobody else mounts; their names."""
        return self.endings.remove(tenant, container_id, force=force, volumes=volumes)

    def set_restart_policy(self, tenant: str, container_id: str, policy: RestartPolicy) -> ContainerSpec:
        """For its next exit; what has ended stays ended."""
        restarts.check(policy)
        with self.locked(container_id):
            spec, state = self.records.spec(container_id, tenant=tenant), self.records.state(container_id)
            if state.status is Status.EXITED and not self.records.is_decided(container_id, state.run):
                self.records.give_up_restart(state)
            changed = dataclasses.replace(spec, restart=policy)
            self.records.replace_spec(changed)
            return changed

    def pause(self, tenant: str, container_id: str) -> ContainerState:
        return freezing.pause(self, tenant, container_id)

    def unpause(self, tenant: str, container_id: str) -> ContainerState:
        return freezing.unpause(self, tenant, container_id)

    def update(
        self,
        tenant: str,
        container_id: str,
        resources: Resources,
        restart: RestartPolicy | None = None,
        *,
        layer_size: int = 0,
        **shown: Any,
    ) -> ContainerState:
        """All limits that shall hold from now on; what runs feels them at once. ``layer_size``: bytes of its writable layer, 0 = as
        it is; ``shown``: members of the spec's ``shown`` that change."""
        return updating.update(self, tenant, container_id, resources, restart, layer_size=layer_size, **shown)

    def exec(self, tenant: str, container_id: str, asked: ExecSpec) -> executions.Execution:
        """Runs a command in it (engine.executions); the caller closes what it gets."""
        return executions.begin(self, tenant, container_id, asked)

    def rename(self, tenant: str, container_id: str, name: str) -> None:
        with self.locked(container_id):
            spec = self.records.spec(container_id, tenant=tenant)
            if spec.name != name:
                connecting.renamed(self, self.records.rename(spec, name))

    def settle(self, container_id: str) -> ContainerState:
        """After an exit: the cgroup goes, the address is free again. Idempotent; a container that runs is left alone."""
        with self.locked(container_id):
            state = self.records.state(container_id)
            if not state.has_process:
                self.endings.release(self.records.spec(container_id))
            return state

    def wait(self, container_id: str, *, timeout_s: float | None = None) -> ContainerState:
        return self.endings.wait(container_id, timeout_s=timeout_s)

    # -- networks --------------------------------------------------------------------------------

    def create_network(self, spec: NetworkSpec) -> NetworkSpec:
        """With the pool it got. The same one again is once."""
        self.ensure_tenant(spec.tenant)
        return self.networks.create(spec)

    def remove_network(self, tenant: str, network_id: str) -> None:
        self.networks.remove(tenant, network_id)

    def connect(self, tenant: str, container_id: str, endpoint: EndpointSpec) -> ContainerState:
        return connecting.connect(self, tenant, container_id, endpoint)

    def disconnect(self, tenant: str, container_id: str, network_id: str, *, force: bool = False) -> ContainerState:
        return connecting.disconnect(self, tenant, container_id, network_id, force=force)

    def publish(self, tenant: str, container_id: str, ports: Sequence[PortBinding]) -> ContainerState:
        """These ports of the host lead to it from now on, and no other ones."""
        return connecting.publish(self, tenant, container_id, ports)

    def limit(self, tenant: str, container_id: str, rules: Rules) -> ContainerState:
        """Its allow-lists from now on."""
        return connecting.limit(self, tenant, container_id, rules)

    def shape(self, tenant: str, container_id: str, bandwidth: Bandwidth) -> ContainerState:
        """So many bytes a second in and out from now on."""
        return connecting.shape(self, tenant, container_id, bandwidth)

    def limit_network(self, tenant: str, network_id: str, rules: Rules) -> NetworkSpec:
        return self.networks.limit_network(tenant, network_id, rules)

    # -- reading ---------------------------------------------------------------------------------

    def spec(self, tenant: str, container_id: str) -> ContainerSpec:
        return self.records.spec(container_id, tenant=tenant)

    def state(self, tenant: str, container_id: str) -> ContainerState:
        self.records.spec(container_id, tenant=tenant)
        return self.records.state(container_id)

    def find(self, tenant: str, words: str) -> ContainerSpec:
        """By name, id, or unique start of an id."""
        named = self.records.by_name(tenant, words)
        if named:
            return self.records.spec(named, tenant=tenant)
        found = [spec for spec, _state in self.list(tenant) if spec.id.startswith(words)] if words else []
        if len(found) > 1:
            raise errors.InvalidArgument(f"Multiple IDs found with provided prefix: {words}")
        if not found:
            raise errors.NotFound(f"No such container: {words}")
        return found[0]

    def list(self, tenant: str | None = None) -> Listing:
        """All containers of one tenant, or of every tenant."""
        found = []
        for container_id in self.records.ids():
            try:
                spec = self.records.spec(container_id, tenant=tenant)
            except errors.NotFound:
                continue
            found.append((spec, self.records.state(container_id)))
        return found

    def sample(self, container_id: str) -> dict[str, Any]:
        """Docker's stats shape (engine.sampling). FailedPrecondition when it does not run."""
        state = self.records.state(container_id)
        spec = self.records.spec(container_id)
        wall_bytes = self.tenants.get(spec.tenant).limits.memory_bytes
        try:
            if state.has_process:
                return sampling.sample(spec, state.pid, self.cgroup(spec), wall_bytes=wall_bytes)
        except OSError as error:
            if error.errno not in sampling.ENDED:  # while we looked
                raise
        raise errors.FailedPrecondition(f"container {container_id} is not running")

    def top(self, tenant: str, container_id: str, options: str = "") -> processes.ProcessTable:
        """Its processes by ps(1) with these options. FailedPrecondition when it does not run."""
        spec, state = self.records.spec(container_id, tenant=tenant), self.records.state(container_id)
        if state.status is Status.RESTARTING:
            raise errors.FailedPrecondition(f"Container {container_id} is restarting, wait until the container is running")
        if not state.has_process:
            raise errors.FailedPrecondition(f"container {container_id} is not running")
        return processes.table(cgroups.pids(self.cgroup(spec)), options, uid_start=self.tenants.get(tenant).uid_start)

    def note_oom(self, container_id: str) -> bool:
        """Whether the kernel has killed a process of it for memory that was not recorded yet. It runs on, or ends: both are recorded."""
        with self.locked(container_id):
            spec, state = self.records.spec(container_id), self.records.state(container_id)
            try:
                kills = cgroups.oom_kills(self.cgroup(spec)) if state.has_process else 0
            except FileNotFoundError:
                return False  # it ended, and was settled
            return self.records.write_oom(container_id, state.run, kills) if kills else False

    # -- images ----------------------------------------------------------------------------------

    def load(self, tenant: str, stream: BinaryIO, *, platform: str = "") -> Iterator[dict[str, Any]]:
        """Docker's progress lines of ``docker load``; the last is {"images": […]}."""
        self.ensure_tenant(tenant)
        return image_facts.with_records(self, tenant, self.images.load(tenant, stream, platform=platform))

    def import_rootfs(self, tenant: str, stream: Readable, *, ref: str, **words: Any) -> Iterator[dict[str, Any]]:
        """Docker's progress lines of ``docker import``; the last is {"images": […]}. ``words``: see ImageStore.import_rootfs."""
        self.ensure_tenant(tenant)
        return image_facts.with_records(self, tenant, self.images.import_rootfs(tenant, stream, ref=ref or None, **words))

    def pull(self, tenant: str, name: str, **words: Any) -> Transfer:
        """Docker's progress lines of ``docker pull``; the last has {"images": […], "digest"}. ``words``: see Registries.pull."""
        self.ensure_tenant(tenant)
        return Recorded(self.registries.pull(tenant, name, **words), functools.partial(image_facts.with_records, self, tenant))

    def push(self, tenant: str, name: str, **words: Any) -> Transfer:
        """Docker's progress lines of ``docker push``; after each tag one with {"images": […], "digest"}. ``words``: see Registries.push."""
        self.ensure_tenant(tenant)
        return Recorded(self.registries.push(tenant, name, **words), functools.partial(image_facts.with_records, self, tenant))

    def described(self, tenant: str, image_ids: Sequence[str]) -> Sequence[dict[str, Any]]:
        """As the last line of a load has them."""
        return image_facts.described(self, tenant, image_ids)

    def remove_image(self, tenant: str, name: str, *, force: bool = False, prune: bool = True) -> dict[str, Strings]:
        """{"untagged": […], "deleted": […]}. Only the tenant's own containers are named when one stands in the way."""
        in_use, running = image_facts.users(self, tenant)
        return self.images.remove(tenant, name, force=force, prune=prune, in_use=in_use, running=running)

    def prune_images(self, tenant: str, images: Sequence[str], *, named: bool) -> dict[str, Any]:
        """See ImageStore.prune."""
        in_use, running = image_facts.users(self, tenant)
        return self.images.prune(tenant, images, named=named, in_use=in_use, running=running)

    # -- inside ----------------------------------------------------------------------------------

    def _new_config(self, spec: ContainerSpec, tenant: TenantHost) -> dict[str, Any]:
        return launching.oci_config(self, dataclasses.replace(spec, resources=updating.numbered(spec.resources)), tenant)

    def oci_config(self, spec: ContainerSpec) -> dict[str, Any]:
        """As it is recorded; made anew where a power loss emptied the record. The caller holds the lock."""
        try:
            return self.records.oci_config(spec.id)
        except errors.NotFound:
            config = self._new_config(spec, self.tenants.get(spec.tenant))
            disk.write_json(self.config.container(spec.id) / "config.json", config)
            return config

    @property
    def root_cgroup(self) -> str:
        return f"/slipway-{self.instance}"

    def tenant_cgroup(self, tenant: str) -> str:
        return f"{self.root_cgroup}/{tenant}"

    def files_cgroup(self, tenant: str) -> str:
        """Of porter's children, which copy and compare files for the tenant."""
        return f"{self.tenant_cgroup(tenant)}/files"

    def end_file_work(self, tenant: str) -> None:
        cgroups.kill_all(self.files_cgroup(tenant))
        cgroups.remove_soon(self.files_cgroup(tenant))

    def cgroup(self, spec: ContainerSpec) -> str:
        return f"{self.tenant_cgroup(spec.tenant)}{options.parent_cgroup(spec)}/{spec.id}"

    def locked(self, container_id: str) -> Any:
        folder = self.records.folder(container_id)
        if not folder.is_dir():
            raise errors.NotFound(f"No such container: {container_id}")
        return disk.locked(folder / "lock")
