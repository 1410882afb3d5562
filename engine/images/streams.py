"""Byte streams as iterators of chunks: read, count, hash, decompress. Nothing here seeks.

A stage takes an iterator of chunks and is one, so that stages stack: ``hashed(decompressed(chunks(file)), sha256)``.
hashlib, isal and zstandard give up the interpreter lock while they work, so streams in several threads run side by side.
"""

from __future__ import annotations

import bz2
import lzma
import re
from collections.abc import Callable, Iterator
from typing import Protocol, cast

import zstandard
from isal import igzip_lib

from engine.errors import InvalidArgument

CHUNK = 256 << 10  # bytes; stays in a core's second-level cache from read to write
# zstandard bounds no output, and four bytes may be a block of 128 KiB: 512 make at most 16 MiB, once; from then on pieces are small
_ZSTD_INPUT, _ZSTD_CAREFUL = 512, 32
_OUTPUT = 1 << 20
WINDOW_BYTES = 32 << 20  # up to zstd -19 and xz -8; two layers are unpacked at once, in 150 MiB
_XZ_BESIDE = 2 << 20  # what liblzma wants beside its window

Chunks = Iterator[bytes]


class Readable(Protocol):
    """A file, a pipe, a socket's makefile: ``read`` may answer with less than asked for; ``b""`` is the end."""

    def read(self, size: int = ..., /) -> bytes | None: ...


class Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...


def chunks(stream: Readable) -> Chunks:
    """The stream's bytes in pieces of at most CHUNK."""
    while data := stream.read(CHUNK):
        yield data


def hashed(source: Chunks, *hashes: Hash) -> Chunks:
    """The same chunks; each hash has seen a chunk before it is handed on."""
    for chunk in source:
        for each in hashes:
            each.update(chunk)
        yield chunk


def counted(source: Chunks, tell: Callable[[int], None]) -> Chunks:
    """The same chunks; ``tell`` hears how many bytes have passed, and may raise to stop."""
    total = 0
    for chunk in source:
        total += len(chunk)
        tell(total)
        yield chunk


def capped(source: Chunks, limit_bytes: int, what: str) -> Chunks:
    """The same chunks; InvalidArgument before the first one that crosses the limit."""

    def check(total: int) -> None:
        if total > limit_bytes:
            raise InvalidArgument(f"{what} is larger than {limit_bytes} bytes, the limit of this host")

    return counted(source, check)


def drain(source: Chunks) -> None:
    for _chunk in source:
        pass


def decompressed(source: Chunks, *, window_bytes: int = WINDOW_BYTES) -> Chunks:
    """The plain bytes, whatever of gzip, zstd, bzip2, xz or nothing the first bytes announce.

    Several members or frames in a row are one stream, zero bytes after the last one are padding. InvalidArgument when the data
    is damaged or ends early, or wants more than ``window_bytes`` of what came before to be remembered.
    """
    head = b""
    for chunk in source:
        head += chunk
        if len(head) >= _LONGEST_MAGIC:
            break
    for name, magic, make in _FORMATS:
        if magic.match(head):
            yield from _inflated(name, make, _prepended(head, source), window_bytes)
            return
    yield from _prepended(head, source)


def is_compressed(head: bytes) -> bool:
    """Whether a stream that begins so is one of those that ``decompressed`` undoes."""
    return any(magic.match(head) for _name, magic, _make in _FORMATS)


def _prepended(head: bytes, source: Chunks) -> Chunks:
    if head:
        yield head
    yield from source


class _Decompressor(Protocol):
    """The interface of bz2.BZ2Decompressor, which lzma and isal share."""

    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...


class _Zstd:
    """zstandard's decompressor with that interface. It bounds no output, so its input is fed in small pieces."""

    def __init__(self, window_bytes: int) -> None:
        self._frame = zstandard.ZstdDecompressor(max_window_size=window_bytes).decompressobj()
        self._input, self._position = b"", 0
        self._piece = _ZSTD_INPUT

    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes:
        if data:
            self._input, self._position = self._input[self._position :] + data, 0
        piece = self._input[self._position : self._position + self._piece]
        self._position += len(piece)
        out = self._frame.decompress(piece)
        self._piece = _ZSTD_CAREFUL if len(out) > _OUTPUT else _ZSTD_INPUT if len(out) < 64 * self._piece else self._piece
        return out

    @property
    def eof(self) -> bool:
        return self._frame.eof

    @property
    def needs_input(self) -> bool:
        return self._position >= len(self._input)

    @property
    def unused_data(self) -> bytes:
        return self._frame.unused_data + self._input[self._position :]


def _gzip(_window_bytes: int) -> _Decompressor:
    return igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)


def _bzip2(_window_bytes: int) -> _Decompressor:
    return bz2.BZ2Decompressor()  # 4 MB at most


def _xz(window_bytes: int) -> _Decompressor:
    return lzma.LZMADecompressor(memlimit=window_bytes + _XZ_BESIDE)


_FORMATS: tuple[tuple[str, re.Pattern[bytes], Callable[[int], _Decompressor]], ...] = (
    ("gzip", re.compile(rb"\x1f\x8b\x08"), _gzip),
    ("zstd", re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"), _Zstd),  # RFC 8878: a frame, a skippable frame
    ("bzip2", re.compile(rb"BZh[1-9]"), _bzip2),
    ("xz", re.compile(rb"\xfd7zXZ\x00"), _xz),
)
_LONGEST_MAGIC = 6
_ERRORS = (cast("type[Exception]", igzip_lib.IsalError), zstandard.ZstdError, lzma.LZMAError, OSError, ValueError, EOFError)


_TOO_LARGE = ("too much memory", "Memory usage limit")  # zstd and xz, when a window is larger than they were allowed


def _inflated(name: str, make: Callable[[int], _Decompressor], source: Chunks, window_bytes: int) -> Chunks:
    engine: _Decompressor | None = None  # None between two members
    for chunk in source:
        while True:
            if engine is None:
                chunk = chunk.lstrip(b"\0")
                if not chunk:
                    break
                engine = make(window_bytes)
            try:
                data = engine.decompress(chunk, _OUTPUT)
            except _ERRORS as error:
                if any(words in str(error) for words in _TOO_LARGE):
                    raise InvalidArgument(
                        f"the {name} data needs a window of more than {window_bytes >> 20} MiB, the limit of this host: "
                        "pack it at a lower level"
                    ) from error
                raise InvalidArgument(f"damaged {name} data: {error}") from error
            for at in range(0, len(data), _OUTPUT):
                yield data[at : at + _OUTPUT] if len(data) > _OUTPUT else data
            chunk = b""
            if engine.eof:
                chunk, engine = engine.unused_data, None
            elif engine.needs_input:
                break
    if engine is not None:
        raise InvalidArgument(f"the {name} data ends early: unexpected end of file")
