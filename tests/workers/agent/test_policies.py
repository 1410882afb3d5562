"""Restarts and health checks by the real agent: nobody else is there, and it may be killed."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest

from engine import ceilings, errors, executions
from engine.model.container import ContainerState, HealthCheck, RestartPolicy, Status
from engine.model.volume import MountSpec, VolumeSpec
from tests.support import nfs
from tests.workers.agent.conftest import TENANT, Host, listens, until

pytestmark = pytest.mark.requires("root", "overlay", "cgroup", "userns")


def state(host: Host, container_id: str) -> ContainerState:
    return host.engine.records.state(container_id)


def check(*test: str, **words: Any) -> HealthCheck:
    return HealthCheck(test=("CMD", *test), **{"interval_ns": 50 * 10**6, "timeout_ns": 30 * 10**9, "retries": 2, **words})


def kill_agent(host: Host) -> None:
    host.agent.kill()
    host.agent.start()
    until(lambda: listens(host.config))


def test_on_failure_is_tried_as_often_as_asked_and_then_stays_ended(host: Host) -> None:
    tried = RestartPolicy(name="on-failure", maximum_retries=2)
    container = host.run("sh", "-c", "exit 3", restart=tried)
    until(lambda: state(host, container).run == 3 and state(host, container).status is Status.EXITED)
    assert (state(host, container).restart_count, state(host, container).exit_code) == (2, 3)
    content = host.run("true", restart=tried)
    until(lambda: state(host, content).status is Status.EXITED)
    assert state(host, content).restart_count == 0


def test_stop_kill_start_and_remove_during_the_back_off(host: Host) -> None:
    """The agent is away meanwhile, so that nobody can be faster; the next one finds what was given up and what still waits."""
    containers = [host.run("false", restart=RestartPolicy(name="always")) for _ in range(4)]

    def all_wait() -> bool:
        return all(state(host, container).status is Status.RESTARTING for container in containers)

    while True:
        until(all_wait)
        host.agent.kill()
        if all_wait():
            break
        host.agent.start()
    stopped, killed, hung_up, removed = containers
    assert host.engine.stop(TENANT, stopped).status is Status.EXITED
    assert host.engine.kill(TENANT, killed, signal.SIGKILL).status is Status.EXITED
    assert host.engine.kill(TENANT, hung_up, signal.SIGHUP).status is Status.RESTARTING
    with pytest.raises(errors.FailedPrecondition, match="container is restarting: stop the container before removing"):
        host.engine.remove(TENANT, removed)
    host.engine.remove(TENANT, removed, force=True)
    before = state(host, hung_up).run
    host.agent.start()
    until(lambda: state(host, hung_up).run > before)
    for container in (stopped, killed):
        assert state(host, container).status is Status.EXITED and state(host, container).change == 2
    assert host.engine.start(TENANT, stopped).restart_count <= 1  # it counts anew, and may have ended and waited again by now


def test_a_killed_agent_goes_on_with_what_waits_and_finds_what_ended_meanwhile(host: Host) -> None:
    waits = host.run("false", restart=RestartPolicy(name="always"))
    ends = host.run("sleep", "1000", restart=RestartPolicy(name="unless-stopped"))
    by_hand = host.run("sleep", "1000", restart=RestartPolicy(name="unless-stopped"))
    until(lambda: state(host, waits).status is Status.RESTARTING)
    host.agent.kill()
    host.engine.keeper.signal(ends, signal.SIGKILL)
    host.engine.stop(TENANT, by_hand, timeout_s=0)
    for container in (ends, by_hand):
        host.engine.wait(container)
    count = state(host, waits).restart_count
    host.agent.start()
    until(lambda: state(host, waits).restart_count > count)
    until(lambda: state(host, ends).has_process and state(host, ends).restart_count == 1)
    assert state(host, by_hand).status is Status.EXITED


def test_a_restart_whose_agent_was_killed_before_it_was_noted_is_stopped_all_the_same(host: Host) -> None:
    container = host.run("sleep", "1000", restart=RestartPolicy(name="always"))
    start = host.config.container(container) / "start.json"
    first = start.read_bytes()
    host.engine.keeper.signal(container, signal.SIGKILL)
    until(lambda: state(host, container).run == 2 and state(host, container).has_process)
    host.agent.kill()
    start.write_bytes(first)
    assert state(host, container).status is Status.RESTARTING
    host.engine.stop(TENANT, container, timeout_s=0)
    host.engine.wait(container)
    host.agent.start()
    until(lambda: listens(host.config))
    assert (state(host, container).status, state(host, container).run) == (Status.EXITED, 2)
    assert host.engine.keeper.list() == []


def test_the_start_of_the_platform_brings_back_what_was_not_stopped_by_hand(host: Host) -> None:
    policies = {"no": RestartPolicy(), "always": RestartPolicy(name="always"), "unless-stopped": RestartPolicy(name="unless-stopped")}
    found = {(name, by): host.run("sleep", "1000", restart=policy) for name, policy in policies.items() for by in ("hand", "power")}
    host.agent.kill()
    for (_name, by), container in found.items():
        if by == "hand":
            host.engine.stop(TENANT, container, timeout_s=0)
        else:
            host.engine.keeper.signal(container, signal.SIGKILL)
        host.engine.wait(container)
    host.config.era.unlink()  # as a reboot does, and ``down --containers``
    host.agent.start()
    until(
        lambda: all(
            state(host, found[which]).has_process for which in (("always", "hand"), ("always", "power"), ("unless-stopped", "power"))
        )
    )
    ended = {which for which, container in found.items() if not state(host, container).has_process}
    assert ended == {("no", "hand"), ("no", "power"), ("unless-stopped", "hand")}
    assert host.config.era.exists()


def test_a_restart_is_a_stop_after_which_it_begins_again(host: Host) -> None:
    container = host.run("sh", "-c", "trap 'exit 5' TERM; while :; do sleep 0.05; done")
    host.engine.restart(TENANT, container)
    until(lambda: state(host, container).run == 2 and state(host, container).has_process)
    assert state(host, container).restart_count == 0
    host.engine.stop(TENANT, container, timeout_s=0)
    host.engine.wait(container)
    assert host.engine.restart(TENANT, container).run == 3


def test_a_start_that_is_asked_again_finds_what_runs_without_a_record(host: Host) -> None:
    """The worker was killed between the program's begin and start.json."""
    container = host.run("sleep", "1000")
    folder = host.config.container(container)
    pid = state(host, container).pid
    (folder / "start.json").unlink()
    assert host.engine.records.state(container).status is Status.CREATED
    again = host.engine.start(TENANT, container)
    assert (again.status, again.run, again.pid) == (Status.RUNNING, 1, pid) and again.started_at_ns > 0
    host.engine.keeper.signal(container, signal.SIGKILL)
    until(lambda: state(host, container).status is Status.EXITED)


