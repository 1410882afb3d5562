from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.kernel import paths

pytestmark = pytest.mark.guest


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[int]:
    """A root with a secret beside it."""
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/passwd").write_text("inside")
    (root / "absolute").symlink_to("/etc/passwd")
    (root / "relative").symlink_to("../../../../../etc/passwd")
    (root / "out").symlink_to("../secret")
    (root / "magic").symlink_to("/proc/self/cwd")
    (tmp_path / "secret").write_text("outside")
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.mark.parametrize("path", ["etc/passwd", "/etc/passwd", "../../etc/passwd", "absolute", "relative"])
def test_every_way_leads_inside(tree: int, path: str) -> None:
    with os.fdopen(paths.open_in_root(tree, path, os.O_RDONLY)) as file:
        assert file.read() == "inside"


@pytest.mark.parametrize("path", ["out", "../secret", "magic"])
def test_no_way_leads_outside(tree: int, path: str) -> None:
    with pytest.raises(OSError, match="openat2"):
        paths.open_in_root(tree, path, os.O_RDONLY)


@pytest.mark.parametrize("path", ["/etc/passwd", "../secret", "absolute", "relative", "out"])
def test_beneath_takes_no_symlink_and_no_way_up(tree: int, path: str) -> None:
    with pytest.raises(OSError, match="openat2"):
        paths.open_beneath(tree, path, os.O_RDONLY)
    os.close(paths.open_beneath(tree, "etc/passwd", os.O_RDONLY))


def test_only_a_regular_file_has_a_text(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"root:\xff:0")
    os.mkfifo(tmp_path / "fifo")
    texts = {}
    for name in ("file", "fifo", "."):
        fd = os.open(tmp_path / name, os.O_RDONLY | os.O_NONBLOCK)
        texts[name] = paths.text_of(fd, 7)
        with pytest.raises(OSError):
            os.fstat(fd)
    assert texts == {"file": "root:\udcff:", "fifo": "", ".": ""}
