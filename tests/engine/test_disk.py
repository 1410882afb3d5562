"""Removing what tenants left, however they left it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine import disk

pytestmark = pytest.mark.guest


def _dig(top: Path, levels: int) -> None:
    """As ``while mkdir d && cd d; do :; done`` does in a container."""
    fd = os.open(top, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=fd)
        os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=fd))
        deeper = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    os.close(fd)


def test_the_trash_takes_what_is_thousands_of_levels_deep(tmp_path: Path) -> None:
    trash = tmp_path / "trash"
    for name in ("first", "second"):
        (trash / name).mkdir(parents=True)
        _dig(trash / name, 4000)
    (trash / "file").touch()
    disk.empty_trash(trash)
    assert os.listdir(trash) == []


def test_a_tree_goes_and_what_its_links_point_to_stays(tmp_path: Path) -> None:
    kept, tree = tmp_path / "kept", tmp_path / "tree"
    for folder in (kept, tree / "a" / "b", tree / "a" / "empty", tree / "c"):
        folder.mkdir(parents=True)
    for file in (kept / "file", tree / "file", tree / "a" / "b" / "file"):
        file.touch()
    (tree / "link").symlink_to(kept)
    (tree / "a" / "link").symlink_to(kept / "file")
    disk.remove_tree(tree)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept"]
    assert (kept / "file").exists()


def test_a_link_is_no_tree(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "link").symlink_to("kept")
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        disk.remove_tree(tmp_path / "link")
    assert (tmp_path / "kept").exists()
