"""The life of containers as the docker client sees it: policies with the panel down, restart, health, prune, events; a web that dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.support import machine
from tests.support.platform import Platform

pytestmark = pytest.mark.requires("root", "overlay", "userns", "cgroup", "docker")


@pytest.fixture
def docker(platform: Platform) -> Iterator[Callable[..., str]]:
    """The client in a tenant of its own; what it made is gone afterwards."""
    tenant = platform.tenant("lives")

    def run(*words: str, check: bool = True) -> str:
        return platform.docker(*words, tenant=tenant, check=check).stdout.strip()

    yield run
    if left := run("ps", "-aq"):
        run("rm", "-f", *left.split())


def eventually(true: Callable[[], bool], within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s * machine.slowness()
    while not true():
        assert time.monotonic() < deadline, "it never became true"
        time.sleep(0.1)


def shown(docker: Callable[..., str], name: str, what: str) -> str:
    return docker("inspect", "-f", what, name)


def test_a_policy_works_while_panel_workers_and_redis_are_away(platform: Platform, docker: Callable[..., str]) -> None:
    docker("run", "-d", "--name", "always", "--restart", "always", "busybox", "sleep", "1000")
    docker("run", "-d", "--name", "thrice", "--restart", "on-failure:3", "busybox", "sh", "-c", "sleep 1; exit 4")
    pid = int(shown(docker, "always", "{{.State.Pid}}"))
    platform.manage("down")
    try:
        os.kill(pid, signal.SIGKILL)
    finally:
        platform.up()
    eventually(lambda: shown(docker, "always", "{{.RestartCount}} {{.State.Status}}") == "1 running")
    assert int(shown(docker, "always", "{{.State.Pid}}")) != pid
    eventually(lambda: shown(docker, "thrice", "{{.State.Status}} {{.RestartCount}} {{.State.ExitCode}}") == "exited 3 4")


@pytest.mark.guest
def test_restart_health_and_prune_with_their_events(docker: Callable[..., str]) -> None:
    since = str(time.time())
    docker(
        "run",
        "-d",
        "--name",
        "web",
        "--health-cmd",
        "test -e /ok",
        "--health-interval",
        "200ms",
        "--health-retries",
        "1",
        "busybox",
        "sleep",
        "1000",
    )
    eventually(lambda: docker("ps", "-q", "--filter", "health=unhealthy") != "")
    assert "(unhealthy)" in docker("ps", "--format", "{{.Status}}")
    docker("exec", "web", "touch", "/ok")
    eventually(lambda: docker("ps", "-q", "--filter", "health=healthy") != "")
    health = json.loads(shown(docker, "web", "{{json .State.Health}}"))
    assert health["FailingStreak"] == 0 and 0 < len(health["Log"]) <= 5
    docker("restart", "-t", "0", "web")
    assert shown(docker, "web", "{{.State.Running}} {{.RestartCount}}") == "true 0"
    docker("stop", "-t", "0", "web")
    docker("create", "--name", "never", "--label", "keep=1", "busybox", "true")
    assert "Deleted Containers" in docker("container", "prune", "-f", "--filter", "label!=keep=1")
    assert docker("ps", "-a", "--format", "{{.Names}}") == "never"
    words = ("events", "--since", since, "--until", str(time.time()), "--filter", "type=container", "--format", "{{.Action}}")
    told = [action for action in docker(*words).splitlines() if not action.startswith("exec")]
    assert told == [
        "create", "start", "health_status: unhealthy", "health_status: healthy",
        "kill", "kill", "die", "stop", "start", "restart",
        *(["health_status: healthy"] if told.count("health_status: healthy") == 2 else []),
        "kill", "kill", "die", "stop", "create", "destroy", "prune",
    ]  # fmt: skip


def test_events_live_and_stored_are_one_stream_without_gap_or_double(platform: Platform, docker: Callable[..., str]) -> None:
    """A client that begins in the midst of a storm sees each event once."""
    names = [f"e{number}" for number in range(30)]
    since = str(time.time())
    storm = threading.Thread(target=lambda: [docker("create", "--name", name, "busybox", "true") for name in names])
    storm.start()
    environment = {**os.environ, "DOCKER_HOST": f"unix://{platform.socket(platform.tenant('lives'))}"}
    words = ["docker", "events", "--since", since, "--filter", "event=create", "--format", "{{.Actor.Attributes.name}}"]
    client = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert client.stdout is not None
        assert [client.stdout.readline().strip() for _ in names] == names
    finally:
        client.kill()
        client.wait()
        storm.join()


def test_the_name_of_a_create_whose_web_died_is_free_at_once(platform: Platform, docker: Callable[..., str]) -> None:
    """The host worker hangs, so the create is under way when web is killed; both come back."""
    worker = platform.part("host-worker")["pid"]
    os.kill(worker, signal.SIGSTOP)
    try:
        client = threading.Thread(target=lambda: docker("create", "--name", "torn", "busybox", "true", check=False))
        client.start()
        eventually(lambda: "torn" in docker("ps", "-a", "--format", "{{.Names}}"))
        os.kill(platform.part("web")["pid"], signal.SIGKILL)
        client.join()
    finally:
        os.kill(worker, signal.SIGCONT)
    began = time.monotonic()
    platform.wait_healthy(30.0 * machine.slowness())

    def settled() -> bool:
        docker("rm", "-f", "torn", check=False)
        return bool(docker("create", "--name", "torn", "busybox", "true", check=False))

    eventually(settled, within_s=20)
    assert time.monotonic() - began < 30 * machine.slowness()


def test_an_agent_that_hangs_is_noticed(platform: Platform, docker: Callable[..., str]) -> None:
    agent = platform.part("agent")["pid"]
    os.kill(agent, signal.SIGSTOP)
    try:
        eventually(lambda: "says nothing any more" in platform.manage("logs", "web").stdout)
    finally:
        os.kill(agent, signal.SIGCONT)
    platform.wait_healthy(30.0 * machine.slowness())
    assert docker("run", "--rm", "busybox", "echo", "back") == "back"
