"""An OCI runtime-spec config as the launcher carries it out: checked, and turned into numbers. Pure.

What the document may say and this release does not do is refused by name (Unsupported), never passed over: hooks, joining
namespaces by path (but for ``container:<id>``, which comes with a pidfd), namespaces of the host but its network, id mappings other
than one range.
"""

from __future__ import annotations

import json
import re
import resource
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from engine.errors import InvalidArgument, Unsupported
from engine.kernel import namespaces
from engine.kernel.cgroups import DeviceRule
from engine.kernel.mounts import Node, Options, parse_options
from engine.kernel.syscalls import Clone
from engine.model.capabilities import ALL as CAPABILITIES
from engine.model.resources import DeviceRate, Resources

INIT_ON_HOST: Final = "/usr/bin/tini-static"
INIT_INSIDE: Final = "/sbin/docker-init"
HOSTS_SYS: Final = "/sys"  # of who is in the host's network

JOINED: Final = "container:"  # instead of a path; so is the source of a /dev/shm that is another container's
_JOINABLE: Final = frozenset({"network", "ipc", "pid", "uts"})
_OWN: Final[Mapping[str, Callable[[Any], Any]]] = {  # of a mount's "slipway"
    "subpath": str, "suid": bool, "disk": bool, "memory": str, "share": bool, "below": str, "owner": int, "lower": tuple,
}  # fmt: skip
_CGROUP = re.compile(r"/[A-Za-z0-9][A-Za-z0-9_.-]*(?:/[A-Za-z0-9][A-Za-z0-9_.-]*)+")
_SYSCTL = re.compile(r"(?:net|kernel|fs\.mqueue)\.[A-Za-z0-9_./-]+")
_OWN_KERNEL_SYSCTLS: Final = ("kernel.msg", "kernel.shm", "kernel.sem")  # of the ipc namespace; all others are the machine's
# What systemd gives a service since 240, and so Docker's containers: select(2) users see 1,024, the rest may ask for more
_NOFILE: Final = (1024, 524_288)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """``kind`` is a file system's name, or ``bind``. ``asked``: by a tenant, so its target may be a link of the image's to anywhere.

    Of an image: its layers, ``lower``. Of a volume or an image: ``subpath`` in it; of a volume ``suid``, and whether its files are in a
    ``disk`` beside it or in ``memory`` (the options of that tmpfs), or on a ``share`` of an NFS server. Of a folder of the host: ``below``
    which granted one it must be, and the ``owner`` there that the container's root is (0: ids are as they are).
    """

    target: str
    kind: str
    source: str
    options: Options
    recursive: bool = False
    asked: bool = False
    subpath: str = ""
    suid: bool = False
    disk: bool = False
    memory: str | None = None
    share: bool = False
    lower: tuple[str, ...] = ()
    below: str = ""
    owner: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """Bit masks, capabilities(7)."""

    bounding: int
    effective: int
    permitted: int
    inheritable: int
    ambient: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """``user`` are words for engine.runtime.users, or None when ``uid``, ``gid``, ``groups`` are the answer already."""

    namespaces: int  # to be made
    joined: int  # to be entered: the user namespace and some others of one container
    uid_start: int
    ids: int
    cgroup: str
    limits: Resources
    devices: tuple[DeviceRule, ...]
    nodes: tuple[Node, ...]
    mounts: tuple[Mount, ...]
    masked: tuple[str, ...]
    read_only: tuple[str, ...]
    root_read_only: bool
    sysctls: tuple[tuple[str, str], ...]  # path below /proc/sys, value
    ipc_sysctls: tuple[tuple[str, str], ...]  # those of the IPC namespace
    hostname: str
    domainname: str
    args: tuple[str, ...]
    env: dict[str, str]
    cwd: str
    user: str | None
    uid: int
    gid: int
    groups: tuple[int, ...]
    more_groups: tuple[str, ...]  # words for engine.runtime.users
    umask: int
    terminal: bool
    window: tuple[int, int] | None  # rows, columns
    capabilities: Capabilities
    no_new_privileges: bool
    rlimits: tuple[tuple[int, int, int], ...]  # RLIMIT_ number, soft, hard
    oom_score_adj: int
    seccomp: tuple[Mapping[str, Any], ...]  # all of them hold


def read(config: Mapping[str, Any]) -> Plan:
    """InvalidArgument or Unsupported for what can't be carried out; KeyError and the like never leave here."""
    try:
        return _read(config)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidArgument(f"not a runtime-spec config: {error!r}") from error


