"""docker/: the panel's own images, built by our engine from a base that debootstrap makes, and what they do when they run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.platform import ROOT, Platform

pytestmark = [pytest.mark.requires("root", "overlay", "userns", "cgroup", "docker", "debootstrap"), pytest.mark.long]

TENANT = "recipes"
BASE, BROKER = "debian:made", "broker"
SUITE = "bookworm"
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")  # this machine's, by which it reaches its mirrors and indexes
MINUTES = 60


@pytest.fixture(scope="module")
def docker(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """With BASE as an image of TENANT."""
    platform.tenant(TENANT)
    root = tmp_path_factory.mktemp("base") / "root"
    made = ["debootstrap", "--variant=minbase", "--include=ca-certificates,redis-server", SUITE, str(root)]
    subprocess.run(made, check=True, stdout=subprocess.DEVNULL, timeout=15 * MINUTES)
    for given in (AUTHORITIES, *Path("/etc/apt/apt.conf.d").glob("*proxy*")):
        shutil.copy(given, root / given.relative_to("/"))
    names = {"PIP_CERT": AUTHORITIES, "SSL_CERT_FILE": AUTHORITIES, "NODE_EXTRA_CA_CERTS": AUTHORITIES}
    changes = [word for name, path in names.items() for word in ("--change", f"ENV {name}={path}")]
    with subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE) as tar:
        environment = {**os.environ, "DOCKER_HOST": f"unix://{platform.socket(TENANT)}"}
        subprocess.run(["docker", "import", *changes, "-", BASE], stdin=tar.stdout, env=environment, check=True, timeout=5 * MINUTES)
    shutil.rmtree(root)
    yield platform
    platform.docker("rm", "-f", BROKER, "panel", "worker", tenant=TENANT, check=False)


@pytest.mark.timeout(45 * MINUTES)
def test_the_panels_images_are_built_by_our_own_engine_and_work(docker: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*words: str) -> str:
        return docker.docker(*words, tenant=TENANT, timeout_s=30 * MINUTES).stdout.strip()

    monkeypatch.setenv("DOCKER_BUILDKIT", "0")
    for target in ("panel", "worker"):
        recipe = ("-f", str(ROOT / "docker" / "Dockerfile"), "--target", target, "--build-arg", f"BASE={BASE}")
        run("build", "-q", *recipe, "-t", f"slipway/{target}", str(ROOT))
    layers = [json.loads(run("image", "inspect", "-f", "{{json .RootFS.Layers}}", f"slipway/{target}")) for target in ("panel", "worker")]
    assert layers[0] == layers[1]
    assert run("run", "--rm", "--entrypoint", "id", "slipway/panel", "-un") == "slipway"

    run("run", "-d", "--name", BROKER, BASE, "redis-server")
    beside = ("--network", f"container:{BROKER}", "-e", "REDIS_URL=redis://127.0.0.1:6379/0")
    run("run", "-d", "--name", "panel", *beside, "slipway/panel")
    run("run", "-d", "--name", "worker", *beside, "slipway/worker")
    deadline = time.monotonic() + 2 * MINUTES
    while run("inspect", "-f", "{{.State.Health.Status}}", "panel") != "healthy":
        assert time.monotonic() < deadline, run("logs", "panel")
        time.sleep(1)
    words = ("exec", "-u", "0", "-e", "SLIPWAY_PANEL=elsewhere", "panel", "python", "manage.py", "status", "--json")
    parts = {part["name"]: part for part in json.loads(docker.docker(*words, tenant=TENANT, check=False).stdout)["parts"]}
    assert {name for name, part in parts.items() if part["healthy"]} == {"redis", "web", "panel-worker"}
    page = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:8000/accounts/login/').read().decode())"
    assert "csrfmiddlewaretoken" in run("exec", "panel", "python", "-c", page)
