"""``python -m tests.fuzz [--requests 100000] [--seed N] [--docker] [--rest] [--pages]``: wrong requests to the instance of the environment.

It gets a tenant of its own, which is removed in the end. Without a word for what, all are asked. Exit code 1 with findings.
``--repeat FILE`` sends one finding again and prints the answer.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from pathlib import Path

from tests.fuzz import ground
from tests.fuzz.run import TENANT, fuzz
from tests.fuzz.wire import Door, Shot
from tests.support.platform import Platform
from workers.platform.places import Places


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--requests", type=int, default=100_000, help="altogether")
    parser.add_argument("--seed", type=int, default=None, help="repeats a run's choices (default: a random one, printed)")
    for kind in ground.KINDS:
        parser.add_argument(f"--{kind}", action="store_true")
    parser.add_argument("--only", default="", metavar="WORDS", help="of the Docker API: routes with this in their path")
    parser.add_argument("--clients", type=int, default=2, help="that speak to the Docker API at a time")
    parser.add_argument("--http", metavar="URL", help="of the panel (that of SLIPWAY_HTTP)")
    parser.add_argument("--host", metavar="URL", help="of the tenant's Docker API (its unix socket)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="for the requests of findings")
    parser.add_argument("--report", type=Path, help="append the report to this file")
    parser.add_argument("--repeat", type=Path, metavar="FILE", help="of --keep, to --host or --http")
    words = parser.parse_args()
    places = Places.from_environment(os.environ)
    platform = Platform(places.data, places.run, places.http)
    http = Door(words.http or platform.url)
    unix = Door(words.host or f"unix://{platform.socket(TENANT)}")
    if words.repeat:
        print((http if words.http else unix).send(Shot("", words.repeat.read_bytes())))
        return 0
    seed = random.SystemRandom().randrange(10**6) if words.seed is None else words.seed
    print(f"seed {seed}", flush=True)
    kinds = [kind for kind in ground.KINDS if getattr(words, kind)] or ground.KINDS
    with ground.tenant(platform):
        sources = ground.sources(
            platform,
            kinds,
            seed=seed,
            unix=unix,
            http=http,
            clients=words.clients,
            only=words.only,
            each=20 if words.requests >= 10_000 else 3,
        )
        report = fuzz(platform, sources, requests=words.requests, seed=seed)
    print(report.text())
    keep = words.keep or Path(tempfile.gettempdir()) / f"slipway-fuzz-{seed}"
    if report.findings:
        report.keep(keep)
        print(f"requests of the findings: {keep}")
    if words.report:
        with words.report.open("a") as file:
            file.write(report.text() + "\n")
    return int(not report.is_well)


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlpanel.settings")
    import django

    django.setup()
    sys.exit(main())
