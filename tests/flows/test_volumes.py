"""Volumes as the docker client sees them; and two tenants, of whom one has none of the other's."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import machine
from tests.support.platform import Platform

pytestmark = pytest.mark.requires("root", "overlay", "userns", "cgroup", "docker")

Docker = Callable[..., str]


@pytest.fixture
def docker(platform: Platform) -> Iterator[Docker]:
    """The client in a tenant of its own, without volumes before and after."""
    tenant = platform.tenant("keeps")

    def run(*words: str, check: bool = True) -> str:
        done = platform.docker(*words, tenant=tenant, check=check)
        return done.stdout.strip() if check else done.stdout + done.stderr

    yield run
    if left := run("ps", "-aq"):
        run("rm", "-fv", *left.split())
    if left := run("volume", "ls", "-q"):
        run("volume", "rm", *left.split())


def refused(docker: Docker, *words: str) -> str:
    return docker(*words, check=False).replace("docker: ", "").split("\n")[0]


@pytest.mark.guest
def test_named_ones_in_every_form(docker: Docker) -> None:
    assert docker("volume", "create", "--label", "team=shop", "data") == "data" == docker("volume", "create", "data")
    docker("run", "--rm", "-v", "data:/x", "busybox", "sh", "-c", "echo one > /x/f && mkdir /x/deep && chown 3:4 /x/f")
    assert docker("run", "--rm", "--mount", "type=volume,src=data,dst=/y,readonly", "busybox", "stat", "-c", "%u:%g", "/y/f") == "3:4"
    assert "Read-only file system" in refused(docker, "run", "--rm", "-v", "data:/x:ro", "busybox", "touch", "/x/g")
    if int(docker("version", "-f", "{{.Client.Version}}").split(".")[0]) >= 26:  # which know the word
        assert docker("run", "--rm", "--mount", "type=volume,src=data,dst=/z,volume-subpath=deep", "busybox", "ls", "/z") == ""
    docker("run", "-d", "--name", "keeper", "-v", "data:/x", "-v", "/anonymous", "-v", "made:/m", "busybox", "sleep", "1000")
    shown = {point["Destination"]: point for point in json.loads(docker("inspect", "-f", "{{json .Mounts}}", "keeper"))}
    assert (shown["/x"]["Name"], shown["/x"]["Driver"], shown["/x"]["RW"], shown["/x"]["Mode"]) == ("data", "local", True, "z")
    anonymous = shown["/anonymous"]["Name"]
    assert len(anonymous) == 64 and docker("volume", "inspect", "-f", "{{json .Labels}}", anonymous) == '{"com.docker.volume.anonymous":""}'
    binds, volumes = docker("inspect", "-f", "{{json .HostConfig.Binds}} {{json .Config.Volumes}}", "keeper").split()
    assert set(json.loads(binds)) == {"data:/x", "made:/m"} and volumes == '{"/anonymous":{}}'  # the client sends them in any order
    assert set(docker("ps", "--no-trunc", "--format", "{{.Mounts}}").split(",")) == {"data", "made", anonymous}
    for value in ("data", "/x", "/anonymous", anonymous):
        assert docker("ps", "--filter", f"volume={value}", "--format", "{{.Names}}") == "keeper"
    assert docker("ps", "-q", "--filter", "volume=dat") == ""
    assert docker("run", "--rm", "--volumes-from", "keeper:ro", "busybox", "cat", "/x/f") == "one"
    assert sorted(docker("volume", "ls", "-q").split()) == sorted([anonymous, "data", "made"])
    assert docker("volume", "ls", "-q", "--filter", "label=team=shop", "--filter", "dangling=false") == "data"
    assert docker("volume", "ls", "-q", "--filter", "dangling=true") == ""
    usage = json.loads(docker("system", "df", "-v", "--format", "{{json .}}"))["Volumes"]
    assert {(each["Name"], each["Links"], each["Size"]) for each in usage} >= {("data", "1", "4B"), ("made", "1", "0B")}
    keeper = docker("inspect", "-f", "{{.Id}}", "keeper")
    assert refused(docker, "volume", "rm", "data").endswith(f"remove data: volume is in use - [{keeper}]")
    docker("rm", "-f", "-v", "keeper")
    assert docker("volume", "ls", "-q").split() == ["data", "made"]
    assert docker("volume", "rm", "data", "made").split() == ["data", "made"]


def test_what_goes_with_its_container_and_what_prune_takes(docker: Docker) -> None:
    docker("run", "--rm", "-v", "/gone", "-v", "stays:/s", "busybox", "true")
    deadline = time.monotonic() + 20 * machine.slowness()
    while docker("volume", "ls", "-q") != "stays":
        assert time.monotonic() < deadline, docker("volume", "ls")
        time.sleep(0.05)
    docker("run", "--name", "left", "-v", "/kept", "busybox", "true")
    docker("rm", "left")
    docker("volume", "create", "--label", "keep=yes", "labelled")
    docker("run", "--name", "user", "-v", "used:/u", "busybox", "true")
    (anonymous,) = set(docker("volume", "ls", "-q").split()) - {"stays", "labelled", "used"}
    assert anonymous in docker("volume", "prune", "-f")
    assert "stays" in docker("volume", "prune", "-af", "--filter", "label!=keep")
    assert docker("volume", "ls", "-q").split() == ["labelled", "used"]


def test_the_images_content_and_its_own_volumes(docker: Docker, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(
        "FROM busybox\nRUN mkdir /data && echo image > /data/f && chown -R 7:8 /data && ln -s /proc /hostile\nVOLUME /data\n"
    )
    docker("build", "-q", "-t", "with-volume", str(tmp_path))
    assert docker("run", "--rm", "with-volume", "sh", "-c", "cat /data/f; stat -c %u:%g /data /data/f").split() == ["image", "7:8", "7:8"]
    assert docker("run", "--rm", "-v", "own:/data", "with-volume", "cat", "/data/f") == "image"
    assert docker("run", "--rm", "-v", "bare:/data:nocopy", "with-volume", "ls", "/data") == ""
    assert "symbolic link to /proc" in refused(docker, "run", "--rm", "-v", "bare:/hostile", "with-volume", "true")
    docker("rmi", "with-volume")


def test_copies_of_a_container_that_does_not_run_go_to_its_volumes(docker: Docker, tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "deep" / "f").write_text("copied")
    docker("create", "--name", "helper", "-v", "data:/data", "-v", "shut:/shut:ro", "busybox", "true")
    docker("cp", f"{tmp_path}/in/.", "helper:/data")
    docker("cp", f"{tmp_path}/in/deep/f", "helper:/data/deep/g")
    assert "mounted volume is marked read-only" in docker("cp", f"{tmp_path}/in", "helper:/shut", check=False)
    assert docker("run", "--rm", "-v", "data:/x", "busybox", "cat", "/x/deep/f", "/x/deep/g") == "copiedcopied"
    docker("cp", "helper:/data", f"{tmp_path}/out")
    assert (tmp_path / "out" / "deep" / "g").read_text() == "copied"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("volume", "create", "a/b"), 'create a/b: "a/b" includes invalid characters for a local volume name, only "[a-zA-Z0-9]'),
        (("volume", "create", "-o", "nonsense=1", "xx"), 'invalid option: "nonsense"'),
        (("volume", "create", "-o", "type=nfs", "xx"), 'missing required option: "device"'),
        (("volume", "create", "-d", "other", "xx"), 'plugin "other" not found'),
        (("volume", "inspect", "absent"), "get absent: no such volume"),
        (("volume", "rm", "absent"), "get absent: no such volume"),
        (("volume", "rm", "../keeps"), "page not found"),
        (("run", "-v", "xx:/", "busybox"), "invalid specification: destination can't be '/'"),
        (("run", "-v", "/etc:/e", "busybox"), "bind mounts of /etc are not allowed: root of this host grants folders"),
        (("run", "-v", "xx:/a", "-v", "yy:/a", "busybox"), "Duplicate mount point: /a"),
        (("run", "--volumes-from", "absent", "busybox"), "No such container: absent"),
        (
            ("run", "--mount", "type=volume,src=xx,dst=/e,volume-subpath=../x", "busybox"),
            "subpath must be a relative path within the volume",
        ),
    ],
)
def test_what_is_wrong_is_said_and_leaves_nothing(docker: Docker, words: tuple[str, ...], sentence: str) -> None:
    assert sentence in docker(*words, check=False)
    assert docker("volume", "ls", "-q") == "" == docker("ps", "-aq")


def test_another_tenants_are_none(platform: Platform, docker: Docker) -> None:
    other = platform.tenant("looks")
    docker("run", "--rm", "-v", "secret:/s", "busybox", "sh", "-c", "echo hush > /s/f")
    assert platform.docker("volume", "ls", "-q", tenant=other).stdout == ""
    for words in (("volume", "inspect", "secret"), ("volume", "rm", "secret")):
        assert "no such volume" in platform.docker(*words, tenant=other, check=False).stderr
    assert platform.docker("run", "--rm", "-v", "secret:/s", "busybox", "ls", "/s", tenant=other).stdout == ""
    platform.docker("volume", "rm", "secret", tenant=other)
    assert docker("run", "--rm", "-v", "secret:/s", "busybox", "cat", "/s/f") == "hush"


def test_events_tell_of_them(docker: Docker) -> None:
    since = str(time.time())
    docker("run", "--name", "told", "-v", "seen:/s", "busybox", "true")
    docker("rm", "told")
    docker("volume", "rm", "seen")
    lines = docker(
        "events", "--since", since, "--until", str(time.time()), "--filter", "type=volume", "--format", "{{.Action}} {{.Actor.ID}}"
    )
    assert lines.split("\n") == ["create seen", "mount seen", "unmount seen", "destroy seen"]


def test_a_worker_that_is_killed_loses_and_doubles_none(platform: Platform, docker: Docker) -> None:
    docker("run", "-d", "--name", "busy", "-v", "there:/t", "busybox", "sleep", "1000")
    os.kill(platform.part("host-worker")["pid"], signal.SIGKILL)
    docker("volume", "create", "after")
    platform.wait_healthy()
    assert docker("volume", "ls", "-q").split() == ["after", "there"]
    assert "in use" in docker("volume", "rm", "there", check=False)
    docker("rm", "-f", "busy")
    assert str(platform.data) not in Path("/proc/mounts").read_text()
