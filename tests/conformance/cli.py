#!/usr/bin/env python3
"""The stock docker client against two endpoints: the same commands, and every difference in what they say.

    tests/conformance/cli.py --host unix:///run/slipway/tenants/lab/docker.sock --against $(tests/conformance/reference.sh up)

Exit code 0 when all differences are explained in differences.toml. Both endpoints must be empty, and are emptied: take a tenant of
its own, which ``manage.py tenant policy lab --allow capabilities`` lets have what dockerd's users have. Only ``--host``: its answers
are checked against the expectations that some cases carry, which a run with ``--against`` checks on both.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import pkgutil
import re
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from tests.conformance import cases as shelf  # noqa: E402  (the checkout is not on the path of a script)
from tests.conformance.case import Case  # noqa: E402
from tests.conformance.endpoint import Endpoint, Outcome  # noqa: E402

EQUAL, EXPLAINED, UNEXPLAINED, STALE = "equal", "explained", "unexplained", "no longer differs"


@dataclass(frozen=True, slots=True)
class Explanation:
    """``ours``: a regular expression that must be found in what we say, so that nothing else hides behind the reason.

    ``by_chance``: they may say the same for once.
    """

    cases: frozenset[str]
    reason: str
    ours: str
    by_chance: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    case: Case
    kind: str
    text: str = ""  # the reason, or the differing lines


def all_cases() -> list[Case]:
    """Every case of every file below cases/, in the order of the files. A name is given once."""
    found = [
        case
        for module in sorted(module.name for module in pkgutil.iter_modules(shelf.__path__))
        for case in importlib.import_module(f"{shelf.__name__}.{module}").CASES
    ]
    names = [case.name for case in found]
    twice = {name for name in names if names.count(name) > 1}
    assert not twice, f"two cases are called {sorted(twice)}"
    return found


def explanations(known: frozenset[str]) -> list[Explanation]:
    entries = tomllib.loads((HERE / "differences.toml").read_text()).get("difference", [])
    out = [Explanation(frozenset(each["cases"]), each["reason"], each.get("ours", ""), each.get("by_chance", False)) for each in entries]
    unknown = sorted(name for each in out for name in each.cases - known)
    assert not unknown, f"differences.toml names cases that are not there: {unknown}"
    return out


def _changes(before: str, after: str) -> list[str]:
    return list(difflib.unified_diff(before.splitlines(), after.splitlines(), n=1, lineterm=""))[2:]


def differing(ours: Outcome, theirs: Outcome) -> list[str]:
    """Lines of a difference, theirs with -, ours with +; none when both said the same."""
    lines: list[str] = []
    for what in ("broken", "out", "err"):
        mine, other = getattr(ours, what), getattr(theirs, what)
        if mine != other:
            lines += [f"  {what}:", *(f"    {line}" for line in _changes(other, mine))]
    if ours.code != theirs.code:
        lines.append(f"  exit code: theirs {theirs.code}, ours {ours.code}")
    return lines


def unexpected(case: Case, outcome: Outcome) -> list[str]:
    """Lines about what one endpoint said otherwise than the case expects."""
    lines = [f"  {outcome.broken}"] if outcome.broken else []
    if case.out is not None and outcome.out + outcome.err != case.out:
        lines += list(
            difflib.unified_diff(case.out.splitlines(), (outcome.out + outcome.err).splitlines(), "expected", "said", n=1, lineterm="")
        )
    if case.code is not None and outcome.code != case.code:
        lines.append(f"  exit code {outcome.code}, expected {case.code}")
    return lines


def judge(case: Case, ours: Outcome, theirs: Outcome, explained: Sequence[Explanation]) -> Verdict:
    lines = differing(ours, theirs) or unexpected(case, theirs)  # a set-up that fails on both compares nothing
    mine = [each for each in explained if case.name in each.cases]
    if not lines:
        stale = [each for each in mine if not each.by_chance]
        return Verdict(case, STALE if stale else EQUAL, stale[0].reason if stale else "")
    for each in mine:
        if re.search(each.ours, f"{ours.out}{ours.err}{ours.broken}"):
            return Verdict(case, EXPLAINED, each.reason)
    return Verdict(case, UNEXPLAINED, "\n".join([f"  $ {case.command}", *lines]))


def compare(cases: Sequence[Case], host: Endpoint, against: Endpoint, explained: Sequence[Explanation], sink: TextIO) -> list[Verdict]:
    """Case by case, on both at once."""
    verdicts = []
    with ThreadPoolExecutor(2) as pool:
        for case in cases:
            ours, theirs = pool.map(lambda endpoint, case=case: endpoint.run(case), (host, against))
            verdicts.append(judge(case, ours, theirs, explained))
            if verdicts[-1].kind != EQUAL:
                print(f"{verdicts[-1].kind}: {case.name}\n{verdicts[-1].text}", file=sink, flush=True)
    return verdicts


def check(cases: Sequence[Case], host: Endpoint, sink: TextIO) -> int:
    """How many cases said otherwise than expected."""
    wrong = 0
    for case in cases:
        if lines := unexpected(case, host.run(case)):
            wrong += 1
            print(f"unexpected: {case.name}\n  $ {case.command}", *lines, sep="\n", file=sink, flush=True)
    return wrong


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", required=True, help="the endpoint under test")
    parser.add_argument("--against", help="the reference")
    parser.add_argument("-k", dest="pattern", default="", help="only cases whose name has this regular expression")
    parser.add_argument("--report", type=Path, help="write what is printed to this file, too")
    parser.add_argument("--clean", action="store_true", help="remove containers that are there already")
    options = parser.parse_args(words)
    known = all_cases()
    explained = explanations(frozenset(case.name for case in known))
    chosen = [case for case in known if re.search(options.pattern, case.name)]
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="slipway-conformance-") as scratch:
        ends = [Endpoint(address, Path(scratch) / str(index)) for index, address in enumerate([options.host, options.against]) if address]
        if not options.clean and (full := [end.address for end in ends if not end.is_empty()]):
            print(f"{', '.join(full)}: has containers, which a comparison would remove (--clean allows it)", file=sys.stderr)
            return 2
        try:
            if len(ends) == 1:
                chosen = [case for case in chosen if case.out is not None or case.code is not None]
                wrong = check(chosen, ends[0], sys.stdout)
                print(f"{len(chosen)} cases, {wrong} unexpected, {time.monotonic() - began:.0f} s")
                return 1 if wrong else 0
            verdicts = compare(chosen, ends[0], ends[1], explained, sys.stdout)
        finally:
            for end in ends:
                end.clean()
    counts = {kind: sum(verdict.kind == kind for verdict in verdicts) for kind in (EQUAL, EXPLAINED, UNEXPLAINED, STALE)}
    summary = f"{len(verdicts)} cases: {', '.join(f'{count} {kind}' for kind, count in counts.items())}; {time.monotonic() - began:.0f} s"
    print(summary)
    if options.report:
        body = [f"{verdict.kind}: {verdict.case.name}\n{verdict.text}\n" for verdict in verdicts if verdict.kind != EQUAL]
        options.report.write_text("\n".join([summary, "", *body]))
    return 1 if counts[UNEXPLAINED] or counts[STALE] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
