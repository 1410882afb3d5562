"""What one container may be given beyond the usual, seen from inside it: groups, limits, settings, devices, filters, neighbours."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from engine import errors
from engine.kernel import cgroups
from engine.model.container import Ulimit
from engine.runtime.client import launch
from engine.spec import options

from .launching import Host, Running, host, until

pytestmark = [pytest.mark.guest, pytest.mark.requires("root", "overlay", "userns", "cgroup", kernel="5.19")]

NO_MOUNT = json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}]})
NO_MKDIR = json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]})


@pytest.fixture(scope="module")
def engine() -> Iterator[Host]:
    with host() as running:
        yield running


def test_groups_of_the_image_by_name_and_number(engine: Host) -> None:
    assert engine.shell("id -G", group_add=("wheel", "4242")).output.split() == ["0", "10", "4242"]
    error = engine.refused("true", group_add=("nosuch",))
    assert error.message == "unable to find group nosuch: no matching entries in group file"


def test_limits_of_a_process_and_who_is_killed_first(engine: Host) -> None:
    limits = (Ulimit(name="nofile", soft=100, hard=200), Ulimit(name="core", soft=0, hard=0), Ulimit(name="stack", soft=1 << 20, hard=-1))
    result = engine.shell("ulimit -Sn; ulimit -Hn; ulimit -Sc; ulimit -Hs; cat /proc/self/oom_score_adj", ulimits=limits, oom_score_adj=321)
    assert result.output.split() == ["100", "200", "0", "unlimited", "321"]


def test_settings_of_its_own_namespaces(engine: Host) -> None:
    script = "cat /proc/sys/net/ipv4/ip_default_ttl /proc/sys/kernel/shmmni"
    assert engine.shell(script, sysctls={"net.ipv4.ip_default_ttl": "77", "kernel.shmmni": "1234"}).output.split() == ["77", "1234"]
    for name, value in (("net.nosuch", "1"), ("net.ipv4.ip_forward", "x"), ("kernel.shmnosuch", "1"), ("kernel.shmmni", "x")):
        error = engine.refused("true", sysctls={name: value})
        assert isinstance(error, errors.InvalidArgument) and name in error.message


def test_a_device_is_there_and_opens_and_another_number_does_not(engine: Host) -> None:
    def adjust(config: dict[str, Any]) -> None:
        node = {"type": "c", "major": 1, "minor": 3, "fileMode": 0o666, "uid": 0, "gid": 0}
        config["linux"]["devices"] = [{**node, "path": "/dev/deep/down/null"}, {**node, "minor": 1, "path": "/dev/mem"}]

    result = engine.shell("exec 2>&1; echo x > /dev/deep/down/null && echo opened; cat /dev/mem; ls -ld /dev/deep", adjust=adjust)
    assert "opened" in result.output
    assert "can't open '/dev/mem': Operation not permitted" in result.output
    assert "root" in result.output.splitlines()[-1]


def test_a_profile_of_its_own_forbids_more_and_nothing_less(engine: Host) -> None:
    assert "Operation not permitted" in engine.shell("mkdir /tmp/x", seccomp=NO_MKDIR).output
    all_open = json.dumps({"defaultAction": "SCMP_ACT_ALLOW"})
    assert "mount: permission denied" in engine.shell("mount -t tmpfs x /tmp", cap_add=("SYS_ADMIN",), seccomp=NO_MOUNT).output
    assert "mount: permission denied" in engine.shell("mount -t tmpfs x /tmp", seccomp=all_open).output
    assert engine.shell("mkdir /tmp/x && grep Seccomp: /proc/self/status", seccomp=all_open).output.split() == ["Seccomp:", "2"]
    without = engine.shell("mkdir /tmp/x; grep Seccomp_filters /proc/self/status", seccomp=NO_MKDIR, no_new_privileges=True).output
    assert "Operation not permitted" in without and without.split()[-1] == "2"


def test_without_any_shared_memory(engine: Host) -> None:
    assert "/dev/shm" not in engine.shell("cat /proc/self/mountinfo", ipc_mode="none").output


# -- namespaces of another container -----------------------------------------------------------------


@contextmanager
def beside(engine: Host, other: Running, *args: str, **changes: Any) -> Iterator[Running]:
    words = engine.words(*args, **changes)
    pidfd = os.pidfd_open(other.pid)
    try:
        with launch(engine.config, **words, target=pidfd) as launched:
            started = launched.start()
    finally:
        os.close(pidfd)
    container = Running(words["id"], launched.pid, words["config"]["linux"]["cgroupsPath"], started)
    try:
        yield container
    finally:
        try:
            engine.keeper.signal(container.id, 9)
        except errors.NotFound:
            pass
        engine.wait(container.id)
        cgroups.kill_all(container.cgroup)
        until(lambda: not cgroups.pids(container.cgroup), what="the end of what it left in the other's pid namespace")
        cgroups.remove(container.cgroup)


def name_of(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def namespaces(pid: int) -> dict[str, int]:
    return {kind: os.stat(f"/proc/{pid}/ns/{kind}").st_ino for kind in ("user", "net", "ipc", "pid", "uts", "mnt", "cgroup")}


@pytest.mark.parametrize(
    ("changes", "shared"),
    [
        ({"network_mode": True}, {"user", "net"}),
        ({"ipc_mode": True}, {"user", "ipc"}),
        ({"pid_mode": True}, {"user", "pid"}),
        ({"uts_mode": True}, {"user", "uts"}),
        ({"network_mode": True, "ipc_mode": True, "pid_mode": True, "uts_mode": True}, {"user", "net", "ipc", "pid", "uts"}),
    ],
    ids=["network", "ipc", "pid", "uts", "all"],
)
def test_it_lives_in_those_that_were_asked_for_and_no_other(engine: Host, changes: dict[str, bool], shared: set[str]) -> None:
    with engine.running("sh", "-c", "echo mine > /dev/shm/note; exec sleep 60", ipc_mode="shareable", hostname="donor") as other:
        until(lambda: name_of(other.pid) == "sleep", what="the note")
        asked = dict.fromkeys(changes, f"{options.CONTAINER}{other.id}")
        script = "cat /dev/shm/note; cat /proc/1/comm; cat /proc/self/cgroup; ls /sys/class/net; exec sleep 60"
        with beside(engine, other, "sh", "-c", script, hostname="guest", **asked) as container:
            ours, theirs = namespaces(container.pid), namespaces(other.pid)
            assert {kind for kind in ours if ours[kind] == theirs[kind]} == shared
            until(lambda: name_of(container.pid) == "sleep", what="the script's end")
            assert sorted(os.listdir(f"/proc/{container.pid}/fd")) == ["0", "1", "2"]
            assert cgroups.pids(container.cgroup) == [container.pid]
        output = engine.output(container.id)
    assert ("mine" in output) == ("ipc" in shared)
    assert ("sleep" in output.split()) == ("pid" in shared)
    assert container.id not in output and "/../" not in output, "its cgroup namespace begins at its own cgroup"


def test_when_the_pid_namespace_ends_so_does_its_guest(engine: Host) -> None:
    with engine.running("sleep", "60") as other, beside(engine, other, "sleep", "60", pid_mode=f"container:{other.id}") as container:
        engine.keeper.signal(other.id, 9)
        assert engine.wait(container.id) == 137


def test_a_neighbour_with_a_terminal(engine: Host) -> None:
    with (
        engine.running("sleep", "60") as other,
        beside(engine, other, "sh", "-c", "tty; exit 4", tty=True, pid_mode=f"container:{other.id}") as container,
    ):
        assert engine.wait(container.id) == 4
        assert engine.output(container.id).strip() == "/dev/pts/0"


def test_who_is_gone_can_not_be_joined_and_nothing_is_left(engine: Host) -> None:
    with engine.running("sleep", "60") as other:
        pidfd = os.pidfd_open(other.pid)
    words = engine.words("true", network_mode=f"container:{other.id}")
    try:
        with pytest.raises(errors.FailedPrecondition, match="to join is not running"), launch(engine.config, **words, target=pidfd):
            pass
    finally:
        os.close(pidfd)
    engine.assert_nothing_left(words["id"], str(words["config"]["linux"]["cgroupsPath"]))
    with pytest.raises(errors.InvalidArgument, match="pidfd of the container to join"), launch(engine.config, **words):
        pass
