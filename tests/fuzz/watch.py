"""What an instance takes of the machine, and what its parts have logged: looked at before and after."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Final

from tests.bench.memory import own_processes, pss_mib_of
from tests.faults import invariants
from tests.support.platform import Platform

DESCRIPTORS: Final = 24  # more than before is a leak: pools of connections and threads grow to their size
PROCESSES: Final = 4
GROWTH_MIB: Final = 32.0  # of one part between the end of the warm-up and the end: caches are bounded, and below this together
_FAULT: Final = re.compile(r"^Traceback \(most recent call last\):\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Part:
    """One process of the instance with those that it has begun, its containers and the other parts left out."""

    pss_mib: float
    descriptors: int
    processes: int


@dataclass(frozen=True, slots=True)
class Look:
    parts: dict[str, Part]
    outside: set[str] = field(default_factory=set)  # mounts, links, cgroups, nft elements: invariants.outside
    inside: set[str] = field(default_factory=set)  # files that belong to nothing: invariants.inside


def look(platform: Platform) -> Look:
    pids = {part["name"]: int(part["pid"]) for part in platform.status()["parts"] if part["pid"]}
    return Look(
        {name: _part(pid, set(pids.values())) for name, pid in pids.items()}, invariants.outside(platform), invariants.inside(platform)
    )


def _part(pid: int, all_parts: set[int]) -> Part:
    mine = set(own_processes({pid}))
    mine -= set(own_processes((mine & all_parts) - {pid}))
    return Part(pss_mib_of(mine), len(os.listdir(f"/proc/{pid}/fd")), len(mine))


def leaks(before: Look, after: Look) -> list[str]:
    """What is there for good and was not before."""
    found = [f"left over: {thing}" for thing in sorted((after.outside - before.outside) | (after.inside - before.inside))]
    for name, now in after.parts.items():
        then = before.parts.get(name)
        if then is None:
            continue
        if now.descriptors > then.descriptors + DESCRIPTORS:
            found.append(f"{name} has {now.descriptors} descriptors open, {then.descriptors} before")
        if now.processes > then.processes + PROCESSES:
            found.append(f"{name} has {now.processes} processes, {then.processes} before")
        if now.pss_mib > then.pss_mib + GROWTH_MIB:
            found.append(f"{name} takes {now.pss_mib:.0f} MiB, {then.pss_mib:.0f} before")
    found += [f"part {name} is gone" for name in before.parts.keys() - after.parts.keys()]
    return found


def table(before: Look, after: Look) -> str:
    rows = ["| part | PSS, MiB | descriptors | processes |", "|---|---|---|---|"]
    for name, now in after.parts.items():
        then = before.parts.get(name, now)
        cells = (
            f"{then.pss_mib:.1f} → {now.pss_mib:.1f}",
            f"{then.descriptors} → {now.descriptors}",
            f"{then.processes} → {now.processes}",
        )
        rows.append(f"| {name} | {' | '.join(cells)} |")
    rows += ["", f"Mounts, links, cgroups, nft elements: {len(before.outside)} → {len(after.outside)}; stray files: {len(after.inside)}"]
    return "\n".join(rows)


class Logs:
    """Stack traces that the parts log from now on: what failed and was answered politely, or nobody was told of."""

    def __init__(self, platform: Platform) -> None:
        self._folder = platform.data / "log"
        self._sizes = {path: path.stat().st_size for path in self._folder.glob("*.log")}

    def faults(self) -> list[str]:
        """The last line of each kind of stack trace, with how often it came."""
        found: dict[str, int] = {}
        for path in self._folder.glob("*.log"):
            with path.open(errors="replace") as file:
                size = self._sizes.get(path, 0)
                file.seek(size if size <= path.stat().st_size else 0)  # else it was rotated
                for words in _FAULT.split(file.read())[1:]:
                    line = next((row for row in words.splitlines() if row and not row.startswith((" ", "Traceback"))), "?")
                    key = f"{path.stem}: {line[:200]}"
                    found[key] = found.get(key, 0) + 1
        return [f"{count} stack traces in the log: {what}" for what, count in found.items()]
