"""The registry with stock clients: docker through our own engine, skopeo from outside; and a panel that is killed in the middle."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import registry
from tests.support.oci import Client, digest_of
from tests.support.platform import Platform, run

pytestmark = [pytest.mark.requires("root", "overlay", "userns", "cgroup", "nft", "docker"), pytest.mark.timeout(180, func_only=True)]

OCTETS = {"Content-Type": "application/octet-stream"}


@pytest.fixture(scope="module")
def robot(platform: Platform) -> str:
    return platform.manage("token", "create", "--tenant", "demo", "--role", "developer").stdout.strip()


@pytest.fixture
def docker(platform: Platform, tmp_path: Path, robot: str) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """The client, logged in."""

    def call(*words: str, **more: Any) -> subprocess.CompletedProcess[str]:
        return platform.docker("--config", str(tmp_path), *words, **more)

    said = call("login", "-u", "token", "--password-stdin", platform.http, stdin=robot)
    assert "Login Succeeded" in said.stdout
    assert robot not in (tmp_path / "config.json").read_text()  # what it keeps is a refresh token
    yield call
    call("logout", platform.http)


def test_docker_push_pull_and_run(platform: Platform, docker: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    name = f"{platform.http}/demo/shop/web:1"
    docker("tag", "busybox", name)
    pushed = docker("push", name).stdout
    digest = pushed.partition("digest: ")[2].split()[0]
    assert digest.startswith("sha256:")
    assert "Layer already exists" in docker("push", f"{platform.http}/demo/shop/web:1").stdout
    docker("tag", "busybox", f"{platform.http}/demo/other:1")
    assert "Mounted from demo/shop/web" in docker("push", f"{platform.http}/demo/other:1").stdout
    docker("rmi", name, f"{platform.http}/demo/other:1")
    ran = docker("run", "--rm", name, "echo", "from our own registry")
    assert ran.stdout == "from our own registry\n" and f"Digest: {digest}" in ran.stderr
    assert docker("pull", f"{platform.http}/demo/shop/web@{digest}").returncode == 0
    docker("rmi", name)


def test_docker_is_told_why_not(platform: Platform, docker: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    platform.tenant("other")
    wrong = docker("login", "-u", "token", "--password-stdin", platform.http, stdin="slw_wrong", check=False)
    assert wrong.returncode == 1 and "unauthorized" in wrong.stderr.lower()
    docker("login", "-u", "token", "--password-stdin", platform.http, stdin=_token(platform, "other"))
    for tag in (f"{platform.http}/demo/shop/web:1", f"{platform.http}/demo/never:1"):
        docker("tag", "busybox", tag)
        assert docker("push", tag, check=False).returncode == 1
        assert docker("pull", tag, check=False).returncode == 1
        docker("rmi", tag)


def _token(platform: Platform, tenant: str) -> str:
    return platform.manage("token", "create", "--tenant", tenant, "--role", "developer").stdout.strip()


def test_skopeo_both_ways(platform: Platform, robot: str, tmp_path: Path) -> None:
    program = registry.binary("skopeo", "skopeo")
    if program is None:
        pytest.skip("no skopeo: apt-get install skopeo")
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))

    def skopeo(*words: str) -> str:
        return run([program, "--policy", str(policy), *words], dict(os.environ), check=True, timeout_s=120).stdout

    Client(platform.http, ("token", robot)).push_image("demo/small", "1")
    there, layout = f"docker://{platform.http}/demo", f"oci:{tmp_path}/layout:1"
    login = f"token:{robot}"
    _archive(platform, tmp_path / "busybox.tar")
    skopeo("copy", "--dest-tls-verify=false", "--dest-creds", login, f"docker-archive:{tmp_path}/busybox.tar", f"{there}/skopeo:1")
    skopeo("copy", "--src-tls-verify=false", "--src-creds", login, f"{there}/skopeo:1", layout)
    skopeo("copy", "--dest-tls-verify=false", "--dest-creds", login, layout, f"{there}/skopeo:2")
    words = ("--tls-verify=false", "--creds", login)
    assert json.loads(skopeo("list-tags", *words, f"{there}/skopeo"))["Tags"] == ["1", "2"]
    assert json.loads(skopeo("inspect", *words, f"{there}/skopeo:2"))["Os"] == "linux"
    skopeo("delete", *words, f"{there}/skopeo:2")
    assert json.loads(skopeo("list-tags", *words, f"{there}/skopeo"))["Tags"] == ["1"]


def _archive(platform: Platform, path: Path) -> None:
    platform.docker("save", "-o", str(path), "busybox:latest")


def test_a_panel_that_is_killed_in_the_middle(platform: Platform, robot: str) -> None:
    client = Client(platform.http, ("token", robot))
    data, half = os.urandom(1 << 20), 1 << 19
    where = client("POST", "/v2/demo/killed/blobs/uploads/").location
    sent = client("PATCH", where, data[:half], {**OCTETS, "Content-Range": f"0-{half - 1}"})
    assert sent.status == 202
    os.kill(platform.part("web")["pid"], signal.SIGKILL)
    platform.wait_healthy()
    assert client("GET", where).headers["range"] == f"0-{half - 1}"
    assert client("PATCH", where, data[half:], {**OCTETS, "Content-Range": f"{half}-{len(data) - 1}"}).status == 202
    assert client("PUT", where, digest=digest_of(data)).status == 201
    assert client("GET", f"/v2/demo/killed/blobs/{digest_of(data)}").body == data


def test_a_browser_is_led_nowhere(platform: Platform) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught, contextlib.closing(urllib.request.urlopen(f"{platform.url}/v2/")):
        pass
    assert caught.value.code == 401 and caught.value.headers["WWW-Authenticate"].startswith("Bearer realm=")
    assert "Set-Cookie" not in caught.value.headers
    caught.value.close()