def _read(config: Mapping[str, Any]) -> Plan:
    process, linux = config["process"], config["linux"]
    if config.get("hooks"):
        raise Unsupported("hooks are not supported")
    uid_start, ids = _id_range(linux)
    uid, gid, name = process["user"].get("uid", 0), process["user"].get("gid", 0), process["user"].get("name")
    args = tuple(str(word) for word in process["args"])
    if not args:
        raise InvalidArgument("no command specified")
    made = [_mount(words) for words in config.get("mounts") or ()]
    if (config.get("annotations") or {}).get("slipway.init") == "1":
        args = (INIT_INSIDE, "--", *args)
        made.append(Mount(target=INIT_INSIDE, kind="bind", source=INIT_ON_HOST, options=parse_options(["ro", "nosuid", "nodev"])))
    if not _CGROUP.fullmatch(linux["cgroupsPath"]):
        raise InvalidArgument(f"invalid cgroupsPath {linux['cgroupsPath']!r}")
    window = process.get("consoleSize")
    limits, devices = _resources(linux.get("resources") or {})
    made_new, joined = _namespaces(linux)
    annotations = config.get("annotations") or {}
    sysctls = [_sysctl(key, str(value)) for key, value in (linux.get("sysctl") or {}).items()]
    return Plan(
        namespaces=made_new,
        joined=joined,
        uid_start=uid_start,
        ids=ids,
        cgroup=linux["cgroupsPath"],
        limits=limits,
        devices=devices,
        nodes=tuple(_node(words) for words in linux.get("devices") or ()),
        mounts=tuple(made),
        masked=tuple(linux.get("maskedPaths") or ()),
        read_only=tuple(linux.get("readonlyPaths") or ()),
        root_read_only=bool((config.get("root") or {}).get("readonly")),
        sysctls=tuple(pair for pair in sysctls if pair[0].startswith("net/")),
        ipc_sysctls=tuple(pair for pair in sysctls if not pair[0].startswith("net/")),
        hostname=config.get("hostname") or "",
        domainname=config.get("domainname") or "",
        args=args,
        env=dict(item.partition("=")[::2] for item in process.get("env") or () if "=" in item),
        cwd=_absolute(process.get("cwd") or "/", "cwd"),
        user=name if isinstance(name, str) else None,
        uid=int(uid),
        gid=int(gid),
        groups=(int(gid), *(int(extra) for extra in process["user"].get("additionalGids") or ())),
        more_groups=tuple(str(word) for word in process["user"].get("groups") or ()),
        umask=int(process["user"].get("umask", 0o022)),
        terminal=bool(process.get("terminal")),
        window=(int(window["height"]), int(window["width"])) if window else None,
        capabilities=_capabilities(process.get("capabilities") or {}),
        no_new_privileges=bool(process.get("noNewPrivileges")),
        rlimits=_rlimits(process.get("rlimits") or ()),
        oom_score_adj=int(process.get("oomScoreAdj") or 0),
        seccomp=_filters(linux.get("seccomp"), annotations.get("slipway.seccomp")),
    )


def _id_range(linux: Mapping[str, Any]) -> tuple[int, int]:
    uids, gids = linux["uidMappings"], linux["gidMappings"]
    if uids != gids or len(uids) != 1 or uids[0]["containerID"] != 0:
        raise Unsupported("uidMappings and gidMappings must be the same single range that begins with container id 0")
    start, count = int(uids[0]["hostID"]), int(uids[0]["size"])
    if start < 65536 or count < 1:
        raise InvalidArgument("a container's ids must lie beyond the host's own (from 65536)")
    return start, count


def _filters(profile: Mapping[str, Any] | None, own: str | None) -> tuple[Mapping[str, Any], ...]:
    return tuple(each for each in (profile, json.loads(own) if own else None) if each is not None)


def _node(words: Mapping[str, Any]) -> Node:
    path = str(words["path"])
    kind = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK}.get(str(words["type"]))
    if kind is None or not path.startswith("/dev/") or ".." in path.split("/") or "\0" in path:
        raise InvalidArgument(f"invalid device {dict(words)!r}")
    return Node(path.removeprefix("/dev/"), kind | int(words.get("fileMode", 0o666)) & 0o666, int(words["major"]), int(words["minor"]))


def _namespaces(linux: Mapping[str, Any]) -> tuple[int, int]:
    """(those to be made, those of a container to be entered). Who enters one enters its user namespace, which owns it, too."""
    flags, joined = Clone(0), Clone(0)
    for namespace in linux["namespaces"]:
        path = namespace.get("path") or ""
        if path and (not path.startswith(JOINED) or namespace["type"] not in _JOINABLE):
            raise Unsupported(f"joining a {namespace['type']} namespace by path is not supported")
        flag = namespaces.FLAGS.get(namespace["type"])
        if flag is None:
            raise Unsupported(f"namespace type {namespace['type']!r} is not supported")
        if flags & flag:
            raise InvalidArgument(f"namespace {namespace['type']} is named twice")
        flags |= flag
        joined |= flag if path else 0
    missing = [name for name, flag in namespaces.FLAGS.items() if not flags & flag and name != "network"]
    if missing:
        raise Unsupported(f"sharing the host's namespaces is not supported: {', '.join(missing)}")
    if joined:
        joined |= Clone.NEWUSER
    return int(flags & ~joined), int(joined)


def _mount(words: Mapping[str, Any]) -> Mount:
    options = list(words.get("options") or ())
    kind = str(words.get("type") or "none")
    if "bind" in options or "rbind" in options or kind == "bind":
        kind = "bind"
    own = words.get("slipway")
    return Mount(
        target=_absolute(words["destination"], "mount destination"),
        kind=kind,
        source=str(words.get("source") or kind),
        options=parse_options(options),
        recursive="rbind" in options,
        asked=own is not None,
        **{name: kind_of(own[name]) for name, kind_of in _OWN.items() if own and name in own},
    )


