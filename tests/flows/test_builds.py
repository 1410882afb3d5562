"""Builds as users ask for them: the docker client, docker-py, REST, a browser; with rows, logs, events and nothing left over."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from docker.errors import BuildError

import docker as docker_py
from engine.builds.cache import Step, StepCache
from engine.config import EngineConfig
from tests.engine.builds.building import context
from tests.support.platform import Platform

pytestmark = [pytest.mark.requires("root", "overlay", "userns", "cgroup", "docker")]

TENANT = "builds"


@pytest.fixture(scope="module")
def build(platform: Platform) -> Callable[..., subprocess.CompletedProcess[str]]:
    tenant = platform.tenant(TENANT)

    def run(*words: str, dockerfile: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "DOCKER_HOST": f"unix://{platform.socket(tenant)}", "DOCKER_BUILDKIT": "0"}
        command = ["docker", "build", *words]
        return subprocess.run(command, input=dockerfile, env=environment, capture_output=True, text=True, timeout=300, check=check)

    return run


@pytest.fixture(scope="module")
def rest(platform: Platform) -> Callable[..., tuple[int, Any]]:
    token = platform.manage("token", "create", "--tenant", platform.tenant(TENANT)).stdout.strip()

    def ask(method: str, path: str, data: bytes | None = None, kind: str = "application/json") -> tuple[int, Any]:
        request = urllib.request.Request(f"{platform.url}/api/v1/tenants/{TENANT}{path}", data=data, method=method)
        request.add_header("Authorization", f"Bearer {token}")
        request.add_header("Content-Type", kind)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                body = answer.read()
                is_json = (answer.headers["Content-Type"] or "").startswith("application/json")
                return answer.status, json.loads(body) if is_json and body else body.decode()
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    return ask


@pytest.fixture
def client(platform: Platform) -> Iterator[docker_py.DockerClient]:
    made = docker_py.DockerClient(base_url=f"unix://{platform.socket(platform.tenant(TENANT))}", version="auto")
    yield made
    made.close()


def ended(rest: Callable[..., tuple[int, Any]], build_id: str, within_s: float = 120.0) -> dict[str, Any]:
    deadline = time.monotonic() + within_s
    while (found := rest("GET", f"/builds/{build_id}")[1])["state"] == "running":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return dict(found)


def test_docker_build(platform: Platform, build: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text('FROM busybox\nCOPY a.txt /\nRUN cat /a.txt; echo oh >&2\nCMD ["cat", "/a.txt"]\n')
    (tmp_path / "a.txt").write_text("hello\n")
    (tmp_path / ".dockerignore").write_text("ignored\n")
    (tmp_path / "ignored").write_text("x")
    done = build("-t", "x", str(tmp_path))
    assert "Step 1/4 : FROM busybox" in done.stdout and "Successfully tagged x:latest" in done.stdout
    assert platform.docker("run", "--rm", "x", tenant=TENANT).stdout == "hello\n"
    assert build("-t", "x", str(tmp_path)).stdout.count("Using cache") == 3
    history = platform.docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", "x", tenant=TENANT).stdout.splitlines()
    assert history[0] == '/bin/sh -c #(nop)  CMD ["cat" "/a.txt"]' and history[1] == "/bin/sh -c cat /a.txt; echo oh >&2"
    assert build("-q", str(tmp_path)).stdout.strip().startswith("sha256:")


def test_a_dockerfile_outside_of_the_context(build: Callable[..., Any], tmp_path: Path) -> None:
    """The client packs it into the context itself, and leaves out the end of the archive."""
    (tmp_path / "context").mkdir()
    (tmp_path / "context" / "f").write_text("in the context\n")
    (tmp_path / "Dockerfile").write_text("FROM busybox\nCOPY f /\nRUN cat f\n")
    assert "in the context" in build("-f", str(tmp_path / "Dockerfile"), str(tmp_path / "context")).stdout
    assert "in the context" in build("-f", "-", str(tmp_path / "context"), dockerfile="FROM busybox\nCOPY f /\nRUN cat /f\n").stdout


def test_a_build_that_fails(platform: Platform, build: Callable[..., Any]) -> None:
    done = build("-", dockerfile="FROM busybox\nRUN exit 3\n", check=False)
    assert done.returncode == 3
    assert "The command '/bin/sh -c exit 3' returned a non-zero code: 3" in done.stderr
    done = build("-", dockerfile="FROM busybox\nNONSENSE\n", check=False)
    assert done.returncode == 1 and "unknown instruction: NONSENSE" in done.stderr
    assert platform.docker("ps", "-aq", tenant=TENANT).stdout == ""


def test_docker_py(client: docker_py.DockerClient) -> None:
    image, lines = client.images.build(
        fileobj=io.BytesIO(b"FROM busybox\nARG A\nLABEL a=$A\n"), tag="py:1", buildargs={"A": "1"}, rm=True, labels={"l": "2"}
    )
    assert image.tags == ["py:1"] and image.labels == {"a": "1", "l": "2"}
    assert any("Successfully built" in line.get("stream", "") for line in lines)
    with pytest.raises(BuildError, match="returned a non-zero code: 7"):
        client.images.build(fileobj=io.BytesIO(b"FROM busybox\nRUN exit 7\n"))
    with pytest.raises((BuildError, docker_py.errors.APIError), match=r"cannot be empty|Cannot locate"):
        client.images.build(fileobj=context("", {}), custom_context=True)


def test_parameters_that_are_wrong(client: docker_py.DockerClient) -> None:
    for words, status in (
        ({"buildargs": "{"}, 400),
        ({"t": "UPPER"}, 400),
        ({"networkmode": "host"}, 403),
        ({"memory": "1"}, 400),
        ({"platform": "no/such/thing/at/all"}, 400),
        ({"version": "2"}, 501),
    ):
        answer = client.api._post(client.api._url("/build"), data=context("FROM busybox\n", {}).read(), params=words)
        assert answer.status_code == status, (words, answer.text)
    for path in ("/grpc", "/session"):
        answer = client.api._post(client.api._url(path))
        assert answer.status_code == 501 and "DOCKER_BUILDKIT=0" in answer.json()["message"]


def test_a_client_that_leaves(platform: Platform, build: Callable[..., Any], rest: Callable[..., tuple[int, Any]]) -> None:
    environment = {**os.environ, "DOCKER_HOST": f"unix://{platform.socket(TENANT)}", "DOCKER_BUILDKIT": "0"}
    with subprocess.Popen(
        ["docker", "build", "-t", "left", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
    ) as running:
        assert running.stdin is not None and running.stdout is not None
        running.stdin.write("FROM busybox\nRUN echo begun; sleep 600\n")
        running.stdin.close()
        assert any("begun" in line for line in running.stdout)
        running.kill()
    newest = rest("GET", "/builds")[1][0]
    assert newest["refs"] == ["left:latest"]
    assert ended(rest, newest["id"])["state"] == "cancelled"
    deadline = time.monotonic() + 60
    engine = platform.data / "engine"
    while [*(engine / "builds" / "running").iterdir(), *(engine / "incoming").iterdir()]:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_rest_builds_what_is_uploaded(rest: Callable[..., tuple[int, Any]]) -> None:
    body = context("FROM busybox\nARG A\nCOPY f /f\nRUN cat /f; echo $A\n", {"f": "file\n"}).read()
    status, build = rest("PUT", "/builds?ref=rest:1&arg=A=argument", body, "application/x-tar")
    assert status == 202 and build["refs"] == ["rest:1"]
    found = ended(rest, build["id"])
    assert found["state"] == "done" and found["image_id"].startswith("sha256:")
    status, log = rest("GET", f"/builds/{build['id'][:8]}/log")
    assert "Step 1/4 : FROM busybox" in log and "file\nargument\n" in log and "Successfully tagged rest:1" in log
    assert rest("GET", f"/builds/{build['id']}/log?offset=5")[1] == log[5:]
    assert rest("GET", "/images/rest:1")[0] == 200


def test_rest_builds_a_dockerfile_alone_and_cancels(rest: Callable[..., tuple[int, Any]]) -> None:
    words = {"text": "FROM busybox\nRUN echo begun; sleep 600\n", "refs": ["slow"]}
    status, build = rest("POST", "/builds", json.dumps(words).encode())
    assert status == 202
    deadline = time.monotonic() + 60
    while "begun" not in rest("GET", f"/builds/{build['id']}/log")[1]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert rest("POST", f"/builds/{build['id']}/cancel", b"")[0] == 204
    assert ended(rest, build["id"])["state"] == "cancelled"
    assert rest("POST", "/builds", json.dumps({"address": "file:///etc"}).encode())[0] == 400
    status, failed = rest("POST", "/builds", json.dumps({"text": "FROM nowhere/none\n"}).encode())
    assert status == 202 and ended(rest, failed["id"])["state"] == "failed"


@pytest.mark.parametrize(("ending", "takes_s"), [(signal.SIGKILL, 1), (signal.SIGTERM, 8)])
def test_a_build_of_rest_outlives_the_web_process(
    ending: signal.Signals, takes_s: int, platform: Platform, rest: Callable[..., tuple[int, Any]]
) -> None:
    """It ends while web is away, or goes on when web is back."""
    steps = f"FROM busybox\nRUN echo begun; sleep {takes_s}; echo made at last\n"
    status, build = rest("POST", "/builds", json.dumps({"text": steps, "refs": ["outlives:1"], "no_cache": True}).encode())
    assert status == 202
    deadline = time.monotonic() + 60
    while "begun" not in rest("GET", f"/builds/{build['id']}/log")[1]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.kill(platform.part("web")["pid"], ending)
    platform.wait_healthy(60)
    found = ended(rest, build["id"])
    assert (found["state"], found["error"]) == ("done", "")
    log = rest("GET", f"/builds/{build['id']}/log")[1]
    assert log.count("begun\n") == log.count("\nmade at last\n") == log.count("Successfully tagged outlives:1") == 1
    assert rest("GET", "/images/outlives:1")[1]["id"] == found["image_id"]
    while list((platform.data / "engine" / "builds" / "said" / TENANT).iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_strangers_and_viewers(platform: Platform, rest: Callable[..., tuple[int, Any]]) -> None:
    build = rest("GET", "/builds")[1][0]
    for role, tenant, wanted in (("viewer", TENANT, 403), ("developer", platform.tenant("others"), 404)):
        token = platform.manage("token", "create", "--tenant", tenant, "--role", role).stdout.strip()
        address = f"{platform.url}/api/v1/tenants/{TENANT}/builds/{build['id']}/cancel"
        request = urllib.request.Request(address, data=b"", method="POST", headers={"Authorization": f"Bearer {token}"})
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=60)
        assert caught.value.code == wanted


def test_prune(platform: Platform, build: Callable[..., Any], client: docker_py.DockerClient) -> None:
    build("-t", "pruned", "-", dockerfile="FROM busybox\nRUN echo 12345 >/p\n")
    done = client.api.prune_builds()
    assert done["CachesDeleted"] and done["SpaceReclaimed"] > 0
    assert platform.docker("run", "--rm", "pruned", "cat", "/p", tenant=TENANT).stdout == "12345\n"


def test_a_big_cache_is_told_whole(platform: Platform, client: docker_py.DockerClient) -> None:
    """More than one line between the host and the panel may hold."""
    cache = StepCache(EngineConfig(platform.data, platform.run), TENANT)
    for number in range(1500):
        cache.keep(f"{number:064x}", Step(text="RUN " + "x" * 1000, made_ns=1))
    assert len(client.df()["BuildCache"]) >= 1500
    assert len(client.api.prune_builds()["CachesDeleted"]) >= 1500
    assert client.df()["BuildCache"] == []


def test_two_tenants_do_not_wait_for_each_other_for_ever(platform: Platform, build: Callable[..., Any]) -> None:
    other = platform.tenant("others")
    environment = {**os.environ, "DOCKER_HOST": f"unix://{platform.socket(TENANT)}", "DOCKER_BUILDKIT": "0"}
    many = [
        subprocess.Popen(["docker", "build", "-"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment, text=True)
        for _ in range(6)
    ]
    for number, each in enumerate(many):
        assert each.stdin is not None
        each.stdin.write(f"FROM busybox\nRUN sleep 2; echo {number}\n")
        each.stdin.close()
    done = subprocess.run(
        ["docker", "build", "-"], input="FROM busybox\nRUN true\n", text=True, capture_output=True, timeout=200, check=True,
        env={**environment, "DOCKER_HOST": f"unix://{platform.socket(other)}"},
    )  # fmt: skip
    assert "Successfully built" in done.stdout
    assert any(each.poll() is None for each in many)  # it was let in before the last of them
    assert [each.wait(200) for each in many] == [0] * 6


def test_tar_of_anything_is_no_stack_trace(client: docker_py.DockerClient) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo("../Dockerfile")
        info.size = 5
        archive.addfile(info, io.BytesIO(b"FROM "))
    for data in (out.getvalue(), b"\0" * 2048, os.urandom(3000), b"\x1f\x8b" + b"x" * 100):
        answer = client.api._post(client.api._url("/build"), data=data)
        assert answer.status_code in (400, 500) and "message" in answer.json() and answer.status_code == 400, answer.text
