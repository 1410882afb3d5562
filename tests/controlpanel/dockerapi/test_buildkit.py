"""What buildx hears at ``/grpc``: HTTP/2 frames in whatever pieces, one sentence for each call, nothing for what is none of it."""

from __future__ import annotations

import os

import pytest

from controlpanel.dockerapi import buildkit
from controlpanel.dockerapi.buildkit import Refusals

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def frames(data: bytes) -> list[tuple[int, int, int, bytes]]:
    found = []
    while data:
        length = int.from_bytes(data[:3], "big")
        found.append((data[3], data[4], int.from_bytes(data[5:9], "big"), data[9 : 9 + length]))
        data = data[9 + length :]
    return found


@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_each_call_is_refused(piece: int) -> None:
    data = PREFACE + frame(4, payload=b"\0\3\0\0\0d") + frame(6, payload=b"12345678") + frame(1, 4, 1, b"headers") + frame(0, 1, 1, b"body")
    data += frame(1, 0, 3, b"long") + frame(9, 4, 3, b"headers")
    connection = Refusals()
    answer = b"".join(connection.feed(data[at : at + piece]) for at in range(0, len(data), piece))
    assert [each[:3] for each in frames(answer)] == [(4, 1, 0), (6, 1, 0), (1, 5, 1), (1, 5, 3)]
    assert frames(answer)[1][3] == b"12345678"
    headers = frames(answer)[2][3]
    assert headers[0] == 0x88 and b"grpc-status\x0212" in headers and b"DOCKER_BUILDKIT=0" in headers
    assert not connection.is_over


def test_what_is_no_http2_ends_it() -> None:
    for data in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", PREFACE + b"\xff" * 20, PREFACE + frame(7, payload=bytes(8))):
        connection = Refusals()
        assert connection.feed(data) == b""
        assert connection.is_over
    for _ in range(200):
        Refusals().feed(PREFACE + os.urandom(300))


def test_long_texts_have_long_lengths() -> None:
    assert buildkit._text("x" * 126) == b"\x7e" + b"x" * 126
    assert buildkit._text("x" * 127) == b"\x7f\x00" + b"x" * 127
    assert buildkit._text("x" * 300) == b"\x7f\xad\x01" + b"x" * 300
