"""Roles with the stock docker client, through a tenant's socket: what a viewer, a role of the tenant's own and a project's member may."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flows.test_doors import Client, by_socket
from tests.support import scratch
from tests.support.platform import Platform

pytestmark = pytest.mark.requires("root", "overlay", "userns", "cgroup", "nft", "docker")

TENANT = "school"
UIDS = {"vera": 61301, "rory": 61302, "pia": 61303}
LABEL = "com.docker.compose.project"
IN_TIME_S = 1.0


@pytest.fixture(scope="module")
def school(platform: Platform) -> Iterator[Platform]:
    """A container in each of two projects; vera views, rory restarts, pia has project web alone, through a group."""
    platform.tenant(TENANT)
    for name, uid in UIDS.items():
        platform.manage("user", "create", name, "--uid", str(uid))
    platform.manage("role", "create", TENANT, "restarter", "--verbs", "container.view,container.restart")
    platform.manage("member", "add", TENANT, "vera", "--role", "viewer")
    platform.manage("member", "add", TENANT, "rory", "--role", "restarter")
    platform.manage("group", "create", TENANT, "students")
    platform.manage("group", "grant", TENANT, "students", "--role", "developer", "--project", "web")
    platform.manage("group", "add", TENANT, "students", "pia")
    for project in ("web", "db"):
        words = ("--name", f"in-{project}", "--label", f"{LABEL}={project}", "busybox", "sleep", "3000")
        platform.docker("run", "-d", *words, tenant=TENANT)
    yield platform
    platform.docker("rm", "-f", "in-web", "in-db", tenant=TENANT)


@pytest.fixture
def folder() -> Iterator[Path]:
    with scratch.open_folder() as made:
        yield made


def as_user(platform: Platform, folder: Path, name: str) -> Client:
    return by_socket(platform, folder, TENANT, user=UIDS[name])


def test_a_viewer_lists_and_is_told_why_not_more(school: Platform, folder: Path) -> None:
    vera = as_user(school, folder, "vera")
    assert set(vera.ok("ps", "--format", "{{.Names}}").split()) == {"in-web", "in-db"}
    refused = vera("rm", "-f", "in-web")
    said = f"denied: rule container.remove of role viewer (granted to vera at tenant {TENANT}): it takes one of owner, admin, developer"
    assert refused.returncode == 1 and said in refused.stderr
    explained = school.manage("member", "explain", TENANT, "vera", "container.remove").stdout
    assert said in explained


def test_a_role_of_ones_own_restarts_and_does_nothing_else(school: Platform, folder: Path) -> None:
    rory = as_user(school, folder, "rory")
    before = json.loads(rory.ok("inspect", "in-web"))[0]["State"]["StartedAt"]
    rory.ok("restart", "-t", "0", "in-web")
    assert json.loads(rory.ok("inspect", "in-web"))[0]["State"]["StartedAt"] > before
    for words in (("stop", "in-web"), ("kill", "in-web"), ("exec", "in-web", "true"), ("rm", "-f", "in-web"), ("network", "ls")):
        refused = rory(*words)
        assert refused.returncode == 1 and "of role restarter (granted to rory at tenant school)" in refused.stderr, words
    kept = school.manage("role", "remove", TENANT, "restarter", check=False)
    assert kept.returncode == 1 and "role restarter is held by rory" in kept.stderr


def test_a_projects_member_sees_that_project_alone(school: Platform, folder: Path) -> None:
    pia = as_user(school, folder, "pia")
    assert pia.ok("ps", "-a", "--format", "{{.Names}}").split() == ["in-web"]
    there = json.loads(school.docker("inspect", "in-db", tenant=TENANT).stdout)[0]["Id"]
    for words in (("inspect", there), ("logs", "in-db"), ("exec", "in-db", "true"), ("rm", there[:12])):
        answer = pia(*words)
        assert answer.returncode == 1 and "No such" in answer.stderr, (words, answer.stderr)
    refused = pia("run", "-d", "busybox", "true")
    assert f"carries the label {LABEL}=web" in refused.stderr
    mine = ("--label", f"{LABEL}=web")
    for _again in range(2):  # the volume that the first one made is the project's
        assert pia.ok("run", "--rm", *mine, "-v", "pias:/data", "busybox", "echo", "hi") == "hi\n"
    assert pia.ok("volume", "ls", "-q").split() == ["pias"]
    pia.ok("volume", "rm", "pias")


def test_a_grant_that_goes_ends_its_streams_within_a_second(school: Platform, folder: Path) -> None:
    school.manage("member", "grant", TENANT, "vera", "--role", "developer", "--project", "web")
    vera = as_user(school, folder, "vera")
    shell = vera.opened("exec", "-i", "in-web", "cat")
    try:
        assert shell.stdin is not None and shell.stdout is not None
        shell.stdin.write("here\n")
        shell.stdin.flush()
        assert shell.stdout.readline() == "here\n"
        school.manage("member", "revoke", TENANT, "vera", "--role", "developer", "--project", "web")
        began = time.monotonic()
        shell.wait(timeout=IN_TIME_S)
        assert time.monotonic() - began < IN_TIME_S
        assert vera("exec", "in-web", "true").returncode != 0 and vera("ps").returncode == 0
    finally:
        shell.kill()
        shell.communicate()
