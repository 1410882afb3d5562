"""What the docker client says of a container's disk and of the host's network, through panel, queue and engine."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator

import pytest

from engine import ceilings
from engine.config import EngineConfig
from engine.kernel import nfs
from tests.support.platform import Platform

pytestmark = pytest.mark.requires("root", "overlay", "userns", "cgroup", "docker", "loop")

Docker = Callable[..., str]
TENANT = "sizes"


@pytest.fixture
def docker(platform: Platform) -> Iterator[Docker]:
    tenant = platform.tenant(TENANT)

    def run(*words: str, check: bool = True) -> str:
        done = platform.docker(*words, tenant=tenant, check=check)
        return done.stdout.strip() if check else done.stdout + done.stderr

    yield run
    if left := run("ps", "-aq"):
        run("rm", "-fv", *left.split())
    assert run("volume", "ls", "-q") == ""


def test_a_container_has_the_disk_that_it_asked_for(docker: Docker) -> None:
    fill = "dd if=/dev/zero of=/big bs=64k count=320 2>/dev/null; stat -c %b /big"
    docker("run", "-d", "--name", "small", "--storage-opt", "size=10m", "busybox", "sh", "-c", f"{fill}; exec sleep 1000")
    while not (blocks := docker("logs", "small")):
        pass
    assert 9 << 20 < int(blocks) * 512 <= 10 << 20
    assert json.loads(docker("inspect", "-f", "{{json .HostConfig.StorageOpt}}", "small")) == {"size": "10m"}
    assert docker("ps", "-s", "--format", "{{.Size}}").startswith("10.")  # MB
    assert "A /big" in docker("diff", "small")
    docker("rm", "-f", "small")
    for words, sentence in (("speed=1", "Unknown option speed"), ("size=1k", "at least 1 MiB"), ("size=x", "invalid size: 'x'")):
        assert sentence in docker("create", "--storage-opt", words, "busybox", check=False)


def test_the_hosts_network_takes_two_grants(docker: Docker, platform: Platform) -> None:
    asked = ("run", "--rm", "--network", "host", "-p", "80:80", "busybox", "sh", "-c", "readlink /proc/self/ns/net; hostname")
    assert "host" not in docker("network", "ls", "--format", "{{.Name}}").split()
    assert "rule policy.host_network" in docker(*asked, check=False)
    platform.manage("tenant", "policy", TENANT, "--allow", "host_network")
    assert "ceiling --host-network" in docker(*asked, check=False)
    ceilings.change(EngineConfig(platform.data, platform.run), TENANT, host_network=True)
    assert docker(*asked) == f"{os.readlink('/proc/self/ns/net')}\n{os.uname().nodename}"
    docker("run", "-d", "--name", "out", "--network", "host", "busybox", "sleep", "1000")
    assert docker("network", "inspect", "-f", "{{.Driver}} {{range .Containers}}{{.Name}}{{end}}", "host") == "host out"
    shown = docker("inspect", "-f", "{{.HostConfig.NetworkMode}} {{.Config.Hostname}} {{json .NetworkSettings.Ports}}", "out")
    assert shown == f"host {os.uname().nodename} {{}}"
    assert docker("exec", "out", "readlink", "/proc/self/ns/net") == os.readlink("/proc/self/ns/net")
    platform.manage("tenant", "policy", TENANT, "--deny", "host_network")
    assert "rule policy.host_network" in docker(*asked, check=False)


def test_a_volume_on_an_nfs_server_is_roots_of_the_host_to_grant(docker: Docker, platform: Platform) -> None:
    """What it then does only a kernel that has NFS can show: tests/engine/volumes/test_nfs.py."""
    words = ("-o", "type=nfs", "-o", "o=addr=127.0.0.1,rw,vers=4", "-o", "device=:/srv/a", "shared")
    assert "root of this host grants exports to a tenant" in docker("volume", "create", *words, check=False)
    config = EngineConfig(platform.data, platform.run)
    ceilings.change(config, TENANT, nfs=("127.0.0.1:/srv",))
    if nfs.is_here():
        docker("volume", "create", *words)
        docker("volume", "rm", "shared")
    else:
        assert "this kernel has no nfs" in docker("volume", "create", *words, check=False)
    assert "invalid option of an NFS volume: 'context=x'" in docker(
        "volume", "create", "-o", "o=addr=x,context=x", *words[:2], *words[4:], check=False
    )
    ceilings.change(config, TENANT, no_nfs=("127.0.0.1:/srv",))
    assert docker("volume", "ls", "-q", "-f", "name=shared") == ""


def test_a_volume_in_memory_is_shared(docker: Docker) -> None:
    docker("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m", "quick")
    docker("run", "-d", "--name", "writer", "-v", "quick:/q", "busybox", "sh", "-c", "echo here > /q/f; exec sleep 1000")
    assert docker("run", "--rm", "-v", "quick:/q", "busybox", "sh", "-c", "until cat /q/f; do :; done") == "here"
    docker("rm", "-f", "writer")
    assert docker("run", "--rm", "-v", "quick:/q", "busybox", "ls", "/q") == ""
    docker("volume", "rm", "quick")
