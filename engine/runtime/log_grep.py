"""Looking for a regular expression in the logs of one or several containers, merged by time.

    engine ── posix_spawn ──▶ python -m engine.runtime.log_grep
           ── one line of JSON: {"logs": {id: folder}, "pattern", "ignore_case", "since_ns", "until_ns", "limit", …} ──▶
           ◀── a line of JSON for each match, then {"done": {"complete", "bytes", "reason"}} ──

An expression is a program that its author chose: ``(a+)+$`` runs for years on a line of a hundred letters, and nothing within a
Python process can stop it. So each search is a process of its own: it opens the logs, becomes nobody, gives up what it could do
else, and is killed by the kernel (RLIMIT_CPU) or by its parent when its time is over. What it found until then has been told.
"""

from __future__ import annotations

import heapq
import json
import os
import re
import resource
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Final

from engine import errors
from engine.kernel import processes
from engine.runtime import code
from engine.runtime.log_lines import Line, Lines

NOBODY: Final = 65534
MEMORY: Final = 512 << 20  # bytes of address space
PATTERN_MAX: Final = 1000  # characters
LIMIT_MAX: Final = 10_000  # lines
TEXT_MAX: Final = 8 << 20  # bytes of matching lines
LOGS_MAX: Final = 200  # containers at a time
_LOOK: Final = 256  # lines between two looks at the clock
_LATE_S: Final = 1.0  # a search that does not end by itself in time is ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """``pattern``: Python's re, over UTF-8 text. Times are unix time in ns, 0 = no bound. The first ``limit`` matches are told.

    At most ``seconds`` of time and ``bytes`` of output are looked through; what the answer says of that is in ``Done``.
    """

    pattern: str
    ignore_case: bool = False
    stdout: bool = True
    stderr: bool = True
    since_ns: int = 0
    until_ns: int = 0
    limit: int = 1000
    seconds: float = 5.0
    bytes: int = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    id: str
    time_ns: int
    stream: str  # stdout, stderr
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """``complete``: all was looked at; else ``reason`` says what ended it: limit, time, bytes. ``looked_until_ns``: go on from there."""

    complete: bool
    reason: str = ""
    bytes: int = 0
    looked_until_ns: int = 0


def check(query: Query) -> None:
    """InvalidArgument for what can't be searched for. The expression itself is compiled where it may take its time."""
    if not 0 < len(query.pattern) <= PATTERN_MAX or "\0" in query.pattern:
        raise errors.InvalidArgument(f"a pattern has 1 to {PATTERN_MAX} characters")
    if not 0 < query.limit <= LIMIT_MAX:
        raise errors.InvalidArgument(f"limit is 1 to {LIMIT_MAX} lines")
    if not (query.stdout or query.stderr):
        raise errors.InvalidArgument("you must choose at least one stream")


class Search:
    """A search under way: iterate over its matches, then look at ``done``. Blocks; ``close`` ends it at any time, from any thread."""

    def __init__(self, logs: Mapping[str, Path], query: Query) -> None:
        check(query)
        if len(logs) > LOGS_MAX:
            raise errors.InvalidArgument(f"at most {LOGS_MAX} logs are searched at a time")
        self._deadline = time.monotonic() + query.seconds + _LATE_S
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-m", "engine.runtime.log_grep"],
            env={"PYTHONPATH": str(code.HOME), "LANG": "C.UTF-8"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._last_ns = query.since_ns
        self.done: Done | None = None
        try:
            assert self._process.stdin is not None
            with self._process.stdin as stdin:
                stdin.write(json.dumps({**asdict(query), "logs": {name: str(folder) for name, folder in logs.items()}}).encode())
        except BrokenPipeError:
            pass  # it ended already, and is asked for its reason below

    def __iter__(self) -> Iterator[Match]:
        """InvalidArgument for an expression that is none."""
        assert self._process.stdout is not None
        for row in self._rows(self._process.stdout):
            if "match" in row:
                match = Match(**row["match"])
                self._last_ns = match.time_ns
                yield match
            elif "error" in row:
                raise errors.InvalidArgument(row["error"])
            else:
                self.done = Done(**row["done"])
        if self.done is None:  # the kernel or we ended it
            self.done = Done(complete=False, reason="time", looked_until_ns=self._last_ns)

    def _rows(self, stdout: IO[bytes]) -> Iterator[dict[str, Any]]:
        rest = b""
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            while selector.select(max(0.0, self._deadline - time.monotonic())):
                data = os.read(stdout.fileno(), 1 << 16)
                if not data:
                    return
                *rows, rest = (rest + data).split(b"\n")
                yield from map(json.loads, rows)
        self.close()

    def close(self) -> None:
        self._process.kill()

    def __enter__(self) -> Search:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process.wait()


# -- the process of its own ------------------------------------------------------------------------


def main() -> None:
    words: dict[str, Any] = json.loads(sys.stdin.buffer.read())
    logs: dict[str, str] = words.pop("logs")
    query = Query(**words)
    opened = {name: Lines(folder, since_ns=query.since_ns) for name, folder in logs.items()}
    _become_nobody(query.seconds)
    try:
        pattern = re.compile(query.pattern, re.IGNORECASE if query.ignore_case else 0)
    except (re.error, OverflowError, RecursionError) as error:
        _say({"error": f"invalid regular expression: {error}"})
        return
    _find(opened, query, pattern)


def _become_nobody(seconds: float) -> None:
    cpu = int(seconds) + 1
    for what, limit in ((resource.RLIMIT_CPU, cpu), (resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_NPROC, 0), (resource.RLIMIT_FSIZE, 0)):
        resource.setrlimit(what, (limit, limit))
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    processes.hide()


def _find(opened: Mapping[str, Lines], query: Query, pattern: re.Pattern[str]) -> None:
    deadline = time.monotonic() + query.seconds
    streams = {1: "stdout", 2: "stderr"}
    wanted = {number for number, chosen in ((1, query.stdout), (2, query.stderr)) if chosen}
    found, told, last_ns, reason = 0, 0, query.since_ns, ""
    for count, (name, line) in enumerate(_merged(opened)):
        if count % _LOOK == 0:
            if time.monotonic() > deadline:
                reason = "time"
            elif sum(lines.bytes for lines in opened.values()) > query.bytes:
                reason = "bytes"
        if query.until_ns and line.time_ns > query.until_ns:
            break
        if reason:
            break
        last_ns = max(last_ns, line.time_ns)
        if line.stream in wanted and line.time_ns >= query.since_ns:
            text = line.text.decode(errors="replace")
            if pattern.search(text):
                _say({"match": {"id": name, "time_ns": line.time_ns, "stream": streams[line.stream], "text": text}})
                found, told = found + 1, told + len(line.text)
                if found == query.limit or told > TEXT_MAX:
                    reason = "limit"
    total = sum(lines.bytes for lines in opened.values())
    _say({"done": {"complete": not reason, "reason": reason, "bytes": total, "looked_until_ns": last_ns}})


def _merged(opened: Mapping[str, Lines]) -> Iterator[tuple[str, Line]]:
    def of(name: str, lines: Lines) -> Iterator[tuple[int, str, Line]]:
        latest = 0
        for line in lines:  # a line that began early may end late: it keeps its place among those of its own log
            latest = max(latest, line.time_ns)
            yield latest, name, line

    for _time_ns, name, line in heapq.merge(*(of(name, lines) for name, lines in opened.items()), key=lambda item: item[:2]):
        yield name, line


def _say(row: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(row, separators=(",", ":")) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
