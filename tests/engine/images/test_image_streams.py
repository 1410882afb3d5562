from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections.abc import Callable

import pytest
import zstandard
from isal import igzip

from engine.errors import InvalidArgument
from engine.images import streams
from tests.engine.images.archives import Pipe

DATA = b"".join(b"%d sentences\n" % number for number in range(60_000))
COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress, "isal": igzip.compress, "zstd": zstandard.compress, "bzip2": bz2.compress, "xz": lzma.compress,
}  # fmt: skip


def plain(data: bytes, piece: int = 4093) -> bytes:
    return b"".join(streams.decompressed(streams.chunks(Pipe(data, piece))))


@pytest.mark.guest
@pytest.mark.parametrize("name", COMPRESSIONS)
@pytest.mark.parametrize("piece", [1, 7, 4093, 1 << 20])
def test_every_compression_is_recognised_and_undone_whatever_the_pieces(name: str, piece: int) -> None:
    data = DATA if piece > 100 else DATA[:3000]
    assert plain(COMPRESSIONS[name](data), piece) == data


@pytest.mark.parametrize("data", [b"", b"\x1f", b"BZ", DATA])
def test_what_is_not_compressed_passes_untouched(data: bytes) -> None:
    assert plain(data) == data


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_several_members_in_a_row_are_one_stream_and_zeros_behind_them_are_padding(name: str) -> None:
    compress = COMPRESSIONS[name]
    assert plain(compress(DATA) + compress(b"and more") + bytes(1000)) == DATA + b"and more"


def test_a_skippable_frame_of_zstd_is_skipped() -> None:
    skippable = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"
    assert plain(skippable + zstandard.compress(DATA) + skippable) == DATA


@pytest.mark.parametrize("name", COMPRESSIONS)
@pytest.mark.parametrize("cut", [1, 9, 2000])
def test_a_stream_that_ends_early_is_an_error(name: str, cut: int) -> None:
    with pytest.raises(InvalidArgument, match="ends early"):
        plain(COMPRESSIONS[name](DATA)[:-cut])


@pytest.mark.parametrize("name", ["gzip", "isal", "bzip2", "xz"])
def test_a_flipped_bit_is_an_error(name: str) -> None:
    damaged = bytearray(COMPRESSIONS[name](DATA))
    damaged[len(damaged) // 2] ^= 0x10
    with pytest.raises(InvalidArgument):
        plain(bytes(damaged))


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_garbage_behind_the_last_member_is_an_error(name: str) -> None:
    with pytest.raises(InvalidArgument):
        plain(COMPRESSIONS[name](DATA) + b"garbage" * 10)


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_a_bomb_is_stopped_at_the_limit_before_it_fills_the_memory(name: str) -> None:
    bomb = COMPRESSIONS[name](bytes(64 << 20))
    source = streams.capped(streams.decompressed(streams.chunks(io.BytesIO(bomb))), 10 << 20, "the layer")
    largest = 0
    with pytest.raises(InvalidArgument, match="larger than 10485760 bytes"):
        for chunk in source:
            largest = max(largest, len(chunk))
    assert largest <= 32 << 20
