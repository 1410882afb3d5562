"""All attempts in one go, each twice: with its wall, and without."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from tests.attack import cases
from tests.attack.attempt import ATTEMPTS, Attempt, Outcome, table
from tests.attack.ground import Ground
from tests.support.platform import Platform


def all_attempts() -> list[Attempt]:
    """By promise, then as they stand."""
    for module in iter_modules(cases.__path__):
        import_module(f"{cases.__name__}.{module.name}")
    return sorted(ATTEMPTS, key=lambda each: each.promise)


def chosen(words: str, *, quick: bool = False) -> list[Attempt]:
    """``words``: parts of names, or letters of promises, with commas between them."""
    return [each for each in all_attempts() if any(_fits(each, word) for word in words.split(",")) and (each.quick or not quick)]


def _fits(each: Attempt, word: str) -> bool:
    return word == each.promise if len(word) == 1 else word in each.name


def run(platform: Platform, folder: Path, picked: Iterable[Attempt], *, control: bool) -> tuple[str, bool]:
    """The report, and whether all is well: every wall held and, with ``control``, each attempt was shown to be one.

    What this machine cannot show is not proved, says the report, and no fault.
    """
    rows: list[tuple[Attempt, Outcome, Outcome | None]] = []
    with ExitStack() as stack:
        ground = Ground(platform, folder, stack)
        for each in picked:
            attack = each.tried(ground, walled=True)
            without = each.tried(ground, walled=False) if control else None
            rows.append((each, attack, without))
            told = f"{attack.as_attack}; control {without.as_control}" if without else attack.as_attack
            took = attack.seconds + (without.seconds if without else 0)
            print(f"{each.promise} {each.name}: {told[:300]} ({took:.1f} s)", file=sys.stderr, flush=True)
    held = [attack.has_held for _each, attack, _without in rows]
    proved = [bool(without and without.got) for _each, _attack, without in rows]
    well = [attack.has_held or attack.is_impossible for _each, attack, _without in rows]
    well += [bool(without.got) or without.is_impossible for _each, _attack, without in rows if without]
    summary = f"{len(rows)} attempts, {sum(held)} held" + (f"; without the wall {sum(proved)} succeed" if control else "")
    return f"{table(rows)}\n\n{summary}", all(well)
