"""Peak memory of load, pull, push and build of an image that is larger than any buffer: it must not depend on the image's size.

    python -m tests.bench.peaks [--megabytes 2000] [--tenant demo]    on the instance of the environment

It needs SLIPWAY_REGISTRIES_ALLOWED=127.0.0.1:5055 (as the row ``registry``), Debian's docker-registry and as much disk as five such images.
Two columns for each act: the largest VmHWM (proc_pid_status(5)) of any one process of ours, and by how much the sum of what all of
ours hold of their own (anonymous and shared memory, no file's pages) grew from before the act to its peak.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import itertools
import json
import os
import random
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.bench.__main__ import our_roots
from tests.bench.image_rows import REGISTRY_PORT
from tests.bench.memory import own_processes
from tests.support import registry

LIMIT_MIB: Final = 150
_LOOK_S: Final = 0.02
_BLOCK: Final = 16 << 20
NAME: Final = f"127.0.0.1:{REGISTRY_PORT}/bench/large:1"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.peaks", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=2000)
    parser.add_argument("--tenant", default="demo")
    words = parser.parse_args()
    address = f"unix://{os.environ.get('SLIPWAY_RUN', '/run/slipway')}/tenants/{words.tenant}/docker.sock"
    worst = 0.0
    print(f"| {words.megabytes} MB | s | largest process, MiB | all of ours grew by, MiB |\n|---|---|---|---|", flush=True)
    for content in (_zeros, _chance):
        with tempfile.TemporaryDirectory(dir="/var/tmp") as scratch:
            for act, do in _acts(Path(scratch), address, content, words.megabytes):
                with _watched() as peak:
                    since = time.monotonic()
                    do()
                    took = time.monotonic() - since
                worst = max(worst, peak.one_mib, peak.grew_mib)
                row = f"{peak.one_mib:.0f} ({peak.who}) | {peak.grew_mib:.0f}"
                print(f"| {act}, {content.__name__.strip('_')} | {took:.1f} | {row} |", flush=True)
    print(f"\nat most {worst:.0f} MiB, {'within' if worst <= LIMIT_MIB else 'BEYOND'} {LIMIT_MIB}")
    return int(worst > LIMIT_MIB)


def _acts(scratch: Path, address: str, content: Callable[[], Iterator[bytes]], megabytes: int) -> Iterator[tuple[str, Callable[[], None]]]:
    def docker(*words: str | Path) -> Callable[[], None]:
        environment = {**os.environ, "DOCKER_HOST": address, "DOCKER_BUILDKIT": "0", "DOCKER_CONFIG": str(scratch)}
        return lambda: _run(["docker", *map(str, words)], environment)

    context = scratch / "context"
    context.mkdir()
    with (context / "large").open("wb") as file:
        pieces = content()
        for _ in range(0, megabytes * 1_000_000, _BLOCK):
            file.write(next(pieces))
    (context / "Dockerfile").write_text("FROM busybox\nCOPY large /large\nRUN touch /touched\n")
    archive = scratch / "large.tar"
    _archive(context / "large", archive)
    yield "load", docker("load", "-q", "-i", archive)
    archive.unlink()
    with registry.running(scratch / "registry", port=REGISTRY_PORT):
        yield "push", docker("push", "-q", NAME)
        docker("rmi", "-f", NAME)()
        yield "pull", docker("pull", "-q", NAME)
        yield "save", docker("save", "-o", "/dev/null", NAME)
        docker("rmi", "-f", NAME)()
    yield "build", docker("build", "-q", "--no-cache", "-t", NAME, context)
    docker("rmi", "-f", NAME)()
    docker("builder", "prune", "-af")()


def _zeros() -> Iterator[bytes]:
    while True:
        yield bytes(_BLOCK)


def _chance() -> Iterator[bytes]:
    """No compressor finds anything in it: what is repeated lies farther back than any window."""
    block = random.Random(3).randbytes(_BLOCK)
    while True:
        yield block


def _archive(large: Path, archive: Path) -> None:
    """As docker save writes it, of one layer with one file."""
    layer = archive.with_suffix(".layer")
    with tarfile.open(layer, "w") as tar:
        tar.add(large, "large")
    with layer.open("rb") as file:
        diff_id = hashlib.file_digest(file, "sha256").hexdigest()
    rootfs = {"type": "layers", "diff_ids": [f"sha256:{diff_id}"]}
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}).encode()
    manifest = [{"Config": "config.json", "RepoTags": [NAME], "Layers": ["layer.tar"]}]
    with tarfile.open(archive, "w") as tar:
        tar.add(layer, "layer.tar")
        for name, data in (("config.json", config), ("manifest.json", json.dumps(manifest).encode())):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    layer.unlink()


def _run(command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:3])}: {done.stderr[-500:]}")


class _Peak:
    one_mib, who, grew_mib = 0.0, "", 0.0

    def __init__(self) -> None:
        self._roots = our_roots()
        for pid in own_processes(self._roots):
            try:
                Path(f"/proc/{pid}/clear_refs").write_text("5")  # its high-water mark begins anew
            except OSError:
                continue
        self._before = self._look()
        self.one_mib = 0.0

    def look(self) -> None:
        self.grew_mib = max(self.grew_mib, self._look() - self._before)

    def _look(self) -> float:
        held = 0
        for pid in own_processes(self._roots):
            try:
                fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
                held += sum(int(fields[name].split()[0]) for name in ("RssAnon", "RssShmem"))
                mib = int(fields["VmHWM"].split()[0]) / 1024
                if mib > self.one_mib:
                    self.one_mib, self.who = mib, _called(pid)
            except (OSError, KeyError, ValueError):
                continue  # it has just ended
        return held / 1024


def _called(pid: int) -> str:
    words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    return next((after for word, after in itertools.pairwise(words) if word == "-m"), words[0].rpartition("/")[2])


@contextmanager
def _watched() -> Iterator[_Peak]:
    peak, over = _Peak(), threading.Event()

    def watch() -> None:
        while not over.wait(_LOOK_S):
            peak.look()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


if __name__ == "__main__":
    sys.exit(main())
