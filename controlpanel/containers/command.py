"""The ``docker run`` line that makes the same container. PURE. A test runs such lines and compares what they make.

Only what differs from the image and from Docker's defaults is said, in the spelling of the docker client.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from typing import Any, Final

from controlpanel.containers import endpoints, ports
from controlpanel.containers.projection import ContainerView
from engine.health import go_duration
from engine.model.network import DEFAULT, EndpointSpec, PortBinding

_FLAGS: Final = (  # of HostConfig: member, flag, what the client sends without it
    ("Memory", "--memory", 0),
    ("MemorySwap", "--memory-swap", 0),
    ("MemoryReservation", "--memory-reservation", 0),
    ("CpuShares", "--cpu-shares", 0),
    ("CpuPeriod", "--cpu-period", 0),
    ("CpuQuota", "--cpu-quota", 0),
    ("CpusetCpus", "--cpuset-cpus", ""),
    ("CpusetMems", "--cpuset-mems", ""),
    ("PidsLimit", "--pids-limit", 0),
    ("ShmSize", "--shm-size", 0),
    ("OomScoreAdj", "--oom-score-adj", 0),
    ("CgroupParent", "--cgroup-parent", ""),
    ("IpcMode", "--ipc", ""),
    ("PidMode", "--pid", ""),
)
_HEALTH_TIMES: Final = (
    ("Interval", "--health-interval"),
    ("Timeout", "--health-timeout"),
    ("StartPeriod", "--health-start-period"),
    ("StartInterval", "--health-start-interval"),
)
_LISTS: Final = (
    ("CapAdd", "--cap-add"),
    ("CapDrop", "--cap-drop"),
    ("GroupAdd", "--group-add"),
    ("DeviceCgroupRules", "--device-cgroup-rule"),
    ("Dns", "--dns"),
    ("DnsSearch", "--dns-search"),
    ("DnsOptions", "--dns-option"),
    ("ExtraHosts", "--add-host"),
)


def run_command(view: ContainerView, image_config: Mapping[str, Any]) -> str:
    """``image_config``: the image's own Config; {} when it is gone, then everything is said."""
    config, host = view.docker_config, view.docker_host_config
    words = ["docker", "run", "-d", "--name", view.name]
    words += ["-t"] if config.get("Tty") else []
    words += ["-i"] if config.get("OpenStdin") else []
    words += ["--rm"] if host.get("AutoRemove") else []
    words += _restart(host.get("RestartPolicy") or {})
    words += _networks(view)
    words += ["--cpus", f"{host['NanoCpus'] / 1e9:.9g}"] if host.get("NanoCpus") else []
    words += [item for member, flag, unsaid in _FLAGS if (host.get(member) or unsaid) != unsaid for item in (flag, str(host[member]))]
    words += ["--read-only"] if host.get("ReadonlyRootfs") else []
    words += _each("--storage-opt", (f"{name}={value}" for name, value in (host.get("StorageOpt") or {}).items()))
    words += ["--init"] if host.get("Init") else []
    words += ["--privileged"] if host.get("Privileged") else []
    words += _each("-v", host.get("Binds") or [])
    words += _each("--mount", map(_mount, host.get("Mounts") or []))
    words += _each("--volumes-from", host.get("VolumesFrom") or [])
    words += _each("--tmpfs", (f"{path}:{options}" if options else path for path, options in (host.get("Tmpfs") or {}).items()))
    words += _of_process(host)
    words += [item for member, flag in _LISTS for item in _each(flag, host.get(member) or [])]
    words += _of_config(view.id, config, image_config, view.spec.ports)
    entrypoint, args = _process(config, image_config)
    return shlex.join([*words, *entrypoint, view.image, *args])


def _networks(view: ContainerView) -> list[str]:
    """As it is in them now, and its ports. What is said of a network stands behind its name, as the client has it for several."""
    if view.spec.network_mode not in ("bridge", "user"):
        return ["--network", view.spec.network_mode]
    found = [each.spec for each in endpoints.current(view.spec, view.state)]
    plain = len(found) == 1 and found[0].network_id == DEFAULT and not found[0].gw_priority
    words = (
        []
        if plain
        else [item for each in found for item in ("--network", _network(each, endpoints.network_name(each.network_id, view.network_names)))]
    )
    if plain:
        words += ["--mac-address", found[0].mac_address] if found[0].mac_address else []
        words += _each("--link", (link.partition(":")[0][:12] + ":" + link.partition(":")[2] for link in found[0].links))
    words += _each("-p", (ports.spelled(binding) for binding in view.spec.ports))
    return words


def _network(endpoint: EndpointSpec, name: str) -> str:
    """``name`` alone, or the long form with what else is said."""
    said = [f"alias={alias}" for alias in endpoint.aliases]
    words = (("ip", endpoint.ip_address), ("ip6", endpoint.ipv6_address), ("mac-address", endpoint.mac_address))
    said += [f"{word}={value}" for word, value in words if value]
    said += [f"gw-priority={endpoint.gw_priority}"] if endpoint.gw_priority else []
    return ",".join([f"name={name}", *said]) if said else name


