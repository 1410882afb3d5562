"""Whatever bytes come, the reader raises InvalidArgument or reads on, and nothing outside of the tree is touched."""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.errors import InvalidArgument
from engine.images import streams
from engine.images.limits import Limits
from engine.images.unpack import unpack
from tests.engine.images.archives import device, fifo, file, folder, hard_link, symlink, tar

pytestmark = [pytest.mark.long, pytest.mark.requires("root")]

parts = st.sampled_from(["a", "b", "c", ".", "..", "", ".wh.a", ".wh..wh..opq", "outside", "é", "x" * 120])
names = st.lists(parts, min_size=1, max_size=5).map("/".join)
ids = st.sampled_from([0, 1, 1000, 65535])
members = st.one_of(
    st.builds(file, names, st.binary(max_size=2000), mode=st.integers(0, 0o7777), uid=ids),
    st.builds(folder, names, mode=st.integers(0, 0o7777), gid=ids),
    st.builds(symlink, names, names),
    st.builds(hard_link, names, names),
    st.builds(device, names, st.integers(0, 5000), st.integers(0, 1 << 20)),
    st.builds(fifo, names),
)
archives = st.builds(
    lambda found, form: tar(*found, form=form), st.lists(members, max_size=12), st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
)
many = settings(max_examples=3000, deadline=None, suppress_health_check=list(HealthCheck))


def survives(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name, "root")
        root.mkdir()
        Path(name, "outside").mkdir()
        try:
            unpack(streams.decompressed(streams.chunks(io.BytesIO(data))), root, Limits(layer_bytes=1 << 24))
        except InvalidArgument:
            pass
        assert sorted(os.listdir(name)) == ["outside", "root"]
        assert os.listdir(Path(name, "outside")) == []


@many
@given(archives)
def test_well_formed_archives_with_wicked_names_stay_inside(data: bytes) -> None:
    survives(data)


@many
@given(archives, st.lists(st.tuples(st.integers(0), st.integers(0, 255)), min_size=1, max_size=20))
def test_archives_with_flipped_bytes_raise_or_are_read(data: bytes, flips: list[tuple[int, int]]) -> None:
    damaged = bytearray(data)
    for position, value in flips:
        damaged[position % len(damaged)] = value
    survives(bytes(damaged))


@many
@given(archives, st.integers(0), st.binary(max_size=600))
def test_headers_with_fitting_checksums_and_wild_fields_raise_or_are_read(data: bytes, place: int, wild: bytes) -> None:
    damaged = bytearray(data)
    block = place % (len(damaged) // 512) * 512
    start = place % 512
    damaged[block + start : block + 512] = (wild + bytes(damaged[block + start + len(wild) : block + 512]))[: 512 - start]
    damaged[block + 148 : block + 156] = b" " * 8
    damaged[block + 148 : block + 156] = b"%06o\0 " % sum(damaged[block : block + 512])
    survives(bytes(damaged))


@many
@given(st.binary(max_size=4000))
def test_pure_noise_raises_or_is_nothing(data: bytes) -> None:
    survives(data)
