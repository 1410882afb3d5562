"""Sparse files in tar archives: GNU's old header, and GNU's three ways to say it in pax. GNU tar manual, "Storing Sparse Files".

old        type S: four (offset, length) pairs in the header, then blocks of 21 while a flag says so
pax 0.0    GNU.sparse.offset / GNU.sparse.numbytes, repeated
pax 0.1    GNU.sparse.map = "offset,length,offset,length,…"
pax 1.0    the map is at the front of the data: decimal lines (count, then offset and length each), padded to 512
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from engine.errors import InvalidArgument

if TYPE_CHECKING:
    from engine.images.tar import Entry

Extents = list[tuple[int, int]]  # (offset, length) in the real file, in the order of the data
MAX_EXTENTS: Final = 1 << 16
MAX_SIZE: Final = 1 << 50  # bytes
_BLOCK: Final = 512


def collect_pax(records: Iterable[tuple[str, bytes]]) -> dict[str, bytes]:
    """The records as a dict; the repeated ones of format 0.0 become the map of format 0.1."""
    pax: dict[str, bytes] = {}
    numbers: list[bytes] = []
    for key, value in records:
        if key in ("GNU.sparse.offset", "GNU.sparse.numbytes"):
            numbers.append(value)
        else:
            pax[key] = value
    if numbers:
        pax["GNU.sparse.map"] = b",".join(numbers)
    return pax


def read_old_gnu(entry: Entry, header: bytes, next_block: Callable[[], bytes]) -> None:
    """Offsets 386: pairs, 482: more follow?, 483: real size; in an extension block 0 and 504."""
    numbers = _octals(header, 386, 8)
    entry.real_size = _octals(header, 483, 1)[0]
    more = header[482]
    while more:
        block = next_block()
        numbers += _octals(block, 0, 42)
        more = block[504]
        if len(numbers) > 2 * MAX_EXTENTS:
            raise InvalidArgument(f"invalid tar header: too many pieces in the sparse file {entry.name!r}")
    while numbers[-2:] == [0, 0]:
        del numbers[-2:]
    _set(entry, numbers)


def read_pax(entry: Entry, pax: dict[str, bytes], next_block: Callable[[], bytes]) -> None:
    """Fills in what the GNU.sparse records say; an entry without them stays as it is."""
    if not any(key.startswith("GNU.sparse.") for key in pax):
        return
    if name := pax.get("GNU.sparse.name"):
        entry.name = name.decode("utf-8", "surrogateescape")
    entry.real_size = _decimal(pax.get("GNU.sparse.realsize") or pax.get("GNU.sparse.size") or b"")
    if pax.get("GNU.sparse.major") == b"1":
        _set(entry, _leading_map(entry, next_block))
    elif "GNU.sparse.map" in pax:
        text = pax["GNU.sparse.map"]
        _set(entry, [_decimal(part) for part in text.split(b",")] if text else [])
    else:
        raise InvalidArgument(f"unknown kind of sparse file {entry.name!r}")


def _leading_map(entry: Entry, next_block: Callable[[], bytes]) -> list[int]:
    numbers: list[int] = []
    text, wanted = b"", 1
    while len(numbers) < wanted:
        line, newline, rest = text.partition(b"\n")
        if not newline:
            text += next_block()
            entry.size -= _BLOCK
            if len(text) > 2 * _BLOCK:
                raise InvalidArgument(f"damaged map of the sparse file {entry.name!r}")
            continue
        numbers.append(_decimal(line))
        text = rest
        wanted = 1 + 2 * numbers[0]
        if numbers[0] > MAX_EXTENTS:
            raise InvalidArgument(f"too many pieces in the sparse file {entry.name!r}")
    return numbers[1:]


def _set(entry: Entry, numbers: list[int]) -> None:
    extents = list(zip(numbers[::2], numbers[1::2], strict=False))
    end = 0
    if entry.real_size > MAX_SIZE:
        raise InvalidArgument(f"the sparse file {entry.name!r} is larger than any file system takes")
    for offset, length in extents:
        if offset < end or offset + length > entry.real_size:
            raise InvalidArgument(f"damaged map of the sparse file {entry.name!r}")
        end = offset + length
    if len(numbers) % 2 or sum(length for _offset, length in extents) != entry.size:
        raise InvalidArgument(f"damaged map of the sparse file {entry.name!r}")
    entry.extents = extents


def _octals(block: bytes, start: int, count: int) -> list[int]:
    numbers = []
    for position in range(start, start + 12 * count, 12):
        raw = block[position : position + 12]
        if raw[0] & 0x80:
            numbers.append(int.from_bytes(raw[1:], "big"))
            continue
        digits = raw.strip(b" \0")
        try:
            numbers.append(int(digits, 8) if digits else 0)
        except ValueError:
            raise InvalidArgument(f"invalid tar header: bad sparse map {raw!r}") from None
    return numbers


def _decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > 19:
        raise InvalidArgument(f"invalid tar header: bad number {text[:40]!r} in a sparse map")
    return int(text)
