"""The other commands of the stock client."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from tests.conformance.conftest import NEEDS, Docker

pytestmark = NEEDS


def test_version_and_info_speak_for_the_tenant(docker: Docker) -> None:
    assert docker.out("version", "-f", "{{.Server.APIVersion}}") == "1.51"
    assert docker.out("info", "-f", "{{.Name}} {{.Swarm.LocalNodeState}}") == "stock inactive"
    assert "name=userns" in docker.out("info", "-f", "{{.SecurityOptions}}")


def test_ps_and_its_filters(docker: Docker) -> None:
    docker("run", "-d", "--name", "up", "--label", "tier=web", "busybox", "sleep", "600")
    docker("run", "--name", "gone", "busybox", "false", check=False)
    docker("create", "--name", "made", "busybox", "true")
    assert docker.out("ps", "--format", "{{.Names}} {{.State}} {{.Image}}") == "up running busybox"
    assert docker.out("ps", "-a", "--format", "{{.Names}}").split() == ["made", "gone", "up"]
    assert docker.out("ps", "-a", "-f", "status=exited", "--format", "{{.Names}}") == "gone"
    assert docker.out("ps", "-a", "-f", "exited=1", "--format", "{{.Names}}") == "gone"
    assert docker.out("ps", "-f", "label=tier=web", "--format", "{{.Names}}") == "up"
    assert docker.out("ps", "-l", "--format", "{{.Names}}") == "made"
    assert "Up " in docker.out("ps", "--format", "{{.Status}}")


def test_logs_tail_timestamps_since_and_streams(docker: Docker) -> None:
    docker("run", "--name", "talk", "busybox", "sh", "-c", "seq 1000; echo oops >&2; sleep 1.2; echo late")
    everything = docker("logs", "talk")
    assert everything.stdout == "".join(f"{n}\n" for n in range(1, 1001)) + "late\n" and everything.stderr == "oops\n"
    assert docker("logs", "--tail", "2", "talk").stdout == "late\n"
    stamped = docker.out("logs", "-t", "--tail", "1", "talk").split()
    assert stamped[1] == "late" and stamped[0].endswith("Z")
    assert docker("logs", "--since", stamped[0], "talk").stdout == "late\n"
    assert docker("logs", "--until", stamped[0][:19] + "Z", "talk").stdout.endswith("1000\n")


def test_logs_are_followed_to_the_end(docker: Docker) -> None:
    docker("run", "-d", "--name", "tick", "busybox", "sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.3; done")
    assert docker("logs", "-f", "tick").stdout == "1\n2\n3\n"


def test_wait_gives_each_exit_code(docker: Docker) -> None:
    docker("run", "-d", "--name", "ends", "busybox", "sh", "-c", "sleep 0.5; exit 7")
    assert docker.out("wait", "ends") == "7"
    assert docker.out("wait", "ends") == "7"


def test_events_tell_a_life(docker: Docker) -> None:
    since = str(int(time.time()))
    docker("run", "--rm", "--name", "life", "busybox", "true")
    told = docker.out(
        "events", "--since", since, "--until", str(int(time.time()) + 1), "--filter", "container=life", "--format", "{{.Action}}"
    )
    actions = told.split("\n")
    assert [action for action in actions if action != "attach"] == ["create", "start", "die", "destroy"]


def test_events_are_told_as_they_happen(docker: Docker) -> None:
    stream = docker.start("events", "--format", "{{.Action}} {{.Actor.Attributes.name}}", stdout=subprocess.PIPE)
    try:
        time.sleep(0.5)
        docker("create", "--name", "now", "busybox", "true")
        assert stream.stdout is not None and stream.stdout.readline() == b"create now\n"
    finally:
        stream.kill()
        stream.wait()


def test_rename_and_conflicts(docker: Docker) -> None:
    docker("create", "--name", "one", "busybox", "true")
    docker("create", "--name", "two", "busybox", "true")
    docker("rename", "one", "three")
    taken = docker("rename", "two", "three", check=False)
    assert 'Conflict. The container name "/three" is already in use' in taken.stderr
    again = docker("create", "--name", "two", "busybox", "true", check=False)
    assert again.returncode == 1 and 'Conflict. The container name "/two" is already in use by container' in again.stderr


def test_running_container_is_removed_by_force_only(docker: Docker) -> None:
    docker("run", "-d", "--name", "busy", "busybox", "sleep", "600")
    assert "container is running" in docker("rm", "busy", check=False).stderr
    docker("rm", "-f", "busy")
    assert docker.out("ps", "-aq") == ""


def test_stats_once(docker: Docker) -> None:
    docker("run", "-d", "--name", "busy", "--memory", "64m", "busybox", "sh", "-c", "while :; do :; done")
    shown = json.loads(docker.out("stats", "--no-stream", "--format", "{{json .}}", "busy"))
    assert shown["Name"] == "busy" and shown["MemUsage"].endswith("64MiB") and float(shown["CPUPerc"].rstrip("%")) > 5


@pytest.mark.parametrize("kind", ["service", "secret", "config", "node", "stack"])
def test_swarm_is_not_there(docker: Docker, kind: str) -> None:
    assert "not a swarm manager" in docker(kind, "ls", check=False).stderr


def test_inspect_finds_what_is_and_nothing_else(docker: Docker) -> None:
    docker("create", "--name", "it", "busybox", "true")
    assert docker.out("inspect", "-f", "{{.Name}}", "it") == "/it"
    assert docker("inspect", "nothing", check=False).stderr.strip() == "Error: No such object: nothing"
    assert docker.out("volume", "ls", "-q") == "" and docker.out("plugin", "ls", "-q") == ""
    assert docker.out("network", "ls", "--format", "{{.Name}}").split() == ["bridge", "none"]


def _rootfs(path: Path) -> Path:
    """A root file system of busybox alone."""
    with tarfile.open(path, "w") as tar:
        tar.add("/bin/busybox", "bin/busybox")
        for name in ("sh", "echo", "cat"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    return path


def test_import_tag_history_and_removal_of_an_image(docker: Docker, tmp_path: Path) -> None:
    source = _rootfs(tmp_path / "rootfs.tar")
    image_id = docker.out("import", "-c", 'CMD ["echo", "imported"]', "-m", "made here", str(source), "mine:1")
    assert image_id.startswith("sha256:")
    assert docker("run", "--rm", "mine:1").stdout == "imported\n"
    docker("tag", "mine:1", "mine:2")
    assert sorted(docker.out("images", "mine", "--format", "{{.Tag}}").split()) == ["1", "2"]
    assert "made here" in docker.out("history", "mine:1", "--format", "{{.Comment}}")
    assert docker.out("image", "inspect", "-f", "{{.Id}}", "mine:2") == image_id
    docker("create", "--name", "user", "mine:1")
    assert docker("rmi", image_id, check=False).returncode == 1
    docker("rm", "user")
    assert docker.out("rmi", "mine:2") == "Untagged: mine:2"
    assert f"Deleted: {image_id}" in docker.out("rmi", "mine:1")
    assert docker.out("images", "-q", "mine") == ""


def test_truncated_tar_is_refused_and_leaves_nothing(docker: Docker, tmp_path: Path) -> None:
    whole = _rootfs(tmp_path / "rootfs.tar").read_bytes()
    (tmp_path / "short.tar").write_bytes(whole[: len(whole) // 2])
    refused = docker("import", str(tmp_path / "short.tar"), "short:1", check=False)
    assert refused.returncode == 1 and refused.stderr.strip()
    loaded = docker("load", "-i", str(tmp_path / "short.tar"), check=False)
    assert loaded.returncode == 1 and loaded.stderr.strip()
    assert docker.out("images", "-q", "short") == ""


def test_load_from_standard_input(docker: Docker, tmp_path: Path) -> None:
    """A docker-archive made by hand."""
    layer = _rootfs(tmp_path / "layer.tar").read_bytes()
    config = json.dumps(
        {
            "architecture": "amd64", "os": "linux", "config": {"Cmd": ["echo", "loaded"]},
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
        }
    ).encode()  # fmt: skip
    archive = tmp_path / "image.tar"
    with tarfile.open(archive, "w") as tar:
        manifest = json.dumps([{"Config": "config.json", "RepoTags": ["handmade:1"], "Layers": ["layer.tar"]}]).encode()
        for name, data in (("config.json", config), ("layer.tar", layer), ("manifest.json", manifest)):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    assert "Loaded image: handmade:1" in docker.out("load", "-i", str(archive))
    assert docker("run", "--rm", "handmade:1").stdout == "loaded\n"
    docker("rmi", "handmade:1")


def test_tenants_see_only_their_own(docker: Docker, other: Docker, tmp_path: Path) -> None:
    docker("run", "-d", "--name", "same", "--label", "whose=stock", "busybox", "sleep", "600")
    other("run", "-d", "--name", "same", "--label", "whose=other", "busybox", "sleep", "600")
    number = docker.out("inspect", "-f", "{{.Id}}", "same")
    for client, owner in ((docker, "stock"), (other, "other")):
        assert client.out("inspect", "-f", "{{.Config.Labels.whose}}", "same") == owner
        assert client.out("ps", "-aq") != "" and "\n" not in client.out("ps", "-aq")
    for words in (("inspect", number), ("logs", number), ("rm", number), ("kill", number), ("attach", number)):
        refused = other(*words, check=False)
        assert refused.returncode == 1 and "No such" in refused.stderr
    docker("import", str(_rootfs(tmp_path / "rootfs.tar")), "private:1")
    assert other.out("images", "-q", "private") == ""
    docker("rmi", "private:1")


def test_http_with_a_token(docker: Docker, tmp_path: Path) -> None:
    secret = docker.platform.manage("token", "create", "--tenant", "stock", "--role", "developer").stdout.strip()
    (tmp_path / "config.json").write_text(json.dumps({"HttpHeaders": {"Authorization": f"Bearer {secret}"}}))
    words = ["docker", "--config", str(tmp_path), "-H", f"tcp://{docker.platform.http}"]
    done = subprocess.run([*words, "run", "-i", "--rm", "busybox", "cat"], input="over tcp", capture_output=True, text=True, check=False)
    assert done.stdout == "over tcp", done.stderr
    (tmp_path / "config.json").write_text("{}")
    refused = subprocess.run([*words, "ps"], capture_output=True, text=True, check=False)
    assert refused.returncode == 1 and "authentication required" in refused.stderr
