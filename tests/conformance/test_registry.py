"""The stock client pulls from Debian's docker-registry and pushes to it; docker-py, REST and tenants beside it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import docker as docker_py
from tests.conformance.conftest import NEEDS, Docker
from tests.support import registry
from tests.support.registry import DebianRegistry

pytestmark = [*NEEDS, pytest.mark.requires("docker_registry")]

ALICE = "alice:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a"  # bcrypt of "secret"


@pytest.fixture
def there(tmp_path: Path) -> Iterator[DebianRegistry]:
    with registry.running(tmp_path / "registry") as there:
        yield there


def forget(docker: Docker, name: str) -> None:
    docker("rmi", "-f", name, check=False)


def test_push_pull_and_run(docker: Docker, there: DebianRegistry) -> None:
    name = f"{there.host}/team/app:1"
    docker("tag", "busybox", name)
    pushed = docker.out("push", name)
    assert f"The push refers to repository [{there.host}/team/app]" in pushed
    digest = pushed.partition("digest: ")[2].split()[0]
    assert docker.out("images", "--digests", "--format", "{{.Digest}}", f"{there.host}/team/app") == digest
    assert f"Image is up to date for {name}" in docker.out("pull", name)
    docker("rmi", name)
    assert docker.out("images", "-q", f"{there.host}/team/app") == ""
    ran = docker("run", "--rm", name, "echo", "pulled by itself")
    assert ran.stdout == "pulled by itself\n"
    assert f"Unable to find image '{name}' locally" in ran.stderr and f"Digest: {digest}" in ran.stderr
    assert docker.out("pull", f"{there.host}/team/app@{digest}").endswith(f"{there.host}/team/app@{digest}")
    assert docker.out("image", "inspect", "-f", "{{json .RepoDigests}}", name) == json.dumps([f"{there.host}/team/app@{digest}"])
    forget(docker, name)


def test_a_new_layer_comes_with_its_lines(docker: Docker, other: Docker, there: DebianRegistry) -> None:
    name = f"{there.host}/app:1"
    docker("run", "--name", "maker", "busybox", "sh", "-c", "head -c 300000 /dev/urandom > /made")
    docker("commit", "maker", name)
    docker("rm", "maker")
    docker("push", "-q", name)
    said = other.out("pull", name)
    assert said.count("Already exists") == 1  # the public image's
    for words in ("1: Pulling from app", ": Pulling fs layer", ": Download complete", ": Pull complete", "Digest: "):
        assert words in said
    assert f"Status: Downloaded newer image for {name}" in said
    assert other("run", "--rm", name, "wc", "-c", "/made").stdout.split()[0] == "300000"
    for each in (docker, other):
        forget(each, name)


def test_what_is_not_there(docker: Docker, there: DebianRegistry) -> None:
    missing = docker("pull", f"{there.host}/none:1", check=False)
    assert missing.returncode == 1
    assert f"manifest for {there.host}/none:1 not found: manifest unknown: manifest unknown" in missing.stderr
    assert f"An image does not exist locally with the tag: {there.host}/none" in docker("push", f"{there.host}/none:1", check=False).stderr
    assert "connection refused" in docker("pull", "127.0.0.1:1/x", check=False).stderr


def test_the_platforms_own_addresses_are_out_of_reach(docker: Docker, there: DebianRegistry) -> None:
    port = there.host.partition(":")[2]
    for host in (f"127.0.0.9:{port}", f"[::1]:{port}", "169.254.169.254", docker.platform.http.replace("127.0.0.1", "127.0.0.5")):
        refused = docker("pull", f"{host}/team/app", check=False)
        assert refused.returncode == 1 and "is not reachable from this platform" in refused.stderr


def test_login_with_a_password(docker: Docker, tmp_path: Path) -> None:
    with registry.running(tmp_path / "locked", htpasswd=ALICE) as there:
        name = f"{there.host}/app:1"
        docker("tag", "busybox", name)
        words = ["--config", str(tmp_path / "home")]
        assert "no basic auth credentials" in docker(*words, "push", name, check=False).stderr
        wrong = docker(*words, "login", "-u", "alice", "--password-stdin", there.host, stdin="wrong", check=False)
        assert wrong.returncode == 1 and "unauthorized" in wrong.stderr
        assert "Login Succeeded" in docker(*words, "login", "-u", "alice", "--password-stdin", there.host, stdin="secret").stdout
        assert "digest: sha256:" in docker(*words, "push", name).stdout
        assert "Image is up to date" in docker(*words, "pull", name).stdout
        forget(docker, name)


def test_docker_py(docker: Docker, there: DebianRegistry) -> None:
    with contextlib.closing(docker_py.DockerClient(base_url=docker.address)) as client:
        client.images.get("busybox").tag(f"{there.host}/py", "1")
        lines = list(client.images.push(f"{there.host}/py", tag="1", stream=True, decode=True))
        assert not [line for line in lines if "error" in line] and lines[-1]["aux"]["Tag"] == "1"
        there_now = client.images.get_registry_data(f"{there.host}/py:1")
        assert there_now.id == lines[-1]["aux"]["Digest"] and there_now.has_platform("linux")
        client.images.remove(f"{there.host}/py:1")
        image = client.images.pull(f"{there.host}/py", tag="1")
        assert image.tags == [f"{there.host}/py:1"] or "busybox:latest" in image.tags
        with pytest.raises(docker_py.errors.NotFound):
            client.images.pull(f"{there.host}/py", tag="2")
    forget(docker, f"{there.host}/py:1")


def test_a_client_that_leaves_ends_the_pull(docker: Docker, tmp_path: Path) -> None:
    """A registry that takes its time: whoever presses Ctrl-C leaves nothing under way."""
    from tests.engine.registries import toy as toys
    from tests.engine.registries.conftest import layer

    with toys.running() as toy:
        toy.image("slow", "1", [layer(4 << 20)])
        begun, gone = threading.Event(), threading.Event()

        def slowly(handler: Any) -> bool:
            if "/blobs/" not in handler.path or len(data := toy.blobs[handler.path.rpartition("/")[2]]) < 1 << 20:
                return False
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(data)))
            handler.end_headers()
            begun.set()
            try:
                for at in range(0, len(data), 10_000):
                    handler.wfile.write(data[at : at + 10_000])
                    time.sleep(0.05)
            except OSError:
                gone.set()
            return True

        toy.spoil = slowly
        pull = docker.start("pull", f"{toy.host}/slow:1", stdout=subprocess.PIPE)
        assert pull.stdout is not None
        while b"fs layer" not in pull.stdout.readline():
            pass
        assert begun.wait(20)
        pull.terminate()
        pull.wait()
        assert gone.wait(20)
    assert docker.out("images", "-q", f"{toy.host}/slow") == ""
    incoming = docker.platform.data / "engine" / "incoming"
    assert not list(incoming.iterdir())


def test_rest(docker: Docker, there: DebianRegistry) -> None:
    name = f"{there.host}/rest:1"
    docker("tag", "busybox", name)
    secret = docker.platform.manage("token", "create", "--tenant", "stock", "--role", "developer").stdout.strip()

    def ask(what: str, **body: str) -> list[dict[str, Any]]:
        request = urllib.request.Request(
            f"{docker.platform.url}/api/v1/tenants/stock/{what}",
            data=json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {secret}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return [json.loads(line) for line in answer.read().splitlines()]

    assert any("aux" in line for line in ask("image-push", ref=name))
    (found,) = ask("image-there", ref=name)
    assert found["digest"].startswith("sha256:") and found["platforms"]
    docker("rmi", name)
    assert ask("image-pull", ref=name)[-1] == {"status": f"Status: Downloaded newer image for {name}"}
    with pytest.raises(urllib.error.HTTPError) as caught:
        ask("image-pull", ref=f"{there.host}/none:1")
    assert caught.value.code == 404
    forget(docker, name)
