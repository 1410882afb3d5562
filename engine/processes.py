"""The processes of a container as ps(1) of the host shows them: what ``docker top`` prints. Pids are the host's, users the container's.

ps runs as nobody, with an empty environment, and is told the pids of the container's cgroup (``-q``), so it has nothing else to show.
Its options come from a tenant: no character of a path is among them. A tree and sorting can't be had together with ``-q``: then ps
lists everything and we choose by the column PID, but only where no free text stands before that column (ps's own formats, or PID is the
first); else a row of somebody else's ``sleep 1234`` could pass for that of process 1234.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from engine.errors import FailedPrecondition, InvalidArgument, Unavailable

DEFAULT_OPTIONS: Final = "-ef"
PS: Final = "/usr/bin/ps"
TIMEOUT_S: Final = 10.0  # a process that sits in the kernel may hold up whoever reads its memory map
_NOBODY: Final = 65534
_PIDS_MAX: Final = 16_000  # in one argument, which may have 128 KiB
_OPTIONS: Final = re.compile(r"[A-Za-z0-9_,.:=+%\- ]*")
_OWN_FORMATS: Final = re.compile(r"-?[aAdefFgHjlrTuvwxXcy]+|--forest")
_RENAMED: Final = re.compile(r"\s+(\S*)=\s*(PID\S*)")


@dataclass(frozen=True, slots=True)
class ProcessTable:
    """Docker's: a title for each column, a row for each process."""

    titles: list[str]
    processes: list[list[str]]


def table(pids: Collection[int], options: str, *, uid_start: int) -> ProcessTable:
    """``uid_start``: the host's number of the tenant's user 0, which ps can't know.

    InvalidArgument for options that ps or we refuse, FailedPrecondition when it shows no PID.
    """
    words = _options(options)
    chosen = sorted(pids)[:_PIDS_MAX]
    if not chosen:
        return ProcessTable([], [])
    done = _run([*words, "-q" + ",".join(map(str, chosen))])
    error = done.stderr if done.returncode else ""
    if error.startswith("q/-q"):
        done = _run(words)
        if all(_OWN_FORMATS.fullmatch(word) for word in words) or done.stdout.split(maxsplit=1)[:1] == ["PID"]:
            error = done.stderr if done.returncode else ""
    if error:
        raise InvalidArgument(f"ps: {error.splitlines()[0]}")
    return _with_own_users(parse(done.stdout, frozenset(chosen)), uid_start, by_name="uid" not in options)


def _options(text: str) -> list[str]:
    text = text or DEFAULT_OPTIONS
    if not _OPTIONS.fullmatch(text) or len(text) > 1000:
        raise InvalidArgument(f"ps options {text[:100]!r} hold characters that no option has")
    for name, value in _RENAMED.findall(" " + text):
        if name != "pid":
            raise InvalidArgument(f'specifying "{name}={value}" is not allowed')
    return text.split()


def _run(words: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            [PS, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env={"LC_ALL": "C"},
            cwd="/",
            user=_NOBODY,
            group=_NOBODY,
            extra_groups=[],
            timeout=TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError as error:
        raise Unavailable(f"{PS} is missing on this host: install Debian's package procps") from error
    except subprocess.TimeoutExpired as error:
        raise Unavailable("ps does not end: a process of the container hangs in the kernel") from error


def parse(output: str, pids: Collection[int]) -> ProcessTable:
    """As moby: what is too much for the columns belongs to the last; lines without a pid are threads of the process above."""
    lines = output.splitlines()
    titles = lines[0].split() if lines else []
    if "PID" not in titles:
        raise FailedPrecondition("Couldn't find PID field in ps output")
    column, last, rows, inside = len(titles) - 1 - titles[::-1].index("PID"), len(titles) - 1, [], False
    for line in lines[1:]:
        fields = line.split()
        if not fields:
            continue
        if len(fields) <= column:
            raise FailedPrecondition("Unexpected output of ps: a row is shorter than its titles")
        if fields[column] != "-":
            if not fields[column].isdecimal():
                raise FailedPrecondition(f"Unexpected pid '{fields[column]}': not a number")
            inside = int(fields[column]) in pids
        if inside:
            rows.append([*fields[:last], " ".join(fields[last:])])
    return ProcessTable(titles, rows)


def _with_own_users(found: ProcessTable, uid_start: int, *, by_name: bool) -> ProcessTable:
    """The first column of users in the container's own numbers, 0 as ``root`` where a name stands."""
    columns = [number for number, title in enumerate(found.titles) if title in ("UID", "USER")]
    if not columns:
        return found
    users, pid = columns[0], found.titles.index("PID")
    for row in found.processes:
        uid = _effective_uid(row[pid])
        if uid >= uid_start:
            row[users] = "root" if uid == uid_start and (by_name or found.titles[users] == "USER") else str(uid - uid_start)
    return found


def _effective_uid(pid: str) -> int:
    """-1 when it is gone, or when this row (a thread's) has no pid."""
    try:
        with open(f"/proc/{int(pid)}/status") as lines:
            return next(int(line.split()[2]) for line in lines if line.startswith("Uid:"))
    except (OSError, ValueError, StopIteration):
        return -1
