"""What else a create request asks of one container: namespaces, privileges, devices, limits of a process. PURE.

Types and contradictions are checked here, with moby's sentences; what a tenant of a host may have is for the host's engine to say
(engine.spec.options, and the ceiling that its root wrote), which answers before the create does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from controlpanel.containers.fields import Object, flag, integer, obj, objects, string_map, strings, text
from engine.errors import InvalidArgument, PermissionDenied, Unsupported
from engine.model.container import Device, Ulimit, check_layer_size
from engine.model.volume import parse_size

CONTAINER: Final = "container:"
RUNTIMES: Final = frozenset({"", "runc", "io.containerd.runc.v2", "slipway"})  # one engine by all its names
# HostConfig's members about namespaces: what asks for one of its own, and moby's word for it
_MODES: Final[Mapping[str, tuple[frozenset[str], str]]] = {
    "IpcMode": (frozenset({"", "private", "shareable", "none"}), "IPC mode"),
    "PidMode": (frozenset({"", "private"}), "PID mode"),
    "UTSMode": (frozenset({"", "private"}), "UTS mode"),
    "UsernsMode": (frozenset({"", "private"}), "user namespace mode"),
    "CgroupnsMode": (frozenset({"", "private"}), "cgroup namespace mode"),
}
_JOINABLE: Final = frozenset({"IpcMode", "PidMode", "UTSMode"})
_SPEC: Final = {"IpcMode": "ipc_mode", "PidMode": "pid_mode", "UTSMode": "uts_mode"}
_LAID_OVER: Final = (
    "The seccomp profile is laid over the platform's own, unless this host's ceiling lets it stand alone: "
    "it can refuse more calls, not fewer."
)
# With another container's network: the member of Config or HostConfig that contradicts it
_CONFLICTS: Final = (
    ("Links", "conflicting options: container type network can't be used with links. This would result in undefined behavior"),
    ("Dns", "conflicting options: dns and the network mode"),
    ("ExtraHosts", "conflicting options: custom host-to-IP mapping and the network mode"),
    ("PortBindings", "conflicting options: port publishing and the container type network mode"),
    ("PublishAllPorts", "conflicting options: port publishing and the container type network mode"),
)


@dataclass(frozen=True, slots=True)
class Options:
    """``words``: members of ContainerSpec."""

    words: dict[str, Any]
    warnings: tuple[str, ...]


def read(asked: Object, host_config: Object) -> Options:
    """``asked``: Config as the client sent it."""
    _check_runtime(host_config)
    if text(host_config, "NetworkMode").startswith(CONTAINER):
        _check_shared_network(asked, host_config)
    words: dict[str, Any] = {_SPEC[name]: mode for name, mode in _modes(host_config).items() if name in _SPEC}
    no_new_privileges, seccomp, warnings = _security(strings(host_config, "SecurityOpt"))
    words |= {
        "privileged": flag(host_config, "Privileged"),
        "no_new_privileges": no_new_privileges,
        "seccomp": seccomp,
        "cap_add": tuple(strings(host_config, "CapAdd")),
        "cap_drop": tuple(strings(host_config, "CapDrop")),
        "group_add": tuple(strings(host_config, "GroupAdd")),
        "ulimits": ulimits(host_config),
        "sysctls": string_map(host_config, "Sysctls"),
        "oom_score_adj": integer(host_config, "OomScoreAdj"),
        "devices": tuple(_device(entry) for entry in objects(host_config, "Devices")),
        "device_rules": tuple(strings(host_config, "DeviceCgroupRules")),
        "layer_size_bytes": layer_size(host_config),
        "cgroup_parent": text(host_config, "CgroupParent"),
        "annotations": string_map(host_config, "Annotations"),
    }
    return Options(words, warnings)


def _check_runtime(host_config: Object) -> None:
    if text(host_config, "Runtime") not in RUNTIMES:
        raise InvalidArgument(f"unknown or invalid runtime name: {text(host_config, 'Runtime')}")
    if text(host_config, "Isolation") not in ("", "default"):
        raise InvalidArgument(f"invalid isolation ({text(host_config, 'Isolation')}): linux only supports 'default'")
    for name in ("MaskedPaths", "ReadonlyPaths"):
        if host_config.get(name) is not None:
            raise PermissionDenied(f"the protected paths below /proc and /sys stay protected (HostConfig.{name})", rule=name)
    for request in objects(host_config, "DeviceRequests"):
        wanted = " ".join(f"[{' '.join(map(str, each))}]" for each in request.get("Capabilities") or [] if isinstance(each, list))
        raise InvalidArgument(f'could not select device driver "{request.get("Driver") or ""}" with capabilities: [{wanted}]')


def layer_size(host_config: Object) -> int:
    """``--storage-opt size`` in bytes; 0: no limit of its own."""
    size = 0
    for name, words in string_map(host_config, "StorageOpt").items():
        if name.lower() != "size":
            raise InvalidArgument(f"Unknown option {name.lower()}")
        size = check_layer_size(parse_size(words))
    return size


def _modes(host_config: Object) -> dict[str, str]:
    modes = {}
    for name, (own, what) in _MODES.items():
        mode = text(host_config, name)
        if mode == "host":
            raise PermissionDenied(
                f"{what} host is not allowed: rule policy.host_namespaces (nobody can allow it: the host's processes, memory"
                " and names are not a tenant's to see)",
                rule="policy.host_namespaces",
            )
        if mode not in own and not (name in _JOINABLE and len(mode) > len(CONTAINER) and mode.startswith(CONTAINER)):
            raise InvalidArgument(f"invalid {what}: {mode}")
        modes[name] = "" if mode == "private" else mode
    return modes


def _check_shared_network(asked: Object, host_config: Object) -> None:
    if text(host_config, "NetworkMode") == CONTAINER:
        raise InvalidArgument("invalid network mode: invalid container format container:<name|id>")
    if text(asked, "Hostname"):
        raise InvalidArgument("conflicting options: hostname and the network mode")
    for name, sentence in _CONFLICTS:
        if host_config.get(name):
            raise InvalidArgument(sentence)
    if obj(asked, "ExposedPorts"):
        raise InvalidArgument("conflicting options: port exposing and the container type network mode")


def ulimits(host_config: Object) -> tuple[Ulimit, ...]:
    return tuple(_ulimit(entry) for entry in objects(host_config, "Ulimits"))


def _ulimit(entry: Object) -> Ulimit:
    return Ulimit(name=text(entry, "Name"), soft=integer(entry, "Soft"), hard=integer(entry, "Hard"))


def _device(entry: Object) -> Device:
    path = text(entry, "PathOnHost")
    if not path.startswith("/"):
        raise InvalidArgument(f"invalid device path {path!r}: it must be absolute")
    return Device(
        path_on_host=path,
        path_in_container=text(entry, "PathInContainer") or path,
        permissions=text(entry, "CgroupPermissions") or "rwm",
    )


def _security(options: list[str]) -> tuple[bool, str, tuple[str, ...]]:
    """(no_new_privs, the seccomp profile's words, warnings); every other option either changes nothing here or is refused."""
    no_new_privileges, seccomp, warnings = False, "default", ()
    for option in options:
        key, separator, value = option.partition("=") if "=" in option else option.partition(":")
        if not separator and key != "no-new-privileges":
            raise InvalidArgument(f'invalid --security-opt 1: "{option}"')
        if key == "no-new-privileges" and value.lower() in ("", "1", "t", "true", "0", "f", "false"):
            no_new_privileges = value.lower() not in ("0", "f", "false")
        elif key == "seccomp" and value in ("builtin", "default"):
            seccomp, warnings = "default", ()
        elif key == "seccomp":
            seccomp, warnings = value, ()
            if value != "unconfined":
                warnings = (_LAID_OVER,)
        elif (key == "apparmor" and value in ("unconfined", "docker-default")) or key == "label":
            pass  # neither is in force here, so there is nothing to switch
        elif key == "apparmor":
            raise Unsupported("AppArmor profiles are not supported yet")
        elif key == "writable-cgroups" and value in ("true", "false"):
            if value == "true":
                raise PermissionDenied("a container's cgroup is not its own to change (writable-cgroups)", rule="writable-cgroups")
        else:
            raise InvalidArgument(f'invalid --security-opt 2: "{option}"')
    return no_new_privileges, seccomp, warnings
