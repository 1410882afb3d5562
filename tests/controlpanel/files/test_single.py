"""One file in a tar, in and out, in whatever pieces it comes."""

from __future__ import annotations

import io
import tarfile
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlpanel.files import single
from engine.errors import FailedPrecondition, InvalidArgument


async def pieces(data: bytes, size: int = 700) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


async def joined(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


@given(data=st.binary(max_size=3000), name=st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=120))
async def test_what_is_wrapped_is_a_tar_of_one_file(data: bytes, name: str) -> None:
    tar = await joined(single.wrap(name, len(data), pieces(data, 100), mode=0o640, uid=7, gid=8))
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        (entry,) = archive.getmembers()
        assert (entry.size, entry.mode, entry.uid, entry.gid) == (len(data), 0o640, 7, 8)
    file = await single.unwrap(pieces(tar))
    assert file.size == len(data) and await joined(file.chunks) == data


@pytest.mark.parametrize("said", [2, 4])
async def test_a_file_of_another_length_than_was_said_is_refused(said: int) -> None:
    with pytest.raises(InvalidArgument):
        await joined(single.wrap("a", said, pieces(b"abc"), mode=0o644, uid=0, gid=0))


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
async def test_every_dialect_is_understood(format: int) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        entry = tarfile.TarInfo("d" * 90 + "/" + "n" * 90)
        entry.size = 5
        archive.addfile(entry, io.BytesIO(b"hello"))
    file = await single.unwrap(pieces(buffer.getvalue(), 1))
    assert file.size == 5 and await joined(file.chunks) == b"hello"


async def test_a_folder_and_an_archive_that_is_cut_off_are_no_file() -> None:
    entry = tarfile.TarInfo("d")
    entry.type = tarfile.DIRTYPE
    with pytest.raises(FailedPrecondition):
        await single.unwrap(pieces(entry.tobuf()))
    tar = await joined(single.wrap("a", 900, pieces(b"x" * 900), mode=0o644, uid=0, gid=0))
    for end in (100, 1000):
        with pytest.raises(ConnectionAbortedError):
            await joined((await single.unwrap(pieces(tar[:end]))).chunks)


@pytest.mark.parametrize("path", ["a", "/", "/a/", "/a/..", "/.", "/a\0b", ""])
def test_a_path_names_a_file_in_a_folder(path: str) -> None:
    with pytest.raises(InvalidArgument):
        single.split(path)
    assert single.split("/etc/a b") == ("/etc", "a b") and single.split("/a") == ("/", "a")
