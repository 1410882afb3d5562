"""COPY and ADD as tars of layers: where things come to lie, whose they are, what a link on the way does."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from engine.builds import transfer
from engine.builds.context import Context, read_context
from engine.builds.ignore import Matcher
from engine.builds.layout import Layout, gathered
from engine.builds.transfer import Manner, absolute_target, items_of
from engine.errors import InvalidArgument
from engine.images.limits import DEFAULT
from tests.engine.builds.building import Content, add, context, link

Made = dict[str, tarfile.TarInfo]


class Trees:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: list[Context] = []

    def __call__(self, files: Mapping[str, Content]) -> Context:
        tree = read_context(context("FROM x\n", files), self._folder, DEFAULT)
        tree.drop("Dockerfile")
        self._made.append(tree)
        return tree

    def close(self) -> None:
        for tree in self._made:
            tree.close()


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Trees]:
    trees = Trees(tmp_path)
    yield trees
    trees.close()


def copy(below: Context, source: Context, sources: list[str], target: str, **words: Any) -> Made:
    manner = Manner(**{name: value for name, value in words.items() if name in ("owner", "mode", "is_link", "excluded")})
    look = {name: value for name, value in words.items() if name in ("unpacks", "keeps_parents", "excluded")}
    items = [item for each in sources for item in items_of(source, each, from_image=False, **look)]
    layout = Layout(below, now_s=1000, latest_s=words.get("latest_s"))
    data = b"".join(gathered(transfer.pieces(layout, items, absolute_target(target, words.get("cwd", "/")), manner)))
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: member for member in archive.getmembers()}


def test_a_file_into_a_folder_and_as_a_name(tree: Trees) -> None:
    source, below = tree({"f": "x"}), tree({"there/": ""})
    assert list(copy(below, source, ["f"], "/there")) == ["there", "there/f"]
    assert list(copy(below, source, ["f"], "/new/")) == ["new", "new/f"]
    assert list(copy(below, source, ["f"], "/new")) == ["new"]
    assert list(copy(below, source, ["f"], "a/b", cwd="/there")) == ["there", "there/a", "there/a/b"]


def test_a_folders_content(tree: Trees) -> None:
    source, below = tree({"d/a/b": "1", "d/c": "2", "d/l": link("c")}), tree({"to/": ""})
    made = copy(below, source, ["d"], "/to")
    assert list(made) == ["to", "to/a", "to/a/b", "to/c", "to/l"]
    assert made["to/l"].linkname == "c"
    assert list(copy(below, source, ["."], "/")) == ["d", "d/a", "d/a/b", "d/c", "d/l"]


def test_links_on_the_way_are_followed_inside(tree: Trees) -> None:
    source = tree({"f": "x"})
    below = tree({"real/": "", "link": link("/real"), "up": link("../../../real"), "file": link("real/target")})
    assert list(copy(below, source, ["f"], "/link/")) == ["real", "real/f"]
    assert list(copy(below, source, ["f"], "/up/")) == ["real", "real/f"]
    assert list(copy(below, source, ["f"], "/file")) == ["real", "real/target"]
    assert list(copy(below, source, ["f"], "/link/f", is_link=True)) == ["link", "link/f"]


def test_folders_on_the_way_keep_their_look(tree: Trees) -> None:
    folder = tarfile.TarInfo()
    folder.type, folder.mode, folder.uid, folder.gid, folder.mtime = tarfile.DIRTYPE, 0o1777, 7, 8, 55
    made = copy(tree({"tmp": folder}), tree({"f": "x"}), ["f"], "/tmp/f")
    assert (made["tmp"].mode, made["tmp"].uid, made["tmp"].gid, made["tmp"].mtime) == (0o1777, 7, 8, 55)


def test_owner_mode_and_latest_time(tree: Trees) -> None:
    info = tarfile.TarInfo()
    info.uid, info.gid, info.mode, info.mtime = 5, 6, 0o644, 2_000_000_000
    source = tree({"d/f": info})
    made = copy(tree({}), source, ["d"], "/n/")
    assert {(each.uid, each.gid) for each in made.values()} == {(0, 0)}
    made = copy(tree({}), source, ["d"], "/n/", owner=(3, 4), mode="u=rwX,go=rX", latest_s=1_000_000)
    assert {(each.uid, each.gid) for each in made.values()} == {(3, 4)}
    assert (made["n/f"].mode, made["n/f"].mtime) == (0o644, 1_000_000)
    assert copy(tree({}), source, ["d"], "/n/", owner=None)["n/f"].uid == 5


def test_wildcards_and_what_is_not_there(tree: Trees) -> None:
    source = tree({"a1.txt": "", "a2.txt": "", "b.md": "", "d/a3.txt": "", "[x]": ""})
    assert list(copy(tree({}), source, ["a?.txt"], "/to/")) == ["to", "to/a1.txt", "to/a2.txt"]
    assert list(copy(tree({}), source, ["*/a3*"], "/to/")) == ["to", "to/a3.txt"]
    assert items_of(source, "*.none", from_image=False) == []
    with pytest.raises(InvalidArgument, match=r"file not found in build context or excluded by \.dockerignore: stat none: file does not"):
        items_of(source, "none", from_image=False)
    with pytest.raises(InvalidArgument, match=r"\Astat none: file does not exist"):
        items_of(source, "/none", from_image=True)


def test_excluded_and_kept_parents(tree: Trees) -> None:
    source = tree({"p/q/a.c": "", "p/q/a.o": "", "p/r/b.c": ""})
    excluded = Matcher(["**/*.o"]).excludes
    assert list(copy(tree({}), source, ["p"], "/to/", excluded=excluded)) == ["to", "to/q", "to/q/a.c", "to/r", "to/r/b.c"]
    assert list(copy(tree({}), source, ["p/q/a.c"], "/to/", keeps_parents=True)) == ["to", "to/p", "to/p/q", "to/p/q/a.c"]
    assert list(copy(tree({}), source, ["p/./q/a.c"], "/to/", keeps_parents=True)) == ["to", "to/q", "to/q/a.c"]


def test_archives_are_unpacked_with_their_owners(tree: Trees) -> None:
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as archive:
        add(archive, "in/f", "x")
        info = tarfile.TarInfo("in/owned")
        info.uid = 9
        archive.addfile(info)
        info = tarfile.TarInfo("in/same")
        info.type, info.linkname = tarfile.LNKTYPE, "in/owned"
        archive.addfile(info)
    source = tree({"a.tgz": inner.getvalue(), "not.tgz": b"\x1f\x8bnothing"})
    made = copy(tree({}), source, ["a.tgz"], "/to/", unpacks=True)
    assert list(made) == ["to", "to/in", "to/in/f", "to/in/owned", "to/in/same"]
    assert made["to/in/owned"].uid == 9 and made["to/in/same"].linkname == "to/in/owned"
    assert list(copy(tree({}), source, ["a.tgz"], "/to/")) == ["to", "to/a.tgz"]
    assert list(copy(tree({}), source, ["not.tgz"], "/to/", unpacks=True)) == ["to", "to/not.tgz"]


def test_an_archive_that_would_leave_stays_in(tree: Trees) -> None:
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w") as archive:
        add(archive, "out", link("/../../etc"))
        add(archive, "out/passwd", "bad")
    made = copy(tree({"etc/": ""}), tree({"a.tar": inner.getvalue()}), ["a.tar"], "/to/", unpacks=True)
    assert "etc/passwd" in made and not any(".." in name for name in made)
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w") as archive:
        add(archive, "../x", "bad")
    with pytest.raises(InvalidArgument, match="may leave the tree"):
        copy(tree({}), tree({"a.tar": inner.getvalue()}), ["a.tar"], "/to/", unpacks=True)


def test_digest_of_folders_does_not_depend_on_order(tree: Trees) -> None:
    one, two = tree({"d/a": "1", "d/b": "2"}), tree({"d/b": "2", "d/a": "1"})
    assert items_of(one, "d", from_image=False)[0].digest == items_of(two, "d", from_image=False)[0].digest
    assert items_of(one, "d", from_image=False)[0].digest.startswith("dir:")
    assert items_of(one, "d/a", from_image=False)[0].digest.startswith("file:")
