"""The ceiling of a tenant: what root of this machine lets it have beyond what every tenant may. No message of the panel exceeds it.

A file for each tenant, ``<engine>/ceilings/<tenant>.json``, written by ``python3 -m engine ceiling`` alone; without one nothing is
granted. A panel that was broken into can ask for anything, and gets what stands here.
"""

from __future__ import annotations

import os
import posixpath
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from engine import disk
from engine.config import EngineConfig
from engine.errors import InvalidArgument, PermissionDenied
from engine.model import grants
from engine.model.bandwidth import Bandwidth, check_bandwidth
from engine.model.codec import from_json, to_json
from engine.model.container import ContainerSpec, check_layer_size
from engine.model.network import HOST, PortBinding
from engine.model.nfs import Export, parse_export
from engine.model.tenant import check_tenant_name
from engine.model.volume import parse_size

_BIND: Final = re.compile(r"(?P<path>/[^:]*[^:/])(?::(?P<words>ro|rw|uid=[0-9]{1,10}|(?:ro|rw),uid=[0-9]{1,10}))?")
_OPEN: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """A folder of the host that containers may mount, and what is below it. ``owner``: the id on the host that the container's root is
    in there, and no other id is anybody; 0: each id is as it is on the host, so the container's root is the tenant's first."""

    path: str
    read_only: bool = False
    owner: int = 0

    def __str__(self) -> str:
        options = [*(["ro"] if self.read_only else []), *([f"uid={self.owner}"] if self.owner else [])]
        return self.path + (f":{','.join(options)}" if options else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """``devices``, ``capabilities``, ``registries``, ``addresses``: engine.model.grants; the last three only narrow what is worth nothing
    outside of the tenant's own user namespace, or everybody's. ``seccomp_unconfined``: no filter, or one of the tenant's own in place of
    the platform's. ``ports``: of the host that it may publish, ``8000-8999,443``; "" = any. ``bandwidth``: the most
    that all its networks together may have, whatever the panel says; 0 = as much as that. ``layer_size``: bytes that each container may
    write beside its volumes, unless it asks for less; 0 = no limit. ``log_size``: bytes of output that are kept of all its containers
    together; 0 = engine.runtime.log_ceiling's. ``host_network``: containers may have the machine's own. ``privileged``: they may be without
    filter and masks, with every capability of their user namespace. ``exports``: of NFS servers, for volumes."""

    devices: tuple[str, ...] = ()
    ports: str = ""
    seccomp_unconfined: bool = False
    binds: tuple[Folder, ...] = ()
    bandwidth: Bandwidth = field(default_factory=Bandwidth)
    layer_size: int = 0
    log_size: int = 0
    host_network: bool = False
    privileged: bool = False
    capabilities: grants.Words = grants.EVERYTHING
    registries: grants.Words = grants.EVERYTHING
    addresses: grants.Words = grants.EVERYTHING
    exports: tuple[Export, ...] = ()


def read(config: EngineConfig, tenant: str) -> Ceiling:
    record = disk.read_json(_file(config, tenant))
    return Ceiling() if record is None else from_json(Ceiling, record)


def granted(ceiling: Ceiling) -> dict[str, Any]:
    """For the panel to show, by the items of its policy; folders and exports have no item, for they are root's alone to grant."""
    return {
        "privileged": ceiling.privileged,
        "host_network": ceiling.host_network,
        "seccomp": ceiling.seccomp_unconfined,
        "capabilities": ceiling.capabilities,
        "devices": ceiling.devices,
        "registries": ceiling.registries,
        "ports": _port_words(ceiling.ports),
        "addresses": ceiling.addresses,
        "folders": [str(folder) for folder in ceiling.binds],
        "exports": [str(export) for export in ceiling.exports],
    }


def open_folder(folder: Folder) -> int:
    """A descriptor of it; its last part is no link."""
    return os.open(folder.path, _OPEN)


def parse_folder(words: str) -> Folder:
    """``/srv/data``, ``/srv/data:ro``, ``/srv/data:uid=1000`` or ``/srv/data:ro,uid=1000``."""
    found = _BIND.fullmatch(words)
    if found is None or posixpath.normpath(found["path"]) != found["path"]:
        raise InvalidArgument(f"invalid folder {words!r}: use /FOLDER, /FOLDER:ro, /FOLDER:uid=N or /FOLDER:ro,uid=N")
    options = (found["words"] or "").split(",")
    owner = next((int(option[4:]) for option in options if option.startswith("uid=")), 0)
    if "uid=0" in options or owner >= 1 << 31:
        raise InvalidArgument("a container's root is never the host's: uid must be another than 0")
    return Folder(path=found["path"], read_only="ro" in options, owner=owner)


def change(
    config: EngineConfig,
    tenant: str,
    *,
    grant: tuple[str, ...] = (),
    revoke: tuple[str, ...] = (),
    seccomp_unconfined: bool | None = None,
    ports: str | None = None,
    bind: tuple[str, ...] = (),
    unbind: tuple[str, ...] = (),
    bandwidth_in: int | None = None,
    bandwidth_out: int | None = None,
    layer_size: str | None = None,
    log_size: str | None = None,
    host_network: bool | None = None,
    privileged: bool | None = None,
    capabilities: str | None = None,
    registries: str | None = None,
    addresses: str | None = None,
    nfs: tuple[str, ...] = (),
    no_nfs: tuple[str, ...] = (),
) -> Ceiling:
    """What is granted from now on. Containers that were made keep what they were given; bandwidth is for ``Networks.shape_tenants``."""
    for device in grant:
        grants.check_device(device)
    present = read(config, tenant)
    gone = {words.partition(":")[0] for words in (*revoke, *grant)}
    kept = tuple(words for words in present.devices if words.partition(":")[0] not in gone)
    ceiling = replace(present, devices=(*kept, *grant))
    if seccomp_unconfined is not None:
        ceiling = replace(ceiling, seccomp_unconfined=seccomp_unconfined)
    if ports is not None:
        _port_words(ports)
        ceiling = replace(ceiling, ports=ports)
    if layer_size is not None:
        ceiling = replace(ceiling, layer_size=check_layer_size(parse_size(layer_size)))
    if log_size is not None:
        ceiling = replace(ceiling, log_size=parse_size(log_size))
    if host_network is not None:
        ceiling = replace(ceiling, host_network=host_network)
    if privileged is not None:
        ceiling = replace(ceiling, privileged=privileged)
    if capabilities is not None:
        ceiling = replace(ceiling, capabilities=grants.parse_list("capabilities", capabilities))
    if registries is not None:
        ceiling = replace(ceiling, registries=grants.parse_list("registries", registries))
    if addresses is not None:
        ceiling = replace(ceiling, addresses=grants.parse_list("addresses", addresses))
    folders = {folder.path: folder for folder in (*present.binds, *map(parse_folder, bind)) if folder.path not in unbind}
    ceiling = replace(ceiling, binds=tuple(folders.values()))
    ceiling = replace(ceiling, exports=_exports(ceiling.exports, nfs, no_nfs))
    rates = ceiling.bandwidth
    rates = replace(rates, into=rates.into if bandwidth_in is None else bandwidth_in)
    rates = replace(rates, out=rates.out if bandwidth_out is None else bandwidth_out)
    check_bandwidth(rates)
    ceiling = replace(ceiling, bandwidth=rates)
    path = _file(config, tenant)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    disk.write_json(path, to_json(ceiling), sync=True)
    return ceiling


def _exports(present: tuple[Export, ...], nfs: tuple[str, ...], no_nfs: tuple[str, ...]) -> tuple[Export, ...]:
    gone = {(export.server, export.path) for export in map(parse_export, no_nfs)}
    fresh = [replace(export, address=_address(export.server)) for export in map(parse_export, nfs)]
    found = {(export.server, export.path): export for export in (*present, *fresh)}
    return tuple(export for key, export in found.items() if key not in gone)


def _address(server: str) -> str:
    """What the name means today; for good, so that nobody who answers for a name chooses whom this host speaks to."""
    try:
        return str(socket.getaddrinfo(server, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        raise InvalidArgument(f"invalid export: this machine finds no address of {server!r}: {error.strerror}") from None


def forget(config: EngineConfig, tenant: str) -> None:
    _file(config, tenant).unlink(missing_ok=True)


def check_seccomp(spec: ContainerSpec, ceiling: Ceiling) -> None:
    if spec.seccomp == "unconfined" and not spec.privileged and not ceiling.seccomp_unconfined:
        raise PermissionDenied("seccomp=unconfined is not allowed: this host's ceiling for the tenant does not grant it", rule="seccomp")


def check_network(spec: ContainerSpec, ceiling: Ceiling) -> None:
    if spec.network_mode == HOST and not ceiling.host_network:
        raise PermissionDenied(
            "the host's network is not allowed: root of this host grants it to a tenant"
            " with `python3 -m engine --tenant NAME ceiling --host-network`",
            rule="host_network",
        )


def layer_size(spec: ContainerSpec, ceiling: Ceiling) -> int:
    """Bytes that its writable layer may have; 0: no limit."""
    if ceiling.layer_size and spec.layer_size_bytes > ceiling.layer_size:
        if spec.layer_size_is_part:
            return ceiling.layer_size
        raise PermissionDenied(
            f"--storage-opt size may be {ceiling.layer_size} bytes at most: this host's ceiling grants the tenant no more",
            rule="layer_size",
        )
    return spec.layer_size_bytes or ceiling.layer_size


def check_privileges(spec: ContainerSpec, ceiling: Ceiling) -> None:
    if spec.privileged:
        if not ceiling.privileged:
            raise _above(spec.tenant, "privileged", "privileged containers are")
    elif beyond := grants.capabilities_beyond(spec, ceiling.capabilities):
        raise _above(spec.tenant, "capabilities", f"capability {', '.join(beyond)} is")


def check_registry(tenant: str, domain: str, ceiling: Ceiling) -> None:
    if not grants.holds_registry(domain, ceiling.registries):
        raise _above(tenant, "registries", f"registry {domain} is")


def check_ports(ports: Iterable[PortBinding], ceiling: Ceiling) -> None:
    """PermissionDenied for a port or an address of the host that the tenant may not publish on. Any free port is taken from what the host
    keeps for that."""
    granted = grants.ranges(_port_words(ceiling.ports))
    for port in ports:
        end = port.host_port_end or port.host_port
        if port.host_port and not grants.holds_ports(granted, port.host_port, end):
            words = f"{port.host_port}-{end}" if end > port.host_port else str(port.host_port)
            raise PermissionDenied(
                f"port {words} may not be published: this host's ceiling grants the tenant {ceiling.ports}", rule="ports"
            )
        if not grants.holds_address(port.host_ip, ceiling.addresses):
            raise PermissionDenied(
                f"ports may not be published on {port.host_ip or 'every address'}: this host's ceiling grants the tenant"
                f" {', '.join(ceiling.addresses) or 'none'}",
                rule="ceiling.addresses",
            )


def _above(tenant: str, item: str, what: str) -> PermissionDenied:
    return PermissionDenied(
        f"{what} not allowed in tenant {tenant}: rule ceiling.{item} (root of this host can allow it with"
        f" `python3 -m engine --tenant {tenant} ceiling --{item}`)",
        rule=f"ceiling.{item}",
    )


def _port_words(words: str) -> grants.Words:
    return grants.parse_list("ports", words or grants.ALL)


def _file(config: EngineConfig, tenant: str) -> Path:
    return config.ceilings / f"{check_tenant_name(tenant)}.json"
