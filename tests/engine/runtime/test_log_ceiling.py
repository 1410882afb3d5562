"""Of what a tenant's containers have written together so much is kept as its limit says: the newest."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine import ceilings
from engine.claims import Claims
from engine.config import EngineConfig
from engine.log_use import log_bytes
from engine.model.container import ContainerSpec, LogPolicy
from engine.runtime.log_ceiling import DEFAULT, LogCeiling
from engine.runtime.logs import LogReader
from engine.runtime.segments import segment_numbers
from engine.tenants import Tenants
from tests.engine.builds.building import TENANT, bench
from tests.engine.runtime.keeping import until

pytestmark = pytest.mark.requires("root", "overlay", "userns", "cgroup")
LIMIT = 4 << 20


def test_the_oldest_goes_whoever_writes(open_folder: Path) -> None:
    with bench(open_folder) as place:
        engine, config = place.engine, place.engine.config
        ceilings.change(config, TENANT, log_size=str(LIMIT))
        image_id = engine.images.resolve(TENANT, "busybox").id

        def begin(number: int, command: str, log: LogPolicy) -> Path:
            words = {"image_id": image_id, "image": "busybox", "args": ("sh", "-c", command), "network_mode": "none", "log": log}
            spec = ContainerSpec(id=f"{number:064x}", tenant=TENANT, name=f"c{number}", **words)
            engine.create(spec)
            engine.start(TENANT, spec.id)
            return config.container(spec.id) / "log"

        small = LogPolicy(max_size_bytes=512 << 10)
        folders = []
        for number in range(1, 4):
            folders.append(begin(number, "yes | head -c 2000000; echo end", small))
            engine.wait(f"{number:064x}", timeout_s=60)
            until(lambda: LogReader(folders[-1], tail=1, frames=False).read() == b"end\n")
        assert sum(log_bytes(config, TENANT).values()) <= LIMIT * 17 // 16
        assert segment_numbers(str(folders[0]))[0] > 1 and segment_numbers(str(folders[2]))[0] == 1
        # one that runs, with one large segment: what others left goes before its own
        running = begin(4, "yes | head -c 12000000; echo end; exec sleep 1000", LogPolicy())
        until(lambda: LogReader(running, tail=1, frames=False).read() == b"end\n")
        assert sum(log_bytes(config, TENANT).values()) <= LIMIT * 17 // 16 + (1 << 20)  # and a turn
        for folder in folders:
            reader = LogReader(folder)
            assert b"".join(reader) == b"" and reader.complete, "emptied, and ended as ever"
        engine.kill(TENANT, f"{4:064x}", 9)
        engine.wait(f"{4:064x}", timeout_s=60)
        assert b"".join(LogReader(running, frames=False)).endswith(b"y\nend\n")


@pytest.mark.parametrize(
    ("ceiling", "quota", "holds"), [(0, 0, DEFAULT), (9 << 20, 0, 9 << 20), (9 << 20, 4 << 20, 4 << 20), (2 << 20, 4 << 20, 2 << 20)]
)
def test_the_smaller_of_ceiling_and_quota_counts(tmp_path: Path, ceiling: int, quota: int, holds: int) -> None:
    config = EngineConfig(tmp_path / "data", tmp_path / "run")
    tenants = Tenants(config, Claims(tmp_path / "claims.json"))
    tenants.ensure(TENANT, log_bytes=quota)
    ceilings.change(config, TENANT, log_size=str(ceiling))
    assert LogCeiling(config)._limit(TENANT) == holds
