from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from engine.errors import InvalidArgument
from engine.images import streams
from engine.images.tar import FILE, FOLDER, Entry, TarReader
from tests.engine.images.archives import Pipe, fifo, file, folder, hard_link, symlink, tar

LONG = "/".join(["a-folder-with-a-name"] * 20)


def entries(data: bytes, piece: int = 1000) -> list[tuple[Entry, bytes]]:
    reader = TarReader(streams.chunks(Pipe(data, piece)))
    return [(entry, b"".join(bytes(part) for part in reader.data())) for entry in reader]


@pytest.mark.guest
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("piece", [1, 512, 100_000])
def test_every_format_gives_back_what_was_written(form: int, piece: int) -> None:
    members = [
        folder("d", mode=0o1777, mtime=1), file("d/f", b"x" * 1000, uid=5, gid=6, mode=0o4755), symlink("d/l", "f"),
        hard_link("d/h", "d/f"), fifo("d/p"), file("empty"),
    ]  # fmt: skip
    found = entries(tar(*members, form=form), piece)
    assert [(entry.name.rstrip("/"), entry.kind) for entry, _data in found] == [
        ("d", "folder"), ("d/f", "file"), ("d/l", "symlink"), ("d/h", "hard link"), ("d/p", "fifo"), ("empty", "file"),
    ]  # fmt: skip
    entry, data = found[1]
    assert (entry.mode, entry.uid, entry.gid, data) == (0o4755, 5, 6, b"x" * 1000)
    assert found[2][0].link == "f"


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_links_are_whole(form: int) -> None:
    (entry, data), (link, _none) = entries(tar(file(LONG, b"long"), symlink(LONG + "l", LONG), form=form))
    assert (entry.name, data, link.link) == (LONG, b"long", LONG)


def test_the_prefix_of_ustar_belongs_to_the_name() -> None:
    name = "p" * 100 + "/" + "n" * 90
    assert entries(tar(file(name), form=tarfile.USTAR_FORMAT))[0][0].name == name


def test_names_that_are_no_utf8_survive() -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    assert entries(tar(file(name), form=tarfile.GNU_FORMAT))[0][0].name == name


def test_numbers_beyond_octal_are_read_in_base_256_and_from_pax() -> None:
    big = 1 << 40
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        entry, _data = entries(tar(file("f", uid=big, gid=big + 1, mtime=-5), form=form))[0]
        assert (entry.uid, entry.gid, entry.mtime_ns) == (big, big + 1, -5_000_000_000)


def test_pax_times_keep_their_nanoseconds_and_xattrs_their_bytes() -> None:
    info, data = file("f", b"data")
    info.pax_headers = {"mtime": "1700000000.123456789", "SCHILY.xattr.user.note": "line\nbreak=equals"}
    entry, _data = entries(tar((info, data)))[0]
    assert entry.mtime_ns == 1_700_000_000_123_456_789
    assert entry.xattrs == {"user.note": b"line\nbreak=equals"}


def test_a_global_pax_header_changes_nothing() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "of git", "uid": "9"}) as archive:
        archive.addfile(tarfile.TarInfo("f"))
    assert [(entry.name, entry.uid) for entry, _data in entries(out.getvalue())] == [("f", 0)]


def test_an_archive_may_end_with_the_stream_or_with_whatever_follows_two_zero_blocks() -> None:
    whole = tar(file("f", b"x"))
    assert len(entries(whole[:1024])) == len(entries(whole + b"anything")) == 1
    assert entries(b"") == entries(bytes(512)) == entries(bytes(10240)) == []


@pytest.mark.parametrize("form", ["v7", "oldgnu", "gnu", "ustar", "pax"])
def test_gnu_tar_is_understood_in_all_its_formats(tmp_path: Path, form: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file").write_bytes(b"content" * 999)
    data = subprocess.run(["tar", f"--format={form}", "-C", tmp_path, "-c", "sub"], capture_output=True, check=True).stdout
    found = {entry.name.rstrip("/"): (entry.kind, content) for entry, content in entries(data)}
    assert found == {"sub": (FOLDER, b""), "sub/file": (FILE, b"content" * 999)}


@pytest.mark.parametrize("how", ["gnu", "0.0", "0.1", "1.0"])
def test_every_kind_of_sparse_file_is_understood(tmp_path: Path, how: str) -> None:
    pieces = {(number * 100_000): b"%d" % number * 3000 for number in range(1, 40)}
    with (tmp_path / "holes").open("wb") as out:
        for offset, data in pieces.items():
            out.seek(offset)
            out.write(data)
        out.truncate(5_000_000)
    form = ["--format=gnu"] if how == "gnu" else ["--format=pax", f"--sparse-version={how}"]
    data = subprocess.run(["tar", "-S", *form, "-C", tmp_path, "-c", "holes"], capture_output=True, check=True).stdout
    [(entry, content)] = entries(data)
    assert (entry.name, entry.real_size) == ("holes", 5_000_000)
    whole, position = bytearray(entry.real_size), 0
    for offset, length in entry.extents or ():
        whole[offset : offset + length] = content[position : position + length]
        position += length
    assert bytes(whole) == (tmp_path / "holes").read_bytes()


def header(**changes: bytes) -> bytes:
    """A header with fields replaced as raw bytes, and a checksum that fits."""
    places = {"mode": 100, "uid": 108, "size": 124, "mtime": 136, "type": 156, "magic": 257}
    block = bytearray(tar(file("name", b""), form=tarfile.USTAR_FORMAT)[:512])
    for field, value in changes.items():
        block[places[field] : places[field] + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def pax(text: bytes) -> bytes:
    """A pax header with this text, then a file."""
    return header(type=b"x", size=b"%011o" % len(text)) + text + bytes(-len(text) % 512) + header() + bytes(1024)


def record(key: str, value: str) -> bytes:
    text = f" {key}={value}\n"
    length = len(text) + 1
    while len(f"{length}{text}") != length:
        length += 1
    return f"{length}{text}".encode()


BAD = {
    "a cut header": tar(file("f", b"x" * 600))[:300],
    "cut data": tar(file("f", b"x" * 600))[:700],
    "text": b"this is no archive, it is a letter " * 40,
    "a wrong checksum": b"other" + header()[5:],
    "a negative size": header(size=b"\xff" * 12),
    "letters for a number": header(mode=b"rwxr-xr"),
    "a type nobody knows": header(type=b"%"),
    "a time beyond all clocks": header(mtime=b"\x80" + b"\x7f" * 11),
    "one zero block in between": header() + bytes(512) + header(),
    "an endless long name": header(type=b"L", size=b"%011o" % (2 << 20)),
    "pax without length": pax(b"path=x\n"),
    "pax with a wrong length": pax(b"99 path=x\n"),
    "pax without newline": pax(b"9 path=xy"),
    "pax without equals sign": pax(b"8 pathx\n"),
    "pax with length zero": pax(b"0 path=x\n"),
    "pax with a bad number": pax(b"11 uid=abc\n"),
    "pax with a bad time": pax(b"13 mtime=nan\n"),
    "pax with a zero byte in a name": pax(b"11 path=a\0b\n"),
    "pax sparse without a map": pax(record("GNU.sparse.size", "100")),
    "pax sparse that overlaps": pax(record("GNU.sparse.size", "10") + record("GNU.sparse.map", "5,5,0,5")),
    "pax sparse beyond its size": pax(record("GNU.sparse.size", "10") + record("GNU.sparse.map", "8,5")),
    "pax sparse with a map that no data follows": pax(record("GNU.sparse.major", "1") + record("GNU.sparse.realsize", "10")),
    "pax sparse of a size no disk has": pax(record("GNU.sparse.size", "9" * 18) + record("GNU.sparse.map", "0,0")),
}


@pytest.mark.parametrize("length", [1112, 1200, 1536, 2048])
def test_the_last_entrys_padding_and_the_blocks_of_zeros_may_be_missing(length: int) -> None:
    """The first is what docker's client sends of ``build -f`` with a Dockerfile outside of the context."""
    reader = TarReader(iter([tar(file("f", b"x" * 600))[:length]]))
    assert [(entry.name, b"".join(reader.data())) for entry in reader] == [("f", b"x" * 600)]


@pytest.mark.guest
@pytest.mark.parametrize("what", BAD)
def test_bad_archives_raise_and_nothing_else(what: str) -> None:
    with pytest.raises(InvalidArgument):
        entries(BAD[what])
