"""A container as it travels between floors: what is asked for (ContainerSpec) and what is (ContainerState)."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from engine.errors import InvalidArgument
from engine.model.bandwidth import Bandwidth, check_bandwidth
from engine.model.network import DEFAULT, PORTS_MAX, EndpointSpec, EndpointState, PortBinding, check_endpoint, check_port
from engine.model.resources import MEMORY_MIN, Resources
from engine.model.rules import Rules, check_rules
from engine.model.tenant import check_tenant_name
from engine.model.volume import SIZE_MIN, MountSpec, check_mounts

_ID = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
NAME_MAX = 200  # the panel's column; a file of that name, and of its unfinished write, fits into a folder
HOST_NAME_MAX = 64  # bytes; the kernel's __NEW_UTS_LEN


class Status(StrEnum):
    """Docker's words. ``created`` covers a start that failed; ``exited`` always has an exit code."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"  # it ended, and its restart policy starts it again when its back-off is over
    EXITED = "exited"
    DEAD = "dead"


LEGAL_MOVES: dict[Status, frozenset[Status]] = {
    Status.CREATED: frozenset({Status.RUNNING, Status.DEAD}),
    Status.RUNNING: frozenset({Status.PAUSED, Status.EXITED, Status.RESTARTING}),
    Status.PAUSED: frozenset({Status.RUNNING, Status.EXITED, Status.RESTARTING}),
    Status.RESTARTING: frozenset({Status.RUNNING, Status.EXITED, Status.DEAD}),
    Status.EXITED: frozenset({Status.RUNNING, Status.DEAD}),
    Status.DEAD: frozenset(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPolicy:
    """How much output is kept: ``max_files`` segments of ``max_size_bytes``; the oldest segment goes first.

    ``driver``: json-file and local differ in name only; of ``none`` attached clients see what is written, ``logs`` nothing.
    ``labels``, ``env`` (names) and ``tag`` (a template) are what ``logs --details`` shows: engine.model.log_details.
    """

    max_size_bytes: int = 64 << 20
    max_files: int = 16
    driver: str = "json-file"
    labels: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    tag: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    """``name``: no, always, unless-stopped, on-failure. ``maximum_retries`` counts for on-failure alone; 0 = no end."""

    name: str = "no"
    maximum_retries: int = 0
    when_unhealthy: bool = False  # also killed and started again when its health check says unhealthy (not in Docker)


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck:
    """Docker's Healthcheck with its defaults filled in. ``test``: CMD or CMD-SHELL first."""

    test: tuple[str, ...]
    interval_ns: int = 30 * 10**9
    timeout_ns: int = 30 * 10**9
    start_period_ns: int = 0
    start_interval_ns: int = 5 * 10**9
    retries: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Ulimit:
    """``name`` as in ulimit(1) of Docker: nofile, nproc, core, …; -1 = unlimited."""

    name: str
    soft: int
    hard: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device node of the host; ``permissions``: some of r, w, m."""

    path_on_host: str
    path_in_container: str
    permissions: str = "rwm"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """What is asked for; immutable. Image defaults are merged in already (engine.model.image.merge_config)."""

    id: str  # 64 hex digits, chosen by whoever asks
    tenant: str
    name: str
    image_id: str  # sha256:… of the image config
    image: str  # the words the user typed: busybox, busybox:latest, sha256:…
    args: tuple[str, ...]  # entrypoint + cmd
    env: tuple[str, ...] = ()  # NAME=value
    cwd: str = "/"
    user: str = ""  # "", "1000", "1000:1000", "nobody", "nobody:nogroup": names from the image's own passwd
    hostname: str = ""  # "" = first 12 digits of the id
    domainname: str = ""
    tty: bool = False
    console_size: tuple[int, ...] = ()  # rows and columns a terminal begins with; empty = the kernel's 0 x 0
    open_stdin: bool = False
    stdin_once: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    stop_signal: str = "SIGTERM"
    stop_timeout_s: int = 10
    # "bridge" = the tenant's default bridge, "user" = those of ``networks``, "none", "host" = the machine's, or "container:<id>"
    network_mode: str = "bridge"
    networks: tuple[EndpointSpec, ...] = ()  # at its create; of mode bridge: beside the default one, which may be named to say more of it
    ports: tuple[PortBinding, ...] = ()  # at its create
    rules: Rules = field(default_factory=Rules)  # may change, as the next one
    bandwidth: Bandwidth = field(default_factory=Bandwidth)
    ipc_mode: str = ""  # "" or "private" = its own, "shareable" = others may join it, "none" = without /dev/shm, or "container:<id>"
    pid_mode: str = ""  # "" = its own, or "container:<id>"; the next one too
    uts_mode: str = ""
    resources: Resources = field(default_factory=Resources)
    privileged: bool = False  # every capability, no filter of system calls, nothing hidden of /proc and /sys; devices as asked for
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    no_new_privileges: bool = False
    seccomp: str = "default"  # or "unconfined", or a profile beside the default one: JSON in moby's form
    seccomp_alone: bool = False  # that profile stands in place of the default one, where the ceiling grants to go without
    group_add: tuple[str, ...] = ()  # numbers, or names from the image's own group file
    ulimits: tuple[Ulimit, ...] = ()
    sysctls: dict[str, str] = field(default_factory=dict)
    oom_score_adj: int = 0
    devices: tuple[Device, ...] = ()
    device_rules: tuple[str, ...] = ()  # docker's --device-cgroup-rule: "c 10:229 rwm"
    cgroup_parent: str = ""  # below the tenant's own cgroup: "" = directly
    read_only_rootfs: bool = False
    layer_size_bytes: int = 0  # what it may write beside its volumes; 0 = as much as the host allows
    layer_size_is_part: bool = False  # nobody named it: it is a part of the tenant's quota, and a smaller ceiling of the host's counts
    tmpfs: dict[str, str] = field(default_factory=dict)  # path → mount options
    mounts: tuple[MountSpec, ...] = ()  # volumes and folders of the host
    shm_size_bytes: int = 64 << 20
    extra_hosts: tuple[str, ...] = ()  # name:address
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    init: bool = False  # Debian's static tini as pid 1
    auto_remove: bool = False
    restart: RestartPolicy = field(default_factory=RestartPolicy)
    health: HealthCheck | None = None
    annotations: dict[str, str] = field(default_factory=dict)
    log: LogPolicy = field(default_factory=LogPolicy)
    shown: dict[str, Any] = field(default_factory=dict)  # kept for the panel, see controlpanel.containers.recovery; empty: not the panel's


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthProbe:
    """One run of a health check; ``output`` is cut at 4096 bytes."""

    started_at_ns: int
    finished_at_ns: int
    exit_code: int
    output: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthState:
    """``status``: starting, healthy, unhealthy. ``log``: the last five probes, oldest first."""

    status: str = "starting"
    failing_streak: int = 0
    log: tuple[HealthProbe, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerState:
    """What is, as the host knows it. Of two states of one container the one with the greater (``seq``, ``change``) is newer.

    seq = 0 created; run n started = 2n - 1; run n exited = 2n. A start that failed counts as a run that exited,
    but leaves the status ``created`` (as dockerd does) with exit_code 126, 127 or 128 and ``error`` set.
    What changes between these (paused, health, a restart given up) counts ``change`` up, which begins at 0 with each seq.
    """

    id: str
    status: Status = Status.CREATED
    seq: int = 0
    change: int = 0
    run: int = 0
    restart_count: int = 0  # starts by the restart policy since somebody started it
    health: HealthState | None = None  # None: no health check
    pid: int = 0  # on the host; 0 unless running
    exit_code: int = 0  # 128 + n for signal n
    oom_killed: bool = False
    error: str = ""
    started_at_ns: int = 0  # unix time; 0 = never
    finished_at_ns: int = 0
    ip_address: str = ""  # of the tenant's default bridge; these four are "" elsewhere
    prefix_len: int = 0
    gateway: str = ""
    mac_address: str = ""
    endpoints: tuple[EndpointState, ...] | None = None  # None: those of the spec, which have not changed, and it has not run
    ports: tuple[PortBinding, ...] | None = None  # None: as in the spec; those of one that runs have host_port filled in

    @property
    def has_process(self) -> bool:
        """Whether there is something to signal, to measure, to join."""
        return self.status in (Status.RUNNING, Status.PAUSED)


def removal_refusal(name: str, status: Status) -> str:
    """moby's sentence to a removal without force; ``name`` as it was asked for."""
    way_out = " and must be unpaused first" if status is Status.PAUSED else ": stop the container before removing or force remove"
    return f'cannot remove container "{name}": container is {status.value}{way_out}'


def is_container_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None


def check_name(name: str) -> str:
    """The name itself, or InvalidArgument with moby's sentence. A good name is also a safe file name."""
    if not _NAME.fullmatch(name):
        raise InvalidArgument(f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
    if len(name) > NAME_MAX:
        raise InvalidArgument(f"Invalid container name ({name[:40]}…): a container's name has at most {NAME_MAX} characters")
    return name


def endpoints_of(spec: ContainerSpec) -> tuple[EndpointSpec, ...]:
    """The networks that a container is made in, the default bridge first."""
    if spec.network_mode == "user":
        return spec.networks
    if spec.network_mode != "bridge":
        return ()
    default = [each for each in spec.networks if each.network_id == DEFAULT] or [EndpointSpec()]
    return (*default, *(each for each in spec.networks if each.network_id != DEFAULT))


def check_layer_size(size: int) -> int:
    if 0 < size < SIZE_MIN:
        raise InvalidArgument(f"invalid size: {size} bytes: a container's writable layer has at least {SIZE_MIN >> 20} MiB")
    return size


def check_spec(spec: ContainerSpec) -> None:
    """What the engine does not take on trust from a message: whatever becomes a path, or would start nothing."""
    check_tenant_name(spec.tenant)
    check_name(spec.name)
    if not is_container_id(spec.id):
        raise InvalidArgument(f"invalid container id {spec.id!r}: 64 hex digits are needed")
    if not spec.args:
        raise InvalidArgument("no command specified")
    if any("\0" in text for text in (*spec.args, *spec.env, spec.cwd)):
        raise InvalidArgument("a command, variable or folder holds a zero byte")
    for text in (spec.hostname, spec.domainname):
        if len(text.encode()) > HOST_NAME_MAX or any(char < "!" for char in text):
            raise InvalidArgument(f"invalid host name {text!r}: at most {HOST_NAME_MAX} bytes, no spaces, no control characters")
    for endpoint in spec.networks:
        check_endpoint(endpoint)
    if len(spec.ports) > PORTS_MAX:
        raise InvalidArgument(f"too many published ports: {len(spec.ports)}, and at most {PORTS_MAX}")
    for port in spec.ports:
        check_port(port)
    if 0 != spec.resources.memory_bytes < MEMORY_MIN:
        raise InvalidArgument("Minimum memory limit allowed is 6MB")
    check_layer_size(spec.layer_size_bytes)
    check_rules(spec.rules)
    check_bandwidth(spec.bandwidth)
    for path in spec.tmpfs:
        place = posixpath.normpath(path)
        if "\0" in path or not path.startswith("/"):
            raise InvalidArgument(f"invalid mount path: {path!r} mount path must be absolute")
        if place in ("/", "//"):
            raise InvalidArgument("invalid specification: destination can't be '/'")
        if place.lstrip("/") in ("proc", "sys", "dev") or place.lstrip("/").startswith("proc/"):
            raise InvalidArgument(f"{path!r} cannot be mounted because the container's own /{place.lstrip('/').partition('/')[0]} is there")
    check_mounts(spec.mounts)
