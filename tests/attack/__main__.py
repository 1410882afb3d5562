"""``python -m tests.attack [--control] [-k NAME,…]``: every attempt, or those with a NAME in their name, and a table of what came of them.

Makes an instance of its own in scratch folders, or takes the one that SLIPWAY_DATA names, which should be nobody else's: it gets tenants,
and with ``--control`` walls of theirs are taken away. As root.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.attack.attempt import PROMISES, listed
from tests.attack.run import chosen, run
from tests.support import platform as platforms
from tests.support import scratch


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.attack", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--control", action="store_true", help="and each once more without its wall: it must succeed")
    parser.add_argument(
        "-k", metavar="NAME", default="", help="only those with it in their name, or of the promise a to f; several with commas"
    )
    parser.add_argument("--quick", action="store_true", help="only those that CI runs")
    parser.add_argument("--list", action="store_true", help="what there is, as docs/security.md has it")
    words = parser.parse_args()
    if words.list:
        print("\n\n".join(f"({promise})\n\n{listed(promise, chosen(words.k))}" for promise in PROMISES))
        return 0
    if os.geteuid() != 0:
        sys.exit("attack: only root can make an instance to attack")
    picked = chosen(words.k, quick=words.quick)
    with scratch.open_folder() as folder, _platform(folder) as platform:
        text, is_well = run(platform, folder, picked, control=words.control)
    print(text)
    return 0 if is_well else 1


@contextmanager
def _platform(folder: Path) -> Iterator[platforms.Platform]:
    with ExitStack() as stack:
        if scratch.given:
            yield platforms.Platform(Path(os.environ["SLIPWAY_DATA"]), Path(os.environ["SLIPWAY_RUN"]), os.environ["SLIPWAY_HTTP"])
        else:
            yield stack.enter_context(platforms.running(folder / "instance", SLIPWAY_REGISTRIES_ALLOWED="127.0.0.0/30"))


if __name__ == "__main__":
    sys.exit(main())
