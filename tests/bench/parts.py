"""Where the time of an act goes: processor time of each of our parts, for one act, beside what the clock says.

    python -m tests.bench.parts [run-none|start|exec|burst|build|volume] [--times 200] [--tenant demo]    on the instance of the environment

What no part shows is the kernel's work for the container's own process (clone to exit), and waiting.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from tests.bench import image_rows
from tests.bench.client import Engine, drain
from tests.bench.memory import cpu_s

WIDTH = 8


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.parts", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("acts", nargs="*", metavar="ACT", help=f"{', '.join(ACTS)} (all)")
    parser.add_argument("--times", type=int, default=200)
    parser.add_argument("--tenant", default="demo")
    words = parser.parse_args()
    engine = Engine("slipway", f"unix://{os.environ.get('SLIPWAY_RUN', '/run/slipway')}/tenants/{words.tenant}/docker.sock")
    parts = _parts()
    print(f"| act | clock, ms | machine busy, ms | {' | '.join(parts)} |\n|---|---{'|---' * (len(parts) + 1)}|", flush=True)
    for name in words.acts or ACTS:
        with ACTS[name](engine, words.times) as act:
            before, busy, since = _cpu_s(parts), _busy_s(), time.perf_counter()
            act()
            took, busy, after = time.perf_counter() - since, _busy_s() - busy, _cpu_s(parts)
        cells = (took, busy, *(then - now for then, now in zip(after, before, strict=True)))
        print(f"| {name} | {' | '.join(f'{1000 * cell / words.times:.2f}' for cell in cells)} |", flush=True)
    return 0


def _parts() -> dict[str, int]:
    said = subprocess.run([sys.executable, "manage.py", "status", "--json"], stdout=subprocess.PIPE, text=True, timeout=60).stdout
    return {part["name"]: int(part["pid"]) for part in json.loads(said)["parts"] if part["pid"]}


def _cpu_s(parts: dict[str, int]) -> list[float]:
    """Each without those below it that are parts themselves: launcher, logger, netd and agent are the keeper's children."""
    whole = {name: cpu_s({pid}) for name, pid in parts.items()}
    below = sum(whole[name] for name in ("launcher", "logger", "netd", "agent"))
    return [seconds - below if name == "keeper" else seconds for name, seconds in whole.items()]


def _busy_s() -> float:
    """All processors, since boot (proc_stat(5)): user, nice, system, irq, softirq."""
    with open("/proc/stat") as file:
        fields = [int(field) for field in file.readline().split()[1:]]
    return (sum(fields[:3]) + fields[5] + fields[6]) / os.sysconf("SC_CLK_TCK")


@contextmanager
def _run(engine: Engine, times: int) -> Iterator[Callable[[], None]]:
    def act() -> None:
        for _ in range(times):
            container = engine.create(["true"])
            engine.start(container)
            engine.wait(container)
            engine.remove(container)

    yield act


@contextmanager
def _start(engine: Engine, times: int) -> Iterator[Callable[[], None]]:
    made = [engine.create(["sleep", "1d"], "bridge") for _ in range(times)]
    yield lambda: [engine.start(container) for container in made] and None
    for container in made:
        engine.remove(container, force=True)


@contextmanager
def _exec(engine: Engine, times: int) -> Iterator[Callable[[], None]]:
    container = engine.create(["sleep", "1d"])
    engine.start(container)

    def act() -> None:
        for _ in range(times):
            words = {"Cmd": ["true"], "AttachStdout": True, "AttachStderr": True}
            made = engine.json("POST", f"/containers/{container}/exec", words)["Id"]
            drain(*engine.stream("POST", f"/exec/{made}/start", hijack=True, body={"Detach": False, "Tty": False}))

    yield act
    engine.remove(container, force=True)


@contextmanager
def _burst(engine: Engine, times: int) -> Iterator[Callable[[], None]]:
    """Create and start by eight clients at once."""

    def up(_number: int) -> None:
        container = engine.create(["sleep", "1d"], "bridge")
        engine.start(container)

    with ThreadPoolExecutor(WIDTH) as pool:
        yield lambda: list(pool.map(up, range(times))) and None
    for container in list(engine.made):
        engine.remove(container, force=True)


@contextmanager
def _build(engine: Engine, times: int) -> Iterator[Callable[[], None]]:
    """All of it in the cache."""
    context = image_rows.context()

    def build() -> None:
        engine.call("POST", "/build", context, t="parts-build:1", version="1", rm="1", forcerm="1")

    build()
    yield lambda: [build() for _ in range(times)] and None
    engine.call("DELETE", "/images/parts-build:1", force="1")


@contextmanager
def _volume(engine: Engine, times: int) -> Iterator[Callable[[], None]]:
    def act() -> None:
        for _ in range(times):
            engine.json("POST", "/volumes/create", {"Name": "parts"})
            engine.call("DELETE", "/volumes/parts")

    yield act


ACTS = {"run-none": _run, "start": _start, "exec": _exec, "burst": _burst, "build": _build, "volume": _volume}


if __name__ == "__main__":
    sys.exit(main())
