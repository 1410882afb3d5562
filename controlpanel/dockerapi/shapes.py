"""The members of Docker's Config and HostConfig (API 1.51): their types, and what they show when nothing was asked."""

from __future__ import annotations

from typing import Any, Final

from controlpanel.dockerapi import schema
from controlpanel.dockerapi.schema import Kind

_HEALTHCHECK: Final[dict[str, Kind]] = {
    "Test": schema.strings,
    "Interval": schema.integer,
    "Timeout": schema.integer,
    "StartPeriod": schema.integer,
    "StartInterval": schema.integer,
    "Retries": schema.plain_integer,
}

CONFIG: Final[dict[str, Kind]] = {
    "Hostname": schema.string,
    "Domainname": schema.string,
    "User": schema.string,
    "AttachStdin": schema.boolean,
    "AttachStdout": schema.boolean,
    "AttachStderr": schema.boolean,
    "ExposedPorts": schema.name_set,
    "Tty": schema.boolean,
    "OpenStdin": schema.boolean,
    "StdinOnce": schema.boolean,
    "Env": schema.strings,
    "Cmd": schema.words,
    "Healthcheck": schema.struct(_HEALTHCHECK, "v1.HealthcheckConfig"),
    "ArgsEscaped": schema.boolean,
    "Image": schema.string,
    "Volumes": schema.name_set,
    "WorkingDir": schema.string,
    "Entrypoint": schema.words,
    "NetworkDisabled": schema.boolean,
    "MacAddress": schema.string,
    "OnBuild": schema.strings,
    "Labels": schema.string_map,
    "StopSignal": schema.string,
    "StopTimeout": schema.plain_integer,
    "Shell": schema.words,
}

# Members that moby always shows; the others only when they are set
CONFIG_DEFAULTS: Final[dict[str, Any]] = {
    "Hostname": "",
    "Domainname": "",
    "User": "",
    "AttachStdin": False,
    "AttachStdout": False,
    "AttachStderr": False,
    "Tty": False,
    "OpenStdin": False,
    "StdinOnce": False,
    "Env": None,
    "Cmd": None,
    "Image": "",
    "Volumes": None,
    "WorkingDir": "",
    "Entrypoint": None,
    "OnBuild": None,
    "Labels": {},
}

_LOG_CONFIG: Final[dict[str, Kind]] = {"Type": schema.string, "Config": schema.string_map}
_RESTART_POLICY: Final[dict[str, Kind]] = {"Name": schema.string, "MaximumRetryCount": schema.plain_integer}

