"""A tar reader for streams: POSIX ustar and pax, GNU names, numbers and sparse files. tar(5), pax(1).

    ┌ header, 512 bytes ─────────────────────────────────────────────────────────────────┐
    │ name 100 · mode 8 · uid 8 · gid 8 · size 12 · mtime 12 · checksum 8 · type 1        │
    │ link name 100 · magic 6 · version 2 · user 32 · group 32 · major 8 · minor 8        │
    │ prefix 155 (ustar; GNU keeps other things here) · padding 12                        │
    └────────────────────────────────────────────────────────────────────────────────────┘
    data, padded to 512; the archive ends with two blocks of zeros, or with the stream

Only reads: what a name may touch is decided in ``tree`` and ``unpack``. Malformed archives raise InvalidArgument.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Final

from engine.errors import InvalidArgument
from engine.images import sparse
from engine.images.streams import Chunks

BLOCK: Final = 512
MAX_METADATA: Final = 1 << 20  # bytes of one pax header or long name, as Go's reader has it
MAX_SECONDS: Final = 1 << 40  # of a time; what file systems cannot keep they clamp
_HEADER: Final = struct.Struct("100s8s8s8s12s12s8sc100s6s2s32s32s8s8s155s12x")
_ZEROS: Final = bytes(BLOCK)
_BLANKS: Final = b" " * 8

FILE: Final = "file"
FOLDER: Final = "folder"
SYMLINK: Final = "symlink"
HARD_LINK: Final = "hard link"
CHARACTER: Final = "character device"
BLOCK_DEVICE: Final = "block device"
FIFO: Final = "fifo"
_KINDS: Final = {
    b"0": FILE, b"\0": FILE, b"7": FILE, b"S": FILE, b"5": FOLDER, b"D": FOLDER, b"2": SYMLINK, b"1": HARD_LINK,
    b"3": CHARACTER, b"4": BLOCK_DEVICE, b"6": FIFO,
}  # fmt: skip


class CutShort(InvalidArgument):
    """The stream ended before the archive did."""


@dataclass(slots=True)
class Entry:
    """One member. Names are text as os.fsdecode makes it, so that every byte survives; ``name`` is as written."""

    name: str
    kind: str
    mode: int = 0o644  # the twelve permission bits
    uid: int = 0
    gid: int = 0
    size: int = 0  # bytes of data in the archive; 0 for all but files
    mtime_ns: int = 0
    link: str = ""
    major: int = 0
    minor: int = 0
    xattrs: dict[str, bytes] = field(default_factory=dict)
    extents: sparse.Extents | None = None  # of a sparse file: where the data belongs
    real_size: int = 0  # of a sparse file, holes included


class TarReader:
    """Iterate for the entries; ``data`` gives the bytes of the entry at hand, which are skipped when nobody asks."""

    def __init__(self, source: Chunks) -> None:
        self._source = source
        self._chunk = memoryview(b"")
        self._left = 0  # bytes of data of the entry at hand not yet handed out
        self._padding = 0

    def __iter__(self) -> Iterator[Entry]:
        pax: dict[str, bytes] = {}
        long_name: str | None = None
        long_link: str | None = None
        while True:
            self._skip()
            block = self._next_header()
            if block is None:
                return
            fields = _HEADER.unpack(block)
            kind, size = fields[7], _number(fields[4], "size")
            if size < 0:
                raise InvalidArgument("invalid tar header: negative size")
            if kind in b"xgXLK":
                metadata = self._metadata(size)
                if kind in b"xX":
                    pax = sparse.collect_pax(_pax_records(metadata))
                elif kind == b"L":
                    long_name = _text(metadata)
                elif kind == b"K":
                    long_link = _text(metadata)
                continue  # g: a global header is ignored, as Go's and so docker's reader does
            if kind == b"V":
                self._expect(size)
                continue
            entry = _entry(fields, size)
            if long_name is not None:
                entry.name = long_name
            if long_link is not None:
                entry.link = long_link
            if pax:
                _apply_pax(entry, pax)
            if "\0" in entry.name or "\0" in entry.link:
                raise InvalidArgument(f"invalid tar header: zero byte in the name {entry.name!r}")
            self._expect(entry.size if entry.kind == FILE else 0)
            if kind == b"S":
                sparse.read_old_gnu(entry, block, self.block)
            elif pax:
                sparse.read_pax(entry, pax, self._sparse_line_block)
            pax, long_name, long_link = {}, None, None
            yield entry

    def data(self) -> Iterator[memoryview]:
        """The bytes of the entry at hand, once. A piece is valid until the next one is asked for."""
        while self._left:
            if not self._chunk:
                self._fill()
            piece = self._chunk[: self._left]
            self._chunk = self._chunk[len(piece) :]
            self._left -= len(piece)
            yield piece

    def block(self) -> bytes:
        """The next 512 bytes of the stream. Raises when it ends before them."""
        block = self._take(BLOCK)
        if len(block) < BLOCK:
            raise CutShort("the archive is cut short: unexpected end of file")
        return block

    def _sparse_line_block(self) -> bytes:
        """A block that pax 1.0 takes from the front of the data for its map."""
        if self._left < BLOCK:
            raise InvalidArgument("invalid tar header: the sparse map does not fit its file")
        self._left -= BLOCK
        return self.block()

    def _expect(self, size: int) -> None:
        self._left, self._padding = size, -size % BLOCK

    def _next_header(self) -> bytes | None:
        block = self._take(BLOCK)
        if not block:
            return None
        if len(block) < BLOCK:
            raise CutShort("the archive is cut short: unexpected end of file")
        if block == _ZEROS:
            second = self._take(BLOCK)
            if second and second != _ZEROS[: len(second)]:
                raise InvalidArgument("invalid tar header: a block of zeros between two entries")
            return None
        _check_sum(block)
        return block

    def _take(self, size: int) -> bytes:
        """``size`` bytes, fewer only at the end of the stream."""
        if len(self._chunk) >= size:
            taken = bytes(self._chunk[:size])
            self._chunk = self._chunk[size:]
            return taken
        parts, missing = [bytes(self._chunk)], size - len(self._chunk)
        self._chunk = self._chunk[:0]
        for chunk in self._source:
            parts.append(chunk[:missing])
            if len(chunk) >= missing:
                self._chunk = memoryview(chunk)[missing:]
                break
            missing -= len(chunk)
        return b"".join(parts)

    def _fill(self) -> None:
        for chunk in self._source:
            if chunk:
                self._chunk = memoryview(chunk)
                return
        raise CutShort("the archive is cut short: unexpected end of file")

    def _skip(self) -> None:
        """Past the rest of the entry at hand and its padding, which the last one may lack: so it comes from ``docker build -f`` with a
        Dockerfile outside of its context, and Go's reader lets it."""
        for _piece in self.data():
            pass
        self._take(self._padding)
        self._padding = 0

    def _metadata(self, size: int) -> bytes:
        if size > MAX_METADATA:
            raise InvalidArgument(f"invalid tar header: {size} bytes of names and attributes for one entry")
        self._expect(size)
        return b"".join(self.data())


