"""What a clone of a volume costs: one of 1 GiB, beside an ordinary copy of the same bytes, on the disk of a folder.

    python -m tests.bench.clone [--folder /var/tmp] [--megabytes 1024] [--times 3]

Each is timed until it is on the disk, in turn with the other. Where the file system shares blocks (xfs, btrfs) a clone writes next to
nothing.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from engine import treecopy
from engine.config import EngineConfig
from engine.model.volume import VolumeSpec
from engine.records import Records
from engine.volumes.store import DATA, Volumes

_PIECE: Final = 1 << 20


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.clone", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"))
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--times", type=int, default=3)
    words = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=words.folder) as folder:
        config = EngineConfig(Path(folder) / "data", Path(folder) / "run")
        config.trash.mkdir(parents=True)
        volumes = Volumes(config, Records(config))
        volumes.create(VolumeSpec(tenant="bench", name="source"))
        source, copy = volumes.folder("bench", "source") / DATA / "file", Path(folder) / "copy"
        with open(source, "wb") as file:
            for _ in range(words.megabytes):
                file.write(os.urandom(_PIECE))
            os.fsync(file.fileno())

        def clone() -> Path:
            volumes.create_filled(VolumeSpec(tenant="bench", name="clone"), lambda target: treecopy.copy_below(source.parent, target))
            return volumes.folder("bench", "clone") / DATA / "file"

        def read_and_write() -> Path:
            with open(source, "rb") as file, open(copy, "wb", buffering=0) as out:
                while piece := file.read(_PIECE):
                    out.write(piece)
            return copy

        ways: dict[str, Callable[[], Path]] = {"clone of a volume": clone, "read(2) and write(2)": read_and_write}
        rows: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(words.times):
            for name, way in ways.items():
                rows[name].append(_timed(way))
            volumes.remove("bench", "clone")
    print(f"kernel {platform.release()}, {os.cpu_count()} cpus, {words.megabytes} MiB below {words.folder}\n")
    print("| way | MB/s | s | CPU, s |\n|---|---|---|---|")
    for name, times in rows.items():
        took, cpu = (statistics.median(column) for column in zip(*times, strict=True))
        print(f"| {name} | {words.megabytes * _PIECE / 1e6 / took:.0f} | {took:.2f} | {cpu:.2f} |")
    return 0


def _timed(way: Callable[[], Path]) -> tuple[float, float]:
    """Seconds until it is on the disk, and of this process's CPU."""
    os.sync()
    since, cpu = time.perf_counter(), time.process_time()
    fd = os.open(way(), os.O_RDONLY)
    os.fsync(fd)
    took = time.perf_counter() - since, time.process_time() - cpu
    os.close(fd)
    return took


if __name__ == "__main__":
    sys.exit(main())
