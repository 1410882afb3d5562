"""What careless and hostile clients send: a clear answer each time, never a 500 or a stack, and nothing left.

tests/fuzz sends what comes by chance.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from engine.model.container import NAME_MAX
from engine.model.platform import host_platform
from tests.engine.images.archives import docker_archive, file, folder, hard_link, symlink, tar
from tests.support import leftovers
from tests.support.platform import Platform
from tests.support.raw import TAR, ask, open_request

pytestmark = pytest.mark.requires("root", "overlay", "userns", "cgroup", "docker")

TENANT = "careless"
CREATE = "/v1.51/containers/create"
GOOD: dict[str, Any] = {"Image": "busybox", "Cmd": ["true"]}


@pytest.fixture(scope="module")
def own(platform: Platform) -> Iterator[Platform]:
    platform.tenant(TENANT)
    yield platform
    for container in platform.docker("ps", "-aq", tenant=TENANT).stdout.split():
        platform.docker("rm", "-f", container, tenant=TENANT)
    platform.manage("tenant", "delete", TENANT, "--now")


def send(platform: Platform, method: str, target: str, body: Any = None, **words: Any) -> tuple[int, bytes]:
    return ask(platform.socket(TENANT), method, target, body, **words)


def refused(platform: Platform, body: Any) -> tuple[int, str]:
    """The answer of create, or of the start of what it made. The container is removed."""
    name = f"bad-{time.monotonic_ns()}"
    status, said = send(platform, "POST", f"{CREATE}?name={name}", body)
    if status == 201:
        status, said = send(platform, "POST", f"/v1.51/containers/{name}/start")
        assert send(platform, "DELETE", f"/v1.51/containers/{name}?force=1")[0] == 204
    text = said.decode()
    assert "Traceback" not in text
    assert 'File "' not in text
    return status, text


# -- requests --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"Cmd": ["a\0b"]}, "zero byte"),
        ({"Env": ["A=\0"]}, "zero byte"),
        ({"WorkingDir": "/\0"}, "zero byte"),
        ({"WorkingDir": "/proc/self/fd/9"}, "working folder"),
        ({"User": "a\0"}, "zero byte"),
        ({"Hostname": "a\0"}, "zero byte"),
        ({"Hostname": "x" * 65}, "host name"),
        ({"StopSignal": "SIGFOO"}, "invalid signal: SIGFOO"),
        ({"Image": "busybox\n"}, "invalid reference format"),
        ({"HostConfig": {"Memory": -5}}, "Minimum memory limit allowed is 6MB"),
        ({"HostConfig": {"Memory": 2**63}}, "int64"),
        ({"HostConfig": {"NanoCpus": -5}}, "range of CPUs is from 0.01 to"),
        ({"HostConfig": {"CpuShares": -1}}, "CPU shares"),
        ({"HostConfig": {"CpusetCpus": "4000"}}, "Requested CPUs are not available"),
        ({"HostConfig": {"Tmpfs": {"/proc": ""}}}, "cannot be mounted"),
        ({"HostConfig": {"Tmpfs": {"/dev": ""}}}, "cannot be mounted"),
        ({"HostConfig": {"Tmpfs": {"/a/../..": ""}}}, "destination can't be '/'"),
        ({"HostConfig": {"Tmpfs": {"/x": "foo=bar"}}}, "invalid tmpfs option"),
        ({"HostConfig": {"Tmpfs": {"/bin/sh": ""}}}, "/bin/sh"),
        ({"HostConfig": {"ExtraHosts": ["a:b"]}}, "invalid IP address"),
        ({"Cmd": "true", "Env": "x"}, "json: cannot unmarshal"),
    ],
)
def test_a_bad_create_or_start_is_the_clients_fault(own: Platform, changes: dict[str, Any], sentence: str) -> None:
    status, said = refused(own, {**GOOD, **changes})
    assert status == 400, said
    assert sentence in said
    assert "/sys/fs/cgroup" not in said


@pytest.mark.parametrize(
    "body",
    [
        "",
        "null",
        "[]",
        "{",
        '{"Image":"busybox"',
        "[" * 20_000,
        b'{"Image":"\xff"}',
        b"\xef\xbb\xbf{}",
        '{"Image":"busybox","Cmd":["\\ud800"]}',
        '{"Image":"busybox","StopTimeout":NaN}',
        '{"Image":"busybox","StopTimeout":' + "9" * 5000 + "}",
    ],
)
def test_what_is_no_json_object_is_400(own: Platform, body: Any) -> None:
    assert refused(own, body)[0] == 400


def test_dockers_own_sentences(own: Platform) -> None:
    assert send(own, "POST", CREATE, {"Image": "x"}) == (404, b'{"message":"No such image: x:latest"}\n')
    assert send(own, "POST", f"{CREATE}?name=twin", GOOD)[0] == 201
    status, said = send(own, "POST", f"{CREATE}?name=twin", GOOD)
    assert status == 409
    assert b'Conflict. The container name \\"/twin\\" is already in use by container' in said
    assert send(own, "POST", "/v1.51/containers/twin/kill?signal=SIGFOO")[0] == 400
    assert send(own, "DELETE", "/v1.51/containers/twin")[0] == 204
    done = own.docker("run", "--rm", "busybox", "nope", tenant=TENANT, check=False)
    assert done.returncode == 127
    assert 'exec: "nope": executable file not found in $PATH' in done.stderr
    assert own.docker("ps", "-aq", tenant=TENANT).stdout == ""
    done = own.docker("pull", "127.0.0.9:1/alpine", tenant=TENANT, check=False)
    assert done.returncode == 1
    assert "127.0.0.9 is this machine itself" in done.stderr


def test_the_longest_name_fits_and_a_longer_one_is_refused(own: Platform) -> None:
    longest = "n" * NAME_MAX
    assert send(own, "POST", f"{CREATE}?name={longest}", GOOD)[0] == 201
    assert send(own, "POST", f"/v1.51/containers/{longest}/rename?name={longest[1:]}m")[0] == 204
    for status, said in (
        send(own, "POST", f"{CREATE}?name={longest}n", GOOD),
        send(own, "POST", f"/v1.51/containers/{longest[1:]}m/rename?name={'n' * 255}"),
    ):
        assert status == 400, said
        assert b"at most 200 characters" in said
    assert send(own, "DELETE", f"/v1.51/containers/{longest[1:]}m")[0] == 204


def test_an_image_for_another_platform_counts_as_none(own: Platform) -> None:
    """404, so that the client pulls the right one, as moby has it; never a container of the wrong one."""
    here = host_platform()
    other = "linux/arm64" if here.architecture == "amd64" else "linux/amd64"
    status, said = send(own, "POST", f"{CREATE}?name=foreign&platform={other}", GOOD)
    assert (status, f"does not provide the specified platform ({other})" in said.decode()) == (404, True)
    assert send(own, "POST", f"{CREATE}?name=native&platform={here}", GOOD)[0] == 201
    assert send(own, "DELETE", "/v1.51/containers/native")[0] == 204


def test_detach_keys_that_are_none_are_refused_before_the_upgrade(own: Platform) -> None:
    assert send(own, "POST", f"{CREATE}?name=keys", GOOD)[0] == 201
    for method, path in (("POST", "attach"), ("GET", "attach/ws")):
        upgrade = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version": "13"} if method == "GET" else {}
        target = f"/v1.51/containers/keys/{path}?stream=1&stdout=1&detachKeys=banana"
        status, said = send(own, method, target, headers=upgrade)
        assert (status, said) == (400, b'{"message":"Invalid escape keys (banana) provided"}\n')
    assert send(own, "DELETE", "/v1.51/containers/keys")[0] == 204


@pytest.mark.parametrize(
    "head",
    [
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"GET " + b"/a" * 50_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /_ping HTTP/1.1\r\nX: a\0b\r\n\r\n",
        b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /containers/create HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: nonsense\r\n\r\n",
    ],
)
def test_what_is_no_http_is_400(own: Platform, head: bytes) -> None:
    with open_request(own.socket(TENANT), head) as sock:
        assert sock.recv(64).startswith(b"HTTP/1.1 400 ")


def test_clients_that_never_finish_a_request_are_in_nobodys_way(own: Platform) -> None:
    slow = [open_request(own.socket(TENANT), b"GET /_ping HTTP/1.1\r\nHost: x\r\nX-a") for _ in range(200)]
    try:
        began = time.monotonic()
        assert send(own, "GET", "/_ping") == (200, b"OK")
        assert time.monotonic() - began < 5
    finally:
        for sock in slow:
            sock.close()


# -- archives --------------------------------------------------------------------------------------------


def _store(platform: Platform) -> set[str]:
    engine = platform.data / "engine"
    places = (engine / "layers", engine / "incoming", engine / "images", platform.data / "content" / "blobs" / "sha256")
    return {f"{place.name}/{name}" for place in places for name in os.listdir(place)}


@pytest.mark.parametrize(
    "archive",
    [
        tar(file("../../../../../../tmp/slipway-evil", b"x")),
        tar(file("a/../../../../../../../tmp/slipway-evil", b"x")),
        tar(hard_link("a", "../../../../../../etc/passwd")),
        tar(hard_link("a", "/etc/passwd")),
        tar(file(".wh...")),
        tar(file("a" * 300, b"x")),
        tar(file("a", b"x"), file("a/b", b"x")),
        tar(file("a", b"x" * 5000))[:3000],
        b"no tar at all" * 100,
    ],
)
def test_a_bad_tar_is_refused_whole(own: Platform, archive: bytes) -> None:
    before = _store(own)
    target = "/v1.51/images/create?fromSrc=-&repo=evil"
    status, said = send(own, "POST", target, archive, kind=TAR)
    assert status == 400 or b'"error"' in said, said
    assert _store(own) == before
    assert not os.path.exists("/tmp/slipway-evil")
    assert send(own, "GET", "/v1.51/images/evil/json")[0] == 404


def test_names_through_links_stay_in_the_tree(own: Platform) -> None:
    archive = tar(symlink("l", "/tmp"), file("l/slipway-evil", b"x"), symlink("m", "../../../../../../tmp"), file("m/slipway-evil", b"x"))
    assert send(own, "POST", "/v1.51/images/create?fromSrc=-&repo=links", archive, kind=TAR)[0] == 200
    assert not os.path.exists("/tmp/slipway-evil")
    assert send(own, "DELETE", "/v1.51/images/links")[0] == 200


def test_a_damaged_archive_leaves_nothing(own: Platform) -> None:
    good = docker_archive([tar(folder("etc"), file("etc/motd", os.urandom(20_000)))], names=["damaged:1"])
    before = _store(own)
    for place in (600, len(good) // 3, len(good) // 2):
        flipped = bytearray(good)
        flipped[place] ^= 0x40
        for archive in (bytes(flipped), good[:place]):
            status, said = send(own, "POST", "/v1.51/images/load?quiet=1", archive, kind=TAR)
            if status == 200 and b'"error"' not in said:  # a bit that nobody looks at, such as a time in a header
                assert send(own, "DELETE", "/v1.51/images/damaged:1")[0] == 200
    assert _store(own) == before


# -- clients that go away --------------------------------------------------------------------------------


def _descriptors(platform: Platform) -> dict[str, int]:
    pids = {part["name"]: part["pid"] for part in platform.status()["parts"]}
    return {name: len(os.listdir(f"/proc/{pids[name]}/fd")) for name in ("web", "agent", "keeper", "host-worker")}


def test_two_hundred_aborted_streams_leave_no_descriptor(own: Platform) -> None:
    own.docker("run", "-d", "-i", "--name", "chatty", "busybox", "sh", "-c", "while :; do echo line; usleep 5000; done", tenant=TENANT)
    upgrade = b"Host: x\r\nUpgrade: tcp\r\nConnection: Upgrade\r\nContent-Length: 0\r\n\r\n"
    chunk = b"Host: x\r\nTransfer-Encoding: chunked\r\nContent-Type: application/x-tar\r\n\r\n400\r\n" + bytes(0x400) + b"\r\n"
    heads = [
        b"GET /containers/chatty/logs?stdout=1&follow=1 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /containers/chatty/attach?stream=1&stdout=1&stdin=1 HTTP/1.1\r\n" + upgrade,
        b"POST /containers/chatty/wait HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
        b"GET /containers/chatty/stats HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /images/load HTTP/1.1\r\n" + chunk,
        b'POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\nContent-Type: application/json\r\n\r\n{"Image"',
    ]
    try:
        self_warmed = [open_request(own.socket(TENANT), head) for head in heads]
        time.sleep(0.5)
        for sock in self_warmed:
            sock.close()
        time.sleep(3)
        before = _descriptors(own)
        for turn in range(29):
            for head in heads:
                sock = open_request(own.socket(TENANT), head)
                if turn % 2:
                    sock.shutdown(socket.SHUT_WR)
                if turn % 3 == 0 and b"follow" in head:
                    sock.recv(100)
                sock.close()
        deadline = time.monotonic() + 15
        while any(_descriptors(own)[name] > count + 8 for name, count in before.items()):  # pools may have grown
            assert time.monotonic() < deadline, (before, _descriptors(own))
            time.sleep(0.5)
        assert send(own, "GET", "/_ping") == (200, b"OK")
    finally:
        own.docker("rm", "-f", "chatty", tenant=TENANT)


def test_readers_that_do_not_read_hold_nobody_up(own: Platform) -> None:
    own.docker("run", "-d", "--name", "flood", "busybox", "sh", "-c", "seq 300000; echo end; sleep 600", tenant=TENANT)
    head = b"POST /containers/flood/attach?stream=1&stdout=1&logs=1 HTTP/1.1\r\nHost: x\r\nUpgrade: tcp\r\nConnection: Upgrade\r\n\r\n"
    deaf = [open_request(own.socket(TENANT), head) for _ in range(100)]
    try:
        deadline = time.monotonic() + 30
        while own.docker("logs", "--tail", "1", "flood", tenant=TENANT).stdout != "end\n":
            assert time.monotonic() < deadline
            time.sleep(0.2)
    finally:
        for sock in deaf:
            sock.close()
        own.docker("rm", "-f", "flood", tenant=TENANT)


def test_nothing_of_all_this_is_left(own: Platform) -> None:
    assert own.docker("ps", "-aq", tenant=TENANT).stdout == ""
    assert not [line for line in leftovers.found() if line.startswith("mount ") and "/rootfs/" in line]
    assert os.listdir(own.data / "engine" / "incoming") == []
