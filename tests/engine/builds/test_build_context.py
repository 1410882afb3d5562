"""The context in memory: what names mean, what links reach, what is refused. No kernel but one nameless file."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.builds import context as contexts
from engine.builds.context import Context, file_text, prune, read_context
from engine.builds.files import follow, walk
from engine.builds.ignore import Matcher
from engine.errors import EngineError, InvalidArgument
from engine.images.limits import DEFAULT, Limits
from tests.engine.builds.building import add, context, link


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    assert list(tmp_path.iterdir()) == []  # nothing of a context ever has a name


def read(data: bytes, folder: Path, limits: Limits = DEFAULT) -> Context:
    return read_context(io.BytesIO(data), folder, limits)


def names(tree: Context) -> list[str]:
    return [path for path, _file in walk(tree, "")]


def test_files_folders_and_links(folder: Path) -> None:
    tree = read(context("FROM x\n", {"a/b/c.txt": "hello", "link": link("a/b"), "d/": ""}).read(), folder)
    assert names(tree) == ["Dockerfile", "a", "a/b", "a/b/c.txt", "d", "link"]
    assert follow(tree, "link/c.txt") == "a/b/c.txt"
    assert b"".join(tree.read("a/b/c.txt")) == b"hello"
    assert file_text(tree, "link/c.txt") == b"hello"
    assert file_text(tree, "nowhere") is None
    tree.close()


def test_a_later_entry_replaces_an_earlier_one(folder: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in (("f", "old"), ("f", "new"), ("d", "file"), ("d/x", "in it")):
            add(archive, name, content)
    tree = read(out.getvalue(), folder)
    assert b"".join(tree.read("f")) == b"new"
    assert names(tree) == ["d", "d/x", "f"]
    tree.close()


def test_links_lead_nowhere_outside(folder: Path) -> None:
    tree = read(context("x", {"up": link("../../../etc"), "abs": link("/etc"), "loop": link("loop"), "etc/passwd": "mine"}).read(), folder)
    assert file_text(tree, "up/passwd") == file_text(tree, "abs/passwd") == b"mine"
    with pytest.raises(InvalidArgument, match="too many links"):
        follow(tree, "loop/x")
    tree.close()


@pytest.mark.parametrize("name", ["../out", "a/../../out", "/../out"])
def test_names_that_climb_are_refused(folder: Path, name: str) -> None:
    with pytest.raises(InvalidArgument, match="may leave the tree"):
        read(context("x", {name: "bad"}).read(), folder)


def test_hard_links_share_their_bytes(folder: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        add(archive, "one", "bytes")
        info = tarfile.TarInfo("two")
        info.type, info.linkname = tarfile.LNKTYPE, "one"
        archive.addfile(info)
    tree = read(out.getvalue(), folder)
    assert b"".join(tree.read("two")) == b"bytes"
    first, second = tree.find("one"), tree.find("two")
    assert first is not None and second is not None and first.inode is second.inode
    tree.close()


def test_compressed_and_a_dockerfile_alone(folder: Path) -> None:
    tree = read(gzip.compress(context("FROM x\n", {}).read()), folder)
    assert file_text(tree, "Dockerfile") == b"FROM x\n"
    tree.close()
    tree = read(b"FROM busybox\nRUN true\n" * 100, folder)
    assert names(tree) == ["Dockerfile"]
    tree.close()
    read(b"", folder).close()


def test_cut_short_at_every_place(folder: Path) -> None:
    whole = context("FROM x\n", {"a": "b" * 700, "l": link("a")}).read()
    for size in range(0, len(whole), 61):
        try:
            read(whole[:size], folder).close()
        except EngineError:
            pass


def test_limits(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidArgument, match="larger than 1000 bytes"):
        read(context("x", {"big": "x" * 5000}).read(), folder, Limits(archive_bytes=1000))
    monkeypatch.setattr(contexts, "MAX_ENTRIES", 3)
    with pytest.raises(InvalidArgument, match="more than 3 entries"):
        read(context("x", dict.fromkeys("abc", "")).read(), folder)
    with pytest.raises(InvalidArgument, match="longer than 4095 bytes"):
        read(context("x", {"n" * 5000: ""}).read(), folder)


def test_ids_of_the_clients_machine_are_roots(folder: Path) -> None:
    info = tarfile.TarInfo("f")
    info.uid = info.gid = 1_000_000
    tree = read(context("x", {"f": info}).read(), folder)
    found = tree.find("f")
    assert found is not None and (found.uid, found.gid) == (0, 0)
    tree.close()


def test_what_is_ignored_goes(folder: Path) -> None:
    tree = read(context("x", {"a/keep": "", "a/b.log": "", "c/d.log": "", "e": ""}).read(), folder)
    prune(tree, Matcher(["**/*.log", "e", "!c/d.log"]))
    assert names(tree) == ["Dockerfile", "a", "a/keep", "c", "c/d.log"]
    tree.close()


def test_digests_see_everything_but_times(folder: Path) -> None:
    def digest(**changes: object) -> str:
        info = tarfile.TarInfo("f")
        info.mode = 0o644
        for name, value in changes.items():
            setattr(info, name, value)
        tree = read(context("x", {"f": info}).read(), folder)
        found = tree.digest("f")
        tree.close()
        return found

    assert digest() == digest(mtime=5)
    assert len({digest(), digest(mode=0o600), digest(uid=7), digest(gid=7), digest(type=tarfile.SYMTYPE, linkname="x")}) == 5
