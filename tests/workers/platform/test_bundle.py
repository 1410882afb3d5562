"""The file of a backup: whole, as it was written, root's alone; or refused before anything happens."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import zstandard

from workers.platform import bundle
from workers.platform.say import Refusal

ABOUT = {"format": bundle.FORMAT, "made_at": "2026-11-30T00:00:00Z", "migrations": [], "database": "sqlite", "volumes": False}


@pytest.fixture
def made(tmp_path: Path) -> Path:
    key = tmp_path / "secret.key"
    key.write_text("sesame")
    key.chmod(0o640)
    path = tmp_path / "b.slipway"
    with bundle.writing(path) as writer:
        writer.put_json(bundle.ABOUT, ABOUT)
        writer.put_file("panel/secret.key", key)
        writer.put_bytes("volumes/acme/data/000000", b"x" * (3 << 20))
    return path


def test_what_was_written_is_read_again(made: Path) -> None:
    assert bundle.check(made) == ABOUT
    found = {member.name: (member.size, member.mode, member.content.read(6)) for member in bundle.members(made)}
    assert found["panel/secret.key"] == (6, 0o640, b"sesame") and found["volumes/acme/data/000000"][0] == 3 << 20
    names = list(found)
    assert (names[0], names[-1]) == (bundle.ABOUT, bundle.MANIFEST)
    assert made.stat().st_mode & 0o777 == 0o600


def test_it_replaces_nothing_and_a_failure_leaves_nothing(made: Path, tmp_path: Path) -> None:
    with pytest.raises(FileExistsError), bundle.writing(made):
        pass
    with pytest.raises(ZeroDivisionError), bundle.writing(tmp_path / "c") as writer:
        writer.put_json(bundle.ABOUT, 1 / 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.slipway", "secret.key"]


@pytest.mark.parametrize("cut", [0, 1, 40, -30, -5])
def test_what_was_cut_off_is_refused(made: Path, cut: int) -> None:
    made.write_bytes(made.read_bytes()[:cut])
    with pytest.raises(Refusal):
        bundle.check(made)


def rewritten(path: Path, change: Any) -> Path:
    """``change``: [(TarInfo, bytes)] → the same, other."""
    entries = []
    for member in bundle.members(path):
        entries.append((member.name, member.content.read()))
    with (
        path.open("wb") as file,
        zstandard.ZstdCompressor().stream_writer(file) as stream,
        tarfile.open(fileobj=stream, mode="w|") as archive,
    ):
        for name, data in change(entries):
            info = tarfile.TarInfo(name)
            if data is None:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/shadow"
            else:
                info.size = len(data)
            archive.addfile(info, io.BytesIO(data or b""))
    return path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda all: [(name, data.replace(b"sesame", b"simsim")) for name, data in all], "panel/secret.key is not as it was written"),
        (lambda all: [each for each in all if each[0] != "panel/secret.key"], "panel/secret.key is not as it was written"),
        (lambda all: [*all[:-1], ("panel/more", b"x"), all[-1]], "panel/more is not as it was written"),
        (lambda all: [*all, ("panel/more", b"x")], "after the end"),
        (lambda all: all[:-1], "manifest is missing"),
        (lambda all: all[1:], "does not begin with"),
        (lambda all: [all[0], ("panel/../../etc/x", b"x"), *all[1:]], "has no place"),
        (lambda all: [all[0], ("/etc/x", b"x"), *all[1:]], "has no place"),
        (lambda all: [all[0], ("panel/link", None), *all[1:]], "has no place"),
        (lambda all: [(bundle.ABOUT, json.dumps({**ABOUT, "format": 99}).encode()), *all[1:]], "has format 99"),
    ],
)
def test_what_is_not_as_it_was_is_refused_by_name(made: Path, change: Any, words: str) -> None:
    with pytest.raises(Refusal, match=words):
        bundle.check(rewritten(made, change))


def test_another_file_is_no_backup(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(hashlib.sha256(b"x").digest() * 1000)
    with pytest.raises(Refusal, match="is no whole backup"):
        bundle.check(path)
