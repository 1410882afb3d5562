"""``http.hijack`` over real sockets, with a toy application behind a real uvicorn."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from controlpanel.server import listeners
from controlpanel.server.serve import PanelServer, configuration
from tests.controlpanel.server.toy import app, seen

UPGRADE = b"POST /%s HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n%s\r\n"


@contextlib.asynccontextmanager
async def serving(tmp_path: Path) -> AsyncIterator[tuple[PanelServer, int, Path]]:
    server = PanelServer(configuration(app))
    http = listeners.open_http("127.0.0.1:0")
    port = http.getsockname()[1]
    async with server.running():
        await server.add_listener("http", http)
        sockets = listeners.TenantSockets(server, tmp_path / "tenants", {})
        await sockets.settle(["demo"])
        yield server, port, tmp_path / "tenants" / "demo" / "docker.sock"


def run(test: Any) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(test, 30))


async def head_of(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


@pytest.fixture(params=["unix", "tcp"])
def door(request: pytest.FixtureRequest) -> Any:
    async def connect(port: int, path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if request.param == "unix":
            return await asyncio.open_unix_connection(str(path))
        return await asyncio.open_connection("127.0.0.1", port)

    return connect


def test_stream_is_copied_and_half_close_ends_only_one_direction(tmp_path: Path, door: Any) -> None:
    async def test() -> None:
        async with serving(tmp_path) as (_, port, path):
            reader, writer = await door(port, path)
            writer.write(UPGRADE % (b"echo", b""))
            assert (await head_of(reader)).startswith(b"HTTP/1.1 101 UPGRADED\r\n")
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
            writer.write_eof()
            assert await reader.read() == b"<eof>"
            writer.close()

    run(test())


def test_bytes_and_eof_sent_together_with_the_request_arrive(tmp_path: Path, door: Any) -> None:
    async def test() -> None:
        async with serving(tmp_path) as (_, port, path):
            reader, writer = await door(port, path)
            writer.write(UPGRADE % (b"echo", b"") + b"early")
            writer.write_eof()
            await head_of(reader)
            assert await reader.read() == b"early<eof>"
            writer.close()

    run(test())


def test_body_of_an_upgrade_request_is_read_by_its_content_length(tmp_path: Path, door: Any) -> None:
    async def test() -> None:
        async with serving(tmp_path) as (_, port, path):
            reader, writer = await door(port, path)
            writer.write(UPGRADE % (b"upper", b"Content-Length: 10\r\n") + b"json")
            await asyncio.sleep(0.05)
            writer.write(b"ish:{}stream")
            await head_of(reader)
            assert await reader.readexactly(16) == b"JSONISH:{}stream"
            writer.write_eof()
            assert await reader.read() == b"<eof>"
            writer.close()

    run(test())


def test_without_upgrade_header_the_answer_is_200_and_raw(tmp_path: Path, door: Any) -> None:
    async def test() -> None:
        async with serving(tmp_path) as (_, port, path):
            reader, writer = await door(port, path)
            writer.write(b"POST /echo HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n")
            head = await head_of(reader)
            assert head.startswith(b"HTTP/1.1 200 OK\r\n") and b"chunked" not in head and b"content-length" not in head
            writer.write(b"abc")
            assert await reader.readexactly(3) == b"abc"
            writer.write_eof()
            assert await reader.read() == b"<eof>"
            writer.close()

    run(test())


def test_refused_upgrade_is_an_ordinary_answer_and_ends_the_connection(tmp_path: Path, door: Any) -> None:
    async def test() -> None:
        async with serving(tmp_path) as (_, port, path):
            reader, writer = await door(port, path)
            writer.write(UPGRADE % (b"nowhere", b""))
            answer = await reader.read()
            assert answer.startswith(b"HTTP/1.1 404") and b"connection: close" in answer and answer.endswith(b"\r\n\r\nno")
            writer.close()

    run(test())


def test_slow_client_holds_the_writer_back(tmp_path: Path, door: Any) -> None:
    async def test() -> None:
        async with serving(tmp_path) as (_, port, path):
            reader, writer = await door(port, path)
            reader._limit = 1 << 16  # type: ignore[attr-defined]
            with contextlib.closing(writer):  # the server waits for who does not read
                writer.write(UPGRADE % (b"flood", b""))
                await head_of(reader)
                await asyncio.sleep(0.3)
                assert 0 < seen["sent"] < 40 << 20
                total = 0
                while data := await reader.read(1 << 20):
                    total += len(data)
                assert total == 100 << 20

    run(test())


def test_slow_application_holds_the_client_back(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as (_, _port, path):
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(str(path))
            sock.sendall(UPGRADE % (b"sleep", b""))
            sock.setblocking(False)
            sent = 0
            for _ in range(30):
                with contextlib.suppress(BlockingIOError):
                    sent += sock.send(bytes(1 << 20))
                await asyncio.sleep(0.01)
            assert sent < 8 << 20
            sock.close()
            await asyncio.sleep(0.6)
            assert seen["kinds"][0] == "http.hijack.receive"

    run(test())


def test_last_output_arrives_although_the_client_is_still_writing(tmp_path: Path, door: Any) -> None:
    """A close with unread bytes resets the connection; the client must get its output first."""

    async def test() -> None:
        async with serving(tmp_path) as (_, port, path):
            for _ in range(20):
                reader, writer = await door(port, path)
                writer.write(UPGRADE % (b"stop", b"") + bytes(200_000))
                await head_of(reader)
                writer.write(bytes(200_000))
                assert await reader.read() == b"last words"
                writer.close()

    run(test())


def test_scope_names_the_listener_and_the_peer(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as (_, port, path):
            for connect, label, uid in (
                (asyncio.open_unix_connection(str(path)), "tenant-demo", os.getuid()),
                (asyncio.open_connection("127.0.0.1", port), "http", None),
            ):
                reader, writer = await connect
                writer.write(b"GET /who HTTP/1.1\r\nHost: d\r\n\r\n")
                await head_of(reader)
                assert seen["extension"]["listener"] == label
                peer = seen["extension"]["peer"]
                assert (peer and peer["uid"]) == uid
                writer.close()

    run(test())


def test_tcp_connections_have_nodelay(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as (server, port, _path):
            _reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.sleep(0.05)
            (connection,) = server.server_state.connections
            sock = connection.transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            writer.close()

    run(test())


def test_shutdown_cuts_streams_at_once(tmp_path: Path) -> None:
    async def test() -> None:
        loop = asyncio.get_running_loop()
        async with serving(tmp_path) as (_, _port, path):
            reader, writer = await asyncio.open_unix_connection(str(path))
            writer.write(UPGRADE % (b"echo", b""))
            await head_of(reader)
            began = loop.time()
        assert loop.time() - began < 1
        assert await reader.read() == b""
        writer.close()

    run(test())


def test_endless_head_is_refused(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as (_, port, _path):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\n" + b"X: " + b"a" * 300_000)
            assert (await reader.read()).startswith(b"HTTP/1.1 431")
            writer.close()

    run(test())


def test_an_answer_after_a_refusal_of_ours_costs_no_trace(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with serving(tmp_path) as (_, port, _path):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(UPGRADE % (b"late", b"Transfer-Encoding: chunked\r\n"))
            assert (await reader.read()).startswith(b"HTTP/1.1 411")
            await asyncio.sleep(0.2)  # the app has answered
            writer.close()

    run(test())
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []
