"""Every size has at least what was asked for: mke2fs and the kernel keep other parts of small file systems than of large ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.volumes import disks

pytestmark = pytest.mark.requires("root")


@pytest.mark.parametrize("size", [16, 100, 128, 256, 450, 480, 512, 1024, 4000])
def test_it_has_to_the_block_what_was_asked_for(tmp_path: Path, size: int) -> None:
    image = tmp_path / "disk.img"
    disks.make(image, size << 20)
    with disks.opened(image) as root:
        assert 0 <= disks._available(root) - (size << 20) < disks.BLOCK * 2
