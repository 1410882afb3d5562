"""What this kernel can do for containers, tried rather than guessed: each finding with the reason when it can't, and the fix.

As an ordinary user only what needs no privilege is tried; the rest is said to be unknown.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from engine.kernel import capabilities, cgroups, mounts, namespaces, netlink, project_quota, syscalls
from engine.kernel.syscalls import Clone, Resolve

OLDEST: Final = (5, 19)  # overlayfs on id-mapped layers
NOT_TRIED: Final = "not tried without root"
_TRIAL_IDS: Final = 0x6EFF_0000  # 65,536 ids for a trial mapping; nothing is stored under them
_CONTROLLERS: Final = ("memory", "cpu", "pids")
_SIOCBRADDBR: Final = 0x89A0  # linux/sockios.h
_ASK_DISTRIBUTION: Final = "Use a kernel of Debian 12 or newer"


@dataclass(frozen=True, slots=True)
class Finding:
    """``reason``: why not, or a remark. ``fix``: who can change it and how. ``required``: no container runs without it."""

    name: str
    ok: bool
    required: bool
    reason: str = ""
    fix: str = ""


class _Lacking(Exception):
    """(reason, fix)"""

    def __init__(self, reason: str, fix: str) -> None:
        super().__init__(reason)
        self.fix = fix


def probe(folder: Path) -> list[Finding]:
    """Everything, in a second. ``folder`` is where layers will lie: overlay and id-mapped mounts depend on its file system."""
    return [_find(name, required, partial(trial, folder)) for name, required, trial in _TRIALS]


def _find(name: str, required: bool, trial: Callable[[], str]) -> Finding:
    try:
        return Finding(name, True, required, trial())
    except _Lacking as lacking:
        return Finding(name, False, required, str(lacking), lacking.fix)
    except OSError as error:
        return Finding(name, False, required, f"{error.strerror}", _ASK_DISTRIBUTION)


def _kernel(_folder: Path) -> str:
    release = platform.release()
    numbers = tuple(int(part) for part in release.split("-")[0].split(".")[:2])
    if numbers < OLDEST:
        raise _Lacking(f"Linux {release} is older than {OLDEST[0]}.{OLDEST[1]}", _ASK_DISTRIBUTION)
    return f"Linux {release}"


def _openat2(_folder: Path) -> str:
    os.close(syscalls.openat2(syscalls.AT_FDCWD, "/", os.O_PATH | os.O_CLOEXEC, resolve=Resolve.IN_ROOT))
    return ""


def _user_namespaces(_folder: Path) -> str:
    limit = _read("/proc/sys/user/max_user_namespaces")
    if limit == "0":
        raise _Lacking("user.max_user_namespaces is 0", "The administrator of this machine raises it with sysctl")
    if os.geteuid() != 0:
        return NOT_TRIED
    try:
        os.close(namespaces.user_namespace([(0, _TRIAL_IDS, 65536)], [(0, _TRIAL_IDS, 65536)]))
    except OSError as error:
        raise _Lacking(
            f"making one fails: {error.strerror}", "Their use is restricted here: the administrator of this machine allows it"
        ) from error
    return ""


def _overlay(folder: Path) -> str:
    """One overlay as the launcher makes it: layers through an id-mapped clone, its upper folder the tenant's."""
    if os.geteuid() != 0:
        return NOT_TRIED
    if "\toverlay\n" not in Path("/proc/filesystems").read_text() and not _loadable("overlay"):
        raise _Lacking("this kernel has no overlay file system", "The administrator of this machine loads the module overlay")
    if reason := _in_child(lambda: _try_overlay(folder)):
        raise _Lacking(
            f"an overlay of id-mapped layers below {folder} fails: {reason}",
            "Put SLIPWAY_DATA on ext4, xfs or btrfs, with Linux 5.19 or newer",
        )
    return ""


