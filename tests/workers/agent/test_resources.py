"""What a container may use, and what becomes of who wants more: pausing, live limits, OOM kills, fork bombs, processes, figures."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from engine import errors, executions, freezing, recovery
from engine.kernel import cgroups
from engine.model.container import ContainerState, Status
from engine.model.resources import DeviceRate, Resources
from tests.workers.agent.conftest import TENANT, Host, until

pytestmark = pytest.mark.requires("root", "overlay", "cgroup", "userns")

MIB = 1 << 20
LIMITS = Resources(memory_bytes=64 * MIB, memory_swap_bytes=64 * MIB, nano_cpus=500_000_000, pids_limit=50)
POLITE = ("sh", "-c", "trap 'exit 5' TERM; echo ready; while true; do sleep 0.05; done")


def cgroup(host: Host, container_id: str) -> str:
    return host.engine.cgroup(host.engine.spec(TENANT, container_id))


def state(host: Host, container_id: str) -> ContainerState:
    return host.engine.state(TENANT, container_id)


def says(host: Host, container_id: str, words: bytes) -> None:
    """Until it is in its log."""
    folder = host.config.container(container_id) / "log"
    until(lambda: any(words in data.read_bytes() for data in folder.glob("*.data")))


@pytest.fixture
def polite(host: Host) -> Iterator[str]:
    container = host.run(*POLITE)
    says(host, container, b"ready")
    yield container


# -- pause -------------------------------------------------------------------------------------------


@pytest.mark.guest
def test_what_is_paused_does_nothing_until_it_is_woken(host: Host, polite: str) -> None:
    paused = host.engine.pause(TENANT, polite)
    assert (paused.status, paused.seq, paused.change) == (Status.PAUSED, 1, 1)
    host.engine.keeper.signal(polite, signal.SIGTERM)  # not by the engine, which would wake it
    assert host.engine.top(TENANT, polite).processes
    assert state(host, polite).status is Status.PAUSED
    woken = host.engine.unpause(TENANT, polite)
    assert woken.change == 2 or woken.status is Status.EXITED  # its signal has waited for it
    ended = host.engine.wait(polite, timeout_s=60)
    assert (ended.status, ended.exit_code) == (Status.EXITED, 5)


def test_moby_s_sentences(host: Host, polite: str) -> None:
    with pytest.raises(errors.FailedPrecondition, match=f"Container {polite} is not paused"):
        host.engine.unpause(TENANT, polite)
    host.engine.pause(TENANT, polite)
    with pytest.raises(errors.FailedPrecondition, match=f"Container {polite} is already paused"):
        host.engine.pause(TENANT, polite)
    with pytest.raises(errors.NotFound):
        host.engine.unpause("other", polite)
    host.engine.kill(TENANT, polite, signal.SIGKILL)
    host.engine.wait(polite, timeout_s=60)
    with pytest.raises(errors.FailedPrecondition, match=f"container {polite} is not running"):
        host.engine.pause(TENANT, polite)
    with pytest.raises(errors.FailedPrecondition, match=f"Container {polite} is not paused"):
        host.engine.unpause(TENANT, polite)


@pytest.mark.guest
def test_a_stop_and_a_kill_wake_what_is_paused(host: Host, polite: str) -> None:
    host.engine.pause(TENANT, polite)
    host.engine.stop(TENANT, polite, timeout_s=60)
    assert host.engine.wait(polite, timeout_s=60).exit_code == 5
    host.engine.settle(polite)
    host.start(polite)
    assert state(host, polite).status is Status.RUNNING, "a new run begins awake"
    host.engine.pause(TENANT, polite)
    host.engine.remove(TENANT, polite, force=True)
    with pytest.raises(errors.NotFound):
        state(host, polite)


def test_the_freezer_follows_the_record_of_who_was_killed_in_between(host: Host, polite: str) -> None:
    run, path = state(host, polite).run, cgroup(host, polite)
    host.engine.records.write_pause(polite, run, paused=True)  # and then came kill -9
    freezing.restore(host.engine, polite)
    host.engine.keeper.signal(polite, signal.SIGTERM)
    host.engine.records.write_pause(polite, run, paused=False)  # and again, before it was thawed
    assert state(host, polite).status is Status.RUNNING
    assert cgroups.pids(path)
    recovery.recover(host.engine)
    assert host.engine.wait(polite, timeout_s=60).exit_code == 5


def test_what_is_paused_survives_its_keeper_and_ends_with_it(host: Host, polite: str) -> None:
    host.engine.pause(TENANT, polite)
    before = host.engine.keeper.parts()["keeper"]["pid"]
    os.kill(before, signal.SIGKILL)
    until(lambda: _keeper(host) not in (0, before))
    until(lambda: [kept["id"] for kept in host.engine.keeper.list()] == [polite])
    assert state(host, polite).status is Status.PAUSED
    host.engine.unpause(TENANT, polite)
    host.engine.stop(TENANT, polite)
    assert host.engine.wait(polite, timeout_s=60).exit_code == 5


def _keeper(host: Host) -> int:
    try:
        return int(host.engine.keeper.parts()["keeper"]["pid"])
    except errors.Unavailable:
        return 0


# -- limits ------------------------------------------------------------------------------------------


@pytest.mark.guest
def test_new_limits_hold_at_once_and_after_the_next_start(host: Host) -> None:
    container = host.run("sleep", "1000", resources=LIMITS)
    more = replace(LIMITS, memory_bytes=128 * MIB, memory_swap_bytes=128 * MIB, nano_cpus=250_000_000, pids_limit=7)
    host.engine.update(TENANT, container, more)
    usage = cgroups.usage(cgroup(host, container))
    assert (usage.memory_limit_bytes, usage.pids_limit) == (128 * MIB, 7)
    assert host.engine.spec(TENANT, container).resources == more
    host.engine.stop(TENANT, container, timeout_s=0)
    host.engine.wait(container, timeout_s=60)
    host.engine.settle(container)
    less = replace(more, memory_bytes=32 * MIB, memory_swap_bytes=32 * MIB)
    host.engine.update(TENANT, container, less)
    host.start(container)
    assert cgroups.usage(cgroup(host, container)).memory_limit_bytes == 32 * MIB


@pytest.mark.guest
def test_an_update_that_the_kernel_refuses_leaves_everything_as_it_was(host: Host) -> None:
    container = host.run("sleep", "1000", resources=LIMITS)
    config = host.engine.records.oci_config(container)
    with pytest.raises(errors.FailedPrecondition, match=f"Cannot update container {container}: .*cpuset"):
        host.engine.update(TENANT, container, replace(LIMITS, memory_bytes=32 * MIB, memory_swap_bytes=32 * MIB, cpuset_cpus="4095"))
    usage = cgroups.usage(cgroup(host, container))
    assert (usage.memory_limit_bytes, usage.pids_limit) == (64 * MIB, 50)
    assert host.engine.spec(TENANT, container).resources == LIMITS
    assert host.engine.records.oci_config(container) == config


def test_a_disk_is_named_by_its_path_and_nothing_else_passes_for_one(host: Host) -> None:
    for path in ("/dev/null", "/dev/nope", "/dev/../etc/passwd"):
        with pytest.raises(errors.InvalidArgument, match="no such block device on this host"):
            host.create("true", resources=Resources(blkio_read_bps=(DeviceRate(path=path, rate=MIB),)))


# -- too much ----------------------------------------------------------------------------------------


@pytest.mark.guest
def test_the_kernel_kills_one_process_and_everybody_hears_of_it(host: Host) -> None:
    """Its first process and its neighbour live on."""

    async def scene() -> None:
        neighbour = host.run("sleep", "1000")
        async with host.stream("events") as (_ok, reader, _writer):
            while "inventory" not in json.loads(await reader.readline()):
                pass
            hog = host.run(
                "sh", "-c", "dd if=/dev/zero of=/dev/null bs=256M count=1; echo after; sleep 1000",
                resources=Resources(memory_bytes=24 * MIB, memory_swap_bytes=24 * MIB),
            )  # fmt: skip
            while True:
                told = json.loads(await reader.readline())
                if told.get("kind") == "container.changed" and told["object_id"] == hog:
                    break
        assert (told["state"]["oom_killed"], told["state"]["status"], told["state"]["change"]) == (True, "running", 1)
        says(host, hog, b"after")
        assert state(host, neighbour).status is Status.RUNNING
        host.engine.kill(TENANT, hog, signal.SIGKILL)
        assert host.engine.wait(hog, timeout_s=60).oom_killed

    asyncio.run(scene())


@pytest.mark.guest
def test_a_fork_bomb_stays_within_its_container_s_processes(host: Host) -> None:
    bomb = host.run("sh", "-c", "(while true; do sleep 1000 & done) 2>/dev/null; exec sleep 1000", resources=Resources(pids_limit=20))
    neighbour = host.run("sh", "-c", "(sleep 0.01); echo lives; sleep 1000")
    says(host, neighbour, b"lives")
    assert cgroups.usage(cgroup(host, bomb)).pids <= 20


@pytest.mark.guest
def test_everything_that_a_tenant_runs_is_below_the_tenant_s_cgroup(host: Host) -> None:
    container = host.run("sh", "-c", "sleep 1000 & sleep 1000")
    command = ("sh", "-c", "sleep 0.01; cat /proc/self/cgroup")
    code, output = executions.run(host.engine, TENANT, container, command, timeout_s=60, output_limit=4096)
    assert code == 0, output
    tenant = cgroup(host, container).rpartition("/")[0]
    pids = {entry["pid"] for entry in host.engine.keeper.list()}
    assert pids <= set(cgroups.pids(tenant))
    paths = [line.split(":", 2)[2] for line in output.decode().splitlines() if ":memory:" in line or line.startswith("0::")]
    assert set(paths) <= {"/"}, "and in its own namespace it is the root"


# -- figures -----------------------------------------------------------------------------------------


async def test_many_streams_of_one_container_share_one_sampler(host: Host) -> None:
    container = host.run("sleep", "1000")
    async with (
        host.stream("stats", container, interval_s=0.2) as (_ok, one, _w),
        host.stream("stats", container, interval_s=0.2) as (_o, two, _v),
    ):
        seen = [[json.loads(await reader.readline())["read"] for _ in range(4)] for reader in (one, two)]
    assert set(seen[1][:-1]) & set(seen[0]), "the same moments"
    async with host.stream("stats", container, interval_s=0.1, count=2) as (_ok, reader, _writer):
        first, second = [json.loads(line) for line in (await reader.read(-1)).splitlines()]
    assert second["precpu_stats"] == first["cpu_stats"]
    with pytest.raises(errors.NotFound):
        async with host.stream("stats", container, tenant="other"):
            pass


async def test_one_sample_is_the_answer_itself(host: Host) -> None:
    container = host.run("sleep", "1000", resources=LIMITS)
    async with host.stream("sample", container) as (sample, _reader, _writer):
        assert sample["memory_stats"]["limit"] == 64 * MIB
        assert sample["pids_stats"] == {"current": 1, "limit": 50}
    await asyncio.to_thread(host.engine.kill, TENANT, container, signal.SIGKILL)
    await asyncio.to_thread(host.engine.wait, container, timeout_s=60)
    with pytest.raises(errors.FailedPrecondition, match="is not running"):
        async with host.stream("sample", container):
            pass


@pytest.mark.guest
async def test_top_shows_the_container_s_processes_and_nobody_else_s(host: Host) -> None:
    container, other = host.run("sh", "-c", "sleep 1234 & sleep 1234 & wait"), host.run("sleep", "5678")

    async def shown(options: str) -> dict[str, Any]:
        async with host.stream("top", container, options=options) as (table, _reader, _writer):
            return table

    until(lambda: len(host.engine.top(TENANT, container).processes) == 3)  # the shell has started both
    table = await shown("")
    assert table["titles"] == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert sorted(row[-1] for row in table["processes"]) == ["sh -c sleep 1234 & sleep 1234 & wait", "sleep 1234", "sleep 1234"]
    assert {row[0] for row in table["processes"]} == {"root"}, "as the container knows itself"
    assert state(host, container).pid in [int(row[1]) for row in table["processes"]]
    for options in ("aux", "auxf", "-eo pid,args --sort=pid", "-e", "-N", "U root", "-C sleep -o pid,args"):
        rows = json.dumps((await shown(options))["processes"])
        assert "5678" not in rows and rows.count("pytest") == 0, options
    assert state(host, other).pid not in [int(row[0]) for row in (await shown("-eo pid"))["processes"]]


@pytest.mark.parametrize(
    "options", ["-n /etc/passwd", "-o ppid=PID", "-eo args,pid --sort=pid", "-ocomm", "--help all", "-o pid;id", "bad"]
)
def test_ps_options_that_are_refused(host: Host, options: str) -> None:
    container = host.run("sleep", "1000")
    with pytest.raises((errors.InvalidArgument, errors.FailedPrecondition)):
        host.engine.top(TENANT, container, options)
