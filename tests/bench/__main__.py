"""``./manage.py bench [NAME…] [--against unix:///path]``: one markdown table, p50 (p95), with the ratio to the other engine."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from tests.bench.client import BenchError, Engine
from tests.bench.memory import peer_roots
from tests.bench.rows import MORE_IS_BETTER, ROWS, Row


def main() -> int:
    parser = argparse.ArgumentParser(prog="./manage.py bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"rows: {', '.join(ROWS)} (all)")
    parser.add_argument(
        "--against",
        metavar="unix:///path/docker.sock",
        action="append",
        default=[],
        help="another engine, measured in turn with ours; repeatable",
    )
    parser.add_argument("--long", action="store_true", help="the rows that take minutes, too")
    parser.add_argument("--tenant", default="demo", help="whose containers ours are (demo)")
    parser.add_argument("--quick", action="store_true", help="a quarter of the samples")
    words = parser.parse_args()
    unknown = set(words.names) - ROWS.keys()
    if unknown:
        parser.error(f"no row {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    run = os.environ.get("SLIPWAY_RUN", "/run/slipway")
    ours = Engine("slipway", f"unix://{run}/tenants/{words.tenant}/docker.sock")
    engines: list[tuple[Engine, Callable[[], set[int]]]] = [(ours, our_roots)]
    for url in words.against:
        other = Engine("", url)
        engines.append((other, peer_roots(other)))
    try:
        for engine, _roots in engines:
            version = engine.json("GET", "/version")
            kind = "podman" if "Podman" in json.dumps(version) else "dockerd"
            engine.name = f"{engine.name or kind} {version['Version']}"
            engine.json("GET", "/images/busybox/json")
    except OSError as error:
        print(f"bench: {engine.url} does not answer ({error.strerror}): start it first", file=sys.stderr)
        return 1
    except BenchError as error:
        print(f"bench: {error}\nbench: each engine needs an image named busybox", file=sys.stderr)
        return 1
    table: dict[str, dict[str, list[float]]] = {}
    failed = False
    wanted = words.names or [name for name, row in ROWS.items() if words.long or not row.long]
    try:
        for row in dict.fromkeys(ROWS[name] for name in wanted):
            since = time.monotonic()
            failed |= not _measure(row, engines, table, quick=words.quick)
            print(f"bench: {row.name}: measured in {time.monotonic() - since:.0f} s", file=sys.stderr)
    except KeyboardInterrupt:
        failed = True
        for engine, _roots in engines:
            engine.clean()
    print(f"kernel {platform.release()}, {os.cpu_count()} cpus, python {platform.python_version()}\n")
    print(_markdown(table, [engine.name for engine, _roots in engines]))
    return int(failed)


def our_roots() -> set[int]:
    """The parts that ``./manage.py status`` names, and whoever supervises them."""
    said = subprocess.run([sys.executable, "manage.py", "status", "--json"], stdout=subprocess.PIPE, text=True, timeout=60).stdout
    roots = {int(part["pid"]) for part in json.loads(said)["parts"] if part["pid"]}
    parents = set()
    for pid in roots:
        with open(f"/proc/{pid}/stat") as file:
            parents.add(int(file.read().rsplit(")", 1)[1].split()[1]))
    return roots | (parents - {0, 1, os.getpid(), os.getppid()})


def _measure(
    row: Row, engines: list[tuple[Engine, Callable[[], set[int]]]], table: dict[str, dict[str, list[float]]], *, quick: bool
) -> bool:
    """Engines take turns, A B then B A, so that a drifting machine treats them alike. False when one could not do the work."""
    samples = max(2, row.samples // 4) if quick else row.samples
    broken: set[str] = set()
    for turn in range(-row.warmup, samples):
        for engine, roots in engines if turn % 2 == 0 else engines[::-1]:
            if engine.name in broken:
                continue
            try:
                sample = row.take(engine, roots)
            except (BenchError, OSError, subprocess.SubprocessError) as error:
                print(f"bench: {row.name}: {error}", file=sys.stderr)
                broken.add(engine.name)
                engine.clean()
                continue
            for name, value in sample.items() if turn >= 0 else ():
                table.setdefault(name, {}).setdefault(engine.name, []).extend(value if isinstance(value, list) else [value])
    return not broken


def _markdown(table: dict[str, dict[str, list[float]]], names: list[str]) -> str:
    head = ["row", *names, *(f"{names[0].split()[0]} / {other.split()[0]}" for other in names[1:])]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row, columns in table.items():
        rate = row.endswith(MORE_IS_BETTER)
        cells = [row]
        for name in names:
            values = sorted(columns.get(name, []))
            if not values:
                cells.append("–")
                continue
            tail = values[int(len(values) * 0.05)] if rate else values[min(len(values) - 1, int(len(values) * 0.95))]
            cells.append(f"{_figure(statistics.median(values))}" + (f" ({_figure(tail)})" if len(values) > 5 else ""))
        ours, *others = (statistics.median(columns[name]) if columns.get(name) else 0.0 for name in names)
        cells += [f"{ours / other:.3f}" if ours and other else "–" for other in others]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _figure(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


if __name__ == "__main__":
    sys.exit(main())