def _try_overlay(folder: Path) -> None:
    capabilities.keep_on_setfsuid()
    mounts.private_namespace()
    with tempfile.TemporaryDirectory(prefix=".slipway-probe-", dir=folder) as made, _closing() as opened:
        for name in ("lower", "upper", "work", "seen"):
            Path(made, name).mkdir()
        userns = opened(namespaces.user_namespace([(0, _TRIAL_IDS, 65536)], [(0, _TRIAL_IDS, 65536)]))
        # cloned before anything is mounted below: the clone must not hold itself
        clone = opened(mounts.idmapped_clone(made, userns))
        mounts.attach(clone, f"{made}/seen")
        try:
            layers = [opened(os.open(f"{made}/seen/{name}", os.O_PATH | os.O_CLOEXEC)) for name in ("lower", "upper", "work")]
            with mounts.files_owned_by(_TRIAL_IDS, _TRIAL_IDS):
                opened(mounts.overlay(layers[:1], layers[1], layers[2]))
        finally:
            syscalls.umount2(f"{made}/seen", syscalls.MNT_DETACH)


def _cgroups(_folder: Path) -> str:
    version = cgroups.version()
    if version == 0:
        raise _Lacking("no cgroup controller is mounted", "The administrator mounts cgroup2 at /sys/fs/cgroup; systemd does so by itself")
    rows = [row.split() for row in Path("/proc/cgroups").read_text().splitlines()[1:]]
    have = (
        set(_read("/sys/fs/cgroup/cgroup.controllers").split()) if version == 2 else {name for name, _tree, _count, on in rows if on == "1"}
    )
    if lacking := [name for name in _CONTROLLERS if name not in have]:
        raise _Lacking(
            f"version {version} without the controllers {', '.join(lacking)}",
            "They were switched off at boot: see cgroup_disable= on the kernel's command line",
        )
    return f"version {version}"


def _seccomp(_folder: Path) -> str:
    actions = _read("/proc/sys/kernel/seccomp/actions_avail")
    if "errno" not in actions.split():
        raise _Lacking("no seccomp filters", _ASK_DISTRIBUTION)
    return ""


def _nftables(_folder: Path) -> str:
    try:
        ctypes.CDLL("libnftables.so.1")
    except OSError:
        raise _Lacking("libnftables.so.1 is missing", "`sudo ./manage.py up` installs Debian's nftables") from None
    if os.geteuid() == 0:
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12).close()  # NETLINK_NETFILTER
    return ""


def _network_namespaces(_folder: Path) -> str:
    if os.geteuid() != 0:
        return NOT_TRIED
    if reason := _in_child(lambda: syscalls.unshare(Clone.NEWNET)):
        raise _Lacking(f"making one fails: {reason}", _ASK_DISTRIBUTION)
    return ""


def _bridge(_folder: Path) -> str:
    """A tenant's network: a bridge, and a pair of links of which one end is its port."""
    if os.geteuid() != 0:
        return NOT_TRIED
    if reason := _in_child(_try_bridge):
        raise _Lacking(
            f"containers get no network but none: {reason}", "The administrator of this machine loads the modules bridge and veth"
        )
    return ""


def _ipv6(_folder: Path) -> str:
    if not Path("/proc/net/if_inet6").exists():
        raise _Lacking("no network can have IPv6, for this kernel runs without", "Boot it without ipv6.disable=1, if tenants want IPv6")
    return ""


def _try_bridge() -> None:
    syscalls.unshare(Clone.NEWNET)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, _SIOCBRADDBR, b"bridge0\0")
    with netlink.Socket() as links, _closing() as opened:
        here = opened(os.open("/proc/self/ns/net", os.O_RDONLY))
        port = netlink.add_veth(
            "port0", bridge=links.index("bridge0"), mtu=1500, peer="eth0", peer_mac="02:00:00:00:00:01", peer_netns=here
        )
        links.run([port])


