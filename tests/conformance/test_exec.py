"""``docker exec`` and ``attach`` as people and programs use them, through the stock client and raw."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from typing import Any

import pytest
from websockets.sync.client import unix_connect

from tests.conformance.conftest import NEEDS, Docker
from tests.support import raw

pytestmark = NEEDS


@pytest.fixture
def sleeper(docker: Docker) -> str:
    docker("run", "-d", "--name", "sleeper", "--network", "none", "-e", "A=of the container", "busybox", "sleep", "600")
    return "sleeper"


@pytest.mark.guest
def test_streams_words_and_exit_codes(docker: Docker, sleeper: str) -> None:
    done = docker("exec", "-i", sleeper, "sh", "-c", "cat; echo err >&2; exit 42", check=False, stdin="in\n")
    assert (done.stdout, done.stderr, done.returncode) == ("in\n", "err\n", 42)
    words = ("-e", "B=c", "-w", "/tmp", "-u", "1:2")
    assert docker.out("exec", *words, sleeper, "sh", "-c", 'echo "$A" $B $(pwd) $(id -u):$(id -g)') == "of the container c /tmp 1:2"
    big = "0123456789abcdef" * 200_000
    assert docker("exec", "-i", sleeper, "cat", stdin=big).stdout == big
    done = docker("exec", sleeper, "nope", check=False)
    assert (done.returncode, done.stdout) == (
        127,
        'OCI runtime exec failed: exec failed: unable to start container process: exec: "nope": executable file not found in $PATH\n',
    )
    done = docker("exec", "-u", "stranger", sleeper, "true", check=False)
    sentence = "unable to find user stranger: no matching entries in passwd file"
    assert (done.returncode, done.stderr.strip()) == (1, f"Error response from daemon: {sentence}"), "said at the create (moby 28.2)"
    assert docker("exec", "-d", sleeper, "sh", "-c", "echo done > /tmp/x").stdout == ""
    until(lambda: docker("exec", sleeper, "cat", "/tmp/x", check=False).stdout == "done\n")


@pytest.mark.guest
def test_a_terminal_that_is_resized_and_detached_from(docker: Docker, sleeper: str, terminal: Any) -> None:
    shell = terminal("exec", "-it", sleeper, "sh", rows=30, columns=90)
    # asked until it is so: clients before 23 tell the size after the start
    shell.type("PS1='> '; tty; until stty size 2>/dev/null | grep -x '30 90'; do sleep 0.1; done; echo first-$((40+2))\n")
    assert "/dev/pts/0" in shell.until("first-42")
    shell.resize(41, 133)

    def has_the_new_size() -> bool:
        os.killpg(shell.process.pid, signal.SIGWINCH)  # again and again: the client may not have been listening yet
        return docker.out("exec", sleeper, "stty", "-F", "/dev/pts/0", "size") == "41 133"

    until(has_the_new_size)
    shell.type("\x10\x11")
    shell.until("read escape sequence")
    assert shell.close() == 1
    assert "sh" in docker.out("exec", sleeper, "ps", "-o", "comm").split(), "it goes on"
    leaving = terminal("exec", "-it", sleeper, "sh", "-c", "read x; exit 7")
    leaving.type("\n")
    assert leaving.close() == 7


def test_another_tenant_finds_no_exec(docker: Docker, other: Docker, sleeper: str) -> None:
    status, body = raw.ask(docker.platform.socket(docker.tenant), "POST", f"/containers/{sleeper}/exec", {"Cmd": ["true"]})
    assert status == 201
    exec_id = json.loads(body)["Id"]
    theirs = docker.platform.socket(other.tenant)
    for method, verb in (("GET", "json"), ("POST", "start"), ("POST", "resize?h=1&w=1")):
        assert raw.ask(theirs, method, f"/exec/{exec_id}/{verb}", {} if method == "POST" else None)[0] == 404
    assert raw.ask(docker.platform.socket(docker.tenant), "POST", f"/exec/{exec_id}/start", {"Detach": True})[0] == 200


def test_an_exit_code_is_known_also_when_web_was_killed_meanwhile(docker: Docker, sleeper: str) -> None:
    mine = docker.platform.socket(docker.tenant)
    exec_id = json.loads(
        raw.ask(mine, "POST", f"/containers/{sleeper}/exec", {"Cmd": ["sh", "-c", "until [ -e /go ]; do sleep 0.1; done; exit 6"]})[1]
    )["Id"]
    assert raw.ask(mine, "POST", f"/exec/{exec_id}/start", {"Detach": True})[0] == 200
    os.kill(docker.platform.part("web")["pid"], signal.SIGKILL)
    docker.platform.wait_healthy(60)
    assert json.loads(raw.ask(mine, "GET", f"/exec/{exec_id}/json")[1])["Running"] is True
    docker("exec", sleeper, "touch", "/go")
    until(lambda: json.loads(raw.ask(mine, "GET", f"/exec/{exec_id}/json")[1])["Running"] is False)
    shown = json.loads(raw.ask(mine, "GET", f"/exec/{exec_id}/json")[1])
    assert (shown["ExitCode"], shown["ContainerID"]) == (6, docker.out("inspect", "-f", "{{.Id}}", sleeper))


def test_who_does_not_read_holds_up_neither_the_container_nor_the_others(docker: Docker) -> None:
    docker("run", "-di", "--name", "talker", "--network", "none", "busybox", "sh", "-c", "read x; seq 400000; echo end; sleep 600")
    sockets = [attach(docker, "talker") for _ in range(6)]
    slow, quick = sockets[:2], sockets[2:]
    docker("attach", "--no-stdin", "--sig-proxy=false", "absent", check=False)
    feeding = attach(docker, "talker", stdin=True)
    feeding.sendall(b"\n")
    for sock in quick:
        data = b""
        while not data.endswith(b"end\n"):
            piece = sock.recv(1 << 20)
            assert piece, "the attachment ended"
            data = data[-8:] + piece
    for sock in (*slow, *quick, feeding):
        sock.close()


def attach(docker: Docker, name: str, *, stdin: bool = False) -> socket.socket:
    """Raw frames, from the reply's body on."""
    streams = "stream=1&stdout=1" + "&stdin=1" * stdin
    sock = raw.open_request(
        docker.platform.socket(docker.tenant),
        f"POST /v1.50/containers/{name}/attach?{streams} HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n".encode(),
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += sock.recv(1)
    assert head.startswith(b"HTTP/1.1 101"), head
    return sock


@pytest.mark.guest
def test_attach_over_a_websocket(docker: Docker) -> None:
    docker("run", "-di", "--name", "echo", "--network", "none", "busybox", "cat")
    place = str(docker.platform.socket(docker.tenant))
    address = "ws://docker/v1.50/containers/echo/attach/ws?stream=1&stdin=1&stdout=1&stderr=1"
    with unix_connect(place, address) as first, unix_connect(place, "ws://docker/v1.30/containers/echo/attach/ws") as second:
        first.send(b"bytes\n")
        assert (first.recv(), second.recv()) == (b"bytes\n", b"bytes\n")
        second.send("text\n")
        assert (first.recv(), second.recv()) == (b"text\n", b"text\n")
        assert first.ping().wait(20)
        first.send(b"x" * 300_000 + b"\n")
        got = b""
        while len(got) < 300_001:
            got += bytes(first.recv())
    docker("kill", "echo")
    assert raw.ask(docker.platform.socket(docker.tenant), "GET", "/containers/echo/attach/ws")[0] == 400
    assert raw.ask(docker.platform.socket(docker.tenant), "GET", "/containers/none/attach/ws", None)[0] in (400, 404)


def test_rest_runs_a_command_to_its_end(docker: Docker, sleeper: str) -> None:
    platform = docker.platform
    token = platform.manage("token", "create", "--tenant", docker.tenant, "--role", "developer").stdout.split()[-1]

    def run(**words: Any) -> tuple[int, Any]:
        command = ["curl", "-s", "-w", "\n%{http_code}", "-H", f"Authorization: Bearer {token}", "-H", "Content-Type: application/json"]
        target = f"{platform.url}/api/v1/tenants/{docker.tenant}/containers/{sleeper}/exec"
        done = subprocess.run([*command, "-d", json.dumps(words), target], capture_output=True, text=True, check=True)
        text, _, status = done.stdout.rpartition("\n")
        return int(status), json.loads(text)

    status, answer = run(command=["sh", "-c", "cat; echo $A >&2; exit 5"], env={"A": "b"}, stdin="typed")
    assert (status, answer["exit_code"], answer["stdout"], answer["stderr"], answer["truncated"]) == (200, 5, "typed", "b\n", False)
    status, answer = run(command=["sleep", "300"], timeout_s=0.3)
    assert (status, answer["error"]["code"]) == (503, "unavailable")
    assert run(command=["nope"])[0] == 400 and run(command=[])[0] in (400, 422)
    until(lambda: "sleep 300" not in docker.out("exec", sleeper, "ps"))


def until(true: Any, within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "it never became true"
        time.sleep(0.05)
