#!/usr/bin/env python3
"""The same Dockerfiles built on two endpoints: what they say and what they make, and every difference.

    tests/conformance/builds.py --host unix:///run/slipway/tenants/lab/docker.sock --against $(tests/conformance/reference.sh up)

Exit code 0 when all differences are explained in builds/differences.toml. What is newer than dockerd's classic builder is measured
against its BuildKit, which needs ``--buildx`` (the plugin); of the endpoint under test it is always ``POST /build``.
Without ``--against``: against what the reference once did (builds/reference.txt, written with ``--record``).
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO, cast

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from tests.conformance import built  # noqa: E402  (the checkout is not on the path of a script)
from tests.conformance.cli import EQUAL, EXPLAINED, STALE, UNEXPLAINED, _changes  # noqa: E402
from tests.conformance.endpoint import IMAGE, make_image  # noqa: E402
from tests.conformance.recipe import FOLDER, Recipe, all_recipes  # noqa: E402

RECORD: Final = FOLDER / "reference.txt"
EXPECTED: Final = FOLDER / "expected.txt"  # written by hand: of what the reference's BuildKit cannot do yet
TAG: Final = "conformance-built"
_TIMEOUT_S: Final = 600  # of one command, on a machine that does other things too
_MASKS: Final = (
    (r"\r", ""), (r"sha256:[0-9a-f]{64}", "<id>"), (r"\b[0-9a-f]{64}\b", "<id>"), (r"\b[0-9a-f]{12}\b", "<short>"),
    (r"(?m)^Sending build context to Docker daemon +[\d.]+\w+ *\n", ""), (r"(?m)^DEPRECATED: .*\n(?: .*\n)*\n?", ""),
    (r"/tmp/\S+/context", "<context>"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a build said, masked, and the facts of what it made."""

    said: tuple[str, ...]
    made: tuple[str, ...]

    @property
    def lines(self) -> list[str]:
        return [*(f"said {line}" for line in self.said), *self.made]


class Builder:
    """One endpoint. ``buildx``: the plugin, for recipes that are ``like: buildkit``; "" = it has no BuildKit, or none is wanted."""

    def __init__(self, address: str, folder: Path, buildx: str = "") -> None:
        self.folder, self._buildx = folder, buildx
        (folder / "config" / "cli-plugins").mkdir(parents=True)
        (folder / "bare").mkdir()
        if buildx:
            shutil.copy(buildx, folder / "config" / "cli-plugins" / "docker-buildx")
        self._environment = {
            "PATH": os.environ["PATH"],
            "DOCKER_HOST": address,
            "TZ": "UTC",
            "HOME": str(folder),
            "BUILDKIT_PROGRESS": "plain",
        }
        make_image(folder / "box.tar")
        self._docker("load", "-q", "-i", str(folder / "box.tar"))
        self._base = built.read(folder / "box.tar")

    def _docker(self, *words: str, kit: bool = False) -> subprocess.CompletedProcess[str]:
        environment = self._environment | {
            "DOCKER_BUILDKIT": str(int(kit)),
            "DOCKER_CONFIG": str(self.folder / ("config" if kit else "bare")),
        }
        return subprocess.run(
            ["docker", *words],
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
        )

    def build(self, recipe: Recipe) -> Outcome:
        kit = recipe.like == "buildkit" and bool(self._buildx)
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            context = Path(scratch) / "context"
            context.mkdir()
            recipe.lay_out(context)
            words = [word.replace("-f=", "-f") for word in recipe.build]
            if "-f" in words:
                place = words.index("-f") + 1
                words[place] = str(context / words[place])
            fresh = [] if "--no-cache" in words else ["--no-cache"]
            done = self._docker("build", "-t", TAG, *words, *fresh, str(context), kit=kit)
            if recipe.twice and done.returncode == 0:
                done = self._docker("build", "-t", TAG, *words, str(context), kit=kit)
            try:
                return self._outcome(recipe, done, Path(scratch))
            finally:
                self._docker("rmi", "-f", TAG)
                self._docker("image", "prune", "-f")

    def _outcome(self, recipe: Recipe, done: subprocess.CompletedProcess[str], scratch: Path) -> Outcome:
        exactly = recipe.like == "classic"
        said = _masked(done.stdout + done.stderr).splitlines() if exactly else []
        if done.returncode or recipe.fails:
            if not exactly:  # BuildKit's exit code is 1 whatever failed
                return Outcome((f"fails: {done.returncode != 0}",), ())
            return Outcome((*said, f"exit code {done.returncode}"), ())
        saved = self._docker("save", "-o", str(scratch / "built.tar"), TAG)
        if saved.returncode:
            return Outcome((*said, f"docker save: {saved.stderr.strip()}"), ())
        return Outcome(tuple(said), tuple(built.facts(built.read(scratch / "built.tar"), self._base, exactly=exactly)))

    def clean(self) -> None:
        self._docker("rmi", "-f", TAG)
        self._docker("rmi", IMAGE)


def _masked(text: str) -> str:
    for pattern, replacement in _MASKS:
        text = re.sub(pattern, replacement, text)
    return text


