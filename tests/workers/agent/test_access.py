"""Who may ask the agent, and what it makes of nonsense."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import shutil
import socket
import subprocess
from typing import Any

import pytest

from engine import errors
from tests.support.platform import PYTHON
from tests.workers.agent.conftest import TENANT, Host, ticket
from workers.agent.server import PANEL_USER

pytestmark = pytest.mark.requires("root", "overlay", "cgroup", "userns")

ASK = """
import json, os, socket, sys
path, uid, question = sys.argv[1:]
sock = socket.socket(socket.AF_UNIX)
sock.connect(path)
sock.sendall(question.encode() + b"\\n")
print(sock.makefile().readline())
"""


def ask_as(host: Host, uid: int, question: dict[str, Any]) -> dict[str, Any]:
    """Asked by another user's process. The socket is opened to everybody for this, so that only the agent's own check is left."""
    os.chmod(host.config.agent_socket, 0o666)
    try:
        done = subprocess.run(
            [PYTHON, "-c", ASK, str(host.config.agent_socket), str(uid), json.dumps(question)],
            user=uid, group=65534, extra_groups=[], capture_output=True, text=True, check=False,
        )  # fmt: skip
    finally:
        os.chmod(host.config.agent_socket, 0o660)
    assert not done.returncode, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


async def test_other_users_are_refused(host: Host) -> None:
    nobody = pwd.getpwnam("nobody").pw_uid
    container = host.create("true")
    question = {"v": 1, "op": "logs", "tenant": TENANT, "id": container, "ticket": ticket("logs", container)}
    assert ask_as(host, nobody, question)["error"]["code"] == "permission_denied"


async def test_the_panels_user_needs_a_ticket_for_just_this(host: Host) -> None:
    try:
        panel = pwd.getpwnam(PANEL_USER).pw_uid
    except KeyError:
        pytest.skip(f"this machine has no user {PANEL_USER}: `up` makes it")
    container = host.create("true")
    question = {"v": 1, "op": "logs", "tenant": TENANT, "id": container}
    assert ask_as(host, panel, question)["error"]["code"] == "permission_denied"
    assert ask_as(host, panel, {**question, "ticket": ticket("attach", container)})["error"]["code"] == "permission_denied"
    assert ask_as(host, panel, {**question, "ticket": ticket("logs", container)}) == {"ok": {"tty": False}}


async def test_the_socket_is_closed_to_others_by_its_mode(host: Host) -> None:
    assert host.config.agent_socket.stat().st_mode & 0o7777 == 0o660


@pytest.mark.parametrize("line", [b"nonsense\n", b"[]\n", b"{}\n", b'{"op": 7}\n', b'{"op": "dance"}\n', b"\n", b"\xff\xfe\n"])
async def test_nonsense_is_answered_or_hung_up_on(host: Host, line: bytes) -> None:
    reader, writer = await asyncio.open_unix_connection(str(host.config.agent_socket))
    writer.write(line)
    answer = await reader.readline()
    writer.close()
    assert not answer or json.loads(answer)["error"]["code"] == "invalid_argument"


async def test_words_of_the_wrong_kind_are_an_error_not_a_hole(host: Host) -> None:
    container = host.create("true")
    for words in ({"tail": "many"}, {"since_ns": []}, {"until_ns": True}):
        with pytest.raises(errors.InvalidArgument):
            async with host.stream("logs", container, **words):
                pass


async def test_a_fault_of_the_disk_ends_the_stream_and_is_in_the_log(host: Host) -> None:
    container = host.create("true")
    folder = host.config.container(container) / "log"
    shutil.rmtree(folder)
    folder.write_text("")
    async with host.stream("logs", container) as (_ok, reader, _writer):
        assert await reader.read() == b""
    assert "a stream failed: [Errno 20] Not a directory" in host.agent.log.read_text()


async def test_clients_that_say_nothing_keep_nobody_out(host: Host) -> None:
    silent = [socket.socket(socket.AF_UNIX) for _ in range(100)]
    for sock in silent:
        sock.connect(str(host.config.agent_socket))
    container = host.create("true")
    async with host.stream("logs", container) as (ok, _reader, _writer):
        assert ok == {"tty": False}
    for sock in silent:
        sock.close()
