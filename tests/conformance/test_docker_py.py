"""docker-py, which most scripts use: each public method of its containers, against a whole platform."""

from __future__ import annotations

import functools
import inspect
import io
import socket
import tarfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conformance.conftest import NEEDS, Docker

pytestmark = NEEDS
sdk = pytest.importorskip("docker")

_CALLED: dict[str, set[str]] = defaultdict(set)  # method → the tests that called it


def _public(kind: type) -> dict[str, Any]:
    """Its own and inherited methods and properties, by name."""
    return {
        name: member
        for name, member in inspect.getmembers_static(kind, lambda member: inspect.isfunction(member) or isinstance(member, property))
        if not name.startswith("_") and name != "prepare_model"  # of the library itself: makes objects of answers
    }


def _wanted() -> dict[str, tuple[type, Any]]:
    kinds = (sdk.models.containers.Container, sdk.models.containers.ContainerCollection)
    return {f"{kind.__name__}.{name}": (kind, member) for kind in kinds for name, member in _public(kind).items()}


@pytest.fixture(autouse=True)
def recorded(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Notes which method is called by this test; not what a method calls in turn."""
    test, depth = request.node.name, threading.local()

    def watched(name: str, function: Any) -> Any:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            level = getattr(depth, "level", 0)
            if level == 0:
                _CALLED[name].add(test)
            depth.level = level + 1
            try:
                return function(*args, **kwargs)
            finally:
                depth.level = level

        return call

    for name, (kind, member) in _wanted().items():
        got = watched(name, member.fget if isinstance(member, property) else member)
        monkeypatch.setattr(kind, name.partition(".")[2], property(got) if isinstance(member, property) else got)


@pytest.fixture
def client(docker: Docker) -> Iterator[Any]:
    made = sdk.DockerClient(base_url=docker.address, version="auto", timeout=30)
    yield made
    made.close()


@pytest.fixture
def sleeper(client: Any) -> Any:
    """A container that runs."""
    return client.containers.run("busybox", ["sleep", "600"], detach=True, name="sleeper")


def test_run_to_the_end_and_its_error(client: Any) -> None:
    assert client.containers.run("busybox", ["echo", "hi"], remove=True) == b"hi\n"
    with pytest.raises(sdk.errors.ContainerError) as failed:
        client.containers.run("busybox", ["sh", "-c", "echo why >&2; exit 4"], remove=True)
    assert failed.value.exit_status == 4 and failed.value.stderr == b"why\n"


def test_life_of_a_container(client: Any) -> None:
    container = client.containers.create("busybox", ["sh", "-c", "echo begun; sleep 600"], name="life", labels={"a": "b"}, mem_limit="64m")
    assert (container.status, container.labels) == ("created", {"a": "b"})
    container.start()
    container.reload()
    assert container.status == "running" and container.attrs["HostConfig"]["Memory"] == 64 << 20
    assert client.containers.get("life").id == container.id and container.id.startswith(container.short_id)
    assert container.image.tags == ["busybox:latest"] and container.ports == {} and container.health == "unknown"
    assert next(container.logs(stream=True)) == b"begun\n"
    container.rename("renamed")
    container.reload()
    assert container.name == "renamed"
    container.stop(timeout=0)
    assert container.wait()["StatusCode"] == 137
    container.remove()
    with pytest.raises(sdk.errors.NotFound):
        client.containers.get(container.id)


def test_restart_pause_and_kill(client: Any, sleeper: Any) -> None:
    before = sleeper.attrs["State"]["StartedAt"] if sleeper.reload() is None else ""
    sleeper.restart(timeout=0)
    sleeper.reload()
    assert sleeper.status == "running" and sleeper.attrs["State"]["StartedAt"] > before
    sleeper.pause()
    sleeper.reload()
    assert sleeper.status == "paused"
    with pytest.raises(sdk.errors.APIError) as twice:
        sleeper.pause()
    assert twice.value.status_code == 409 and "already paused" in twice.value.explanation
    sleeper.unpause()
    sleeper.kill("SIGKILL")
    assert sleeper.wait()["StatusCode"] == 137


def test_lists_and_prune(client: Any, sleeper: Any) -> None:
    made = client.containers.create("busybox", ["true"], name="made", labels={"kind": "spare"})
    assert [each.id for each in client.containers.list()] == [sleeper.id]
    assert {each.name for each in client.containers.list(all=True)} == {"sleeper", "made"}
    assert [each.id for each in client.containers.list(all=True, filters={"label": "kind=spare"})] == [made.id]
    pruned = client.containers.prune(filters={"label": "kind=spare"})
    assert pruned["ContainersDeleted"] == [made.id]
    assert [each.id for each in client.containers.list(all=True)] == [sleeper.id]


def test_commands_in_a_running_container(sleeper: Any) -> None:
    code, output = sleeper.exec_run(["sh", "-c", "echo $A; pwd; id -u; exit 3"], environment={"A": "x"}, workdir="/tmp", user="0")
    assert (code, output) == (3, b"x\n/tmp\n0\n")
    code, (out, err) = sleeper.exec_run(["sh", "-c", "echo out; echo err >&2"], demux=True)
    assert (code, out, err) == (0, b"out\n", b"err\n")
    assert b"".join(sleeper.exec_run(["seq", "3"], stream=True).output) == b"1\n2\n3\n"
    titles = sleeper.top()["Titles"]
    assert "PID" in titles and sleeper.top(ps_args="-o pid,args")["Processes"][0][-1] == "sleep 600"


def test_files_in_and_out(client: Any, sleeper: Any) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        entry = tarfile.TarInfo("note")
        entry.size = 5
        tar.addfile(entry, io.BytesIO(b"hello"))
    assert sleeper.put_archive("/tmp", packed.getvalue())
    chunks, stat = sleeper.get_archive("/tmp/note")
    assert (stat["name"], stat["size"]) == ("note", 5)
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
        member = tar.extractfile("note")
        assert member is not None and member.read() == b"hello"
    assert {"Path": "/tmp/note", "Kind": 1} in sleeper.diff()
    with tarfile.open(fileobj=io.BytesIO(b"".join(sleeper.export())), mode="r|") as tar:
        assert "tmp/note" in {each.name for each in tar}
    image = sleeper.commit(repository="noted", tag="1", message="with a note", changes='CMD ["cat", "/tmp/note"]')
    assert client.containers.run("noted:1", remove=True) == b"hello"
    client.images.remove(image.id, force=True)


def test_limits_change_while_it_runs(sleeper: Any) -> None:
    sleeper.update(mem_limit="64m", memswap_limit="64m", cpu_shares=512, restart_policy={"Name": "on-failure", "MaximumRetryCount": 2})
    sleeper.reload()
    config = sleeper.attrs["HostConfig"]
    assert (config["Memory"], config["CpuShares"], config["RestartPolicy"]["MaximumRetryCount"]) == (64 << 20, 512, 2)


def test_health_is_told(client: Any) -> None:
    began = int(time.time())
    check = {"test": ["CMD", "true"], "interval": 300_000_000, "timeout": 5_000_000_000}
    container = client.containers.run("busybox", ["sleep", "600"], detach=True, healthcheck=check)
    for event in client.events(decode=True, filters={"container": container.id}, since=began):
        if event["Action"] == "health_status: healthy":
            break
    container.reload()
    assert container.health == "healthy"


def test_attach_gives_what_was_written(client: Any) -> None:
    container = client.containers.run("busybox", ["sh", "-c", "echo one; echo two"], detach=True)
    container.wait()
    assert container.attach(logs=True, stream=False) == b"one\ntwo\n"


def test_terminal_has_the_size_it_was_given(client: Any) -> None:
    container = client.containers.run("busybox", ["sh"], detach=True, tty=True, stdin_open=True)
    container.resize(height=33, width=101)
    assert container.exec_run(["stty", "-F", "/dev/pts/0", "size"]).output == b"33 101\n"


def test_raw_attach_socket(client: Any) -> None:
    container = client.containers.create("busybox", ["cat"], stdin_open=True)
    stream = container.attach_socket(params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
    container.start()
    raw = getattr(stream, "_sock", stream)
    raw.settimeout(20)
    raw.sendall(b"to and fro\n")
    head, body = b"", b""
    while len(head) < 8:
        head += raw.recv(8 - len(head))
    while len(body) < int.from_bytes(head[4:8], "big"):
        body += raw.recv(1000)
    assert head[0] == 1 and body == b"to and fro\n"
    raw.shutdown(socket.SHUT_WR)
    assert container.wait()["StatusCode"] == 0
    stream.close()
    container.remove()


def test_events_of_a_container(client: Any) -> None:
    seen: list[str] = []
    events = client.events(decode=True, filters={"type": "container"})

    def listen() -> None:
        for event in events:
            seen.append(event["Action"])
            if event["Action"] == "destroy":
                return

    listener = threading.Thread(target=listen)
    listener.start()
    client.containers.run("busybox", ["true"], remove=True)
    listener.join(20)
    events.close()
    assert [action for action in seen if action != "attach"] == ["create", "start", "die", "destroy"]


def test_what_there_is_besides_containers(client: Any) -> None:
    assert client.volumes.list() == [] and client.images.get("busybox").tags == ["busybox:latest"]
    assert {network.name for network in client.networks.list()} == {"bridge", "none"}


def test_stats_of_a_container(sleeper: Any) -> None:
    once = sleeper.stats(stream=False)
    assert once["id"] == sleeper.id and once["memory_stats"]["usage"] > 0 and once["precpu_stats"]["cpu_usage"]["total_usage"] >= 0
    assert next(sleeper.stats(stream=True, decode=True))["name"] == f"/{sleeper.name}"


def test_every_method_was_called(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> None:
    """The last of this file. The list is the library's own, so that a method of a new release is missed here."""
    others = {item.name for item in request.session.items if item.nodeid.partition("::")[0] == request.node.nodeid.partition("::")[0]}
    if request.session.items and len(others) < len([name for name in dir(request.module) if name.startswith("test_")]):
        pytest.skip("only a part of this file was chosen")
    with capsys.disabled():
        print("\n\nMethods of docker-py's containers, and the tests that call them:")
        for name in sorted(_wanted()):
            print(f"  {name:32} {', '.join(sorted(_CALLED[name])) or '—'}")
    assert [name for name in sorted(_wanted()) if not _CALLED[name]] == []
