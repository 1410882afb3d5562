"""What this machine offers, each as the reason why not, or None. ``@pytest.mark.requires("root", "overlay", kernel="5.19")``.

SLIPWAY_PROMISED names what a machine was promised to offer (.ci/run sets it): there a missing one fails the test.
"""

from __future__ import annotations

import functools
import os
import platform
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.support import registry


def promised() -> set[str]:
    return set(filter(None, os.environ.get("SLIPWAY_PROMISED", "").split(",")))


@functools.cache
def lacking(need: str) -> str | None:
    """Why the machine can't; None when it can."""
    return _CHECKS[need]()


def kernel_older_than(wanted: str) -> str | None:
    have = platform.release()
    numbers = tuple(int(part) for part in have.split("-")[0].split(".")[:2])
    return None if numbers >= tuple(map(int, wanted.split("."))) else f"kernel {have} is older than {wanted}"


def _root() -> str | None:
    return None if os.geteuid() == 0 else "needs root"


def _overlay() -> str | None:
    with tempfile.TemporaryDirectory() as folder:
        for name in ("lower", "upper", "work", "merged"):
            Path(folder, name).mkdir()
        options = f"lowerdir={folder}/lower,upperdir={folder}/upper,workdir={folder}/work"
        done = _try("unshare", "-m", "mount", "-t", "overlay", "overlay", "-o", options, f"{folder}/merged")
    return f"no overlay mounts: {done}" if done else None


def _userns() -> str | None:
    done = _try("unshare", "-U", "true")
    return f"no user namespaces: {done}" if done else None


def _cgroup_v2() -> str | None:
    controllers = Path("/sys/fs/cgroup/cgroup.controllers")
    return None if controllers.exists() and "memory" in controllers.read_text() else "no cgroup v2 with controllers at /sys/fs/cgroup"


def _cgroup_v1() -> str | None:
    return None if Path("/sys/fs/cgroup/memory").is_dir() and _cgroup_v2() else "no cgroup v1 controllers at /sys/fs/cgroup"


def _cgroup() -> str | None:
    return None if _cgroup_v1() is None else _cgroup_v2()


def _nft() -> str | None:
    if shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin") is None:
        return "no nft: install nftables"
    done = _try("/usr/sbin/nft", "list", "tables")
    return f"nft does not work here: {done}" if done else None


def _chromium() -> str | None:
    return None if shutil.which("chromium") else "no chromium"


def _docker() -> str | None:
    return None if shutil.which("docker") else "no docker command line: ./manage.py test brings one"


def _docker_registry() -> str | None:
    return None if registry.binary("docker-registry", "docker-registry") else "no docker-registry: apt-get download docker-registry"


def _git() -> str | None:
    return None if shutil.which("git") else "no git: apt-get install git"


def compose() -> list[str]:
    """The command: Debian 12 has version 1, Debian 13 has version 2, a plugin of the docker client. [] without one."""
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    return ["docker", "compose"] if Path("/usr/libexec/docker/cli-plugins/docker-compose").exists() else []


def _compose() -> str | None:
    return None if compose() else "no compose: apt-get install docker-compose"


def _debootstrap() -> str | None:
    return None if shutil.which("debootstrap") else "no debootstrap: apt-get install debootstrap"


def _systemd() -> str | None:
    return None if Path("/run/systemd/system").is_dir() else "not booted with systemd"


def _try(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else (done.stderr.strip() or f"exit code {done.returncode}")


def _loop() -> str | None:
    if not os.access("/dev/loop-control", os.R_OK | os.W_OK):
        return "no loop devices"
    return None if shutil.which("mkfs.ext4", path="/usr/sbin:/sbin") else "no mkfs.ext4: install e2fsprogs"


def _sctp() -> str | None:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP).close()
    except OSError as error:
        return f"no sctp: {error.strerror}"
    return None


@functools.cache
def kernel_without_nfs() -> str | None:
    if os.geteuid() != 0 or shutil.which("modprobe", path="/usr/sbin:/sbin") is None:
        return "no nfs: only root loads the module, with modprobe"
    done = _try("/sbin/modprobe", "-a", "nfs", "nfsd")
    return f"no nfs in this kernel: {done}" if done else None


def _nfs() -> str | None:
    """Client and server."""
    if reason := kernel_without_nfs():
        return reason
    return _systemd() or (None if Path("/usr/sbin/exportfs").exists() else "no NFS server: apt-get install nfs-kernel-server")


_CHECKS: dict[str, Callable[[], str | None]] = {
    "root": _root,
    "overlay": _overlay,
    "userns": _userns,
    "cgroup": _cgroup,
    "cgroup_v1": _cgroup_v1,
    "cgroup_v2": _cgroup_v2,
    "nft": _nft,
    "chromium": _chromium,
    "docker": _docker,
    "docker_registry": _docker_registry,
    "systemd": _systemd,
    "git": _git,
    "compose": _compose,
    "debootstrap": _debootstrap,
    "loop": _loop,
    "sctp": _sctp,
    "nfs": _nfs,
}


def slowness() -> float:
    """How many times slower than the machines we promise seconds for: 1 on those, tens on an emulated guest, more while busy."""
    began = time.perf_counter()
    subprocess.run(["/usr/bin/python3", "-c", "import json, subprocess, argparse"], check=True)
    return max(1.0, (time.perf_counter() - began) / 0.2)


def filesystem(path: Path) -> str:
    """Its kind: ext2/ext3, tmpfs, … stat(1)."""
    return subprocess.run(["stat", "-f", "-c", "%T", path], capture_output=True, text=True, check=True).stdout.strip()
