"""ContainerSpec → the OCI runtime-spec ``config.json`` that the launcher executes. Pure.

The document is in the form of runtime-spec 1.2, so that another runtime could run it (our tests' oracle). Beyond the spec's
words there are, in its ``annotations``: ``slipway.init`` ("1": pid 1 is tini), ``slipway.log``, and ``slipway.seccomp``, a second
filter beside ``linux.seccomp``; in ``process.user``: ``name`` and ``groups``, which are looked up in the image's own passwd and
group; the path of a namespace that is another container's is ``container:<id>`` (engine.runtime.plan).
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.errors import InvalidArgument
from engine.model import capabilities
from engine.model.container import ContainerSpec
from engine.model.network import HOST
from engine.model.resources import Resources
from engine.model.tenant import IDS_PER_TENANT, TenantHost
from engine.model.volume import IMAGE, VOLUME, MountSpec
from engine.spec import options, seccomp

OCI_VERSION = "1.2.0"
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# What Docker hides of /proc and /sys (moby oci/defaults.go): hardware state and kernel memory of the whole machine
MASKED_PATHS = [
    "/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
    "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
]  # fmt: skip
READONLY_PATHS = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]

# type, major, minor, access: what a container may use; the rest is refused by the cgroup's device rule
DEVICES = [
    {"allow": False, "access": "rwm"},
    {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"},  # null
    {"allow": True, "type": "c", "major": 1, "minor": 5, "access": "rwm"},  # zero
    {"allow": True, "type": "c", "major": 1, "minor": 7, "access": "rwm"},  # full
    {"allow": True, "type": "c", "major": 1, "minor": 8, "access": "rwm"},  # random
    {"allow": True, "type": "c", "major": 1, "minor": 9, "access": "rwm"},  # urandom
    {"allow": True, "type": "c", "major": 5, "minor": 0, "access": "rwm"},  # tty
    {"allow": True, "type": "c", "major": 5, "minor": 2, "access": "rwm"},  # ptmx
    {"allow": True, "type": "c", "major": 136, "access": "rwm"},  # pts
]


def generate(
    spec: ContainerSpec,
    tenant: TenantHost,
    *,
    cgroup: str,
    folder: Path,
    nodes: Sequence[Mapping[str, Any]] = (),
    device_rules: Sequence[Mapping[str, Any]] = (),
    own_filter_alone: bool = False,
    volumes: Path | None = None,
    disks: Collection[str] = (),
    in_memory: Mapping[str, str] | None = None,
    shares: Collection[str] = (),
    binds: Mapping[str, Mapping[str, Any]] | None = None,
    images: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """``cgroup``: below every controller's root, e.g. /slipway-ab12/demo/<id>. ``folder``: holds hosts, hostname, resolv.conf.

    ``volumes``: holds the tenant's; ``disks`` are those that have a file system of their own, ``in_memory`` the mount options of
    those that are a tmpfs, ``shares`` those on an NFS server. ``binds``: target → how to find a
    folder of the host (engine.binds). ``images``: id → its layers, the topmost first.
    ``nodes`` and ``device_rules``: engine.devices. ``own_filter_alone``: a profile of the tenant's own stands instead of ours, not beside.
    """
    have = list(capabilities.ALL) if spec.privileged else capabilities.effective(spec.cap_add, spec.cap_drop)
    annotations = {key: value for key, value in spec.annotations.items() if not key.startswith("slipway.")}
    annotations |= {"slipway.tenant": spec.tenant, "slipway.log": f"{spec.log.max_size_bytes}x{spec.log.max_files}"}
    if spec.init:
        annotations["slipway.init"] = "1"
    profile = _profile(spec, have, annotations, own_filter_alone=own_filter_alone)
    process: dict[str, Any] = {
        "terminal": spec.tty,
        "user": {"uid": 0, "gid": 0, "name": spec.user, "groups": list(spec.group_add)},
        "args": list(spec.args),
        "env": environment(spec),
        "cwd": spec.cwd or "/",
        "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), have),
        "noNewPrivileges": spec.no_new_privileges or tenant.force_no_new_privileges,
    }
    if spec.tty and len(spec.console_size) == 2:
        process["consoleSize"] = {"height": spec.console_size[0], "width": spec.console_size[1]}
    if spec.ulimits:
        process["rlimits"] = options.rlimits(spec)
    if spec.oom_score_adj:
        process["oomScoreAdj"] = spec.oom_score_adj
    linux: dict[str, Any] = {
        "uidMappings": [{"containerID": 0, "hostID": tenant.uid_start, "size": IDS_PER_TENANT}],
        "gidMappings": [{"containerID": 0, "hostID": tenant.uid_start, "size": IDS_PER_TENANT}],
        "namespaces": _namespaces(spec),
        "cgroupsPath": cgroup,
        "resources": {**linux_resources(spec.resources), "devices": [*DEVICES, *(_rule(node) for node in nodes), *device_rules]},
        "maskedPaths": [] if spec.privileged else MASKED_PATHS,
        "readonlyPaths": [] if spec.privileged else READONLY_PATHS,
        "sysctl": _sysctls(spec),
    }
    if nodes:
        linux["devices"] = [{key: value for key, value in node.items() if key != "access"} for node in nodes]
    if profile is not None:
        linux["seccomp"] = profile
    return {
        "ociVersion": OCI_VERSION,
        "process": process,
        "root": {"path": "rootfs", "readonly": spec.read_only_rootfs},
        "hostname": host_name(spec),
        "domainname": spec.domainname,
        "mounts": mounts(spec, folder, volumes, disks, in_memory, shares, binds or {}, images or {}),
        "annotations": annotations,
        "linux": linux,
    }


def _namespaces(spec: ContainerSpec) -> list[dict[str, str]]:
    joined = options.joined(spec)
    kinds = ["user", "pid", "mount", "network", "uts", "ipc", "cgroup"]
    if spec.network_mode == HOST:
        kinds.remove("network")
    return [{"type": kind, "path": f"{options.CONTAINER}{joined[kind]}"} if kind in joined else {"type": kind} for kind in kinds]


def _sysctls(spec: ContainerSpec) -> dict[str, str]:
    """Docker's own two are the owner's of the network namespace to set."""
    is_its_own = spec.network_mode != HOST and "network" not in options.joined(spec)
    own = {} if not is_its_own else {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 65535"}
    return own | spec.sysctls


def _rule(node: Mapping[str, Any]) -> dict[str, Any]:
    return {"allow": True, **{key: node[key] for key in ("type", "major", "minor", "access")}}


def _profile(spec: ContainerSpec, have: list[str], annotations: dict[str, str], *, own_filter_alone: bool) -> dict[str, Any] | None:
    """``linux.seccomp``. A profile of the tenant's own goes to the annotations, and is loaded besides: it can only forbid more."""
    if spec.seccomp == "unconfined" or spec.privileged:
        return None
    default = seccomp.default_profile(have)
    if spec.seccomp == "default":
        return default
    try:
        own = seccomp.resolve_profile(options.profile(spec.seccomp), have)
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # a member of another kind than the profile's form has
        raise InvalidArgument(f"Decoding seccomp profile failed: {error}") from error
    words = json.dumps(own, separators=(",", ":"))
    if len(words) > options.PROFILE_MAX:
        raise InvalidArgument(f"the seccomp profile is too long: {len(words)} bytes, {options.PROFILE_MAX} are possible")
    if own_filter_alone:
        return own
    annotations["slipway.seccomp"] = words
    return default


