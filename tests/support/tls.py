"""A TLS client that half-closes, as Go's does and asyncio's does not; and an authority to test with."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ssl
from pathlib import Path

from workers import authority
from workers.authority import Authority

_AHEAD = 1 << 20


class Connection:
    """``reader`` and what a StreamWriter has. Use as an async context."""

    def __init__(self, port: int, context: ssl.SSLContext, server: str = "127.0.0.1") -> None:
        self._port, self._incoming, self._outgoing = port, ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server)
        self.reader = asyncio.StreamReader(limit=1 << 16)

    async def __aenter__(self) -> Connection:
        self._below, self._raw = await asyncio.open_connection("127.0.0.1", self._port)
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._flush()
                if not (data := await self._below.read(1 << 16)):
                    raise ConnectionResetError("closed during the handshake") from None
                self._incoming.write(data)
            except ssl.SSLError:
                self._raw.close()
                raise
        self._flush()
        self._pump = asyncio.ensure_future(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._pump.cancel()
        self._raw.close()
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await self._pump

    async def _read(self) -> None:
        try:
            while True:
                try:
                    if not (data := self._tls.read(1 << 16)):
                        self.reader.feed_eof()
                        return
                    self.reader.feed_data(data)
                except ssl.SSLWantReadError:
                    await self._be_read()
                    if not (records := await self._below.read(1 << 16)):
                        raise ConnectionResetError("cut off without close_notify") from None
                    self._incoming.write(records)
        except ssl.SSLZeroReturnError:  # close_notify, after our own
            self.reader.feed_eof()
        except (ssl.SSLError, OSError) as error:
            self.reader.set_exception(error)

    async def _be_read(self) -> None:
        while len(self.reader._buffer) > _AHEAD:  # type: ignore[attr-defined]  # noqa: ASYNC110  it tells nobody
            await asyncio.sleep(0.001)

    def write(self, data: bytes) -> None:
        self._tls.write(data)
        self._flush()

    def write_eof(self) -> None:
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        self._flush()

    def vanish(self) -> None:
        """Without close_notify."""
        self._raw.close()

    def _flush(self) -> None:
        self._raw.write(self._outgoing.read())


class Keys:
    """Server, authority of clients, and clients' certificates in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now = folder, datetime.datetime.now(datetime.UTC)
        self.ca = Authority.make(authority.new_key(), "server's", now=self.now, days=10)
        self.clients = Authority.make(authority.new_key(), "clients'", now=self.now, days=10)
        (folder / "ca.pem").write_bytes(authority.certificate_pem(self.ca.certificate))
        (folder / "clients.pem").write_bytes(authority.certificate_pem(self.clients.certificate))
        self.renew()

    def renew(self) -> None:
        key = authority.new_key()
        (self.folder / "server.key").write_bytes(authority.key_pem(key))
        certificate = self.ca.for_server(key, ["127.0.0.1"], now=self.now, days=5)
        (self.folder / "server.pem").write_bytes(authority.certificate_pem(certificate))

    def client(self, *, ends_in: datetime.timedelta = datetime.timedelta(days=1), by: Authority | None = None) -> ssl.SSLContext:
        """A context that shows a new certificate."""
        key = authority.new_key()
        signed = (by or self.clients).for_client(key, name="anna", organization="acme", now=self.now, ends=self.now + ends_in)
        path = self.folder / "client.pem"
        path.write_bytes(authority.key_pem(key) + authority.certificate_pem(signed))
        context = self.nobody()
        context.load_cert_chain(path)
        return context

    def nobody(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
