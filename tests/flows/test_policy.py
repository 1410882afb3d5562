"""A tenant's policy through the docker client: denied, allowed by an operator but not by root of the host, allowed by both."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine import ceilings
from engine.config import EngineConfig
from tests.engine.registries import toy as toys
from tests.engine.registries.conftest import layer
from tests.support import machine
from tests.support.platform import Platform

pytestmark = pytest.mark.requires("root", "overlay", "userns", "cgroup", "docker")

Docker = Callable[..., str]
TENANT = "lab"


@pytest.fixture
def docker(platform: Platform) -> Iterator[Docker]:
    tenant = platform.tenant(TENANT)

    def run(*words: str, check: bool = True) -> str:
        done = platform.docker(*words, tenant=tenant, check=check)
        return done.stdout.strip() if check else done.stdout + done.stderr

    yield run
    if left := run("ps", "-aq"):
        run("rm", "-fv", *left.split())
    platform.manage("tenant", "delete", TENANT, "--now")


@pytest.fixture
def policy(platform: Platform, docker: Docker) -> Callable[..., str]:
    return lambda *words: platform.manage("tenant", "policy", TENANT, *words).stdout


def test_a_privileged_container_takes_two_grants(platform: Platform, docker: Docker, policy: Callable[..., str]) -> None:
    asked = (
        "run",
        "--rm",
        "--privileged",
        "busybox",
        "sh",
        "-c",
        "grep -E 'CapEff|Seccomp:' /proc/self/status; grep -c ' /proc/' /proc/mounts; true",
    )
    refused = docker(*asked, check=False)
    assert (
        "privileged containers are not allowed in tenant lab: rule policy.privileged (an operator of the platform can allow it)" in refused
    )
    assert ["privileged", "yes", "no"] in [line.split() for line in policy("--allow", "privileged").splitlines()]
    refused = docker(*asked, check=False)
    assert "rule ceiling.privileged (root of this host can allow it with `python3 -m engine --tenant lab ceiling --privileged`)" in refused
    assert docker("ps", "-aq") == ""
    ceilings.change(EngineConfig(platform.data, platform.run), TENANT, privileged=True)
    effective, filtered, covered = docker(*asked).splitlines()
    assert int(effective.split()[1], 16).bit_count() >= 40 and filtered.split()[1] == "0" and covered == "0"
    assert ["privileged", "yes", "yes"] in [line.split() for line in policy().splitlines()]
    docker("run", "-d", "--name", "kept", "--privileged", "busybox", "sleep", "1000")
    assert "NoNewPrivs:\t0" in docker("exec", "--privileged", "kept", "cat", "/proc/self/status")
    policy("--deny", "privileged")
    assert "rule policy.privileged" in docker(*asked, check=False)
    docker("restart", "-t", "0", "kept")  # what was made keeps what it was made with


def test_new_privileges_denied_hold_for_what_is_made_next(docker: Docker, policy: Callable[..., str]) -> None:
    asked = ("run", "--rm", "busybox", "grep", "NoNewPrivs", "/proc/self/status")
    assert docker(*asked).split() == ["NoNewPrivs:", "0"]
    policy("--deny", "new_privileges")
    assert docker(*asked).split() == ["NoNewPrivs:", "1"]


def test_registries_by_pull_push_login_and_from(docker: Docker, policy: Callable[..., str], tmp_path: Path) -> None:
    with toys.running() as toy:
        toy.image("app", "1", [layer(1000)])
        name = f"{toy.host}/app:1"
        (tmp_path / "Dockerfile").write_text(f"FROM {name}\nLABEL a=b\n")
        docker("tag", "busybox", f"{toy.host}/mine:1")
        attempts = (
            ("pull", name),
            ("push", f"{toy.host}/mine:1"),
            ("login", "-u", "anna", "-p", "secret", toy.host),
            ("build", "--pull", str(tmp_path)),
            ("run", "--rm", name, "true"),
        )
        policy("--deny", "registries", "--allow", "registries=elsewhere:5000")
        for words in attempts:
            assert f"registry {toy.host} is not allowed in tenant lab: rule policy.registries" in docker(*words, check=False), words
        asked = len(toy.log)
        policy("--allow", f"registries={toy.host}")
        docker("pull", name)
        assert "Successfully built" in docker("build", "--pull", str(tmp_path))
        assert len(toy.log) > asked


@pytest.mark.requires("compose")
def test_compose_says_the_same(platform: Platform, docker: Docker, tmp_path: Path) -> None:
    (tmp_path / "compose.yml").write_text("services:\n  web:\n    image: busybox\n    command: sleep 1000\n    privileged: true\n")
    environment = {**os.environ, "DOCKER_HOST": f"unix://{platform.socket(TENANT)}"}
    words = [*machine.compose(), "-f", str(tmp_path / "compose.yml"), "up", "-d"]
    done = subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0 and "rule policy.privileged (an operator of the platform can allow it)" in done.stdout + done.stderr
