"""Clients that shoot, what they found, and the report."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from tests.faults import invariants
from tests.fuzz import watch
from tests.fuzz.wire import HANG_S, Answer, Door, Shot
from tests.support.platform import Platform
from tests.support.raw import ask

TENANT: Final = "fuzzed"
_OWN_FAULT: Final = (b"an error of Slipway itself", b"Traceback (most recent call last)", b'File "/')
_SWEEP_EACH: Final = 60  # shots
_TOO_MANY: Final = 10  # of a kind; then the oldest half goes
_SETTLED_S: Final = 90.0  # rows that wait for the sweeper, cgroups that wait for the agent
_WARM: Final = 0.15  # of the shots: caches, pools and imports take their room


class Source(Protocol):
    """Where shots come from. ``known``, what the tenant has by kind, is refreshed by who runs them, and ``renew`` called beside it."""

    name: str
    door: Door
    known: dict[str, list[str]]

    def renew(self) -> None:
        """See to it that whoever asks is still somebody: a token may have been revoked, a session ended, by chance."""

    def shot(self) -> Shot: ...


@dataclass(frozen=True, slots=True)
class Finding:
    what: str
    shot: Shot

    def text(self, number: int) -> str:
        return f"{number}. {self.what}: {self.shot.label}"


@dataclass
class Report:
    """``answers``: how often each status came, by source; 0: a connection that ended without one."""

    seed: int
    seconds: float = 0.0
    asked: Counter[str] = field(default_factory=Counter)
    answers: dict[str, Counter[int]] = field(default_factory=dict)
    slowest: dict[str, tuple[float, str]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    machine: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _kinds: Counter[str] = field(default_factory=Counter)

    @property
    def is_well(self) -> bool:
        return not self.findings and not self.faults

    def note(self, source: str, shot: Shot, answer: Answer) -> None:
        with self._lock:
            self.asked[source] += 1
            self.answers.setdefault(source, Counter())[answer.status] += 1
            if not shot.may_wait and answer.seconds > self.slowest.get(source, (0.0, ""))[0]:
                self.slowest[source] = answer.seconds, shot.label
            what = _wrong(shot, answer)
            kind = f"{what} {shot.label}"
            if what and self._kinds[kind] < 3:
                self.findings.append(Finding(what, shot))
                print(self.findings[-1].text(len(self.findings)), answer.data[-300:], file=sys.stderr, flush=True)
            self._kinds[kind] += bool(what)

    def keep(self, folder: Path) -> None:
        """Each finding's bytes in a file of its own, for ``--repeat``."""
        folder.mkdir(parents=True, exist_ok=True)
        for number, finding in enumerate(self.findings, 1):
            (folder / f"{number}.request").write_bytes(finding.shot.wire)

    def text(self) -> str:
        rows = [f"## Fuzz, seed {self.seed}: {self.asked.total()} requests in {self.seconds:.0f} s", ""]
        rows += ["| to | requests | 2xx | 3xx | 4xx | 500 | other 5xx | none | slowest, s |", "|---|---|---|---|---|---|---|---|---|"]
        for name, count in self.asked.items():
            seen = self.answers[name]
            by = Counter({kind: sum(times for status, times in seen.items() if status // 100 == kind) for kind in (1, 2, 3, 4, 5)})
            slow = self.slowest.get(name, (0.0, ""))
            cells = (name, count, by[1] + by[2], by[3], by[4], seen[500], by[5] - seen[500], seen[0], f"{slow[0]:.1f} {slow[1]}")
            rows.append(f"| {' | '.join(map(str, cells))} |")
        rows += ["", self.machine, "", f"Findings: {len(self.findings) + len(self.faults) or 'none'}"]
        rows += [finding.text(number) for number, finding in enumerate(self.findings, 1)]
        rows += [f"- {fault}" for fault in self.faults]
        return "\n".join(rows) + "\n"


def _wrong(shot: Shot, answer: Answer) -> str:
    """ "" when it is an answer as good as any."""
    if answer.timed_out:
        return f"no answer within {HANG_S:.0f} s"
    if answer.status == 0 and not (shot.is_cut or shot.may_wait):
        return "the connection ended without an answer"
    if answer.status == 500:
        return "500"
    if any(words in answer.data for words in _OWN_FAULT):
        return f"{answer.status}, and tells of a fault of ours"
    return ""


def fuzz(platform: Platform, sources: Sequence[Source], *, requests: int, seed: int) -> Report:
    """``requests`` shots, split evenly over ``sources``, a client for each.

    Everything that the tenant has is removed in the end; what is then left of it is a finding, too.
    """
    report, logs = Report(seed), watch.Logs(platform)
    clear(platform)
    before, began = watch.look(platform), time.monotonic()
    each = requests // max(len(sources), 1)
    _shoot(platform, sources, report, int(each * _WARM))
    clear(platform)
    warm = watch.look(platform)
    _shoot(platform, sources, report, each - int(each * _WARM))
    report.seconds = time.monotonic() - began
    clear(platform)
    after, found = _settled(platform, watch.Look(warm.parts, before.outside, before.inside))
    report.machine = watch.table(watch.Look(warm.parts, before.outside, before.inside), after)
    report.faults += found + logs.faults()
    return report


def _settled(platform: Platform, before: watch.Look) -> tuple[watch.Look, list[str]]:
    deadline = time.monotonic() + _SETTLED_S
    while True:
        after = watch.look(platform)
        found = watch.leaks(before, after) + sorted(invariants.queues(platform))
        if not found or time.monotonic() > deadline:
            return after, found
        time.sleep(1.0)


def _shoot(platform: Platform, sources: Sequence[Source], report: Report, count: int) -> None:
    with ThreadPoolExecutor(max(len(sources), 1)) as clients:
        for _done in clients.map(lambda source: _client(platform, source, report, count), sources):
            pass  # what a client of ours fell over is raised here


def _client(platform: Platform, source: Source, report: Report, count: int) -> None:
    for number in range(count):
        if number % _SWEEP_EACH == 0:
            source.known.update(_there(platform, sweep=True))
            source.renew()
        shot = source.shot()
        try:
            report.note(source.name, shot, source.door.send(shot))
        except OSError as error:
            report.faults.append(f"{source.name}: nobody to talk to after {number} requests: {error}")
            return


# -- what the tenant has ---------------------------------------------------------------------------------


def clear(platform: Platform) -> None:
    """Everything that the tenant has, but for what all have."""
    for kind, names in _there(platform).items():
        for name in names if kind != "exec" else ():
            _remove(platform, kind, name)
    _ask(platform, "POST", "/build/prune?all=1")


def _there(platform: Platform, *, sweep: bool = False) -> dict[str, list[str]]:
    """Names by kind, as paths of the API call the kinds. With ``sweep`` of what has become many the older half is removed."""
    images = [image for image in _list(platform, "/images/json") if image["RepoTags"] != ["busybox:latest"]]
    found = {
        "containers": [item["Id"] for item in _list(platform, "/containers/json?all=1")],
        "networks": [item["Id"] for item in _list(platform, "/networks") if item["Name"] not in ("bridge", "none", "host")],
        "volumes": [item["Name"] for item in _list(platform, "/volumes")],
        "images": [name for item in images for name in item["RepoTags"] or [item["Id"]]],
    }
    for kind, names in found.items():
        if sweep and len(names) > _TOO_MANY:
            for name in names[len(names) // 2 :]:  # Docker lists the newest first
                _remove(platform, kind, name)
            del names[len(names) // 2 :]
    found["exec"] = [number for item in found["containers"] for number in _inspect(platform, item).get("ExecIDs") or ()]
    return found


def _list(platform: Platform, path: str) -> list[dict[str, Any]]:
    status, said = _ask(platform, "GET", path)
    if status != 200:
        return []
    found = json.loads(said)
    return list(found["Volumes"] or ()) if isinstance(found, dict) else list(found)


def _inspect(platform: Platform, container: str) -> dict[str, Any]:
    status, said = _ask(platform, "GET", f"/containers/{container}/json")
    return dict(json.loads(said)) if status == 200 else {}


def _remove(platform: Platform, kind: str, name: str) -> None:
    if kind == "networks":  # with members it stays
        _status, said = _ask(platform, "GET", f"/networks/{name}")
        for member in json.loads(said).get("Containers") or {}:
            _ask(platform, "POST", f"/networks/{name}/disconnect", {"Container": member, "Force": True})
    _ask(platform, "DELETE", f"/{kind}/{name}?force=1&v=1")


def _ask(platform: Platform, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
    return ask(platform.socket(TENANT), method, "/v1.51" + path, body, timeout_s=60)
