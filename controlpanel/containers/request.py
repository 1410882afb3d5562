"""Docker's create request → ContainerSpec. PURE: no rows, no host.

What we do not do yet is refused by name (Unsupported), what no tenant may ever have is refused by rule (PermissionDenied), and
what asks for the default anyway passes. So a request that is accepted gets what it asked for. What some tenants may have is for
``permitted`` to say.
"""

from __future__ import annotations

import ipaddress
import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from controlpanel.containers import limits, log_options, mounts, networking, options, policies, ports, tmpfs
from controlpanel.containers.fields import Object, flag, integer, obj, objects, string_map, strings, text
from controlpanel.containers.references import References
from controlpanel.hosts.machine import Machine
from controlpanel.networks.builtin import HOST
from engine.errors import InvalidArgument, Unsupported
from engine.model import bandwidth
from engine.model.container import ContainerSpec
from engine.model.image import merge_config
from engine.model.rules import from_labels
from engine.model.signals import signal_number

SHM_DEFAULT: Final = 64 << 20
STOP_TIMEOUT_DEFAULT_S: Final = 10

_NOT_YET: Final[Mapping[str, str]] = {  # members that must be empty, and the thing people call it
    "CpuRealtimePeriod": "limits of realtime scheduling",
    "CpuRealtimeRuntime": "limits of realtime scheduling",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that passed: what the host gets, and what ``inspect`` shows."""

    spec: ContainerSpec
    config: dict[str, Any]  # Docker's Config with the image's defaults
    host_config: dict[str, Any]
    warnings: tuple[str, ...]
    network_names: Mapping[str, str]  # of the networks in the spec, by id


def read(
    body: Object,
    *,
    container_id: str,
    tenant: str,
    name: str,
    image_id: str,
    image_config: Object,
    machine: Machine,
    references: References | None = None,
    donors: mounts.Donors = MappingProxyType({}),
    images: Mapping[str, str] = MappingProxyType({}),
) -> Asked:
    """``body`` is Docker's ContainerCreateRequest; ``machine`` the host. Raises with moby's sentences. Without ``references`` it can name
    no network of the tenant's and no container to link to; ``donors`` and ``images``: see mounts.read."""
    host_config = obj(body, "HostConfig")
    asked = {key: value for key, value in body.items() if key not in ("HostConfig", "NetworkingConfig")}
    _check_members(asked)
    _refuse_zero_bytes(body)
    others = options.read(asked, host_config)
    _refuse(host_config)
    config = merge_config(image_config, asked)
    network = networking.read(asked, host_config, obj(body, "NetworkingConfig"), references or References())
    args = (*strings(config, "Entrypoint"), *strings(config, "Cmd"))
    if not args:
        raise InvalidArgument("no command specified")
    config["Hostname"] = text(config, "Hostname") or (machine.name if network.mode == HOST else container_id[:12])
    limited = limits.read(host_config, machine)
    published = () if network.mode == HOST else ports.read(config, host_config)
    warnings = [*network.warnings, *limited.warnings, *others.warnings]
    labels = string_map(config, "Labels")
    if any(each.get("Type") == "image" for each in objects(host_config, "Mounts")):
        warnings.append("Image mount is an experimental feature")
    restart, health = policies.restart_policy(host_config, labels), policies.health_check(config)
    policies.check_auto_remove(restart, flag(host_config, "AutoRemove"))
    if restart.when_unhealthy and health is None:
        warnings.append(f"Without a health check the label {policies.RESTART_UNHEALTHY} has no effect.")
    in_memory = tmpfs.read(host_config)
    spec = ContainerSpec(
        id=container_id,
        tenant=tenant,
        name=name,
        image_id=image_id,
        image=text(asked, "Image"),
        args=args,
        env=tuple(strings(config, "Env")),
        cwd=_working_dir(text(config, "WorkingDir")),
        user=text(config, "User"),
        hostname=config["Hostname"],
        domainname=text(config, "Domainname"),
        tty=flag(config, "Tty"),
        console_size=_console_size(host_config),
        open_stdin=flag(config, "OpenStdin"),
        stdin_once=flag(config, "StdinOnce"),
        labels=labels,
        stop_signal=_stop_signal(config),
        stop_timeout_s=integer(config, "StopTimeout") if config.get("StopTimeout") is not None else STOP_TIMEOUT_DEFAULT_S,
        network_mode=network.mode,
        networks=network.endpoints,
        ports=published,
        rules=from_labels(labels),
        bandwidth=bandwidth.from_labels(labels),
        resources=limited.resources,
        read_only_rootfs=flag(host_config, "ReadonlyRootfs"),
        tmpfs=in_memory,
        mounts=mounts.read(container_id, config, host_config, in_memory, donors, images),
        shm_size_bytes=_shm_size(host_config),
        extra_hosts=tuple(extra_hosts(host_config)),
        dns=tuple(_dns(host_config)),
        dns_search=tuple(strings(host_config, "DnsSearch")),
        dns_options=tuple(strings(host_config, "DnsOptions")),
        init=flag(host_config, "Init"),
        auto_remove=flag(host_config, "AutoRemove"),
        restart=restart,
        health=health,
        log=log_options.read(obj(host_config, "LogConfig")),
        **others.words,
    )
    host_config = {name: value for name, value in host_config.items() if name not in limited.discarded}
    return Asked(spec, config, host_config, tuple(warnings), network.names)


def _check_members(asked: Object) -> None:
    """Types and texts of Config, before anything is made of them."""
    readers: Mapping[str, Callable[[Object, str], object]] = {
        "Cmd": strings,
        "Entrypoint": strings,
        "Env": strings,
        "Labels": string_map,
        "ExposedPorts": obj,
        "Volumes": obj,
        "Healthcheck": obj,
        "StopTimeout": integer,
    }
    for name, reader in readers.items():
        reader(asked, name)
    for variable in strings(asked, "Env"):
        if not variable.partition("=")[0]:
            raise InvalidArgument(f"invalid environment variable: {variable}")


def _refuse_zero_bytes(body: Object) -> None:
    """Nothing in the kernel takes one, and no row of PostgreSQL."""
    for name, value in body.items():
        left = [value]
        while left:
            item = left.pop()
            if isinstance(item, str) and "\0" in item:
                raise InvalidArgument(f"invalid {name}: it holds a zero byte")
            if isinstance(item, Mapping):
                left += [*item.keys(), *item.values()]
            elif isinstance(item, (list, tuple)):
                left += item


def _refuse(host_config: Object) -> None:
    for name, what in _NOT_YET.items():
        if host_config.get(name):
            raise Unsupported(f"{what} are not supported yet (HostConfig.{name})")


def _working_dir(path: str) -> str:
    if path and not path.startswith("/"):
        raise InvalidArgument(f"the working directory '{path}' is invalid, it needs to be an absolute path")
    return posixpath.normpath(path) if path else "/"


def _stop_signal(config: Object) -> str:
    name = text(config, "StopSignal")
    if name:
        signal_number(name)
    return name or "SIGTERM"


def _console_size(host_config: Object) -> tuple[int, ...]:
    """[rows, columns] of the client's terminal, so that the first thing a shell reads is right already."""
    size = host_config.get("ConsoleSize")
    if size is None:
        return ()
    if not isinstance(size, list) or not all(type(item) is int and 0 <= item < 1 << 16 for item in size):
        raise InvalidArgument("invalid ConsoleSize: it is [rows, columns]")
    return tuple(size[:2]) if all(size[:2]) else ()


def _shm_size(host_config: Object) -> int:
    size = integer(host_config, "ShmSize")
    if size < 0:
        raise InvalidArgument("SHM size can not be less than 0")
    return size or SHM_DEFAULT


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def _dns(host_config: Object) -> list[str]:
    for server in strings(host_config, "Dns"):
        if not _is_address(server):
            raise InvalidArgument(f'bad nameserver address {server}: ParseAddr("{server}"): unable to parse IP')
    return strings(host_config, "Dns")


def extra_hosts(host_config: Object) -> list[str]:
    for entry in strings(host_config, "ExtraHosts"):
        name, separator, address = entry.partition(":")
        if not name or not separator or not address:
            raise InvalidArgument(f'bad format for add-host: "{entry}"')
        if address != "host-gateway" and not _is_address(address):
            raise InvalidArgument(f'invalid IP address in add-host: "{address}"')
    return strings(host_config, "ExtraHosts")
