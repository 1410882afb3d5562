"""TLS below an asyncio protocol that half-closes: close_notify (RFC 8446 section 6.1) ends one direction, as it does in Go.

asyncio's and uvloop's own TLS end both directions at the first close_notify, and know no ``write_eof``; so the output of
``echo x | docker run -i`` would be lost behind the client's end of input.

    transport ── records ──▶ MemoryBIO ─ SSLObject ─▶ Protocol's data_received · eof_received
    transport ◀── records ── MemoryBIO ─ SSLObject ◀─ TlsTransport's write · write_eof · close

A client's certificate is optional here. Who vouched for it is checked in the handshake; until when it counts and whether it was revoked
is the panel's to say for each request, in words that a client can show.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

log = logging.getLogger("slipway.server")

HANDSHAKE_S: Final = 10.0
FOLLOW_S: Final = 30.0
_CHUNK: Final = 64 << 10
_NO_CHECK_TIME: Final = 0x200000  # X509_V_FLAG_NO_CHECK_TIME, openssl/x509_vfy.h


@dataclass(frozen=True, slots=True)
class Files:
    """What the platform made (workers/platform/certificates.py): PEM, readable for the panel's user."""

    certificate: Path
    key: Path
    clients: Path  # the authority that vouches for clients

    @classmethod
    def below(cls, data: Path) -> Files:
        return cls(data / "etc" / "tls" / "server.pem", data / "etc" / "tls" / "server.key", data / "panel" / "clients.pem")


def context_of(files: Files) -> ssl.SSLContext:
    """OSError (ssl.SSLError is one) when a file is missing or no key fits."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(files.certificate, files.key)
    context.load_verify_locations(files.clients)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.verify_flags |= ssl.VerifyFlags(_NO_CHECK_TIME)
    return context


async def follow(context: ssl.SSLContext, files: Files) -> None:
    """New connections get the certificate that is on the disk, until cancelled: it is renewed while this process serves."""
    seen = files.certificate.stat().st_mtime_ns
    while True:
        await asyncio.sleep(FOLLOW_S)
        try:
            if (found := files.certificate.stat().st_mtime_ns) != seen:
                context.load_cert_chain(files.certificate, files.key)
                seen = found
        except OSError as error:  # between the renewal's two files; at the next look they fit
            log.warning("the server's certificate could not be read again: %s", error)


def fingerprint(transport: asyncio.BaseTransport) -> str | None:
    """SHA-256 in hex of the client's certificate (DER); None when it showed none, or this is no TLS."""
    tls = transport.get_extra_info("ssl_object")
    certificate = tls.getpeercert(binary_form=True) if tls is not None else None
    return hashlib.sha256(certificate).hexdigest() if certificate else None


class TlsProtocol(asyncio.Protocol):
    """One connection's records. ``make`` makes the protocol above, when the handshake is done."""

    def __init__(self, context: ssl.SSLContext, make: Callable[[], asyncio.Protocol]) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._make = make
        self._patience: asyncio.TimerHandle | None = None
        self._read_ended = False  # the client's close_notify was read
        self.write_ended = False  # ours was sent
        self.above: asyncio.Protocol | None = None

    # What the transport tells

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self._patience = asyncio.get_running_loop().call_later(HANDSHAKE_S, transport.abort)

    def data_received(self, data: bytes) -> None:
        self._incoming.write(data)
        if self.above is not None or self._shake_hands():
            self._read()
            self.flush()  # what TLS itself has to say: tickets, alerts, new keys

    def eof_received(self) -> bool:
        """Without close_notify before it, the client is gone or somebody cut the connection: then nothing is believed to have ended."""
        return self._read_ended and not self.transport.is_closing()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._patience is not None:
            self._patience.cancel()
        if self.above is not None:
            self.above.connection_lost(exc)

    def pause_writing(self) -> None:
        if self.above is not None:
            self.above.pause_writing()

    def resume_writing(self) -> None:
        if self.above is not None:
            self.above.resume_writing()

    # Records

    def _shake_hands(self) -> bool:
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            self.flush()
            return False
        except ssl.SSLError as error:
            log.debug("TLS handshake: %s", error)
            self.flush()  # the alert
            self.transport.close()
            return False
        assert self._patience is not None
        self._patience.cancel()
        self.above = self._make()
        self.above.connection_made(TlsTransport(self))
        return True

    def _read(self) -> None:
        assert self.above is not None
        try:
            while not self._read_ended and not self.transport.is_closing():
                if data := self.tls.read(_CHUNK):
                    self.above.data_received(data)
                else:
                    self._end_of_input()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:  # close_notify, after our own
            self._end_of_input()
        except ssl.SSLError as error:
            log.debug("TLS: %s", error)
            self.flush()
            self.transport.abort()

    def _end_of_input(self) -> None:
        assert self.above is not None
        self._read_ended = True
        if not self.above.eof_received() and not self.transport.is_closing():
            self.close()

    def write(self, data: bytes) -> None:
        if self.write_ended or self.transport.is_closing() or not data:
            return
        self.tls.write(data)
        self.flush()

    def end_of_output(self) -> None:
        if self.write_ended or self.transport.is_closing():
            return
        self.write_ended = True
        try:
            self.tls.unwrap()
        except ssl.SSLError:
            pass  # the client's own close_notify has not come yet: it may go on
        self.flush()

    def close(self) -> None:
        self.end_of_output()
        self.transport.close()

    def flush(self) -> None:
        if data := self._outgoing.read():
            self.transport.write(data)


class TlsTransport(asyncio.Transport):
    """What the protocol above sees."""

    def __init__(self, below: TlsProtocol) -> None:
        super().__init__()
        self._below = below

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "ssl_object":
            return self._below.tls
        if name == "sslcontext":
            return self._below.tls.context
        return self._below.transport.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self._below.above = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._below.above is not None
        return self._below.above

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._below.write(bytes(data) if not isinstance(data, bytes) else data)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self._below.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._below.end_of_output()

    def close(self) -> None:
        self._below.close()

    def abort(self) -> None:
        self._below.transport.abort()

    def is_closing(self) -> bool:
        return self._below.transport.is_closing()

    def is_reading(self) -> bool:
        return self._below.transport.is_reading()

    def pause_reading(self) -> None:
        self._below.transport.pause_reading()

    def resume_reading(self) -> None:
        self._below.transport.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._below.transport.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        return self._below.transport.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._below.transport.get_write_buffer_limits()