def _entry(fields: tuple[bytes, ...], size: int) -> Entry:
    name, flag = _text(fields[0]), fields[7]
    if fields[9] == b"ustar\0" and (prefix := _text(fields[15])):
        name = f"{prefix}/{name}"
    kind = _KINDS.get(flag)
    if kind is None:
        raise InvalidArgument(f"unhandled tar header type {flag!r} of {name!r}")
    if flag == b"\0" and name.endswith("/"):
        kind = FOLDER  # before POSIX
    device = kind in (CHARACTER, BLOCK_DEVICE)
    return Entry(
        name=name,
        kind=kind,
        mode=_number(fields[1], "mode") & 0o7777,
        uid=_number(fields[2], "uid"),
        gid=_number(fields[3], "gid"),
        size=size if kind == FILE else 0,
        mtime_ns=_seconds(fields[5]) * 1_000_000_000,
        link=_text(fields[8]),
        major=_number(fields[13], "device") if device else 0,
        minor=_number(fields[14], "device") if device else 0,
    )


def _text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _number(raw: bytes, what: str) -> int:
    """Octal text, or GNU's base 256 when the top bit of the first byte is set (two's complement)."""
    first = raw[0]
    if first & 0x80:
        value = int.from_bytes(raw, "big") & ((1 << (8 * len(raw) - 1)) - 1)
        return value - (1 << (8 * len(raw) - 1)) if first & 0x40 else value
    text = raw.partition(b"\0")[0].strip()
    try:
        return int(text, 8) if text else 0
    except ValueError:
        raise InvalidArgument(f"invalid tar header: bad {what} {raw!r}") from None