def test_a_policy_set_later_counts_from_the_next_exit(host: Host) -> None:
    container = host.run("sh", "-c", "exit 1")
    until(lambda: state(host, container).status is Status.EXITED)
    host.engine.set_restart_policy(TENANT, container, RestartPolicy(name="always"))
    kill_agent(host)
    assert state(host, container).status is Status.EXITED
    host.engine.start(TENANT, container)
    until(lambda: state(host, container).restart_count > 0)


async def test_health_goes_from_starting_to_unhealthy_to_healthy_and_is_told(host: Host) -> None:
    async with host.stream("events") as (_ok, reader, _writer):
        while "inventory" not in json.loads(await reader.readline()):
            pass
        container = host.run("sleep", "1000", health=check("sh", "-c", "echo looked; test -e /well"))
        seen = []
        while not seen or seen[-1] != "unhealthy":
            line = json.loads(await reader.readline())
            if line.get("object_id") == container and line["kind"] in ("container.started", "container.changed"):
                seen.append(line["state"]["health"]["status"])
        assert seen[0] == "starting" and set(seen) == {"starting", "unhealthy"}
        async with host.stream("health", container) as (ok, _reader, _writer):
            probe = ok["health"]["log"][-1]
        assert (probe["exit_code"], probe["output"]) == (1, "looked\n") and probe["finished_at_ns"] >= probe["started_at_ns"]
        kill_agent(host)
    executions.run(host.engine, TENANT, container, ["touch", "/well"], timeout_s=60, output_limit=10)
    until(lambda: (known := state(host, container).health) is not None and known.status == "healthy")
    assert len(host.engine.records.health(container).log) <= 5  # type: ignore[union-attr]