def _of_process(host: Mapping[str, Any]) -> list[str]:
    """A seccomp profile travels as its text; the client wants the name of a file with it."""
    security = ("seccomp=profile.json" if option.startswith("seccomp={") else option for option in host.get("SecurityOpt") or [])
    words = _each("--security-opt", security)
    words += _each("--ulimit", (f"{limit['Name']}={limit['Soft']}:{limit['Hard']}" for limit in host.get("Ulimits") or []))
    words += _each("--sysctl", (f"{name}={value}" for name, value in (host.get("Sysctls") or {}).items()))
    words += _each("--annotation", (f"{name}={value}" for name, value in (host.get("Annotations") or {}).items()))
    for device in host.get("Devices") or []:
        path, access = device["PathOnHost"], device.get("CgroupPermissions") or "rwm"
        words += ["--device", f"{path}:{device.get('PathInContainer') or path}:{access}"]
    return words


def _of_config(container_id: str, config: Mapping[str, Any], image: Mapping[str, Any], published: Iterable[PortBinding]) -> list[str]:
    words: list[str] = []
    for member, flag in (("User", "--user"), ("WorkingDir", "--workdir"), ("StopSignal", "--stop-signal"), ("Domainname", "--domainname")):
        if config.get(member) and config[member] != image.get(member):
            words += [flag, config[member]]
    if config.get("Hostname") and config["Hostname"] != container_id[:12]:
        words += ["--hostname", config["Hostname"]]
    if config.get("StopTimeout") is not None:
        words += ["--stop-timeout", str(config["StopTimeout"])]
    known = {*(image.get("ExposedPorts") or ()), *(f"{port.container_port}/{port.protocol}" for port in published)}
    words += _each("--expose", (port.removesuffix("/tcp") for port in config.get("ExposedPorts") or () if port not in known))
    words += _health(config.get("Healthcheck") or {}, image.get("Healthcheck") or {})
    given = set(image.get("Env") or [])
    words += _each("-e", (pair for pair in config.get("Env") or [] if pair not in given))
    words += _each("-v", (path for path in config.get("Volumes") or {} if path not in (image.get("Volumes") or {})))
    labels = image.get("Labels") or {}
    return words + _each("-l", (f"{name}={value}" for name, value in (config.get("Labels") or {}).items() if labels.get(name) != value))


def _mount(mount: Mapping[str, Any]) -> str:
    words = [f"type={mount.get('Type')}"]
    words += [f"source={mount['Source']}"] if mount.get("Source") else []
    words += [f"target={mount.get('Target')}"] + (["readonly"] if mount.get("ReadOnly") else [])
    volume, bind, memory = (mount.get(name) or {} for name in ("VolumeOptions", "BindOptions", "TmpfsOptions"))
    words += ["volume-nocopy"] if volume.get("NoCopy") else []
    words += [f"volume-subpath={volume['Subpath']}"] if volume.get("Subpath") else []
    words += [f"bind-propagation={bind['Propagation']}"] if bind.get("Propagation") else []
    words += [f"tmpfs-size={memory['SizeBytes']}"] if memory.get("SizeBytes") else []
    words += [f"tmpfs-mode={memory['Mode']:o}"] if memory.get("Mode") else []
    return ",".join(words)


def _restart(policy: Mapping[str, Any]) -> list[str]:
    name, retries = policy.get("Name") or "no", policy.get("MaximumRetryCount") or 0
    return [] if name == "no" else ["--restart", f"{name}:{retries}" if retries else name]


def _health(check: Mapping[str, Any], image: Mapping[str, Any]) -> list[str]:
    """The client knows a shell command only: a check by words is quoted for the shell, which does the same."""
    words: list[str] = []
    kind, *test = check.get("Test") or [""]
    if kind == "NONE":
        return [] if image.get("Test") in (None, check["Test"]) else ["--no-healthcheck"]
    if test and check["Test"] != image.get("Test"):
        words += ["--health-cmd", test[0] if kind == "CMD-SHELL" else shlex.join(test)]
    for member, flag in _HEALTH_TIMES:
        if check.get(member) and check[member] != image.get(member):
            words += [flag, go_duration(check[member])]
    if check.get("Retries") and check["Retries"] != image.get("Retries"):
        words += ["--health-retries", str(check["Retries"])]
    return words


def _process(config: Mapping[str, Any], image: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """--entrypoint, which takes one word, and what stands behind the image."""
    entrypoint, cmd = list(config.get("Entrypoint") or []), list(config.get("Cmd") or [])
    if entrypoint != list(image.get("Entrypoint") or []):
        return ["--entrypoint", entrypoint[0] if entrypoint else ""], [*entrypoint[1:], *cmd]
    return [], [] if cmd == list(image.get("Cmd") or []) else cmd


def _each(flag: str, values: Iterable[str]) -> list[str]:
    return [item for value in values for item in (flag, value)]