def host_name(spec: ContainerSpec) -> str:
    return spec.hostname or (os.uname().nodename if spec.network_mode == HOST else spec.id[:12])


def environment(spec: ContainerSpec) -> list[str]:
    """PATH and HOSTNAME first, TERM for a terminal, then what was asked (which wins). HOME is the launcher's: it knows passwd."""
    names = {item.partition("=")[0] for item in spec.env}
    base = [PATH, f"HOSTNAME={host_name(spec)}"] + (["TERM=xterm"] if spec.tty else [])
    return [item for item in base if item.partition("=")[0] not in names] + list(spec.env)


def mounts(
    spec: ContainerSpec,
    folder: Path,
    volumes: Path | None = None,
    disks: Collection[str] = (),
    in_memory: Mapping[str, str] | None = None,
    shares: Collection[str] = (),
    binds: Mapping[str, Mapping[str, Any]] | None = None,
    images: Mapping[str, Sequence[str]] | None = None,
) -> list[dict[str, Any]]:
    """In the order they are made: what is asked for after what every container has, and what is deeper after what it may lie in."""
    made = [
        _mount("/proc", "proc", "proc", "nosuid", "noexec", "nodev"),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount("/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
        # only who owns a network namespace can mount a sysfs of it
        _mount("/sys", *(("bind", "/sys") if spec.network_mode == HOST else ("sysfs", "sysfs")), "nosuid", "noexec", "nodev", "ro"),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "relatime", "ro"),
        _mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"),
    ]
    if "ipc" in options.joined(spec):
        made.append(_mount("/dev/shm", "bind", f"{options.CONTAINER}{options.joined(spec)['ipc']}", "rbind", "rprivate"))
    elif spec.ipc_mode != "none":
        size = f"size={spec.shm_size_bytes}"
        made.append(_mount("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777", size))
    fixed = ["ro"] if spec.read_only_rootfs else []
    for name in ("resolv.conf", "hostname", "hosts"):
        made.append(_mount(f"/etc/{name}", "bind", str(folder / name), "rbind", "rprivate", *fixed))
    own = [
        _mount(path, "tmpfs", "tmpfs", "noexec", "nosuid", "nodev", *[word for word in words.split(",") if word])
        for path, words in sorted(spec.tmpfs.items())
    ]
    for mount in spec.mounts:
        if mount.type == IMAGE:
            own.append(_image(mount, (images or {})[mount.source]))
        elif mount.type == VOLUME and mount.source in shares:
            own.append(_share(mount))
        elif mount.type == VOLUME and volumes is not None:
            own.append(_volume(mount, volumes, mount.source in disks, (in_memory or {}).get(mount.source)))
        else:
            own.append(_bind(mount, (binds or {})[mount.target]))
    own.sort(key=lambda words: words["destination"].rstrip("/").count("/"))
    taken = {mount.target for mount in spec.mounts}
    return [words for words in made if words["destination"] not in taken] + own


