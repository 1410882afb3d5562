"""One fault run: clients, a killer, then the looking around; and the report of it."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.faults import invariants
from tests.faults.killing import Kill, Killer
from tests.faults.load import Client, Seen
from tests.support.platform import Platform

TENANT = "faulty"
HEALTHY_S = 60.0
SETTLED_S = 90.0  # rows that wait for the sweeper, cgroups that wait for the agent
STUCK_S = 300.0


@dataclass
class Report:
    seed: int
    seconds: float = 0.0
    kills: list[Kill] = field(default_factory=list)
    killed: Counter[str] = field(default_factory=Counter)
    seen: Seen = field(default_factory=Seen)
    findings: list[str] = field(default_factory=list)
    healthy_after_s: float = 0.0
    checked: list[str] = field(default_factory=list)

    def text(self) -> str:
        seen = self.seen
        rows = [
            f"## Fault run, seed {self.seed}: {sum(self.killed.values())} kills in {self.seconds:.0f} s",
            "",
            f"Killed: {', '.join(f'{part} {count}' for part, count in sorted(self.killed.items()))}"
            f" ({sum(len(kill.parts) > 1 for kill in self.kills)} times two at once)",
            "",
            "| act | done | asked again | slowest answer, s |",
            "|---|---|---|---|",
            *(f"| {verb} | {seen.acts[verb]} | {seen.retried[verb]} | {seen.longest_s.get(verb, 0):.1f} |" for verb in sorted(seen.acts)),
            "",
            "What clients got while a part was down:",
            *(f"- {count} x `{what}`" for what, count in seen.answers.most_common(12)),
            "",
            f"All parts healthy again {self.healthy_after_s:.1f} s after the last kill. Looked at: {'; '.join(self.checked)}.",
            "",
            f"Findings: {len(self.findings) or 'none'}",
            *(f"- {finding}" for finding in self.findings),
        ]
        return "\n".join(rows) + "\n"


def fault_run(platform: Platform, *, seed: int, kills: int, clients: int) -> Report:
    """The tenant TENANT must exist and have run something; its containers are removed in the end."""
    before, files = invariants.outside(platform), invariants.inside(platform)
    open_before = invariants.descriptors(platform)
    report, over = Report(seed), threading.Event()
    report.seen = Seen()
    killer = Killer(platform, random.Random(f"{seed} kills"), kills)
    people = [
        Client(number, platform.socket(TENANT), random.Random(f"{seed} client {number}"), report.seen, over) for number in range(clients)
    ]
    began = time.monotonic()
    killer.start()
    for client in people:
        client.start()
    try:
        killer.enough.wait()
    finally:
        killer.stop.set()
        over.set()
    report.seconds = time.monotonic() - began
    report.kills, report.killed = killer.kills, killer.killed
    report.healthy_after_s = platform.wait_healthy(HEALTHY_S)
    for client in people:
        client.join(STUCK_S)
        if client.is_alive():
            report.findings.append(f"{client.name} hangs")
    report.findings += report.seen.findings
    _look(platform, report, people)
    _clear(platform, report, people)
    _nothing_left(platform, report, before, files, open_before)
    return report


def _look(platform: Platform, report: Report, people: list[Client]) -> None:
    deadline = time.monotonic() + SETTLED_S
    while True:
        wrong = invariants.agreed(platform, TENANT)
        if not wrong or time.monotonic() > deadline:
            break
        time.sleep(1.0)
    report.findings += wrong
    report.findings += invariants.promised(platform, TENANT, people)
    count = sum(len(client.containers) for client in people)
    report.checked.append(f"{count} containers that were left: present once, state, exit code, log; rows, records, names, processes agree")


def _clear(platform: Platform, report: Report, people: list[Client]) -> None:
    for client in people:
        for made in list(client.containers.values()):
            status, said = client.try_once("rm", "DELETE", f"/containers/{made.name}?force=1")
            if status not in (204, 404):
                report.findings.append(f"rm {made.name}: {status} {said!r}")
    status, said = people[0].try_once("network prune", "POST", "/networks/prune")
    if status != 200:
        report.findings.append(f"network prune: {status} {said!r}")


def _nothing_left(platform: Platform, report: Report, before: set[str], files: set[str], open_before: dict[str, int]) -> None:
    deadline = time.monotonic() + SETTLED_S
    while True:
        left = (invariants.outside(platform) - before) | (invariants.inside(platform) - files) | invariants.queues(platform)
        if not left or time.monotonic() > deadline:
            break
        time.sleep(1.0)
    report.findings += [f"left over: {thing}" for thing in sorted(left)]
    for part, count in invariants.descriptors(platform).items():
        if part in ("keeper", "logger", "launcher", "netd", "agent") and count > open_before.get(part, 0) + 24:
            report.findings.append(f"{part} has {count} descriptors open, {open_before.get(part)} before")
    report.checked.append("mounts (the keeper's own too), links, cgroups, nft elements, files, running notes, queues, open descriptors")
