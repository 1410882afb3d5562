"""RFC 6455 from the server's side, for ``attach/ws``: the handshake's answer and frames, over a hijacked stream.

Channels speaks websocket for the pages; the Docker API's doors carry raw streams only, and here a message's borders mean nothing:
what is in data frames is a stream of bytes in either direction.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Final

from engine.errors import InvalidArgument

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # section 1.3
_CONTINUATION, _TEXT, BINARY, CLOSE, _PING, _PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_CONTROL_MAX: Final = 125  # bytes of a control frame's payload
_FRAME_MAX: Final = 16 << 20
NORMAL: Final = 1000
PROTOCOL_ERROR: Final = 1002
TOO_BIG: Final = 1009


def accept(key: str, version: str) -> str:
    """The answer to Sec-WebSocket-Key. InvalidArgument when this is no handshake."""
    try:
        nonce = base64.b64decode(key, validate=True)
    except ValueError:
        nonce = b""
    if len(nonce) != 16 or version != "13":
        raise InvalidArgument("a websocket handshake needs Sec-WebSocket-Key (16 bytes in base64) and Sec-WebSocket-Version 13")
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID).digest()).decode()


def frame(opcode: int, payload: bytes) -> bytes:
    """One whole, unmasked message."""
    size = len(payload)
    if size < 126:
        head = bytes((0x80 | opcode, size))
    elif size < 1 << 16:
        head = bytes((0x80 | opcode, 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, 127)) + size.to_bytes(8, "big")
    return head + payload


def close(code: int) -> bytes:
    return frame(CLOSE, code.to_bytes(2, "big"))


class Broken(Exception):
    """The client does not keep to the protocol; ``code`` goes into the close frame."""

    def __init__(self, code: int) -> None:
        super().__init__(f"websocket closed with {code}")
        self.code = code


class Frames:
    """What a client sends, piece by piece as it comes in."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self.closed = False  # the client's close frame was read; what follows it is nothing
        self.answers = b""  # pongs, and the answer to a close, for the caller to send and clear

    def feed(self, data: bytes) -> bytes:
        """The payload of all data frames that are whole now. Raises Broken."""
        self._rest += data
        out = bytearray()
        while not self.closed and (found := self._next()) is not None:
            opcode, payload = found
            if opcode in (_CONTINUATION, _TEXT, BINARY):
                out += payload
            elif opcode == _PING:
                self.answers += frame(_PONG, payload)
            elif opcode == CLOSE:
                self.closed = True
                self.answers += frame(CLOSE, payload[:2])
            elif opcode != _PONG:
                raise Broken(PROTOCOL_ERROR)
        return bytes(out)

    def _next(self) -> tuple[int, bytes] | None:
        """Opcode and unmasked payload of the first frame, if it is all there."""
        rest = self._rest
        if len(rest) < 2:
            return None
        opcode, size, at = rest[0] & 0x0F, rest[1] & 0x7F, 2
        if rest[0] & 0x70 or not rest[1] & 0x80:  # reserved bits; a client masks (section 5.1)
            raise Broken(PROTOCOL_ERROR)
        if opcode >= CLOSE and (size > _CONTROL_MAX or not rest[0] & 0x80):
            raise Broken(PROTOCOL_ERROR)
        if size >= 126:
            width = 2 if size == 126 else 8
            if len(rest) < at + width:
                return None
            size, at = int.from_bytes(rest[at : at + width], "big"), at + width
        if size > _FRAME_MAX:
            raise Broken(TOO_BIG)
        if len(rest) < at + 4 + size:
            return None
        mask = bytes(rest[at : at + 4])
        payload = _unmask(bytes(rest[at + 4 : at + 4 + size]), mask)
        del rest[: at + 4 + size]
        return opcode, payload


def _unmask(payload: bytes, mask: bytes) -> bytes:
    """By one big integer: a loop over bytes takes a hundred times as long."""
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")