def _volume(mount: MountSpec, volumes: Path, is_disk: bool, memory: str | None) -> dict[str, Any]:
    """``slipway`` is what the runtime-spec has no word for: a path in a volume is its tenant's, and resolved inside it at each start."""
    own = {"suid": True, **({"subpath": mount.subpath} if mount.subpath else {}), **({"disk": True} if is_disk else {})}
    if memory is not None:
        own["memory"] = memory
    words = ["bind", mount.propagation or "rprivate", "nodev", *(["ro"] if mount.read_only else [])]
    return {**_mount(mount.target, "bind", str(volumes / mount.source / "_data"), *words), "slipway": own}


def _share(mount: MountSpec) -> dict[str, Any]:
    words = ["bind", "rprivate", "nosuid", "nodev", *(["ro"] if mount.read_only else [])]
    return {**_mount(mount.target, "bind", mount.source, *words), "slipway": {"share": True}}


def _image(mount: MountSpec, layers: Sequence[str]) -> dict[str, Any]:
    own = {"lower": list(layers), **({"subpath": mount.subpath} if mount.subpath else {})}
    return {**_mount(mount.target, "bind", "image", "bind", "ro", "nosuid", "nodev"), "slipway": own}


def _bind(mount: MountSpec, own: Mapping[str, Any]) -> dict[str, Any]:
    words = ["rbind" if mount.recursive else "bind", mount.propagation or "rprivate", "nosuid", "nodev"]
    return {**_mount(mount.target, "bind", mount.source, *words, *(["ro"] if mount.read_only else [])), "slipway": dict(own)}


def _mount(destination: str, kind: str, source: str, *options: str) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": source, "options": list(options)}


def linux_resources(asked: Resources) -> dict[str, Any]:
    """runtime-spec ``linux.resources``; only what was asked for is there. Devices are major:minor (kernel.block_devices)."""
    memory: dict[str, Any] = {}
    if asked.memory_bytes:
        memory["limit"] = asked.memory_bytes
        memory["swap"] = asked.memory_swap_bytes or 2 * asked.memory_bytes
    if asked.memory_reservation_bytes:
        memory["reservation"] = asked.memory_reservation_bytes
    if asked.memory_swappiness >= 0:
        memory["swappiness"] = asked.memory_swappiness
    if asked.oom_kill_disable:
        memory["disableOOMKiller"] = True
    cpu: dict[str, Any] = {}
    if asked.nano_cpus:
        cpu["period"], cpu["quota"] = 100_000, asked.nano_cpus // 10_000
    if asked.cpu_period_us:
        cpu["period"] = asked.cpu_period_us
    if asked.cpu_quota_us:
        cpu["quota"] = asked.cpu_quota_us
    if asked.cpu_shares:
        cpu["shares"] = asked.cpu_shares
    if asked.cpuset_cpus:
        cpu["cpus"] = asked.cpuset_cpus
    if asked.cpuset_mems:
        cpu["mems"] = asked.cpuset_mems
    parts: dict[str, Any] = {"memory": memory, "cpu": cpu, "blockIO": _block_io(asked)}
    if asked.pids_limit > 0:
        parts["pids"] = {"limit": asked.pids_limit}
    return {name: value for name, value in parts.items() if value}


def _block_io(asked: Resources) -> dict[str, Any]:
    words: dict[str, Any] = {"weight": asked.blkio_weight} if asked.blkio_weight else {}
    for name, key, rates in (
        ("weightDevice", "weight", asked.blkio_weight_device),
        ("throttleReadBpsDevice", "rate", asked.blkio_read_bps),
        ("throttleWriteBpsDevice", "rate", asked.blkio_write_bps),
        ("throttleReadIOPSDevice", "rate", asked.blkio_read_iops),
        ("throttleWriteIOPSDevice", "rate", asked.blkio_write_iops),
    ):
        if rates:
            numbers = [tuple(map(int, rate.path.split(":"))) for rate in rates]
            words[name] = [{"major": major, "minor": minor, key: rate.rate} for (major, minor), rate in zip(numbers, rates, strict=True)]
    return words
