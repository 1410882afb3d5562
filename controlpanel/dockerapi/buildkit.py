"""``POST /grpc``: where buildx looks for BuildKit. Every call of it is answered with one sentence that names the way out.

buildx dials this first. Refused here, it would silently go on to a builder container of its own: a pull from a registry far away and
``--privileged``, which few tenants get. So the upgrade is granted, and behind it stands as much of HTTP/2 as a refusal takes (RFC 9113, and
gRPC's "trailers only"): our settings, acknowledgements, and for each stream the headers below.

    :status 200 · content-type application/grpc · grpc-status 12 (UNIMPLEMENTED) · grpc-message: the sentence
"""

from __future__ import annotations

import asyncio
import struct
from typing import Final
from urllib.parse import quote

from controlpanel.dockerapi.exchange import Exchange
from controlpanel.tenants.permissions import require
from engine.errors import Unsupported

SENTENCE: Final = (
    "BuildKit is not supported yet: set DOCKER_BUILDKIT=0 (the classic builder here reads the whole Dockerfile language), "
    "or build in the panel"
)
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEAD: Final = struct.Struct(">I")  # the length's three bytes and the type; flags and stream follow
_DATA, _HEADERS, _SETTINGS, _PING, _GOAWAY, _CONTINUATION = 0, 1, 4, 6, 7, 9
_ACK: Final = 1  # of settings and ping
_END_STREAM, _END_HEADERS = 1, 4
_MAX_FRAME: Final = 16_384
_PATIENCE_S: Final = 30.0


async def grpc(exchange: Exchange) -> None:
    require(exchange.actor, "image.view")
    if not exchange.header(b"upgrade"):
        raise Unsupported(SENTENCE)
    await exchange.hijack("application/vnd.docker.raw-stream")
    await exchange.stream_send(_frame(_SETTINGS))
    connection = Refusals()
    while True:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                message = await exchange.stream_receive()
        except TimeoutError:
            return
        if message["type"] != "http.hijack.receive":
            return
        answer = connection.feed(message["data"])
        if answer:
            await exchange.stream_send(answer)
        if connection.is_over:
            return


class Refusals:
    """The server's half of one connection: bytes in, bytes out."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._is_open = False
        self.is_over = False

    def feed(self, data: bytes) -> bytes:
        self._data += data
        if not self._is_open:
            if len(self._data) < len(_PREFACE):
                return b""
            if not self._data.startswith(_PREFACE):
                self.is_over = True
                return b""
            del self._data[: len(_PREFACE)]
            self._is_open = True
        answer = bytearray()
        while len(self._data) >= 9 and not self.is_over:
            length, kind = int.from_bytes(self._data[:3], "big"), self._data[3]
            if length > _MAX_FRAME:
                self.is_over = True
                break
            if len(self._data) < 9 + length:
                break
            flags, stream = self._data[4], int.from_bytes(self._data[5:9], "big") & 0x7FFFFFFF
            payload = bytes(self._data[9 : 9 + length])
            del self._data[: 9 + length]
            answer += self._answer(kind, flags, stream, payload)
        return bytes(answer)

    def _answer(self, kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        if kind == _SETTINGS and not flags & _ACK:
            return _frame(_SETTINGS, flags=_ACK)
        if kind == _PING and not flags & _ACK:
            return _frame(_PING, flags=_ACK, payload=payload)
        if kind in (_HEADERS, _CONTINUATION) and flags & _END_HEADERS:
            return _frame(_HEADERS, flags=_END_HEADERS | _END_STREAM, stream=stream, payload=_TRAILERS)
        if kind == _GOAWAY:
            self.is_over = True
        return b""


def _frame(kind: int, *, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return _HEAD.pack(len(payload) << 8 | kind) + bytes((flags,)) + stream.to_bytes(4, "big") + payload


def _literal(name: str, value: str) -> bytes:
    """HPACK, a field without indexing and with a new name. RFC 7541, 6.2.2."""
    return b"\0" + _text(name) + _text(value)


def _text(text: str) -> bytes:
    """A length in seven bits, or more bytes of seven each; not Huffman coded. RFC 7541, 5.1 and 5.2."""
    data = text.encode("ascii")
    if len(data) < 127:
        return bytes((len(data),)) + data
    rest, out = len(data) - 127, bytearray((127,))
    while rest >= 128:
        out.append(rest & 127 | 128)
        rest >>= 7
    out.append(rest)
    return bytes(out) + data


_TRAILERS: Final = (
    b"\x88"  # :status 200, entry 8 of the static table
    + _literal("content-type", "application/grpc")
    + _literal("grpc-status", "12")
    + _literal("grpc-message", quote(SENTENCE, safe=" !\"#$&'()*+,-./:;<=>?@[]^_`{|}~"))
)
