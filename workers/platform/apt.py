"""Debian packages: which are missing, and installing them without starting the services they bring."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from workers.platform.say import Refusal, step

# What must be there → the package that brings it.
UP: Final = {
    "/usr/bin/redis-server": "redis-server",
    "/usr/sbin/nft": "nftables",
    "/bin/busybox": "busybox-static",
    "/usr/bin/tini-static": "tini",
    "/sbin/ip": "iproute2",
    "/usr/bin/ps": "procps",
}
VENV: Final = "python3-venv"
TEST: Final = {"/usr/bin/msgfmt": "gettext", "/usr/bin/ssh-add": "openssh-client"}
GIT: Final = {"/usr/bin/git": "git"}  # of the tests that build from a repository
COMPOSE: Final = {"/usr/bin/docker-compose": "docker-compose"}  # of those that bring up projects
NFS: Final = {"/usr/sbin/exportfs": "nfs-kernel-server"}  # of those that ask an NFS server, where the kernel can
BROWSER: Final = {  # of the tests that look at pages
    "/usr/bin/chromium": "chromium",
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc": "fonts-noto-cjk",
}

_POLICY: Final = Path("/usr/sbin/policy-rc.d")  # invoke-rc.d(8): 101 forbids the action
_UNITS: Final = {"redis-server": ("redis-server.service",)}  # enabled by their package: they must not start at the next boot either


def missing(wanted: Mapping[str, str]) -> list[str]:
    return sorted({package for path, package in wanted.items() if not os.path.exists(path)})


def install(packages: Sequence[str]) -> None:
    """Refusal when apt-get is not there or fails. Services stay down; those of packages new here are disabled."""
    if not packages:
        return
    if os.geteuid() != 0:
        raise Refusal(f"missing Debian packages: {' '.join(packages)}. Run this as root, or ask your administrator to install them")
    if shutil.which("apt-get") is None:
        raise Refusal(f"this machine has no apt-get: install {' '.join(packages)} yourself, then run this again")
    step(f"installing Debian packages: {' '.join(packages)}")
    with _no_service_starts():
        done = _apt_get("install", *packages)
        if done.returncode:  # the lists may be absent or old
            _apt_get("update")
            done = _apt_get("install", *packages)
    if done.returncode:
        print(done.stdout, file=sys.stderr)
        raise Refusal(f"apt-get could not install {' '.join(packages)}: its own words are above; fix that, then run this again")
    if shutil.which("systemctl"):
        for package in packages:
            for unit in _UNITS.get(package, ()):
                subprocess.run(["systemctl", "disable", unit], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


def _apt_get(verb: str, *packages: str) -> subprocess.CompletedProcess[str]:
    command = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0", "--no-install-recommends", verb]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    return subprocess.run(
        [*command, *packages],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@contextmanager
def _no_service_starts() -> Iterator[None]:
    """A policy-rc.d that forbids starts, unless the administrator has one of his own: that one decides."""
    try:
        fd = os.open(_POLICY, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o755)
    except FileExistsError:
        yield
        return
    try:
        os.write(fd, b"#!/bin/sh\nexit 101\n")
        os.close(fd)
        yield
    finally:
        _POLICY.unlink(missing_ok=True)