@dataclass(frozen=True, slots=True)
class Explanation:
    """``lines``: a regular expression that every differing line must have in it, so that nothing else hides behind the reason."""

    cases: frozenset[str]
    reason: str
    lines: re.Pattern[str]


@dataclass(frozen=True, slots=True)
class Verdict:
    name: str
    kind: str
    text: str = ""


def explanations(known: frozenset[str]) -> list[Explanation]:
    entries = tomllib.loads((FOLDER / "differences.toml").read_text()).get("difference", [])
    found = [Explanation(frozenset(each["cases"]), each["reason"], re.compile(each["lines"])) for each in entries]
    unknown = sorted(name for each in found for name in each.cases - known)
    assert not unknown, f"differences.toml names cases that are not there: {unknown}"
    return found


def judge(recipe: Recipe, ours: Sequence[str], theirs: Sequence[str], explained: Sequence[Explanation]) -> Verdict:
    mine = [each for each in explained if recipe.name in each.cases]
    changes = [line for line in _changes("\n".join(theirs), "\n".join(ours)) if line[:1] in "+-"]
    if not changes:
        return Verdict(recipe.name, STALE if mine else EQUAL, mine[0].reason if mine else "")
    left = [line for line in changes if not any(each.lines.search(line[1:]) for each in mine)]
    if not left:
        return Verdict(recipe.name, EXPLAINED, "\n".join(each.reason for each in mine))
    return Verdict(recipe.name, UNEXPLAINED, "\n".join(f"  {line}" for line in left))


def recorded() -> dict[str, list[str]]:
    """What the reference did, by case; of those that are like nobody what is right."""
    found: dict[str, list[str]] = {}
    for section in "".join(path.read_text() for path in (RECORD, EXPECTED) if path.exists()).split("== ")[1:]:
        name, _equals, body = section.partition(" ==\n")
        found[name] = body.rstrip("\n").split("\n") if body.strip() else []
    return found


def compare(
    recipes: Sequence[Recipe], host: Builder, against: Builder | dict[str, list[str]], explained: Sequence[Explanation], sink: TextIO
) -> list[Verdict]:
    verdicts: list[Verdict] = []
    known = against if isinstance(against, dict) else recorded()
    with ThreadPoolExecutor(1) as pool:
        for recipe in recipes:
            ours = pool.submit(host.build, recipe)
            by_hand = isinstance(against, dict) or recipe.like == "nobody"
            theirs = known[recipe.name] if by_hand else cast(Builder, against).build(recipe).lines
            verdicts.append(judge(recipe, ours.result().lines, theirs, explained))
            if verdicts[-1].kind != EQUAL:
                print(f"{verdicts[-1].kind}: {recipe.name}: {recipe.about}\n{verdicts[-1].text}", file=sink, flush=True)
    return verdicts


def record(recipes: Sequence[Recipe], against: Builder) -> None:
    """Keep what the reference does."""
    kept = {name: lines for name, lines in recorded().items() if name in {each.name for each in all_recipes() if each.like != "nobody"}}
    for recipe in recipes:
        kept[recipe.name] = against.build(recipe).lines
        RECORD.write_text("".join("\n".join([f"== {name} ==", *kept[name], ""]) for name in sorted(kept)))
        print(f"recorded: {recipe.name}", flush=True)


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", help="the endpoint under test")
    parser.add_argument("--against", help="the reference: dockerd")
    parser.add_argument("--buildx", default="", help="the plugin docker-buildx, for the reference's BuildKit")
    parser.add_argument("--record", action="store_true", help=f"only keep what the reference does, in {RECORD.name}")
    parser.add_argument("--missing", action="store_true", help="only cases that are not recorded yet")
    parser.add_argument("-k", dest="pattern", default="", help="only cases whose name has this regular expression")
    options = parser.parse_args(words)
    known = all_recipes()
    explained = explanations(frozenset(recipe.name for recipe in known))
    chosen = [each for each in known if re.search(options.pattern, each.name) and not (options.record and each.like == "nobody")]
    if options.against and not options.buildx:
        chosen = [each for each in chosen if each.like != "buildkit"]
    if options.missing:
        chosen = [each for each in chosen if each.name not in recorded()]
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="slipway-builds-") as scratch:
        against = Builder(options.against, Path(scratch) / "against", options.buildx) if options.against else recorded()
        host = Builder(options.host, Path(scratch) / "host") if options.host else None
        try:
            if isinstance(against, Builder) and options.record:
                record(chosen, against)
            if host is None:
                return 0
            verdicts = compare(chosen, host, against, explained, sys.stdout)
        finally:
            for end in (host, against):
                if isinstance(end, Builder):
                    end.clean()
    counts = {kind: sum(verdict.kind == kind for verdict in verdicts) for kind in (EQUAL, EXPLAINED, UNEXPLAINED, STALE)}
    print(f"{len(verdicts)} cases: {', '.join(f'{count} {kind}' for kind, count in counts.items())}; {time.monotonic() - began:.0f} s")
    return 1 if counts[UNEXPLAINED] or counts[STALE] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
