"""``python -m tests.faults [--seed N] [--kills 200] [--clients 4] [--report FILE]``: a fault run on the instance of the environment.

``--power-cuts N`` cuts the power N times instead."""

from __future__ import annotations

import argparse
import os
import random
import sys
from pathlib import Path

from tests.faults.power import power_cut
from tests.faults.run import TENANT, fault_run
from tests.support.platform import Platform
from workers.platform.places import Places


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="repeats a run's choices (default: a random one, printed)")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--power-cuts", type=int, default=0, metavar="N", help="instead: cut the power N times")
    parser.add_argument("--report", type=Path, help="append the report to this file")
    words = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if words.seed is None else words.seed
    print(f"seed {seed}", flush=True)
    places = Places.from_environment(os.environ)
    platform = Platform(places.data, places.run, places.http)
    platform.tenant(TENANT)
    if left := platform.docker("ps", "-aq", tenant=TENANT).stdout.split():  # of a run that was broken off
        platform.docker("rm", "-f", *left, tenant=TENANT)
    platform.docker("run", "--rm", "busybox", "true", tenant=TENANT)  # makes the tenant's bridge and cgroup, which stay
    if words.power_cuts:
        text, found = _power_cuts(platform, seed, words.power_cuts)
    else:
        report = fault_run(platform, seed=seed, kills=words.kills, clients=words.clients)
        text, found = report.text(), bool(report.findings)
    print(text)
    if words.report:
        with words.report.open("a") as file:
            file.write(text + "\n")
    platform.manage("tenant", "delete", TENANT, "--now")
    return int(found)


def _power_cuts(platform: Platform, seed: int, count: int) -> tuple[str, bool]:
    rows, found = [f"## Power cuts, seeds {seed} to {seed + count - 1}", ""], False
    for number in range(seed, seed + count):
        findings, said = power_cut(platform, seed=number)
        rows += [f"- {said}: {'no findings' if not findings else ''}", *(f"  - {finding}" for finding in findings)]
        print(*rows[-1 - len(findings) :], sep="\n", flush=True)
        found = found or bool(findings)
    return "\n".join(rows) + "\n", found


if __name__ == "__main__":
    sys.exit(main())
