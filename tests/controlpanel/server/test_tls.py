"""TLS that half-closes, over real sockets, with the toy application behind a real uvicorn."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import hashlib
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from controlpanel.server import hijack, listeners, tls
from controlpanel.server.serve import PanelServer, configuration
from tests.controlpanel.server.toy import app, seen
from tests.support.tls import Connection, Keys
from workers.authority import Authority, new_key

UPGRADE = b"POST /%s HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
WHO = b"GET /who HTTP/1.1\r\nHost: d\r\n\r\n"


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


def files(keys: Keys) -> tls.Files:
    return tls.Files(keys.folder / "server.pem", keys.folder / "server.key", keys.folder / "clients.pem")


@contextlib.asynccontextmanager
async def serving(keys: Keys, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    server = PanelServer(configuration(app))
    sock = listeners.open_http("127.0.0.1:0")
    async with server.running():
        await server.add_listener("tls", sock, tls=context or tls.context_of(files(keys)))
        yield sock.getsockname()[1]


def run(test: Any) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(test, 30))


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen")


async def head_of(connection: Connection) -> bytes:
    return await connection.reader.readuntil(b"\r\n\r\n")


def test_close_notify_ends_one_direction_only(keys: Keys) -> None:
    async def test() -> None:
        async with serving(keys) as port, Connection(port, keys.nobody()) as client:
            client.write(UPGRADE % b"echo")
            assert (await head_of(client)).startswith(b"HTTP/1.1 101 UPGRADED\r\n")
            client.write(b"hello")
            assert await client.reader.readexactly(5) == b"hello"
            client.write_eof()
            assert await client.reader.read() == b"<eof>"  # read ends by the server's close_notify, else it raises

    run(test())


def test_last_output_arrives_although_the_client_is_still_writing(keys: Keys) -> None:
    async def test() -> None:
        async with serving(keys) as port:
            for _ in range(10):
                async with Connection(port, keys.nobody()) as client:
                    client.write(UPGRADE % b"stop" + bytes(200_000))
                    await head_of(client)
                    client.write(bytes(200_000))
                    assert await client.reader.read() == b"last words"

    run(test())


def test_slow_client_holds_the_writer_back(keys: Keys) -> None:
    async def test() -> None:
        async with serving(keys) as port, Connection(port, keys.nobody()) as client:
            client.write(UPGRADE % b"flood")
            await head_of(client)
            await asyncio.sleep(0.3)
            assert 0 < seen["sent"] < 40 << 20
            total = 0
            while total < 64 << 20:
                total += len(await client.reader.read(1 << 20))

    run(test())


def test_a_client_that_vanishes_without_close_notify_has_not_ended_its_input(keys: Keys) -> None:
    async def test() -> None:
        async with serving(keys) as port, Connection(port, keys.nobody()) as client:
            client.write(UPGRADE % b"echo")
            await head_of(client)
            client.vanish()
            await until(lambda: "http.disconnect" in seen["kinds"])
            assert "http.hijack.eof" not in seen["kinds"]

    run(test())


def test_scope_has_the_fingerprint_of_the_clients_certificate(keys: Keys) -> None:
    """Also of one that has ended: the panel refuses that, in words."""

    async def shown(port: int, context: ssl.SSLContext) -> Any:
        async with Connection(port, context) as client:
            client.write(WHO)
            await head_of(client)
            assert seen["extension"]["listener"] == "tls"
            return seen["extension"]["certificate"]

    async def test() -> None:
        async with serving(keys) as port:
            assert await shown(port, keys.nobody()) is None
            for life in (1, -1):
                context = keys.client(ends_in=datetime.timedelta(seconds=life * 60))
                pem = (keys.folder / "client.pem").read_text()
                der = ssl.PEM_cert_to_DER_cert(pem[pem.index("-----BEGIN CERT") :])
                assert await shown(port, context) == hashlib.sha256(der).hexdigest()

    run(test())


def test_a_certificate_of_another_authority_is_refused_in_the_handshake(keys: Keys) -> None:
    async def test() -> None:
        other = Authority.make(new_key(), "clients'", now=keys.now, days=1)  # the very name
        seen.pop("extension", None)
        async with serving(keys) as port:
            with pytest.raises((ssl.SSLError, OSError)):  # with TLS 1.3 the client hears of it at its first read
                async with Connection(port, keys.client(by=other)) as client:
                    client.write(WHO)
                    await client.reader.readexactly(1)
        assert "extension" not in seen

    run(test())


def test_what_speaks_no_tls_is_closed_and_what_says_nothing_later(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "HANDSHAKE_S", 0.1)

    async def test() -> None:
        async with serving(keys) as port:
            for said in (WHO, b""):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(said)
                with contextlib.suppress(ConnectionResetError):
                    assert b"HTTP" not in await asyncio.wait_for(reader.read(), 5)
                writer.close()

    run(test())


def test_a_renewed_certificate_is_shown_to_new_connections(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "FOLLOW_S", 0.01)

    async def shown(port: int) -> bytes | None:
        async with Connection(port, keys.nobody()) as client:
            return client._tls.getpeercert(binary_form=True)

    async def test() -> None:
        context = tls.context_of(files(keys))
        async with serving(keys, context) as port:
            following = asyncio.ensure_future(tls.follow(context, files(keys)))
            first = await shown(port)
            keys.renew()
            await asyncio.sleep(0.1)
            assert await shown(port) != first
            following.cancel()

    run(test())


@pytest.mark.parametrize("path", [b"echo", b"late", b"never"])
def test_a_request_that_is_cut_off_ends_at_once_or_may_first_be_answered(keys: Keys, path: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """echo: a stream under way · late: an answer that comes within the patience · never: one that does not"""
    monkeypatch.setattr(hijack, "GONE_S", 0.2)

    async def test() -> None:
        loop = asyncio.get_running_loop()
        async with serving(keys) as port, Connection(port, keys.nobody()) as client:
            client.write(UPGRADE % path if path == b"echo" else b"GET /%s HTTP/1.1\r\nHost: d\r\n\r\n" % path)
            if path == b"echo":
                await head_of(client)
            else:
                await asyncio.sleep(0.05)
            began = loop.time()
            seen["extension"]["cut"](0.3)
            if path == b"late":
                assert (await client.reader.read()).endswith(b"late")
            else:
                assert await client.reader.read() == b""
            assert loop.time() - began < 3.0
            await until(lambda: "over" in seen)

    seen.pop("over", None)
    run(test())
