"""REST against a whole platform, over its port, as automation calls it: what flows through it, and what it refuses."""

from __future__ import annotations

import hashlib
import io
import json
import os
import socket
import tarfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.platform import Platform

pytestmark = [pytest.mark.requires("root", "overlay", "userns", "cgroup", "nft"), pytest.mark.timeout(240)]


class Rest:
    """A bearer of one token."""

    def __init__(self, platform: Platform, tenant: str = "demo", role: str = "developer") -> None:
        self.platform = platform
        self.token = platform.manage("token", "create", "--tenant", tenant, "--role", role).stdout.split()[-1]

    def open(
        self, verb: str, where: str, /, body: Any = None, *, data: Any = None, headers: dict[str, str] | None = None, **query: Any
    ) -> Any:
        """The answer of any status, not read yet."""
        words = urllib.parse.urlencode(query, doseq=True)
        head = {"Authorization": f"Bearer {self.token}", **(headers or {})}
        if body is not None:
            data, head["Content-Type"] = json.dumps(body).encode(), "application/json"
        asked = urllib.request.Request(f"{self.platform.url}/api/v1/tenants/{where}?{words}", data, head, method=verb)
        try:
            return urllib.request.urlopen(asked, timeout=60)
        except urllib.error.HTTPError as refused:
            return refused

    def __call__(self, verb: str, where: str, /, body: Any = None, **words: Any) -> tuple[int, Any]:
        with self.open(verb, where, body, **words) as answer:
            read = answer.read()
            return answer.status, json.loads(read) if read and "json" in answer.headers.get("Content-Type", "") else read


@pytest.fixture
def rest(platform: Platform) -> Iterator[Rest]:
    """In the demo tenant, with a container ``box`` that runs."""
    found = Rest(platform)
    made = found("POST", "demo/containers", {"image": "busybox", "name": "box", "command": ["sleep", "600"], "init": True, "start": True})
    assert made[0] == 201, made
    yield found
    platform.docker("rm", "-f", "box", "crate", check=False)


