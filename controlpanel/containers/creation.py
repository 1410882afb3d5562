"""What REST and the form ask of a new container, field by field, and Docker's create request made of it. PURE.

Here are names, types and units alone. What the words may be is for ``request.read`` to say, as of every create.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, Final

from pydantic import Field

from controlpanel.base import units
from controlpanel.base.rest import Asked
from controlpanel.containers import policies, ports

Size = int | str  # bytes, or a size like "256m"

_CONFIG: Final = {  # field → member of Docker's Config
    "image": "Image",
    "entrypoint": "Entrypoint",
    "command": "Cmd",
    "working_dir": "WorkingDir",
    "user": "User",
    "hostname": "Hostname",
    "domainname": "Domainname",
    "tty": "Tty",
    "open_stdin": "OpenStdin",
    "stdin_once": "StdinOnce",
    "stop_signal": "StopSignal",
    "stop_timeout_s": "StopTimeout",
}
LIMITS: Final = {  # field → member of HostConfig, of those that an update may change
    "cpu_shares": "CpuShares",
    "cpu_period_us": "CpuPeriod",
    "cpu_quota_us": "CpuQuota",
    "cpuset_cpus": "CpusetCpus",
    "cpuset_mems": "CpusetMems",
    "pids_limit": "PidsLimit",
    "blkio_weight": "BlkioWeight",
}
MEMORY: Final = {"memory": "Memory", "memory_swap": "MemorySwap", "memory_reservation": "MemoryReservation"}  # sizes, as LIMITS
_HOST_CONFIG: Final = {
    **LIMITS,
    "auto_remove": "AutoRemove",
    "init": "Init",
    "runtime": "Runtime",
    "network": "NetworkMode",
    "dns": "Dns",
    "dns_search": "DnsSearch",
    "dns_options": "DnsOptions",
    "extra_hosts": "ExtraHosts",
    "ipc_mode": "IpcMode",
    "pid_mode": "PidMode",
    "uts_mode": "UTSMode",
    "cgroup_parent": "CgroupParent",
    "read_only": "ReadonlyRootfs",
    "tmpfs": "Tmpfs",
    "volumes_from": "VolumesFrom",
    "privileged": "Privileged",
    "cap_add": "CapAdd",
    "cap_drop": "CapDrop",
    "group_add": "GroupAdd",
    "device_rules": "DeviceCgroupRules",
    "sysctls": "Sysctls",
    "oom_score_adj": "OomScoreAdj",
    "annotations": "Annotations",
    "memory_swappiness": "MemorySwappiness",
    "oom_kill_disable": "OomKillDisable",
}
_SIZES: Final = {**MEMORY, "shm_size": "ShmSize"}
_RATES: Final = {  # field → member, and what Docker calls its number
    "blkio_weight_device": ("BlkioWeightDevice", "Weight"),
    "blkio_read_bps": ("BlkioDeviceReadBps", "Rate"),
    "blkio_write_bps": ("BlkioDeviceWriteBps", "Rate"),
    "blkio_read_iops": ("BlkioDeviceReadIOps", "Rate"),
    "blkio_write_iops": ("BlkioDeviceWriteIOps", "Rate"),
}
_HEALTH_TIMES: Final = {
    "interval_s": "Interval",
    "timeout_s": "Timeout",
    "start_period_s": "StartPeriod",
    "start_interval_s": "StartInterval",
}


class HealthIn(Asked):
    """Times in seconds; 0 is the image's, or Docker's: 30, 30, 0, 5, and 3 retries."""

    command: list[str] | None = Field(
        None,
        description="What is run in the container; 0 is healthy. Null: the image's check. Empty: it is switched off.",
        examples=[["true"]],
    )
    shell: str = Field("", description="In place of command: words for the image's shell.", examples=["wget -q -O- localhost || exit 1"])
    interval_s: float = Field(0, examples=[10])
    timeout_s: float = Field(0, examples=[3])
    start_period_s: float = Field(0, description="Failures do not count meanwhile.", examples=[60])
    start_interval_s: float = Field(0, description="Between checks in the start period.", examples=[1])
    retries: int = Field(0, description="Failures in a row that make it unhealthy.", examples=[5])


class UlimitIn(Asked):
    name: str = Field(examples=["nofile"])
    soft: int = Field(description="-1: no limit.", examples=[1024])
    hard: int | None = Field(None, description="Null: as soft.", examples=[4096])


class DeviceIn(Asked):
    path_on_host: str = Field(examples=["/dev/fuse"])
    path_in_container: str = Field("", description="Empty: as on the host.")
    permissions: str = Field("rwm", description="Some of r, w and m (mknod).")


class DeviceRateIn(Asked):
    path: str = Field(description="A block device of the host.", examples=["/dev/sda"])
    rate: Size = Field(description='Bytes (also "10m") or operations a second; of a weight 10 to 1000.', examples=["10m"])


class EndpointIn(Asked):
    network: str = Field(description="Its name or id.", examples=["backend"])
    aliases: list[str] = Field([], description="More names by which the others of the network know it.", examples=[["db"]])
    links: list[str] = Field([], description="NAME:ALIAS: what it alone calls another container.")
    ip_address: str = Field("", description="Empty: the next free one. Of networks with a subnet of one's own alone.")
    ipv6_address: str = Field("", description="The same of IPv6.", examples=["fd00:7::7"])
    mac_address: str = ""
    gw_priority: int = Field(0, description="The default route goes by the network with the greatest.")


class LogIn(Asked):
    driver: str = Field("json-file", description="json-file, local or none.")
    options: dict[str, str] = Field(
        {}, description="max-size, max-file, labels, env, tag.", examples=[{"max-size": "10m", "max-file": "3"}]
    )


class ContainerIn(Asked):
    """Null, empty and 0 are the image's, the platform's or no limit, as Docker has it. Sizes: bytes, or text like "256m"."""

    image: str = Field(min_length=1, max_length=400, examples=["busybox:latest"])
    name: str = Field("", description="Empty: a name is made up.", examples=["web"])
    start: bool = Field(False, description="Also start it: 201 means that it runs.")

    entrypoint: list[str] | None = Field(None, description="Null: the image's.", examples=[["sh", "-c"]])
    command: list[str] | None = Field(None, description="Null: the image's.", examples=[["sleep", "60"]])
    env: dict[str, str] = Field({}, examples=[{"TZ": "UTC"}])
    labels: dict[str, str] = Field({}, examples=[{"team": "shop"}])
    annotations: dict[str, str] = Field({}, description="For the runtime's own use; inspect shows them.")
    working_dir: str = Field("", examples=["/srv"])
    user: str = Field("", description="Name or number, and a group after a colon.", examples=["1000:1000"])
    group_add: list[str] = Field([], description="More groups, by name or number.", examples=[["audio", "2000"]])
    hostname: str = Field("", description="Empty: the first 12 digits of its id.")
    domainname: str = ""
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = Field(False, description="Standard input ends with the first client that was attached.")
    init: bool = Field(False, description="A small init as process 1, which reaps what others leave.")
    stop_signal: str = Field("", examples=["SIGQUIT"])
    stop_timeout_s: int | None = Field(
        None, description="Seconds from the stop signal to SIGKILL; null: 10; negative: never.", examples=[30]
    )
    auto_remove: bool = False
    runtime: str = Field("", description="runc or slipway: one engine by both names.")

    restart_policy: str = Field("no", description="no, always, unless-stopped or on-failure.")
    restart_max_retries: int = Field(0, description="Of on-failure alone; 0: no end.")
    restart_when_unhealthy: bool = Field(False, description="Also restarted when its health check says unhealthy.")
    health: HealthIn | None = Field(None, description="Null: the image's.")

    network: str = Field(
        "bridge", description="A network's name or id: bridge, none, one of yours; or container:NAME to share another one's."
    )
    networks: list[EndpointIn] = Field([], description="More of the main network, and more networks.")
    aliases: list[str] = Field([], description="In the main network, of one's own alone.", examples=[["web"]])
    ip_address: str = Field("", description="In the main network, of one's own with its own subnet alone.", examples=["172.28.0.7"])
    ipv6_address: str = Field("", description="The same of IPv6.", examples=["fd00:7::7"])
    mac_address: str = Field("", description="In the main network; empty: from the address.")
    links: list[str] = Field([], description="NAME:ALIAS: containers of the main network that it knows by other names.")
    ports: list[str] = Field([], description="Ports of the host that lead to it, as docker run -p has them.", examples=[["8080:80"]])
    expose: list[str] = Field([], description="Ports that publish_all publishes, too.", examples=[["9000/udp"]])
    publish_all: bool = Field(False, description="Any free port of the host for each port that the image or expose names.")
    dns: list[str] = Field([], examples=[["10.0.0.53"]])
    dns_search: list[str] = Field([], examples=[["example.org"]])
    dns_options: list[str] = Field([], examples=[["ndots:2"]])
    extra_hosts: list[str] = Field([], description="NAME:ADDRESS for /etc/hosts.", examples=[["db:10.0.0.7"]])
    ipc_mode: str = Field("", description="private, shareable, none, or container:NAME.")
    pid_mode: str = Field("", description="Empty, or container:NAME.")
    uts_mode: str = Field("", description="Empty, or container:NAME.")
    cgroup_parent: str = Field("", description="Below the tenant's own.", examples=["batch"])

    memory: Size = Field(0, description='Bytes, or a size like "256m"; 0: no limit of its own.', examples=["256m"])
    memory_swap: Size = Field(0, description="Memory and swap together; -1: no limit; 0: twice the memory.", examples=["512m"])
    memory_reservation: Size = Field(0, description="What it keeps when memory is short.", examples=["128m"])
    memory_swappiness: int | None = Field(None, description="0 to 100; cgroup version 1 alone.")
    oom_kill_disable: bool = Field(False, description="Out of memory, it waits and is not killed; cgroup version 1 alone.")
    oom_score_adj: int = Field(0, description="0 to 1000: how gladly it is killed when the host is out of memory.")
    cpus: float = Field(0, description="Of the host's CPUs.", examples=[0.5])
    cpu_shares: int = Field(0, description="Weight when CPUs are short; everybody's is 1024.", examples=[512])
    cpu_period_us: int = Field(0, description="In place of cpus, with cpu_quota_us: microseconds.", examples=[100_000])
    cpu_quota_us: int = Field(0, description="Microseconds of CPU time in each period.", examples=[50_000])
    cpuset_cpus: str = Field("", examples=["0-3"])
    cpuset_mems: str = Field("", examples=["0"])
    pids_limit: int = Field(0, description="Processes and threads.", examples=[100])
    shm_size: Size = Field(0, description="Of /dev/shm; 0: 64 MiB.", examples=["128m"])
    ulimits: list[UlimitIn] = []
    blkio_weight: int = Field(0, description="10 to 1000.")
    blkio_weight_device: list[DeviceRateIn] = []
    blkio_read_bps: list[DeviceRateIn] = []
    blkio_write_bps: list[DeviceRateIn] = []
    blkio_read_iops: list[DeviceRateIn] = []
    blkio_write_iops: list[DeviceRateIn] = []

    read_only: bool = Field(False, description="Its own file system cannot be written to.")
    layer_size: Size = Field(0, description="What it may write beside its volumes; 0: as much as the host allows.", examples=["10g"])
    tmpfs: dict[str, str] = Field(
        {}, description="File systems in memory: path → mount options.", examples=[{"/tmp": "size=64m,mode=1777"}]
    )
    volumes: list[str] = Field(
        [],
        description="NAME:/PATH of a volume, /FOLDER:/PATH of one that was granted, /PATH of a volume without a name; a mode behind.",
        examples=[["data:/var/lib/data", "conf:/etc/app:ro"]],
    )
    volumes_from: list[str] = Field([], description="Containers whose volumes it has, too.", examples=[["web:ro"]])
    privileged: bool = Field(
        False, description="Every capability, no filter of system calls, all of /proc and /sys; where the policy and the host grant it."
    )
    cap_add: list[str] = Field([], description="Those that the policy grants.", examples=[["NET_ADMIN"]])
    cap_drop: list[str] = Field([], examples=[["ALL"]])
    no_new_privileges: bool = False
    seccomp: str | dict[str, Any] = Field("default", description="default, unconfined (where granted), or a profile in Docker's form.")
    sysctls: dict[str, str] = Field({}, examples=[{"net.core.somaxconn": "1024"}])
    devices: list[DeviceIn] = Field([], description="Those that the host's operator granted to the tenant.")
    device_rules: list[str] = Field([], examples=[["c 10:229 rwm"]])

    log: LogIn | None = Field(None, description="Null: json-file with the platform's limits.")


def to_docker(asked: ContainerIn) -> dict[str, Any]:
    """The body of ``POST /containers/create`` with what was given."""
    given = {
        name: getattr(asked, name)
        for name in ContainerIn.model_fields
        if getattr(asked, name) not in (None, ContainerIn.model_fields[name].default)
    }
    given["image"] = asked.image
    body = {member: given[name] for name, member in _CONFIG.items() if name in given}
    body["Env"] = [f"{name}={value}" for name, value in asked.env.items()]
    body["Labels"] = {**asked.labels, policies.RESTART_UNHEALTHY: "true"} if asked.restart_when_unhealthy else asked.labels
    if asked.health is not None:
        body["Healthcheck"] = _healthcheck(asked.health)
    host_config = {member: given[name] for name, member in _HOST_CONFIG.items() if name in given}
    host_config |= {member: size_bytes(given[name]) for name, member in _SIZES.items() if name in given}
    if asked.layer_size:
        host_config["StorageOpt"] = {"size": str(size_bytes(asked.layer_size))}
    if asked.volumes:
        host_config["Binds"] = [words for words in asked.volumes if ":" in words]
        body["Volumes"] = {words: {} for words in asked.volumes if ":" not in words}
    host_config["NanoCpus"] = units.parse_nano_cpus(str(asked.cpus))
    host_config["RestartPolicy"] = {"Name": asked.restart_policy, "MaximumRetryCount": asked.restart_max_retries}
    for name, (member, number) in _RATES.items():
        if name in given:
            host_config[member] = [{"Path": each.path, number: size_bytes(each.rate)} for each in given[name]]
    if asked.ulimits:
        host_config["Ulimits"] = [_ulimit(each) for each in asked.ulimits]
    if asked.devices:
        host_config["Devices"] = [_device(each) for each in asked.devices]
    if options := _security(asked):
        host_config["SecurityOpt"] = options
    if asked.log is not None:
        host_config["LogConfig"] = {"Type": asked.log.driver, "Config": asked.log.options}
    if asked.ports:
        host_config["PortBindings"] = ports.bindings(asked.ports)
    if asked.publish_all:
        host_config["PublishAllPorts"] = True
    bound: dict[str, Any] = host_config.get("PortBindings") or {}
    exposed: dict[str, Any] = {port: {} for port in (*map(_with_protocol, asked.expose), *bound)}
    networking = {"NetworkingConfig": {"EndpointsConfig": found}} if (found := _endpoints(asked)) else {}
    if asked.links and asked.network == "bridge":
        host_config["Links"] = asked.links
    return {**body, **({"ExposedPorts": exposed} if exposed else {}), "HostConfig": host_config, **networking}


def _with_protocol(port: str) -> str:
    return port if "/" in port else f"{port}/tcp"


def _endpoints(asked: ContainerIn) -> dict[str, Any]:
    """EndpointsConfig; {} when nothing is said but the main network."""
    links = asked.links if asked.network != "bridge" else []
    main = _endpoint(asked, links, 0)
    others = {each.network: _endpoint(each, each.links, each.gw_priority) for each in asked.networks}
    return {asked.network: main, **others} if main or others else {}


def _endpoint(asked: ContainerIn | EndpointIn, links: list[str], gw_priority: int) -> dict[str, Any]:
    addresses = {"IPv4Address": asked.ip_address, "IPv6Address": asked.ipv6_address}
    given = {
        "Aliases": asked.aliases,
        "Links": links,
        "MacAddress": asked.mac_address,
        "GwPriority": gw_priority,
        "IPAMConfig": {name: address for name, address in addresses.items() if address},
    }
    return {name: value for name, value in given.items() if value}


def size_bytes(size: Size) -> int:
    """InvalidArgument for text that is no size."""
    return size if isinstance(size, int) else units.parse_bytes(size)


def _healthcheck(asked: HealthIn) -> dict[str, Any]:
    check: dict[str, Any] = {"Retries": asked.retries}
    check |= {member: int(Decimal(str(getattr(asked, name))) * 10**9) for name, member in _HEALTH_TIMES.items()}
    if asked.shell:
        check["Test"] = ["CMD-SHELL", asked.shell]
    elif asked.command is not None:
        check["Test"] = ["CMD", *asked.command] if asked.command else ["NONE"]
    return check


def _ulimit(asked: UlimitIn) -> dict[str, Any]:
    return {"Name": asked.name, "Soft": asked.soft, "Hard": asked.soft if asked.hard is None else asked.hard}


def _device(asked: DeviceIn) -> dict[str, str]:
    return {"PathOnHost": asked.path_on_host, "PathInContainer": asked.path_in_container, "CgroupPermissions": asked.permissions}


def _security(asked: ContainerIn) -> list[str]:
    """A seccomp profile travels as its text."""
    options = ["no-new-privileges"] if asked.no_new_privileges else []
    if asked.seccomp != "default":
        options.append("seccomp=" + (asked.seccomp if isinstance(asked.seccomp, str) else json.dumps(asked.seccomp)))
    return options
