"""Tenants' sockets come, go, and survive a restart with the supervisor."""

from __future__ import annotations

import array
import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import uvloop

from controlpanel.server import activation, listeners
from controlpanel.server.serve import PanelServer, configuration
from tests.controlpanel.server.toy import app

pytestmark = pytest.mark.guest


def run(test: Any) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(test, 30))


@pytest.fixture
def supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A datagram socket as sd_notify(3) wants it; reads (text, fds)."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
        sock.settimeout(2)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))

        def read() -> tuple[str, list[int]]:
            data, ancillary, _, _ = sock.recvmsg(4096, socket.CMSG_SPACE(64))
            fds = array.array("i")
            for _level, _kind, payload in ancillary:
                fds.frombytes(payload)
            return data.decode(), list(fds)

        yield read


def test_sockets_follow_the_list_of_tenants(tmp_path: Path) -> None:
    async def test() -> None:
        server = PanelServer(configuration(app))
        async with server.running():
            sockets = listeners.TenantSockets(server, tmp_path, {})
            await sockets.settle(["a", "b"])
            assert (tmp_path / "a" / "docker.sock").stat().st_mode & 0o777 == 0o666
            assert (tmp_path / "a").stat().st_mode & 0o777 == 0o711
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "a" / "docker.sock"))
            await sockets.settle(["b", "c"])
            assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "c"]
            assert await reader.read() == b""  # who was connected to the removed tenant is not any more
            writer.close()

    run(test())


def test_long_run_folder_is_no_obstacle(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120) / "demo"
    listeners.open_tenant(folder).close()
    assert (folder / "docker.sock").is_socket()


def test_supervisor_keeps_a_socket_and_hands_it_back(tmp_path: Path, supervisor: Any) -> None:
    async def first() -> int:
        server = PanelServer(configuration(app))
        async with server.running():
            await listeners.TenantSockets(server, tmp_path, {}).settle(["demo"])
            text, fds = supervisor()
            assert text == "FDSTORE=1\nFDNAME=tenant-demo" and len(fds) == 1
            return fds[0]

    async def second(kept: int) -> None:
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(tmp_path / "demo" / "docker.sock"))  # while nobody serves
        client.sendall(b"GET /x HTTP/1.1\r\nHost: d\r\n\r\n")
        server = PanelServer(configuration(app))
        async with server.running():
            await listeners.TenantSockets(server, tmp_path, {"demo": socket.socket(fileno=kept)}).settle(["demo"])
            loop = asyncio.get_running_loop()
            client.setblocking(False)
            assert (await loop.sock_recv(client, 4096)).startswith(b"HTTP/1.1 404")
            client.close()

    kept: list[int] = []

    async def both() -> None:
        kept.append(await first())
        await second(kept[0])

    run(both())


def test_socket_of_a_tenant_removed_meanwhile_is_given_up(tmp_path: Path, supervisor: Any) -> None:
    async def test() -> None:
        sock = listeners.open_tenant(tmp_path / "gone")
        server = PanelServer(configuration(app))
        async with server.running():
            await listeners.TenantSockets(server, tmp_path, {"gone": sock}).settle([])
        assert supervisor()[0] == "FDSTOREREMOVE=1\nFDNAME=tenant-gone"
        assert not (tmp_path / "gone").exists()

    run(test())


def test_inherited_sockets_are_found_by_name(tmp_path: Path) -> None:
    """As sd_listen_fds(3) hands them over: from descriptor 3 on, in a new process."""
    code = (
        "import os, sys; os.dup2(int(sys.argv[1]), 3)\n"
        "os.environ['LISTEN_PID'] = str(os.getpid()) if os.environ['LISTEN_PID'] == 'mine' else '1'\n"
        "from controlpanel.server import activation\n"
        "print({name: sock.getsockname()[1] for name, sock in activation.listen_fds().items()})"
    )
    with listeners.open_http("127.0.0.1:0") as sock:
        port = sock.getsockname()[1]

        def ask(pid: str) -> str:
            return subprocess.run(
                [sys.executable, "-c", code, str(sock.fileno())],
                env={**os.environ, "LISTEN_FDS": "1", "LISTEN_FDNAMES": "http", "LISTEN_PID": pid},
                pass_fds=[sock.fileno()],
                capture_output=True,
                text=True,
                check=True,
            ).stdout.strip()

        assert ask("mine") == f"{{'http': {port}}}"
        assert ask("other") == "{}"


def test_notify_without_supervisor_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert activation.notify("READY=1") is False