HOST_CONFIG: Final[dict[str, Kind]] = {
    "Binds": schema.strings,
    "ContainerIDFile": schema.string,
    "LogConfig": schema.struct(_LOG_CONFIG, "container.LogConfig"),
    "NetworkMode": schema.mode("container.NetworkMode"),
    "PortBindings": schema.port_map,
    "RestartPolicy": schema.struct(_RESTART_POLICY, "container.RestartPolicy"),
    "AutoRemove": schema.boolean,
    "VolumeDriver": schema.string,
    "VolumesFrom": schema.strings,
    "ConsoleSize": schema.size,
    "Annotations": schema.string_map,
    "CapAdd": schema.words,
    "CapDrop": schema.words,
    "CgroupnsMode": schema.mode("container.CgroupnsMode"),
    "Dns": schema.strings,
    "DnsOptions": schema.strings,
    "DnsSearch": schema.strings,
    "ExtraHosts": schema.strings,
    "GroupAdd": schema.strings,
    "IpcMode": schema.mode("container.IpcMode"),
    "Cgroup": schema.mode("container.CgroupSpec"),
    "Links": schema.strings,
    "OomScoreAdj": schema.plain_integer,
    "PidMode": schema.mode("container.PidMode"),
    "Privileged": schema.boolean,
    "PublishAllPorts": schema.boolean,
    "ReadonlyRootfs": schema.boolean,
    "SecurityOpt": schema.strings,
    "StorageOpt": schema.string_map,
    "Tmpfs": schema.string_map,
    "UTSMode": schema.mode("container.UTSMode"),
    "UsernsMode": schema.mode("container.UsernsMode"),
    "ShmSize": schema.integer,
    "Sysctls": schema.string_map,
    "Runtime": schema.string,
    "Isolation": schema.mode("container.Isolation"),
    "CpuShares": schema.integer,
    "Memory": schema.integer,
    "NanoCpus": schema.integer,
    "CgroupParent": schema.string,
    "BlkioWeight": schema.unsigned("uint16", 16),
    "BlkioWeightDevice": schema.objects("[]*blkiodev.WeightDevice", "blkiodev.WeightDevice"),
    "BlkioDeviceReadBps": schema.objects("[]*blkiodev.ThrottleDevice", "blkiodev.ThrottleDevice"),
    "BlkioDeviceWriteBps": schema.objects("[]*blkiodev.ThrottleDevice", "blkiodev.ThrottleDevice"),
    "BlkioDeviceReadIOps": schema.objects("[]*blkiodev.ThrottleDevice", "blkiodev.ThrottleDevice"),
    "BlkioDeviceWriteIOps": schema.objects("[]*blkiodev.ThrottleDevice", "blkiodev.ThrottleDevice"),
    "CpuPeriod": schema.integer,
    "CpuQuota": schema.integer,
    "CpuRealtimePeriod": schema.integer,
    "CpuRealtimeRuntime": schema.integer,
    "CpusetCpus": schema.string,
    "CpusetMems": schema.string,
    "Devices": schema.objects("[]container.DeviceMapping", "container.DeviceMapping"),
    "DeviceCgroupRules": schema.strings,
    "DeviceRequests": schema.objects("[]container.DeviceRequest", "container.DeviceRequest"),
    "MemoryReservation": schema.integer,
    "MemorySwap": schema.integer,
    "MemorySwappiness": schema.integer,
    "OomKillDisable": schema.boolean,
    "PidsLimit": schema.integer,
    "Ulimits": schema.objects("[]*units.Ulimit", "units.Ulimit"),
    "CpuCount": schema.integer,
    "CpuPercent": schema.integer,
    "IOMaximumIOps": schema.integer,
    "IOMaximumBandwidth": schema.integer,
    "Mounts": schema.objects("[]mount.Mount", "mount.Mount"),
    "MaskedPaths": schema.strings,
    "ReadonlyPaths": schema.strings,
    "Init": schema.boolean,
}

# What the engine hides of /proc and /sys in every container; inspect shows it (moby oci/defaults.go)
MASKED_PATHS: Final = [
    "/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
    "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
]  # fmt: skip
READONLY_PATHS: Final = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
RUNTIME: Final = "runc"  # Docker's word for the default; it comes back in requests copied from an inspect
SHM_SIZE: Final = 64 << 20

