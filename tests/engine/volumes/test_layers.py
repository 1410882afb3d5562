"""Containers whose writable layer has a size: by a project quota of the disk, or a file system in a file; what holds, and what is left."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import ceilings, recovery
from engine.config import EngineConfig
from engine.errors import AlreadyExists, FailedPrecondition, PermissionDenied
from engine.kernel import project_quota
from engine.volumes import layers
from tests.engine.builds.building import TENANT, Bench, bench
from tests.engine.volumes.test_projects import quotas
from tests.engine.volumes.test_volumes import run, spec_of

pytestmark = [pytest.mark.requires("root", "overlay", "userns", "cgroup", "loop"), pytest.mark.guest]
SIZE = 10 << 20
FILL = "dd if=/dev/zero of=/big bs=64k count=320 2>&1 | grep -ciE 'space|quota'; stat -c %b /big"
__all__ = ["quotas"]


@pytest.fixture(params=["disk", "project"])
def place(request: pytest.FixtureRequest) -> Iterator[Bench]:
    if request.param == "disk":
        with bench() as made:
            yield made
        return
    folder = request.getfixturevalue("quotas")
    with bench(folder) as made:
        assert project_quota.holds(made.engine.config.rootfs)
        yield made


def test_a_size_holds_and_leaves_nothing(place: Bench) -> None:
    engine, config = place.engine, place.engine.config
    image = place.build("FROM busybox\nRUN echo old > /old").record
    spec = spec_of(image, f"echo more >> /old; cat /old; {FILL}", layer_size_bytes=SIZE)
    said = run(engine, spec, keep=True).splitlines()
    assert said[:2] == ["old", "more"], "copied up from the image"
    assert said[2] == "1" and 9 << 20 < int(said[3]) * 512 <= SIZE
    assert 9 << 20 < layers.size_bytes(config, spec.id) <= SIZE
    until_free(config)
    engine.start(TENANT, spec.id)  # again, in the same layer
    assert engine.wait(spec.id, timeout_s=30).exit_code == 0
    until_free(config)
    engine.update(TENANT, spec.id, spec.resources, layer_size=2 * SIZE)
    assert 19 << 20 < int(run_again(place, spec.id).split()[-1]) * 512 <= 20 << 20
    engine.remove(TENANT, spec.id, force=True)
    assert not (config.rootfs / spec.id).exists()
    until_free(config)


def test_what_the_ceiling_says(place: Bench) -> None:
    engine = place.engine
    image = place.build("FROM busybox\nRUN true").record
    ceilings.change(engine.config, TENANT, layer_size="10m")
    with pytest.raises(PermissionDenied, match="10485760 bytes at most"):
        engine.create(spec_of(image, "true", layer_size_bytes=SIZE + 1))
    assert int(run(engine, spec_of(image, FILL)).split()[1]) * 512 <= SIZE, "of who asks for nothing, too"
    built = place.build("FROM busybox\nRUN echo built > /built && chown 5:6 /built")
    assert place.files(built.record)["built"] == ("100644", 5, 6, "built\n"), "a build's layer is read out of it"
    ceilings.change(engine.config, TENANT, layer_size="0")
    assert int(run(engine, spec_of(image, FILL)).split()[1]) * 512 >= 2 * SIZE


def test_what_a_killed_create_left_goes(place: Bench) -> None:
    config = place.engine.config
    layers.create(config, "ab" * 32, SIZE)
    with pytest.raises(AlreadyExists):
        layers.create(config, "ab" * 32)
    old = time.time() - recovery.UNFINISHED_S - 1
    subprocess.run(["touch", "-d", f"@{old}", config.rootfs / ("ab" * 32)], check=True)
    recovery.recover(place.engine)
    assert not any(config.rootfs.iterdir())
    until_free(config)


def test_a_layer_is_made_once_and_goes_at_once(tmp_path: Path) -> None:
    config = EngineConfig(tmp_path / "data", tmp_path / "run")
    layers.create(config, "cd" * 32)
    upper = config.rootfs / ("cd" * 32) / "upper"
    assert upper.stat().st_mode & 0o7777 == 0o755
    (upper / "file").write_text("x")
    assert layers.size_bytes(config, "cd" * 32) == 1
    with pytest.raises(FailedPrecondition, match="without a size"):
        layers.resize(config, "cd" * 32, SIZE)
    for _again in range(2):
        layers.remove(config, "cd" * 32)
        assert not (config.rootfs / ("cd" * 32)).exists()


def run_again(place: Bench, container_id: str) -> str:
    engine = place.engine
    engine.start(TENANT, container_id)
    engine.wait(container_id, timeout_s=30)
    return (engine.config.container(container_id) / "log" / "1.data").read_text()


def loops(config: EngineConfig) -> set[str]:
    """Files of the engine's that are devices just now."""
    found = (each.read_text() for each in Path("/sys/block").glob("loop*/loop/backing_file"))
    return {path for path in found if str(config.engine) in path}


def until_free(config: EngineConfig) -> None:
    deadline = time.monotonic() + 20
    while loops(config):
        assert time.monotonic() < deadline, loops(config)
        time.sleep(0.05)
