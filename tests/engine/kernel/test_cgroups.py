"""Both versions by the same tests: those of the machine they run on."""

from __future__ import annotations

import errno
import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from engine.kernel import cgroup_files, cgroup_v2, cgroups
from engine.kernel.cgroups import DeviceRule
from engine.model.resources import Resources

pytestmark = [pytest.mark.guest, pytest.mark.requires("root", "cgroup")]

MIB = 1 << 20


@pytest.fixture
def top() -> Iterator[str]:
    path = f"/slipway-{secrets.token_hex(3)}"
    yield path
    deadline = time.monotonic() + 10
    while cgroups.exists(path):
        cgroups.kill_all(path)
        try:
            cgroups.remove(path)
        except OSError:
            assert time.monotonic() < deadline, f"{path} stays"
            time.sleep(0.01)


@contextmanager
def process(act: Callable[[], None]) -> Iterator[int]:
    """Waits in a pipe before it acts, so that the caller can place it; killed at the end. Yields its pid and lets it go on."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(writing)
            os.read(reading, 1)
            act()
        finally:
            os._exit(0)
    os.close(reading)
    try:
        yield pid
    finally:
        os.close(writing)
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        os.waitid(os.P_PID, pid, os.WEXITED)


def placed(path: str, act: Callable[[], None]) -> int:
    """Runs ``act`` in the cgroup and returns its exit code, negative for a signal."""
    pid = os.fork()
    if pid == 0:
        try:
            cgroups.join(path)
            act()
        except OSError as error:
            os._exit(error.errno or 255)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def sleep() -> None:
    time.sleep(60)


def test_a_leaf_is_made_with_its_parents_and_removed_with_what_is_below(top: str) -> None:
    cgroups.create(f"{top}/tenant/leaf", Resources())
    assert cgroups.exists(f"{top}/tenant/leaf")
    with pytest.raises(FileExistsError):
        cgroups.create(f"{top}/tenant/leaf", Resources())
    cgroups.remove(top)
    assert not cgroups.exists(top)
    cgroups.remove(top)


def test_limits_are_set_and_lifted(top: str) -> None:
    leaf = f"{top}/tenant/leaf"
    cgroups.create(leaf, Resources(memory_bytes=64 * MIB, nano_cpus=250_000_000, pids_limit=10, cpu_shares=512, cpuset_cpus="0"))
    usage = cgroups.usage(leaf)
    assert (usage.memory_limit_bytes, usage.pids_limit) == (64 * MIB, 10)
    cgroups.set_limits(leaf, Resources(memory_bytes=128 * MIB))
    assert (cgroups.usage(leaf).memory_limit_bytes, cgroups.usage(leaf).pids_limit) == (128 * MIB, 0)
    cgroups.set_limits(leaf, Resources(memory_bytes=32 * MIB, memory_swap_bytes=-1))
    cgroups.set_limits(leaf, Resources())
    assert cgroups.usage(leaf).memory_limit_bytes == 0


def test_a_tenants_wall_holds_for_its_leaves(top: str) -> None:
    """Also when a leaf asks for more, which version 1 would refuse for cpu."""
    cgroups.set_limits(f"{top}/tenant", Resources(pids_limit=1, nano_cpus=500_000_000))
    cgroups.create(f"{top}/tenant/leaf", Resources(pids_limit=100, nano_cpus=2_000_000_000))

    def fork() -> None:
        if os.fork() == 0:
            os._exit(0)

    assert placed(f"{top}/tenant/leaf", fork) == errno.EAGAIN


def test_a_tenants_wall_is_lowered_below_what_its_leaves_have(top: str) -> None:
    """Which version 1 refuses for cpu while a leaf has more."""
    cgroups.set_limits(f"{top}/tenant", Resources(nano_cpus=1_000_000_000))
    cgroups.create(f"{top}/tenant/leaf", Resources(nano_cpus=800_000_000))
    cgroups.set_limits(f"{top}/tenant", Resources(nano_cpus=500_000_000, memory_bytes=64 * MIB))
    cgroups.set_limits(f"{top}/tenant/leaf", Resources(nano_cpus=800_000_000))
    cgroups.set_limits(f"{top}/tenant", Resources())


def test_ensure_sets_limits_once(top: str) -> None:
    cgroups.ensure(f"{top}/tenant", Resources(pids_limit=7))
    cgroups.ensure(f"{top}/tenant", Resources(pids_limit=9))
    assert cgroups.usage(f"{top}/tenant").pids_limit == 7


def test_a_leaf_that_the_kernel_refuses_leaves_nothing(top: str) -> None:
    with pytest.raises(OSError, match=r"cpuset\.cpus") as caught:
        cgroups.create(f"{top}/leaf", Resources(cpuset_cpus="4095"))
    assert "4095" in str(caught.value)
    assert not cgroups.exists(f"{top}/leaf")


def test_use_is_counted(top: str) -> None:
    leaf = f"{top}/leaf"
    cgroups.create(leaf, Resources(memory_bytes=256 * MIB))

    def work() -> None:
        block = bytearray(os.urandom(32 * MIB))
        while time.process_time() < 0.2 + len(block) * 0:
            pass

    assert placed(leaf, work) == 0
    usage = cgroups.usage(leaf)
    assert usage.cpu_ns >= 150_000_000
    assert usage.cpu_user_ns + usage.cpu_system_ns >= 100_000_000  # of ticks: one at a time may all fall to one side
    assert usage.pids == 0
    with process(sleep) as pid:
        cgroups.enter(leaf, pid)
        assert cgroups.pids(top) == [pid]
        assert cgroups.usage(leaf).pids == 1
        assert cgroups.usage(leaf).memory_stat


def test_memory_beyond_the_limit_is_an_oom_kill(top: str) -> None:
    leaf = f"{top}/leaf"
    cgroups.create(leaf, Resources(memory_bytes=24 * MIB, memory_swap_bytes=24 * MIB))
    assert cgroups.oom_kills(leaf) == 0
    assert placed(leaf, lambda: [os.urandom(MIB) for _ in range(200)] and None) == -signal.SIGKILL
    assert cgroups.oom_kills(leaf) == 1
    assert cgroups.usage(leaf).oom_kills == 1


def test_what_is_frozen_stands_still_and_goes_on(top: str) -> None:
    leaf = f"{top}/leaf"
    cgroups.create(leaf, Resources())

    def spin() -> None:
        while True:
            pass

    with process(spin) as pid:
        cgroups.enter(leaf, pid)
        cgroups.freeze(leaf)
        before = cgroups.usage(leaf).cpu_ns
        time.sleep(0.2)
        assert cgroups.usage(leaf).cpu_ns - before < 20_000_000
        cgroups.thaw(leaf)


@pytest.mark.parametrize("frozen", [False, True])
def test_kill_all_gets_those_that_fork_meanwhile(top: str, frozen: bool) -> None:
    leaf = f"{top}/tenant/leaf"
    cgroups.create(leaf, Resources(pids_limit=50))

    def forks() -> None:
        while True:
            try:
                os.fork()
            except OSError:
                time.sleep(0.001)

    pid = os.fork()
    if pid == 0:
        cgroups.join(leaf)
        forks()
    deadline = time.monotonic() + 20
    while len(cgroups.pids(leaf)) < 20:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    if frozen:
        cgroups.freeze(leaf)
    cgroups.kill_all(f"{top}/tenant")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    while cgroups.usage(leaf).pids:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_busy_one_is_not_removed(top: str) -> None:
    cgroups.create(f"{top}/leaf", Resources())
    with process(sleep) as pid:
        cgroups.enter(f"{top}/leaf", pid)
        with pytest.raises(OSError, match="busy"):
            cgroups.remove(top)
        assert cgroups.pids(f"{top}/leaf") == [pid]


def test_missing_ones_are_said(top: str) -> None:
    for ask in (cgroups.usage, cgroups.oom_kills):
        with pytest.raises(FileNotFoundError):
            ask(top)
    cgroups.kill_all(top)
    assert cgroups.pids(top) == []


@pytest.mark.parametrize(
    ("rules", "results"),
    [
        ([DeviceRule(False)], ("EPERM", "EPERM", "EPERM")),
        ([DeviceRule(False), DeviceRule(True, "c", 1, 3, "rwm")], ("", "", "EPERM")),
        ([DeviceRule(False), DeviceRule(True, "c", 1, 3, "r")], ("", "EPERM", "EPERM")),
        ([DeviceRule(False), DeviceRule(True, "b", None, None, "rwm")], ("EPERM", "EPERM", "EPERM")),
        ([DeviceRule(False), DeviceRule(True)], ("", "", "")),
    ],
)
def test_devices_open_as_the_rules_say(top: str, rules: list[DeviceRule], results: tuple[str, ...]) -> None:
    cgroups.create(f"{top}/leaf", Resources(), rules)
    for (path, flags), expected in zip(
        (("/dev/null", os.O_RDONLY), ("/dev/null", os.O_WRONLY), ("/dev/zero", os.O_RDONLY)), results, strict=True
    ):
        code = placed(f"{top}/leaf", lambda path=path, flags=flags: os.close(os.open(path, flags)))  # type: ignore[misc]
        assert (errno.errorcode[code] if code else "") == expected, (path, flags)


def test_a_part_of_what_is_allowed_is_refused_or_the_whole(top: str) -> None:
    rules = [DeviceRule(False), DeviceRule(True, "c", 1, None, "rwm"), DeviceRule(False, "c", 1, 5, "r")]
    if cgroups.version() == 1:
        with pytest.raises(OSError, match="refuse a part"):
            cgroups.create(f"{top}/leaf", Resources(), rules)
        assert not cgroups.exists(f"{top}/leaf")
        return
    cgroups.create(f"{top}/leaf", Resources(), rules)
    assert placed(f"{top}/leaf", lambda: os.close(os.open("/dev/null", os.O_RDONLY))) == 0
    assert placed(f"{top}/leaf", lambda: os.close(os.open("/dev/zero", os.O_WRONLY))) == 0
    assert placed(f"{top}/leaf", lambda: os.close(os.open("/dev/zero", os.O_RDONLY))) == errno.EPERM


@pytest.mark.requires("cgroup_v2")
def test_controllers_come_back_when_somebody_takes_them(top: str) -> None:
    """systemd does so at the root when it reloads and nobody below has them enabled."""
    cgroups.create(f"{top}/tenant/one", Resources())
    cgroups.remove(f"{top}/tenant/one")
    for node in (f"{cgroup_v2.ROOT}{top}/tenant", f"{cgroup_v2.ROOT}{top}"):
        cgroup_files.write(node, "cgroup.subtree_control", "-memory -pids")
    cgroups.create(f"{top}/tenant/two", Resources(memory_bytes=64 * MIB, pids_limit=3))
    assert cgroups.usage(f"{top}/tenant/two").memory_limit_bytes == 64 * MIB


@pytest.mark.parametrize(("shares", "weight"), [(0, 100), (2, 1), (1024, 39), (262_144, 10_000), (1, 1), (10**9, 10_000)])
def test_shares_become_weights(shares: int, weight: int) -> None:
    assert cgroup_v2.weight(shares) == weight
