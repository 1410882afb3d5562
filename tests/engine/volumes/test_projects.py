"""Project quotas, on an ext4 of our own that has them."""

from __future__ import annotations

import os
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.config import EngineConfig
from engine.kernel import project_quota, syscalls
from engine.model.volume import VolumeSpec
from engine.records import Records
from engine.volumes import projects
from engine.volumes.store import Volumes

pytestmark = [pytest.mark.requires("root", "loop"), pytest.mark.guest]


@pytest.fixture
def quotas(tmp_path: Path) -> Iterator[Path]:
    image, place = tmp_path / "image", tmp_path / "place"
    place.mkdir()
    with open(image, "wb") as file:
        file.truncate(128 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-O", "project,quota", image], check=True)
    done = subprocess.run(["mount", "-o", "loop,prjquota", image, place], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this kernel has no project quotas: {project_quota.why_never() or done.stderr.strip()}")
    try:
        yield place
    finally:
        deadline = time.monotonic() + 60
        while subprocess.run(["umount", place], capture_output=True, check=False).returncode:  # the trash is being emptied behind us
            assert time.monotonic() < deadline
            time.sleep(0.2)


def write(path: Path, size: int) -> int:
    """As an ordinary id, which a limit holds; how much was written."""
    code = f"import os; f = open({str(path)!r}, 'wb', 0); os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
    code += f"try:\n  for _ in range({size >> 20}): f.write(bytes(1 << 20))\nexcept OSError as error: print(error.errno)"
    subprocess.run(["/usr/bin/python3", "-c", code], check=True)
    return path.stat().st_size


def touch(folder: Path, count: int) -> int:
    """As ``write``: how many empty files there are then."""
    code = f"import os; os.chdir({str(folder)!r}); os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
    code += f"try:\n  for number in range({count}): open(str(number), 'wb').close()\nexcept OSError: pass"
    subprocess.run(["/usr/bin/python3", "-c", code], check=True)
    return len(os.listdir(folder))


def test_the_words_for_the_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """struct if_dqblk, in blocks of 1 KiB and in files; seen also by kernels without project quotas."""
    told: list[tuple[int, ...]] = []
    monkeypatch.setattr(syscalls, "quotactl_fd", lambda _fd, _command, _number, words: told.append(struct.unpack("=8QI4x", words)))
    for size in (10 << 20, 1 << 20, 0):
        project_quota.limit(tmp_path, 7, size)
    assert told == [
        (10240, 10240, 0, 2560, 2560, 0, 0, 0, 5),
        (1024, 1024, 0, 1024, 1024, 0, 0, 0, 5),
        (0, 0, 0, 0, 0, 0, 0, 0, 5),
    ]


def test_where_there_are_none_it_is_said() -> None:
    assert not project_quota.holds(Path("/proc"))


def test_a_size_holds_and_is_counted_without_a_walk(quotas: Path) -> None:
    assert project_quota.holds(quotas)
    config = EngineConfig(quotas / "data", quotas / "run")
    for folder in (config.containers, config.trash):
        folder.mkdir(parents=True)
    volumes = Volumes(config, Records(config))
    made = volumes.create(VolumeSpec(tenant="acme", name="small", options={"size": "10m"}))
    assert made.limit == "project"
    for folder in (quotas, *quotas.rglob("*")):
        if folder.is_dir():
            folder.chmod(0o777)
    data = volumes.folder("acme", "small") / "_data"
    assert 9 << 20 <= write(data / "big", 20 << 20) < 11 << 20
    assert 9 << 20 <= volumes.size("acme", "small") <= 10 << 20
    volumes.resize("acme", "small", "20m")
    (data / "big").unlink()
    assert write(data / "big", 15 << 20) == 15 << 20
    assert not volumes.is_over(volumes.get("acme", "small"))
    (data / "big").unlink()
    assert 4900 < touch(data, 6000) <= 20 << 8  # files of no bytes count, too
    volumes.remove("acme", "small")
    assert os.listdir(config.trash) == [] or projects.hold(quotas)
