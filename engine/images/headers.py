"""Headers of a tar archive as moby's clients expect them: ustar, and pax records where ustar has no room. pax(1), tar(5)."""

from __future__ import annotations

import stat
import struct
from collections.abc import Mapping
from typing import Final

BLOCK: Final = 512
END: Final = bytes(2 * BLOCK)
_HEADER: Final = struct.Struct("100s8s8s8s12s12s8sc100s6s2s32s32s8s8s155s12x")
_LARGEST: Final = 0o777_7777_7777  # bytes of a file that eleven octal digits tell
_LARGEST_ID: Final = 0o7_777_777
_KINDS: Final = {
    stat.S_IFREG: b"0", stat.S_IFLNK: b"2", stat.S_IFCHR: b"3", stat.S_IFBLK: b"4", stat.S_IFDIR: b"5", stat.S_IFIFO: b"6",
}  # fmt: skip
HARD_LINK: Final = b"1"


def kind_of(mode: int) -> bytes | None:
    """The type flag; None for what tar cannot hold (sockets)."""
    return _KINDS.get(stat.S_IFMT(mode))


def padding(size: int) -> bytes:
    return bytes(-size % BLOCK)


def header(
    name: bytes,
    kind: bytes,
    *,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime_s: int,
    link: bytes = b"",
    device: tuple[int, int] = (0, 0),
    xattrs: Mapping[str, bytes] | None = None,
) -> bytes:
    """One entry's header, preceded by a pax header if it needs one. ``name`` of a folder ends with a slash."""
    records: list[tuple[bytes, bytes]] = []
    prefix, short = _split(name)
    if short is None or not _plain(name):
        records.append((b"path", name))
        prefix, short = b"", _cut(name)
    if len(link) > 100 or not _plain(link):
        records.append((b"linkpath", link))
        link = _cut(link)
    if size > _LARGEST:
        records.append((b"size", b"%d" % size))
    for key, number in ((b"uid", uid), (b"gid", gid)):
        if number > _LARGEST_ID:
            records.append((key, b"%d" % number))
    if not 0 <= mtime_s <= _LARGEST:
        records.append((b"mtime", b"%d" % mtime_s))
    for xattr, value in (xattrs or {}).items():
        records.append((b"SCHILY.xattr." + xattr.encode("utf-8", "surrogateescape"), value))
    block = _block(prefix, short, kind, mode, uid, gid, size, mtime_s, link, device)
    return _pax(short, records) + block if records else block


def _split(name: bytes) -> tuple[bytes, bytes | None]:
    """ustar's prefix and name; (b"", None) when it has no room."""
    if len(name) <= 100:
        return b"", name
    if len(name) <= 256:
        at = name.find(b"/", len(name) - 101, 156)
        if at > 0 and at < len(name) - 1:
            return name[:at], name[at + 1 :]
    return b"", None


def _plain(text: bytes) -> bool:
    """ustar is ASCII; what is not even UTF-8 is written as it is, like everybody does."""
    if text.isascii():
        return True
    try:
        text.decode()
    except UnicodeDecodeError:
        return True
    return False


def _cut(name: bytes) -> bytes:
    return name[:100]


def _block(
    prefix: bytes, name: bytes, kind: bytes, mode: int, uid: int, gid: int, size: int, mtime_s: int, link: bytes, device: tuple[int, int]
) -> bytes:
    block = bytearray(
        _HEADER.pack(
            name,
            b"%07o" % (mode & 0o7777),
            b"%07o" % min(uid, _LARGEST_ID),
            b"%07o" % min(gid, _LARGEST_ID),
            b"%011o" % (size if size <= _LARGEST else 0),
            b"%011o" % min(max(mtime_s, 0), _LARGEST),
            b" " * 8,
            kind,
            link,
            b"ustar\0",
            b"00",
            b"",
            b"",
            b"%07o" % (device[0] & 0o7777777),
            b"%07o" % (device[1] & 0o7777777),
            prefix,
        )
    )
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def _pax(name: bytes, records: list[tuple[bytes, bytes]]) -> bytes:
    data = b"".join(_record(key, value) for key, value in records)
    return _block(b"", b"PaxHeaders.0/" + name[:80], b"x", 0o644, 0, 0, len(data), 0, b"", (0, 0)) + data + padding(len(data))


def _record(key: bytes, value: bytes) -> bytes:
    """Its own length counts, digits included."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    if len(str(length)) + rest != length:
        length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)