def _seconds(raw: bytes) -> int:
    seconds = _number(raw, "mtime")
    if abs(seconds) > MAX_SECONDS:
        raise InvalidArgument(f"invalid tar header: bad mtime {raw!r}")
    return seconds


def _check_sum(block: bytes) -> None:
    """The sum counts its own field as blanks; old writers summed signed characters."""
    stated = _number(block[148:156], "checksum")
    if (zlib.adler32(block[:148] + _BLANKS + block[156:]) & 0xFFFF) - 1 == stated:
        return  # Adler's first half is 1 + the sum modulo 65,521: five times as fast as adding up, and exact for all but wild names
    total = sum(block) - sum(block[148:156]) + 8 * 0x20
    if total != stated:
        signed = sum(byte - 256 if byte > 127 else byte for byte in block[:148] + b" " * 8 + block[156:])
        if signed != stated:
            raise InvalidArgument("invalid tar header: the checksum does not match")


def _pax_records(data: bytes) -> Iterator[tuple[str, bytes]]:
    """``<length> <key>=<value>\\n`` over and over; the length counts the whole record."""
    start = 0
    while start < len(data):
        blank = data.find(b" ", start, start + 9)
        digits = data[start : max(blank, start)]
        end = start + int(digits) if digits.isdigit() else 0
        if end <= blank or end > len(data) or data[end - 1 : end] != b"\n":
            raise InvalidArgument("invalid tar header: damaged pax record")
        key, equals, value = data[blank + 1 : end - 1].partition(b"=")
        if not equals:
            raise InvalidArgument("invalid tar header: damaged pax record")
        yield key.decode("utf-8", "surrogateescape"), value
        start = end


def _apply_pax(entry: Entry, pax: dict[str, bytes]) -> None:
    for key, value in pax.items():
        if not value:
            continue  # pax(1): an empty value takes an earlier one back
        if key == "path":
            entry.name = value.decode("utf-8", "surrogateescape")
        elif key == "linkpath":
            entry.link = value.decode("utf-8", "surrogateescape")
        elif key == "uid":
            entry.uid = _decimal(key, value)
        elif key == "gid":
            entry.gid = _decimal(key, value)
        elif key == "size" and entry.kind == FILE:
            entry.size = _decimal(key, value)
        elif key == "mtime":
            entry.mtime_ns = _nanoseconds(value)
        elif key.startswith("SCHILY.xattr."):
            entry.xattrs[key.removeprefix("SCHILY.xattr.")] = value


def _decimal(key: str, value: bytes) -> int:
    if not value.isdigit() or len(value) > 19:
        raise InvalidArgument(f"invalid tar header: bad {key} {value[:40]!r}")
    return int(value)


def _nanoseconds(value: bytes) -> int:
    try:
        seconds = Decimal(value.decode("ascii"))
        if not seconds.is_finite() or abs(seconds) > MAX_SECONDS:
            raise InvalidArgument(f"invalid tar header: bad mtime {value[:40]!r}")
        return int(seconds * 1_000_000_000)
    except (InvalidOperation, UnicodeDecodeError):
        raise InvalidArgument(f"invalid tar header: bad mtime {value[:40]!r}") from None
