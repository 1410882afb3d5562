"""Noisy neighbours: what a second tenant feels of a first one that is capped at one cpu and behaves as badly as it can.

    python -m tests.bench.neighbours [--runs 5] [--samples 30]      on the instance of the environment; makes and removes two tenants

B's client has the processor whenever it wants it (SCHED_RR), as one on a machine of its own: what is measured is what the platform does.
For each kind of noise, ``runs`` times in turn: B's acts while A is quiet, then while A is noisy; the table has the medians over the runs of
B's p95, and their ratio. Bound: 1.5.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.bench import storm
from tests.bench.client import Engine
from tests.support.platform import Platform
from workers.platform.places import Places

BOUND = 1.5
NOISY, QUIET = "noisy", "quiet"
WARM_S = 2.0  # until a noise is at its full strength, and until what it left is cleared away


@dataclass(frozen=True, slots=True)
class Noise:
    name: str
    commands: tuple[tuple[str, ...], ...]  # of docker, run once
    storm: tuple[str, ...] = ()  # what tests.bench.storm asks again and again


FILES = """while :; do
  mkdir /f; cd /f; i=0
  while [ $i -lt 100000 ]; do : > $i; i=$((i+1)); done
  cd /; rm -rf /f
done"""
FILL = "while :; do dd if=/dev/zero of=/fill bs=1M count=400 conv=fsync; rm /fill; done"
FLOOD = "while :; do dd if=/dev/zero bs=64 count=1000000 | nc -u -w 1 sink 9; done"
SERVES = "mkdir /www; echo hello > /www/index.html; exec httpd -f -h /www"
NOISES = (
    Noise("fork bomb", (("run", "-d", "--pids-limit", "500", "busybox", "sh", "-c", "b() { b | b & }; while :; do b; sleep 0.01; done"),)),
    Noise("memory hog", tuple(("run", "-d", "-m", "64m", "busybox", "sh", "-c", "while :; do tail /dev/zero; done") for _ in range(4))),
    Noise("log flood", tuple(("run", "-d", "busybox", "yes", "x" * 80) for _ in range(4))),
    Noise("100,000 files made", (("run", "-d", "busybox", "sh", "-c", FILES),)),
    Noise("100,000 files copied", (("run", "-d", "--name", "filled", "busybox", "sleep", "100000"),), ("copy", "filled")),
    Noise("disk fill", tuple(("run", "-d", "busybox", "sh", "-c", FILL) for _ in range(2))),
    Noise("packet flood", (
        ("network", "create", "flooded"),
        ("run", "-d", "--name", "sink", "--network", "flooded", "busybox", "nc", "-u", "-l", "-p", "9"),
        *(("run", "-d", "--network", "flooded", "busybox", "sh", "-c", FLOOD) for _ in range(4)),
    )),
    Noise("build storm", (), ("build",)),
    Noise("API storm", (("run", "-d", "--name", "asked", "busybox", "sleep", "100000"),), ("ask", "asked")),
    Noise("exec storm", (("run", "-d", "--name", "stormed", "busybox", "sleep", "100000"),), ("exec", "stormed")),
    Noise("run storm", (), ("run",)),
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.neighbours", description=__doc__)
    parser.add_argument("noises", nargs="*", metavar="NOISE", help=f"{', '.join(noise.name for noise in NOISES)} (all)")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--samples", type=int, default=30, help="of each act in a run")
    words = parser.parse_args()
    places = Places.from_environment(os.environ)
    platform = Platform(places.data, places.run, places.http)
    platform.tenant(NOISY)
    platform.tenant(QUIET)
    platform.manage("tenant", "quota", NOISY, "--cpus", "1")
    worst = 0.0
    os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    try:
        print("| noise | act | quiet p95, ms | noisy p95, ms | ratio |\n|---|---|---|---|---|", flush=True)
        for noise in NOISES:
            if not words.noises or noise.name in words.noises:
                worst = max(worst, _measure(platform, noise, words.runs, words.samples))
    finally:
        for tenant in (NOISY, QUIET):
            _clear(platform, tenant)
            platform.manage("tenant", "delete", tenant, "--now")
    print(f"\nworst ratio {worst:.2f}, bound {BOUND}")
    return int(worst > BOUND)


def _measure(platform: Platform, noise: Noise, runs: int, samples: int) -> float:
    found: dict[str, tuple[list[float], list[float]]] = {}
    platform.docker("run", "-d", "--name", "talks", "busybox", "sh", "-c", "seq 1 1000; sleep 100000", tenant=QUIET)
    platform.docker("run", "-d", "--name", "serves", "-p", "127.0.0.1::80", "busybox", "sh", "-c", SERVES, tenant=QUIET)
    try:
        for _ in range(runs):
            for name, figure in _acts(platform, samples).items():
                found.setdefault(name, ([], []))[0].append(figure)
            with _making(platform, noise):
                for name, figure in _acts(platform, samples).items():
                    found[name][1].append(figure)
    finally:
        _clear(platform, QUIET)
    worst = 0.0
    for name, (quiet, noisy) in found.items():
        before, after = statistics.median(quiet), statistics.median(noisy)
        worst = max(worst, after / before)
        print(f"| {noise.name} | {name} | {before * 1e3:.1f} | {after * 1e3:.1f} | {after / before:.2f} |", flush=True)
    return worst


def _acts(platform: Platform, samples: int) -> dict[str, float]:
    """p95 of each, in seconds."""
    engine = Engine(QUIET, f"unix://{platform.socket(QUIET)}")

    def run() -> None:
        number = engine.create(["true"])
        engine.start(number)
        engine.wait(number)
        engine.remove(number)

    def published() -> None:
        with urllib.request.urlopen(page, timeout=60) as answer:
            answer.read()

    page = f"http://{platform.docker('port', 'serves', '80', tenant=QUIET).stdout.split()[0]}/index.html"
    acts: dict[str, Callable[[], object]] = {
        "run": run,
        "exec": lambda: storm.execute(engine, "talks"),
        "http": published,
        "list": lambda: engine.json("GET", "/containers/json?all=1"),
        "logs": lambda: engine.call("GET", "/containers/talks/logs", stdout="1"),
    }
    found = {}
    for name, act in acts.items():
        times = []
        for _ in range(samples):
            began = time.perf_counter()
            act()
            times.append(time.perf_counter() - began)
        found[name] = statistics.quantiles(times, n=20)[-1]
    return found


@contextlib.contextmanager
def _making(platform: Platform, noise: Noise) -> Iterator[None]:
    clients = None
    try:
        for command in noise.commands:
            platform.docker(*command, tenant=NOISY)
        if noise.storm:
            kind, *words = noise.storm
            line = [sys.executable, "-m", "tests.bench.storm", kind, str(platform.socket(NOISY)), *words]
            clients = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
            assert clients.stdout is not None
            clients.stdout.readline()
        time.sleep(WARM_S)
        yield
    finally:
        if clients is not None:
            clients.communicate()
        _clear(platform, NOISY)
        time.sleep(WARM_S)


def _clear(platform: Platform, tenant: str) -> None:
    if left := platform.docker("ps", "-aq", tenant=tenant).stdout.split():
        platform.docker("rm", "-f", *left, tenant=tenant)
    platform.docker("network", "prune", "-f", tenant=tenant)


if __name__ == "__main__":
    sys.exit(main())
