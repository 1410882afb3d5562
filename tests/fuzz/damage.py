"""Requests that are no HTTP, or two at once for who reads it otherwise (RFC 9112, 11.2). Each takes a whole request and damages it."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

Damage = Callable[[bytes, Random], bytes]
_SECOND: Final = b"GET /_ping HTTP/1.1\r\nHost: localhost\r\n\r\n"


def _halves(wire: bytes) -> tuple[bytes, bytes]:
    head, _, body = wire.partition(b"\r\n\r\n")
    return head, body


def _with(*lines: bytes) -> Damage:
    """Header lines more than it has."""

    def damage(wire: bytes, _chance: Random) -> bytes:
        head, body = _halves(wire)
        return b"\r\n".join((head, *lines)) + b"\r\n\r\n" + body

    return damage


def _chunked(*sizes: bytes) -> Damage:
    """The body in one chunk whose size line is one of these, without its Content-Length."""

    def damage(wire: bytes, chance: Random) -> bytes:
        head, body = _halves(wire)
        lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length")]
        size = chance.choice(sizes or (b"%x" % len(body),))
        return b"\r\n".join((*lines, b"Transfer-Encoding: chunked")) + b"\r\n\r\n" + size + b"\r\n" + body + b"\r\n0\r\n\r\n"

    return damage


def _cut(wire: bytes, chance: Random) -> bytes:
    return wire[: chance.randrange(len(wire))]


def _cut_in_chunk(wire: bytes, chance: Random) -> bytes:
    whole = _chunked()(wire, chance)
    return whole[: -chance.randrange(1, 12)]


def _flipped(wire: bytes, chance: Random) -> bytes:
    changed = bytearray(wire)
    for _ in range(chance.randrange(1, 4)):
        changed[chance.randrange(len(changed))] ^= chance.randrange(1, 256)
    return bytes(changed)


def _line(old: bytes, new: bytes) -> Damage:
    return lambda wire, _chance: wire.replace(old, new, 1)


def _first_line(wire: bytes, chance: Random) -> bytes:
    _, _, rest = wire.partition(b"\r\n")
    method = chance.choice((b"get", b"", b"CONNECT", b"TRACE", b"PROPFIND", b"G\0T", b"A" * 300, b"PRI"))
    target = chance.choice(
        (
            b"*",
            b"http://localhost/_ping",
            b"//_ping",
            b"/" + b"a/" * 3000,
            b"/_ping#x",
            b"/\xff\xfe",
            b"/%",
            b"/_ping?" + b"a" * 70_000,
            b"",
        )
    )
    return (
        method
        + b" "
        + target
        + b" "
        + chance.choice((b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/9.9", b"", b"http/1.1"))
        + b"\r\n"
        + rest
    )


ALL: Final[dict[str, Damage]] = {
    "cut": _cut,
    "cut in a chunk": _cut_in_chunk,
    "bytes turned": _flipped,
    "first line": _first_line,
    "chunked": _chunked(),
    "chunk size": _chunked(b"", b"-1", b"0x10", b"fffffffffffffffff", b"7fffffff", b"5;" + b"e" * 3000, b" 5", b"5 "),
    "two lengths": _with(b"Content-Length: 0", b"Content-Length: 7"),
    "odd length": _with(b"Content-Length: +3"),
    "length and chunks": _with(b"Transfer-Encoding: chunked"),
    "odd encoding": _with(b"Transfer-Encoding: gzip, chunked"),
    "hidden encoding": _with(b"Transfer-Encoding : chunked", b"Transfer-Encoding: \x0bchunked"),
    "expects": _with(b"Expect: 100-continue"),
    "expects more": _with(b"Expect: the-unexpected"),
    "upgrade": _with(b"Upgrade: h2c, tcp", b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA", b"Connection: Upgrade, HTTP2-Settings"),
    "websocket": _with(b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: !"),
    "folded": _with(b"X-Folded: a", b" b", b"\tc"),
    "zero in a header": _with(b"X-Zero: a\0b"),
    "no colon": _with(b"nothing"),
    "many headers": _with(*(b"X-%d: y" % number for number in range(3000))),
    "long header": _with(b"X-Long: " + b"a" * 300_000),
    "encoded body": _with(b"Content-Encoding: gzip"),
    "other type": _line(b"application/json", b"text/plain; charset=utf-16"),
    "multipart": _line(b"application/json", b"multipart/form-data; boundary="),
    "no host": _line(b"Host: localhost\r\n", b""),
    "two hosts": _line(b"Host: localhost", b"Host: a\r\nHost: b"),
    "odd host": _line(b"Host: localhost", b"Host: a@b:99999/\xff"),
    "bare line feeds": lambda wire, _chance: wire.replace(b"\r\n", b"\n"),
    "two at once": lambda wire, _chance: wire.replace(b"Connection: close\r\n", b"", 1) + _SECOND,
    "more than it says": lambda wire, _chance: wire + b"x" * 1000,
    "no request": lambda _wire, chance: chance.randbytes(chance.randrange(1, 400)),
    "TLS": lambda _wire, chance: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + chance.randbytes(200),
    "HTTP/2": lambda _wire, _chance: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
}
