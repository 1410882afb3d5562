"""Where the pieces of an archive go: a socket, by sendfile(2), or an iterator of chunks for who hashes and unpacks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

from engine.files.packing import Content, Pieces
from engine.images.headers import END, padding

_BUFFER: Final = 256 << 10  # bytes; headers and small files go out together
_SMALL: Final = 64 << 10
_ZEROS: Final = bytes(1 << 20)


def to_socket(pieces: Pieces, out: int) -> None:
    """Writes the archive to a blocking socket, with its end mark. Big files don't pass our memory. OSError EPIPE: nobody reads."""
    buffer = bytearray()
    for piece in pieces:
        if isinstance(piece, bytes):
            buffer += piece
        elif piece.size <= _SMALL:
            data = os.pread(piece.fd, piece.size, 0)
            buffer += data
            buffer += bytes(piece.size - len(data))
            buffer += padding(piece.size)
        else:
            _write(out, buffer)
            buffer = bytearray()
            _send_file(piece, out)
            buffer += padding(piece.size)
        if len(buffer) >= _BUFFER:
            _write(out, buffer)
            buffer = bytearray()
    buffer += END
    _write(out, buffer)


def _send_file(piece: Content, out: int) -> None:
    at = 0
    while at < piece.size:
        sent = os.sendfile(out, piece.fd, at, min(piece.size - at, 1 << 30))
        if sent == 0:  # it has shrunk
            break
        at += sent
    while at < piece.size:
        at += os.write(out, _ZEROS[: piece.size - at])


def _write(out: int, data: bytearray) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(out, view) :]


def to_chunks(pieces: Pieces, size: int) -> Iterator[bytes]:
    """The archive in chunks of about ``size`` bytes, with its end mark."""
    buffer = bytearray()
    for piece in pieces:
        if isinstance(piece, bytes):
            buffer += piece
        else:
            at = 0
            while at < piece.size:
                data = os.pread(piece.fd, min(size, piece.size - at), at) or bytes(min(size, piece.size - at))
                at += len(data)
                if not buffer and len(data) == size:
                    yield data
                    continue
                buffer += data
                if len(buffer) >= size:
                    yield bytes(buffer)
                    buffer.clear()
            buffer += padding(piece.size)
        if len(buffer) >= size:
            yield bytes(buffer)
            buffer.clear()
    yield bytes(buffer) + END