def _proc(_folder: Path) -> str:
    """A container may mount its own /proc only where nothing hides a part of the host's, or the launcher has a whole one."""
    if os.geteuid() != 0:
        return NOT_TRIED
    hidden = [row.split()[4] for row in Path("/proc/self/mountinfo").read_text().splitlines() if row.split()[4].startswith("/proc/")]
    return (
        f"a whole one is mounted aside, for {hidden[0]} is hidden"
        if [path for path in hidden if path != "/proc/sys/fs/binfmt_misc"]
        else ""
    )


def _sizes_of_volumes(folder: Path) -> str:
    if project_quota.holds(folder):
        return "by project quotas of the disk"
    if not os.path.exists("/dev/loop-control"):
        raise _Lacking(
            "this kernel lends no loop devices", "Sizes of volumes and layers are refused; its administrator loads the module loop"
        )
    if not os.access("/usr/sbin/mkfs.ext4", os.X_OK):
        raise _Lacking(
            "mkfs.ext4 is not there", "Sizes of volumes and layers are refused; the administrator installs the package e2fsprogs"
        )
    why = project_quota.why_never()
    reason = f"this kernel was built without {why}" if why else "the disk is not mounted with prjquota"
    return f"each is a file with a file system of its own, for {reason}"


def _nfs(_folder: Path) -> str:
    """Looked for, not tried: that would load the module of who has no use for it."""
    if "\tnfs\n" not in Path("/proc/filesystems").read_text() and not _loadable("nfs"):
        raise _Lacking(
            "this kernel has no nfs: volumes on NFS servers are refused",
            "If tenants want them, its administrator loads the module nfs, or boots a kernel that has it (Debian's own do)",
        )
    return ""


def _raise_limits(_folder: Path) -> str:
    if os.geteuid() == 0 and not capabilities.effective() & capabilities.CAP_SYS_RESOURCE:
        raise _Lacking(
            "root has no CAP_SYS_RESOURCE here",
            "Limits of processes (ulimit) can't be raised above the machine's; whoever made this machine may grant it",
        )
    return ""


def _apparmor(_folder: Path) -> str:
    """A remark either way: a profile would be one more wall, and can't stop mounts by the newer calls (fsopen) anyway [m]."""
    try:
        on = Path("/sys/module/apparmor/parameters/enabled").read_text().strip() == "Y"
    except FileNotFoundError:
        on = False
    return "on; containers run under no profile of their own" if on else "off here; containers don't need it"


_TRIALS: Final[tuple[tuple[str, bool, Callable[[Path], str]], ...]] = (
    ("kernel", True, _kernel),
    ("openat2", True, _openat2),
    ("user namespaces", True, _user_namespaces),
    ("network namespaces", True, _network_namespaces),
    ("bridge and veth", False, _bridge),
    ("IPv6", False, _ipv6),
    ("overlay on id-mapped layers", True, _overlay),
    ("cgroups", True, _cgroups),
    ("seccomp", True, _seccomp),
    ("nftables", False, _nftables),  # its package is installed by ``up``
    ("/proc", False, _proc),
    ("limits", False, _raise_limits),
    ("volumes and layers with a size", False, _sizes_of_volumes),
    ("volumes on NFS servers", False, _nfs),
    ("AppArmor", False, _apparmor),
)


def _in_child(act: Callable[[], None]) -> str:
    """Why it failed, or nothing. In a process of its own, whose namespaces and ids go with it."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            act()
        except OSError as error:
            os.write(writing, str(error.strerror or error).encode())
        except BaseException as error:
            os.write(writing, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitpid(pid, 0)
    return said


def _loadable(module: str) -> bool:
    """Whether the kernel finds it when it is first mounted: modules.dep(5) names it, or it is built in."""
    folder = Path("/lib/modules", platform.release())
    return any(f"/{module}.ko" in _read(str(folder / name)) for name in ("modules.dep", "modules.builtin"))


@contextmanager
def _closing() -> Iterator[Callable[[int], int]]:
    fds: list[int] = []

    def opened(fd: int) -> int:
        fds.append(fd)
        return fd

    try:
        yield opened
    finally:
        for fd in fds:
            os.close(fd)


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
