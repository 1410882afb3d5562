"""The same config.json under Debian's runc or crun: what the process sees there and here, thing by thing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from engine.kernel import cgroups
from engine.model.container import Ulimit
from engine.model.resources import Resources
from tests.engine.runtime.launching import UID_START, Host, host

pytestmark = [pytest.mark.guest, pytest.mark.requires("root", "overlay", "userns", "cgroup", kernel="5.19")]

# One section a line that begins with "@"
SCRIPT = r"""
exec 2> /dev/null
echo @mounts; cat /proc/self/mountinfo
echo @status; cat /proc/self/status
echo @limits; cat /proc/self/limits
echo @ids; cat /proc/self/uid_map /proc/self/gid_map; id -u; id -g
echo @cgroup; cat /proc/self/cgroup
echo @names; cat /proc/sys/kernel/hostname /proc/sys/kernel/domainname
echo @settings; cat /proc/sys/net/ipv4/ping_group_range /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/ip_default_ttl
echo @devices; cd /dev; stat -c '%n %F %t:%T %a' full null random tty urandom zero
for link in fd stdin stdout stderr ptmx; do readlink $link; done
echo @memory; cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max
echo @pids; cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max
echo @cpu; cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max
echo @spaces; for space in user pid mnt net ipc uts cgroup; do readlink /proc/self/ns/$space; done
echo @env; env
"""
ASKED: dict[str, Any] = {
    "resources": Resources(memory_bytes=64 << 20, pids_limit=40, nano_cpus=500_000_000),
    "ulimits": (Ulimit(name="nofile", soft=100, hard=200), Ulimit(name="core", soft=0, hard=0)),
    "sysctls": {"net.ipv4.ip_default_ttl": "77"},
    "cap_add": ("NET_ADMIN",),
    "cap_drop": ("MKNOD",),
    "tmpfs": {"/tmp": "size=1m"},
    "oom_score_adj": 100,
    "hostname": "oracle",
}
_FLAGS = {"ro", "nosuid", "nodev", "noexec"}


@dataclass(frozen=True)
class Seen:
    sections: dict[str, list[str]]
    root: str  # where the root lies on the host, as mountinfo may show it

    def fields(self, section: str, *names: str) -> dict[str, str]:
        """``Name: value`` lines."""
        pairs = (line.partition(":") for line in self.sections[section])
        return {name: value.strip() for name, _, value in pairs if name in names}

    def mounts(self) -> dict[str, tuple[str, frozenset[str]]]:
        """Target → file system and the flags that count. Without what hides single files, and without single device nodes:
        runc binds the host's, we make them (``devices`` compares them)."""
        found = {}
        for line in self.sections["mounts"]:
            words = line.split()
            target, flags, kind = words[4], words[5], words[words.index("-") + 1]
            if words[3] != "/null" and not (kind == "devtmpfs" and target.startswith("/dev/")):
                bound = target == "/" or target.startswith("/etc/")
                found[target] = ("" if bound else kind, frozenset(flags.split(",")) & _FLAGS)
        return found


@pytest.fixture(scope="module")
def engine() -> Iterator[Host]:
    with host() as running:
        yield running


def parsed(output: str, root: str) -> Seen:
    sections: dict[str, list[str]] = {}
    for line in output.splitlines():
        if line.startswith("@"):
            lines = sections[line[1:]] = []
        elif line.strip() and sections:
            lines.append(line)
    assert "env" in sections, output[-2000:]
    return Seen(sections, root)


def oracle(runtime: str, engine: Host, config: dict[str, Any]) -> Seen:
    """Under another runtime, in a copy of the layer that belongs to the container's root, as its kind of user namespace wants it."""
    bundle = engine.config.data.parent / f"bundle-{runtime}"
    root = bundle / "rootfs"
    bundle.mkdir(mode=0o755)
    shutil.copytree(engine.config.layers / "base/diff", root, symlinks=True)
    for path in (root, *root.rglob("*")):
        os.lchown(path, UID_START, UID_START)
    files = {"hosts", "hostname", "resolv.conf"}
    for mount in config["mounts"]:
        if Path(mount["source"]).name in files:
            (bundle / Path(mount["source"]).name).write_text("# a file\n")
            mount["source"] = str(bundle / Path(mount["source"]).name)
    config["ociVersion"] = "1.0.2"  # crun 1.8 takes no later one; nothing of a later one is in there
    config["process"]["user"] = {"uid": 0, "gid": 0}  # names are an extension of ours
    config["linux"]["cgroupsPath"] = f"{engine.cgroup}/oracle-{runtime}"
    (bundle / "config.json").write_text(json.dumps(config))
    program = shutil.which(runtime)
    assert program is not None
    libraries = next(Path(program).parents[1].glob("lib/*-linux-gnu"), "")  # of one that was unpacked beside the tests
    words = [program, "--root", str(bundle / "state"), "run", "--bundle", str(bundle), f"oracle-{os.getpid()}"]
    if runtime == "crun":
        words.insert(1, "--cgroup-manager=cgroupfs")
        words = _without_unified(words)
    try:
        environment = {**os.environ, "LD_LIBRARY_PATH": str(libraries)}
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, env=environment)
    finally:
        cgroups.remove(f"{engine.cgroup}/oracle-{runtime}")
        _remove_empty(engine.cgroup)
    if done.returncode != 0 and "@env" not in done.stdout:
        pytest.skip(f"{runtime} does not run on this machine: {done.stderr.strip()[-300:]}")
    return parsed(done.stdout, str(root))