def _absolute(path: str, what: str) -> str:
    if not path.startswith("/") or "\0" in path:
        raise InvalidArgument(f"{what} {path!r} is not an absolute path")
    return path


def _sysctl(key: str, value: str) -> tuple[str, str]:
    """Only those that a namespace of the container's own has. Dots separate, as in sysctl(8)."""
    if not _SYSCTL.fullmatch(key) or ".." in key or (key.startswith("kernel.") and not key.startswith(_OWN_KERNEL_SYSCTLS)):
        raise InvalidArgument(f"sysctl {key!r} is not in a separate kernel namespace")
    return key.replace(".", "/"), value


def _capabilities(words: Mapping[str, Any]) -> Capabilities:
    masks = {}
    for kind in ("bounding", "effective", "permitted", "inheritable", "ambient"):
        # the runtime-spec lets names pass that this kernel or we don't know
        masks[kind] = sum(1 << CAPABILITIES.index(name) for name in set(words.get(kind) or ()) if name in CAPABILITIES)
    return Capabilities(**masks)


def _rlimits(asked: Any) -> tuple[tuple[int, int, int], ...]:
    limits: dict[int, tuple[int, int]] = {}
    for limit in asked:
        number = getattr(resource, str(limit["type"]), None)
        if number is None or not str(limit["type"]).startswith("RLIMIT_"):
            raise InvalidArgument(f"invalid rlimit type {limit['type']!r}")
        if number in limits:
            raise InvalidArgument(f"rlimit {limit['type']} is named twice")
        soft, hard = (_rlimit(int(limit[kind])) for kind in ("soft", "hard"))
        if hard != resource.RLIM_INFINITY and (soft > hard or soft == resource.RLIM_INFINITY):
            raise InvalidArgument(f"rlimit {limit['type']}: the soft limit is above the hard one")
        limits[number] = (soft, hard)
    if resource.RLIMIT_NOFILE not in limits:
        own = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        hard = _NOFILE[1] if own == resource.RLIM_INFINITY else min(_NOFILE[1], own)
        limits[resource.RLIMIT_NOFILE] = (min(_NOFILE[0], hard), hard)
    return tuple((number, *pair) for number, pair in limits.items())


def _rlimit(value: int) -> int:
    """The spec's numbers are unsigned 64 bit; -1 and 2^64 - 1 are no limit."""
    return resource.RLIM_INFINITY if value < 0 or value >= (1 << 64) - 1 else value


def _resources(words: Mapping[str, Any]) -> tuple[Resources, tuple[DeviceRule, ...]]:
    memory, cpu, block = (words.get(part) or {} for part in ("memory", "cpu", "blockIO"))
    swappiness = memory.get("swappiness")
    limits = Resources(
        memory_bytes=max(int(memory.get("limit") or 0), 0),
        memory_swap_bytes=int(memory.get("swap") or 0),
        memory_reservation_bytes=max(int(memory.get("reservation") or 0), 0),
        cpu_shares=int(cpu.get("shares") or 0),
        cpu_period_us=int(cpu.get("period") or 0),
        cpu_quota_us=int(cpu.get("quota") or 0),
        cpuset_cpus=str(cpu.get("cpus") or ""),
        cpuset_mems=str(cpu.get("mems") or ""),
        pids_limit=int((words.get("pids") or {}).get("limit") or 0),
        memory_swappiness=-1 if swappiness is None else int(swappiness),
        oom_kill_disable=bool(memory.get("disableOOMKiller")),
        blkio_weight=int(block.get("weight") or 0),
        blkio_weight_device=_rates(block.get("weightDevice"), "weight"),
        blkio_read_bps=_rates(block.get("throttleReadBpsDevice"), "rate"),
        blkio_write_bps=_rates(block.get("throttleWriteBpsDevice"), "rate"),
        blkio_read_iops=_rates(block.get("throttleReadIOPSDevice"), "rate"),
        blkio_write_iops=_rates(block.get("throttleWriteIOPSDevice"), "rate"),
    )
    return limits, tuple(_device_rule(rule) for rule in words.get("devices") or ())


def _rates(words: Any, key: str) -> tuple[DeviceRate, ...]:
    return tuple(DeviceRate(path=f"{int(entry['major'])}:{int(entry['minor'])}", rate=int(entry[key])) for entry in words or ())


def _device_rule(words: Mapping[str, Any]) -> DeviceRule:
    kind, access = words.get("type") or "a", words.get("access") or "rwm"
    if kind not in ("a", "b", "c") or not set(access) <= set("rwm"):
        raise InvalidArgument(f"invalid device rule {dict(words)!r}")
    major, minor = (None if words.get(key) in (None, -1) else int(words[key]) for key in ("major", "minor"))
    return DeviceRule(bool(words["allow"]), kind, major, minor, access)