def tar_of(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def test_everything_that_is_asked_is_what_docker_shows(rest: Rest, platform: Platform) -> None:
    asked = {
        "image": "busybox", "name": "crate", "command": ["sleep", "600"], "memory": "64m", "memory_swap": -1, "cap_drop": ["CHOWN"],
        "ulimits": [{"name": "nofile", "soft": 64, "hard": 128}], "tmpfs": {"/scratch": "size=1m"}, "sysctls": {"net.core.somaxconn": "99"},
        "hostname": "crate", "dns": ["10.0.0.53"], "health": {"shell": "true", "interval_s": 1.5}, "log": {"driver": "local"},
        "no_new_privileges": True, "annotations": {"a": "b"}, "network": "container:box", "oom_score_adj": 5,
    }  # fmt: skip
    refused = rest("POST", "demo/containers", asked)
    assert (refused[0], refused[1]["error"]["message"]) == (400, "conflicting options: hostname and the network mode")
    made = rest("POST", "demo/containers", {**asked, "network": "bridge", "start": True})
    assert made[0] == 201, made
    status, shown = rest("GET", "demo/containers/crate/inspect")
    assert status == 200 and shown == json.loads(platform.docker("inspect", "crate").stdout)[0]
    host = shown["HostConfig"]
    assert host["Memory"] == 64 << 20 and host["MemorySwap"] == -1 and host["CapDrop"] == ["CHOWN"]
    assert host["SecurityOpt"] == ["no-new-privileges"] and shown["Config"]["Healthcheck"]["Interval"] == 1_500_000_000
    inside = platform.docker("exec", "crate", "sh", "-c", "ulimit -n; cat /proc/sys/net/core/somaxconn; hostname").stdout.split()
    assert inside == ["64", "99", "crate"]


def test_a_tar_goes_in_as_it_comes_and_out_again(rest: Rest, platform: Platform) -> None:
    data = os.urandom(1 << 20) * 48
    tar = tar_of(big=data, small=b"hello\n")
    chunks = (tar[at : at + 300_000] for at in range(0, len(tar), 300_000))  # without Content-Length: nobody can collect it first
    status, said = rest("PUT", "demo/containers/box/files", data=chunks, headers={"Content-Type": "application/x-tar"}, path="/etc/../tmp")
    assert (status, said) == (204, b"")
    assert platform.docker("exec", "box", "sha256sum", "/tmp/big").stdout.split()[0] == hashlib.sha256(data).hexdigest()
    status, back = rest("GET", "demo/containers/box/files", path="/tmp/small")
    with tarfile.open(fileobj=io.BytesIO(back)) as archive:
        assert archive.extractfile("small").read() == b"hello\n"  # type: ignore[union-attr]


def test_one_file_goes_in_and_out_as_it_is(rest: Rest, platform: Platform) -> None:
    data = bytes(range(256)) * 5000
    status, said = rest("PUT", "demo/containers/box/files/content", data=data, path="/tmp/a b", mode="600", uid=7, gid=8)
    assert status == 204, said
    assert platform.docker("exec", "box", "stat", "-c", "%a %u %g %s", "/tmp/a b").stdout.split() == ["600", "7", "8", str(len(data))]
    platform.docker("exec", "box", "ln", "-s", "/tmp/a b", "/tmp/link")
    for path in ("/tmp/a b", "/tmp/link"):
        with rest.open("GET", "demo/containers/box/files/content", path=path) as answer:
            assert answer.status == 200 and answer.headers["Content-Length"] == str(len(data))
            assert answer.read() == data
    assert rest("PUT", "demo/containers/box/files/content", data=b"", path="/tmp/empty")[0] == 204
    assert rest("GET", "demo/containers/box/files/content", path="/tmp/empty") == (200, b"")


@pytest.mark.parametrize(
    ("verb", "path", "query", "status"),
    [
        ("GET", "files/content", {"path": "/tmp"}, 409),
        ("GET", "files/content", {"path": "/nowhere"}, 404),
        ("GET", "files", {"path": "/nowhere"}, 404),
        ("PUT", "files/content", {"path": "/nowhere/a"}, 404),
        ("PUT", "files/content", {"path": "tmp/a"}, 400),
        ("PUT", "files/content", {"path": "/tmp/.."}, 400),
        ("PUT", "files/content", {"path": "/tmp/a", "mode": "999"}, 400),
        ("PUT", "files", {"path": "/nowhere"}, 404),
        ("PUT", "files", {"path": "/etc/passwd"}, 400),
        ("PUT", "files", {}, 400),
    ],
)
def test_what_cannot_be_copied_is_said(rest: Rest, verb: str, path: str, query: dict[str, str], status: int) -> None:
    answer = rest(verb, f"demo/containers/box/{path}", data=b"no tar" if verb == "PUT" else None, **query)
    assert answer[0] == status and answer[1]["error"]["message"], answer


def test_who_sends_much_to_where_it_cannot_go_still_reads_why(rest: Rest) -> None:
    status, said = rest("PUT", "demo/containers/box/files", data=(b"x" * (1 << 20) for _ in range(16)), path="/nowhere")
    assert status == 404 and "/nowhere" in said["error"]["message"]


def test_a_body_that_is_no_tar_and_a_file_of_unknown_length_are_refused(rest: Rest) -> None:
    status, said = rest("PUT", "demo/containers/box/files", data=b"x" * 2000, path="/tmp")
    assert status == 400 and said["error"]["code"] == "invalid_argument", said
    status, said = rest("PUT", "demo/containers/box/files/content", data=iter([b"a"]), path="/tmp/a")
    assert status == 400 and "Content-Length" in said["error"]["message"]


def test_a_client_that_leaves_in_the_middle_has_copied_nothing(rest: Rest, platform: Platform) -> None:
    host, _colon, port = platform.http.partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as client:
        client.sendall(
            b"PUT /api/v1/tenants/demo/containers/box/files/content?path=/tmp/half HTTP/1.1\r\nHost: x\r\n"
            b"Authorization: Bearer " + rest.token.encode() + b"\r\nContent-Length: 4000000\r\n\r\n" + b"a" * 100_000
        )
    status, box = rest("GET", "demo/containers/box")
    assert status == 200  # the platform goes on
    told = platform.docker(
        "events", "--since", "1m", "--until", "0s", "--filter", f"container={box['id']}", "--format", "{{.Action}}"
    ).stdout
    assert "extract-to-dir" not in told
    assert rest("PUT", "demo/containers/box/files/content", data=b"whole", path="/tmp/half")[0] == 204
    assert rest("GET", "demo/containers/box/files/content", path="/tmp/half") == (200, b"whole")


def test_strangers_find_nothing_and_viewers_change_nothing(rest: Rest, platform: Platform) -> None:
    platform.tenant("other")
    stranger, viewer = Rest(platform, "other", "owner"), Rest(platform, role="viewer")
    reads = [("GET", "files/content"), ("GET", "files"), ("GET", "attach")]
    writes = [("PUT", "files"), ("PUT", "files/content"), ("POST", "rename"), ("POST", "exec")]
    for verb, path in (*reads, *writes, ("GET", "inspect"), ("GET", "stats")):
        body = {"rename": {"name": "mine"}, "exec": {"command": ["true"]}}.get(path)
        words: dict[str, Any] = {"path": "/etc/passwd"} if "files" in path else {}
        words |= {"data": b"x"} if verb == "PUT" else {}
        status, said = stranger(verb, f"demo/containers/box/{path}", body, **words)
        assert (status, said["error"]["message"]) == (404, "No such tenant: demo"), path
        status, said = stranger(verb, f"other/containers/box/{path}", body, **words)
        assert (status, said["error"]["message"]) == (404, "No such container: box"), path
        if path not in ("inspect", "stats"):
            status, said = viewer(verb, f"demo/containers/box/{path}", body, **words)
            assert status == 403 and "of role viewer" in said["error"]["message"], path
    assert stranger("GET", "demo/events")[0] == 404


def test_a_new_name_is_taken_once(rest: Rest) -> None:
    status, said = rest("POST", "demo/containers/box/rename", {"name": "crate"})
    assert (status, said["name"]) == (200, "crate")
    assert rest("GET", "demo/containers/box")[0] == 404
    assert rest("POST", "demo/containers/crate/rename", {"name": "a b"})[0] == 400
    assert rest("POST", "demo/containers/crate/rename", {"name": "demo"})[0] == 409


def test_figures_and_events_come_line_by_line(rest: Rest, platform: Platform) -> None:
    with rest.open("GET", "demo/containers/box/stats", stream="true", interval_s=0.2) as answer:
        assert answer.headers["Content-Type"] == "application/x-ndjson"
        samples = [json.loads(answer.readline()) for _ in range(3)]
    assert samples[2]["precpu_stats"]["cpu_usage"] == samples[1]["cpu_stats"]["cpu_usage"]
    with rest.open("GET", "demo/events", container=["box"], event=["pause", "unpause"]) as answer:
        platform.docker("pause", "box")
        assert json.loads(answer.readline())["Action"] == "pause"
        platform.docker("unpause", "box")
        last = json.loads(answer.readline())
    assert (last["Action"], last["Actor"]["Attributes"]["name"]) == ("unpause", "box")
    with rest.open("GET", "demo/events", container=[last["Actor"]["ID"]], since=last["time"] - 60, until=last["time"] + 1) as answer:
        actions = [json.loads(line)["Action"] for line in answer.read().splitlines()]
    assert actions[:2] == ["create", "start"] and actions[-2:] == ["pause", "unpause"]
    assert rest("GET", "demo/events", since=10, until=5)[0] == 400


def test_a_command_is_begun_and_looked_at_later(rest: Rest) -> None:
    status, begun = rest("POST", "demo/containers/box/exec", {"command": ["sh", "-c", "sleep 0.3; exit 7"], "detach": True})
    assert status == 202 and begun["running"] and begun["exit_code"] is None
    while (found := rest("GET", f"demo/execs/{begun['id']}"))[1]["running"]:
        assert found[0] == 200
    assert found[1]["exit_code"] == 7 and found[1]["command"][0] == "sh"
    assert rest("GET", "demo/execs/" + "0" * 64)[0] == 404
    assert rest("POST", "demo/containers/box/exec", {"command": ["cat"], "detach": True, "stdin": "x"})[0] == 400


def test_the_address_to_attach_at_answers_a_websocket(rest: Rest, platform: Platform) -> None:
    status, where = rest("GET", "demo/containers/box/attach")
    assert status == 200 and where["framed"] and not where["stdin"]
    host, _colon, port = platform.http.partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as client:
        client.sendall(
            f"GET {where['websocket']} HTTP/1.1\r\nHost: {platform.http}\r\nAuthorization: Bearer {rest.token}\r\nConnection: Upgrade\r\n"
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        assert client.recv(200).startswith(b"HTTP/1.1 101")


@pytest.mark.requires("loop")
def test_a_volume_with_its_files_copies_and_snapshots(platform: Platform, rest: Rest) -> None:
    made = rest("POST", "demo/volumes", {"name": "vault", "size": "10m", "labels": {"team": "shop"}})
    assert made[0] == 201 and made[1]["size_bytes"] == 10 << 20
    try:
        one = "demo/volumes/vault"
        assert rest("PUT", f"{one}/files/content", path="/app.conf", data=b"one", mode="640", uid=5)[0] == 204
        (entry,) = rest("GET", f"{one}/files/list")[1]["entries"]
        assert (entry["name"], entry["size"], entry["mode"], entry["uid"]) == ("app.conf", 3, 0o640, 5)
        assert rest("POST", f"{one}/snapshots", {"name": "before"})[0] == 204
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for name in ("app.conf", "sub/more", "../../out"):
                tar.addfile(tarfile.TarInfo(name))
        refused = rest("PUT", f"{one}/files", data=archive.getvalue())
        assert refused[0] == 400 and "outside" in refused[1]["error"]["message"]
        for path in ("/../../etc/passwd", "/none"):
            assert rest("GET", f"{one}/files/content", path=path)[0] == 404
        big = rest("PUT", f"{one}/files/content", path="/big", data=os.urandom(11 << 20))
        assert big[0] >= 400 and "space" in big[1]["error"]["message"].lower()
        assert rest("DELETE", f"{one}/files", path="/sub")[0] == 204
        assert rest("POST", f"{one}/snapshots/before/restore")[0] == 204
        with rest.open("GET", f"{one}/files") as answer, tarfile.open(fileobj=io.BytesIO(answer.read())) as tar:
            assert tar.getnames() == ["app.conf"]
        assert rest("POST", f"{one}/clone", {"name": "vault2"})[1]["labels"] == {"team": "shop"}
        assert rest("POST", "demo/volumes/vault2/resize", {"size": "20m"})[1]["size_bytes"] == 20 << 20
        assert rest("POST", "demo/volumes/vault2/rename", {"name": "vault3"})[1]["name"] == "vault3"
        shown = rest("GET", one)[1]
        assert [each["name"] for each in shown["snapshots"]] == ["before"] and shown["used_by"] == []
        platform.docker("run", "--name", "crate", "-v", "vault:/v", "busybox", "true")
        in_use = rest("DELETE", one)
        assert in_use[0] == 409 and "volume is in use" in in_use[1]["error"]["message"]
        assert [each["used_by"] for each in rest("GET", "demo/volumes")[1]] == [["crate"], []]
        assert rest("DELETE", f"{one}/snapshots/before")[0] == 204
    finally:
        platform.docker("rm", "-f", "crate", check=False)
        assert rest("POST", "demo/volume-prune", {"all": True})[1]["names"] == ["vault", "vault3"]
