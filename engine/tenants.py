"""The tenants of one host's engine: what each was given for good (ids, subnet, number), as files.

A tenant's number decides everything else: the nth id range and the nth subnet of what the instance claimed
(engine/claims.py). Numbers go back to the lowest free one only by ``remove``.
"""

from __future__ import annotations

import ipaddress
import threading
from dataclasses import replace
from pathlib import Path

from engine import disk, instances
from engine.claims import SUBNET_PREFIX, TEMPORARY, TENANTS_PER_BLOCK, Claims, networks_of
from engine.config import EngineConfig
from engine.errors import NotFound
from engine.model import codec
from engine.model.bandwidth import Bandwidth
from engine.model.resources import Resources
from engine.model.tenant import IDS_PER_TENANT, TenantHost, check_tenant_name

_Hosts = list[TenantHost]  # inside the class, ``list`` is the method


class Tenants:
    """Safe for several processes and threads at once."""

    def __init__(self, config: EngineConfig, claims: Claims | None = None) -> None:
        self._config = config
        self._claims = claims or Claims()
        self._instance: str | None = None
        self._noted = False
        self._lock = threading.Lock()
        self._cache: dict[str, tuple[tuple[int, int], TenantHost]] = {}  # name → (inode and time of the file), record

    def instance(self) -> str:
        """4 hex digits, unique on this machine, the same for ever; claimed at the first call."""
        with self._lock:
            if self._instance is None:
                self._instance = self._claim_instance()
            return self._instance

    def ensure(
        self,
        name: str,
        *,
        limits: Resources | None = None,
        force_no_new_privileges: bool | None = None,
        bandwidth: Bandwidth | None = None,
        log_bytes: int | None = None,
        registries: tuple[str, ...] | None = None,
    ) -> TenantHost:
        """The tenant, made when absent, with the given limits and policy (None = as they are)."""
        check_tenant_name(name)
        instance = self.instance()
        self._config.tenants.mkdir(parents=True, exist_ok=True)
        with disk.locked(self._config.tenants / ".lock"):
            try:
                old = self.get(name)
            except NotFound:
                old = None
            tenant = old or self._allocate(instance, name)
            if limits is not None:
                tenant = replace(tenant, limits=limits)
            if force_no_new_privileges is not None:
                tenant = replace(tenant, force_no_new_privileges=force_no_new_privileges)
            if bandwidth is not None:
                tenant = replace(tenant, bandwidth=bandwidth)
            if log_bytes is not None:
                tenant = replace(tenant, log_bytes=log_bytes)
            if registries is not None:
                tenant = replace(tenant, registries=registries)
            if tenant != old:
                disk.write_json(self._file(name), codec.to_json(tenant), sync=True)
            return tenant

    def get(self, name: str) -> TenantHost:
        """NotFound when this host does not know the tenant."""
        check_tenant_name(name)
        path = self._file(name)
        try:
            status = path.stat()
        except FileNotFoundError:
            raise NotFound(f"No such tenant: {name}") from None
        stamp = (status.st_ino, status.st_mtime_ns)
        cached = self._cache.get(name)
        if cached is None or cached[0] != stamp:
            data = disk.read_json(path)
            if data is None:
                raise NotFound(f"No such tenant: {name}")
            cached = (stamp, codec.from_json(TenantHost, data))
            self._cache[name] = cached
        return cached[1]

    def list(self) -> _Hosts:
        """By name."""
        try:
            names = sorted(path.stem for path in self._config.tenants.glob("[!.]*.json"))
        except FileNotFoundError:
            return []
        found = []
        for name in names:
            try:
                found.append(self.get(name))
            except NotFound:  # removed meanwhile
                continue
        return found

    def remove(self, name: str) -> None:
        """Give number, ids and subnet back; gone already is fine. A power loss brings neither it nor what it had back.

        The caller asserts that nothing of the tenant exists: no container, no rootfs, no volume with its ids on it.
        """
        check_tenant_name(name)
        for folder in (self._config.containers, self._config.names, self._config.rootfs):
            disk.sync_folder(folder)
        self._file(name).unlink(missing_ok=True)
        disk.sync_folder(self._config.tenants)
        self._cache.pop(name, None)

    def release(self) -> None:
        """Uninstall: the instance's claims on this machine go back. The caller asserts that nothing of it exists."""
        self._claims.release(self.instance())
        instances.forget(self.instance())
        self._noted = False
        (self._config.engine / "instance").unlink(missing_ok=True)
        self._kept().unlink(missing_ok=True)
        self._instance = None

    def _file(self, name: str) -> Path:
        return self._config.tenants / f"{name}.json"

    def _kept(self) -> Path:
        """A copy of the host-wide claim, for the day this folder is brought to another machine."""
        return self._config.tenants / ".claim"

    def _claim_instance(self) -> str:
        self._config.data.mkdir(parents=True, exist_ok=True)
        self._config.engine.mkdir(mode=0o700, exist_ok=True)
        path = self._config.engine / "instance"
        known = path.read_text().strip() if path.exists() else None
        instance = self._claims.instance(self._config.data, known, disk.read_json(self._kept()))
        if known is None:
            disk.write_atomic(path, f"{instance}\n".encode(), sync=True)
        self._note(instance)
        return instance

    def note(self) -> None:
        """For all of this machine to see: something of this instance is about to be in the kernel."""
        if not self._noted:
            instances.note(self.instance(), self._config.data.resolve(), networks_of(self._claims.of(self.instance())), self._claims.path)
            self._noted = True

    def _note(self, instance: str) -> None:
        """Already when it claims something, unless it lives in a folder for temporary files: many of those never start anything."""
        if not str(self._config.data.resolve()).startswith(TEMPORARY):
            instances.note(instance, self._config.data.resolve(), networks_of(self._claims.of(instance)), self._claims.path)

    def _allocate(self, instance: str, name: str) -> TenantHost:
        taken = {tenant.number for tenant in self.list()}
        number = next(number for number in range(1, len(taken) + 2) if number not in taken)
        block, place = divmod(number - 1, TENANTS_PER_BLOCK)
        start = self._claims.ids(instance, block + 1)[block]
        subnet = _nth_subnet(self._claims.subnets(instance, number), number - 1)
        claim = self._claims.of(instance)
        if claim != disk.read_json(self._kept()):
            disk.write_json(self._kept(), claim, sync=True)
            self._note(instance)
        return TenantHost(name=name, number=number, uid_start=start + place * IDS_PER_TENANT, subnet=subnet)


def _nth_subnet(networks: list[str], index: int) -> str:
    """The subnet of SUBNET_PREFIX at ``index``, counted through all the networks in their order."""
    for network in map(ipaddress.IPv4Network, networks):
        held = 1 << SUBNET_PREFIX - network.prefixlen
        if index < held:
            step = 1 << 32 - SUBNET_PREFIX
            return str(ipaddress.IPv4Network((int(network.network_address) + index * step, SUBNET_PREFIX)))
        index -= held
    raise IndexError(f"no subnet {index} in {networks}")