def _without_unified(words: list[str]) -> list[str]:
    """crun refuses a machine whose cgroup v2 has a controller beside those of version 1: here it sees version 1 alone."""
    if not Path("/sys/fs/cgroup/unified/cgroup.controllers").exists():
        return words
    script = 'umount /sys/fs/cgroup/unified; exec "$@"'
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "-", *words]


def _remove_empty(cgroup: str) -> None:
    """Of cgroup v1, runc enters also the hierarchies that have no controller, and leaves the parents of its cgroup there."""
    for hierarchy in ("systemd", "unified"):
        root = Path("/sys/fs/cgroup", hierarchy, cgroup.strip("/").split("/")[0])
        for folder in sorted((root, *root.rglob("*")), reverse=True):
            if folder.is_dir():
                folder.rmdir()


@pytest.fixture(scope="module", params=["runc", "crun"])
def both(request: pytest.FixtureRequest, engine: Host) -> tuple[Seen, Seen]:
    """(what a process of ours sees, what one of the other runtime does)."""
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    words = engine.words("sh", "-c", SCRIPT, **ASKED)
    theirs = oracle(request.param, engine, json.loads(json.dumps(words["config"])))
    return parsed(engine.shell(SCRIPT, **ASKED).output, ""), theirs


def test_mounts(both: tuple[Seen, Seen]) -> None:
    ours, theirs = (seen.mounts() for seen in both)
    hidden = {"/proc/acpi", "/proc/scsi", "/proc/asound", "/sys/firmware", "/sys/devices/virtual/powercap"}
    for name in hidden & set(ours) & set(theirs):  # folders: empty and read-only on both, ours without the right to anything else as well
        assert "ro" in ours.pop(name)[1] and "ro" in theirs.pop(name)[1]
    # the root: ours never lets a device node of an image open; and no file of the platform's in /etc has one to open
    allowed_more = {"/": {"nodev"}} | {f"/etc/{name}": {"nodev", "nosuid"} for name in ("hosts", "hostname", "resolv.conf")}
    # what both made of it: the same names; runc leaves the tmpfs below cgroup v1 writable
    assert {name for name in ours if not name.startswith("/sys/fs/cgroup/")} == {
        name for name in theirs if not name.startswith("/sys/fs/cgroup/")
    }
    # crun gives a part of /proc that is read-only none of the flags of /proc
    allowed_more |= {name: {"nosuid", "nodev", "noexec"} for name in theirs if name.startswith("/proc/") and "ro" in theirs[name][1]}
    for name in set(ours) & set(theirs):
        more = ours[name][1] - theirs[name][1]
        from_below = {"nosuid"} if name == "/" else set()  # their root is a folder of ours, which may lie on a tmpfs like Debian 13's /tmp
        assert theirs[name][1] - from_below <= ours[name][1], name
        assert more <= allowed_more.get(name, {"ro"} if name == "/sys/fs/cgroup" else set()), name
        assert ours[name][0] == theirs[name][0], name


def test_capabilities_filter_and_groups(both: tuple[Seen, Seen]) -> None:
    names = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Seccomp_filters", "Uid", "Gid")
    ours, theirs = (seen.fields("status", *names) for seen in both)
    assert len(ours) >= len(names) - 1
    assert ours == theirs


def test_limits_of_the_process(both: tuple[Seen, Seen]) -> None:
    def asked(seen: Seen) -> list[list[str]]:
        return [line.split()[-3:-1] for line in seen.sections["limits"] if line.startswith(("Max open files", "Max core file size"))]

    assert asked(both[0]) == asked(both[1]) == [["0", "0"], ["100", "200"]]


@pytest.mark.parametrize("section", ["ids", "cgroup", "names", "settings", "devices", "memory", "pids", "cpu"])
def test_what_else_it_sees(both: tuple[Seen, Seen], section: str) -> None:
    ours, theirs = (sorted(seen.sections[section]) for seen in both)
    assert ours, section
    assert ours == theirs


def test_namespaces_are_its_own(both: tuple[Seen, Seen]) -> None:
    host_spaces = {os.readlink(f"/proc/self/ns/{kind}") for kind in ("user", "pid", "mnt", "net", "ipc", "uts", "cgroup")}
    for seen in both:
        spaces = set(seen.sections["spaces"])
        assert len(spaces) == 7 and not spaces & host_spaces


def test_the_environment(both: tuple[Seen, Seen]) -> None:
    """HOME is the launcher's to add, which knows the image's passwd; runc leaves it to its caller but adds it, too."""
    ours, theirs = ({line for line in seen.sections["env"] if line.startswith(("PATH=", "HOSTNAME=", "HOME="))} for seen in both)
    assert ours == theirs