def test_a_probe_that_hangs_is_killed_and_said_so(host: Host) -> None:
    container = host.run("sleep", "1000", health=check("sh", "-c", "echo half; sleep 1000", timeout_ns=300 * 10**6, retries=1))
    until(lambda: (known := state(host, container).health) is not None and known.status == "unhealthy")
    known = host.engine.records.health(container)
    assert known is not None and (known.log[0].exit_code, known.log[0].output) == (-1, "Health check exceeded timeout (300ms): half\n")


def test_what_is_unhealthy_is_restarted_if_that_is_wanted(host: Host) -> None:
    policy = RestartPolicy(when_unhealthy=True)
    container = host.run("sleep", "1000", restart=policy, stop_timeout_s=0, health=check("false", retries=1))
    until(lambda: state(host, container).restart_count > 0)
    host.engine.stop(TENANT, container, timeout_s=0)
    host.engine.wait(container)
    kill_agent(host)
    assert state(host, container).status is Status.EXITED


def test_probes_end_with_the_container_and_what_ended_is_unhealthy(host: Host) -> None:
    container = host.run("sleep", "1000", health=check("true"))
    until(lambda: (known := state(host, container).health) is not None and known.status == "healthy")
    host.engine.stop(TENANT, container, timeout_s=0)
    host.engine.wait(container)
    record = (host.config.container(container) / "health.json").read_bytes()
    known = state(host, container).health
    assert known is not None and known.status == "unhealthy"
    other = host.run("sleep", "1000", health=check("true"))
    until(lambda: len((host.engine.records.health(other) or known).log) == 5)
    assert (host.config.container(container) / "health.json").read_bytes() == record


@pytest.mark.requires("nfs", "nft")
@pytest.mark.timeout(300)
def test_restarts_that_wait_for_a_server_hold_up_no_other_and_come_when_it_answers(host: Host) -> None:
    """More of them than there are threads for restarts."""
    with nfs.exported({"data": ""}) as place:
        ceilings.change(host.config, TENANT, nfs=(f"{nfs.SERVER}:{place}/data",))
        options = {"type": "nfs", "o": f"addr={nfs.SERVER},vers=4.2,timeo=50,retrans=1", "device": f":{place}/data"}
        host.engine.create_volume(VolumeSpec(tenant=TENANT, name="data", options=options))
        always, mount = RestartPolicy(name="always"), MountSpec(type="volume", source="data", target="/d")
        waiting = [host.run("sleep", "1000", restart=always, mounts=(mount,)) for _ in range(10)]
        other = host.run("sleep", "1000", restart=always)
        try:
            with nfs.silent():
                for container in (*waiting, other):
                    host.engine.keeper.signal(container, signal.SIGKILL)
                until(lambda: state(host, other).has_process and state(host, other).restart_count == 1)
                assert not [container for container in waiting if state(host, container).has_process and state(host, container).run > 1]
            until(lambda: all(state(host, container).has_process and state(host, container).run > 1 for container in waiting))
        finally:
            for container in (*waiting, other):
                host.engine.remove(TENANT, container, force=True)
            until(lambda: not nfs.mounted())
        host.engine.volumes.remove(TENANT, "data")