HOST_CONFIG_DEFAULTS: Final[dict[str, Any]] = {
    "Binds": None,
    "ContainerIDFile": "",
    "LogConfig": {"Type": "json-file", "Config": {}},
    "NetworkMode": "bridge",
    "PortBindings": None,
    "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
    "AutoRemove": False,
    "VolumeDriver": "",
    "VolumesFrom": None,
    "ConsoleSize": [0, 0],
    "CapAdd": None,
    "CapDrop": None,
    "CgroupnsMode": "private",
    "Dns": None,
    "DnsOptions": None,
    "DnsSearch": None,
    "ExtraHosts": None,
    "GroupAdd": None,
    "IpcMode": "private",
    "Cgroup": "",
    "Links": None,
    "OomScoreAdj": 0,
    "PidMode": "",
    "Privileged": False,
    "PublishAllPorts": False,
    "ReadonlyRootfs": False,
    "SecurityOpt": None,
    "UTSMode": "",
    "UsernsMode": "",
    "ShmSize": SHM_SIZE,
    "Runtime": RUNTIME,
    "Isolation": "",
    "CpuShares": 0,
    "Memory": 0,
    "NanoCpus": 0,
    "CgroupParent": "",
    "BlkioWeight": 0,
    "BlkioWeightDevice": None,
    "BlkioDeviceReadBps": None,
    "BlkioDeviceWriteBps": None,
    "BlkioDeviceReadIOps": None,
    "BlkioDeviceWriteIOps": None,
    "CpuPeriod": 0,
    "CpuQuota": 0,
    "CpuRealtimePeriod": 0,
    "CpuRealtimeRuntime": 0,
    "CpusetCpus": "",
    "CpusetMems": "",
    "Devices": None,
    "DeviceCgroupRules": None,
    "DeviceRequests": None,
    "MemoryReservation": 0,
    "MemorySwap": 0,
    "MemorySwappiness": None,
    "OomKillDisable": False,
    "PidsLimit": None,
    "Ulimits": None,
    "CpuCount": 0,
    "CpuPercent": 0,
    "IOMaximumIOps": 0,
    "IOMaximumBandwidth": 0,
    "MaskedPaths": MASKED_PATHS,
    "ReadonlyPaths": READONLY_PATHS,
}

_ENDPOINT_IPAM: Final[dict[str, Kind]] = {"IPv4Address": schema.string, "IPv6Address": schema.string, "LinkLocalIPs": schema.strings}
ENDPOINT: Final[dict[str, Kind]] = {
    "IPAMConfig": schema.struct(_ENDPOINT_IPAM, "network.EndpointIPAMConfig"),
    "Links": schema.strings,
    "Aliases": schema.strings,
    "MacAddress": schema.string,
    "DriverOpts": schema.string_map,
    "GwPriority": schema.integer,
}


def _endpoints(value: Any, path: str) -> dict[str, dict[str, Any]]:
    return {
        name: schema.decode(ENDPOINT, item, f"{path}.{name}", "network.EndpointSettings") if item is not None else {}
        for name, item in schema.object_map("map[string]*network.EndpointSettings")(value, path).items()
    }


NETWORKING: Final[dict[str, Kind]] = {"EndpointsConfig": _endpoints}
CREATE: Final[dict[str, Kind]] = {
    **CONFIG,
    "HostConfig": schema.struct(HOST_CONFIG, "container.HostConfig"),
    "NetworkingConfig": schema.struct(NETWORKING, "network.NetworkingConfig"),
}


def config_of(given: dict[str, Any], *, container_id: str, image: str) -> dict[str, Any]:
    """Config as inspect shows it."""
    out = schema.complete({name: value for name, value in given.items() if value is not None}, CONFIG_DEFAULTS)
    out["Hostname"] = out["Hostname"] or container_id[:12]
    out["Volumes"] = out["Volumes"] or None
    out["Image"] = out["Image"] or image
    return out


def host_config_of(given: dict[str, Any], *, network_mode: str) -> dict[str, Any]:
    """HostConfig as inspect shows it: what was asked, with what became of empty words."""
    said = {name: value for name, value in given.items() if value is not None}
    for name in ("CgroupnsMode", "IpcMode", "Runtime", "ShmSize", "MaskedPaths", "ReadonlyPaths", "PidsLimit"):
        if not said.get(name):
            said.pop(name, None)
    out = schema.complete(said, HOST_CONFIG_DEFAULTS)
    out["NetworkMode"] = network_mode
    log = out["LogConfig"]
    out["LogConfig"] = {"Type": log.get("Type") or "json-file", "Config": log.get("Config") or {}}
    policy = out["RestartPolicy"]
    out["RestartPolicy"] = {"Name": policy.get("Name") or "no", "MaximumRetryCount": policy.get("MaximumRetryCount", 0)}
    out["MemorySwap"] = out["MemorySwap"] or 2 * out["Memory"]
    return out
