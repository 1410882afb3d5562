"""Searching logs: what matches, in order of time, and no pattern that runs for ever."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.errors import InvalidArgument
from engine.runtime.log_grep import Match, Query, Search
from engine.runtime.log_lines import LINE_MAX, Line, Lines
from engine.runtime.segments import STDERR, STDOUT, LogWriter
from tests.support import machine


def write(folder: Path, *blocks: tuple[int, int, bytes], max_size_bytes: int = 1 << 20, max_files: int = 16) -> Path:
    """(time, stream, bytes) each."""
    writer = LogWriter(str(folder), max_size_bytes=max_size_bytes, max_files=max_files)
    writer.begin(1, blocks[0][0])
    reading, writing = os.pipe()
    try:
        for time_ns, stream, data in blocks:
            os.write(writing, data)
            writer.splice(reading, stream, time_ns)
    finally:
        os.close(reading)
        os.close(writing)
        writer.close()
    return folder


def test_lines_are_joined_over_blocks_and_segments(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "log",
        (10, STDOUT, b"one\ntw"),
        (20, STDERR, b"oops\n"),
        (30, STDOUT, b"o\nthr"),
        (40, STDOUT, b"ee"),
        max_size_bytes=100,
    )
    assert len(list(folder.glob("*.data"))) > 1
    assert list(Lines(str(folder))) == [
        Line(10, STDOUT, b"one"),
        Line(20, STDERR, b"oops"),
        Line(10, STDOUT, b"two"),
        Line(30, STDOUT, b"three"),
    ]


def test_a_line_without_end_is_given_in_pieces(tmp_path: Path) -> None:
    folder = write(tmp_path / "log", (1, STDOUT, b"x" * (LINE_MAX + 5)))
    assert [len(line.text) for line in Lines(str(folder))] == [LINE_MAX, 5]


def test_matches_of_several_logs_come_by_time(tmp_path: Path) -> None:
    logs = {
        "a": write(tmp_path / "a", (10, STDOUT, b"GET /one 200\n"), (30, STDOUT, b"GET /three 500\nnothing\n")),
        "b": write(tmp_path / "b", (20, STDERR, b"get /two 500\n"), (40, STDOUT, "GET /vier \xe4 500\n".encode())),
    }
    with Search(logs, Query(pattern=r"^GET .* 500$")) as search:
        assert [(match.id, match.time_ns) for match in search] == [("a", 30), ("b", 40)]
        assert search.done is not None and search.done.complete and search.done.bytes > 40
    with Search(logs, Query(pattern="get", ignore_case=True, since_ns=20, until_ns=30)) as search:
        assert list(search) == [
            Match(id="b", time_ns=20, stream="stderr", text="get /two 500"),
            Match(id="a", time_ns=30, stream="stdout", text="GET /three 500"),
        ]
    with Search(logs, Query(pattern="GET", limit=1)) as search:
        assert len(list(search)) == 1
        assert search.done is not None and (search.done.complete, search.done.reason) == (False, "limit")
    with Search(logs, Query(pattern="get", ignore_case=True, stdout=False)) as search:
        assert [match.id for match in search] == ["b"]


def test_a_pattern_that_runs_for_years_is_ended(tmp_path: Path) -> None:
    logs = {"a": write(tmp_path / "a", (10, STDOUT, b"plain aaa\n"), (20, STDOUT, b"a" * 100 + b"!\n"), (30, STDOUT, b"aaa\n"))}
    with Search(logs, Query(pattern=r"(a+)+$", seconds=1.0 * machine.slowness())) as search:
        assert [match.time_ns for match in search] == [10], "what was found before is told"
        assert search.done is not None and (search.done.complete, search.done.reason) == (False, "time")


@pytest.mark.parametrize("pattern", ["", "(", "x" * 2000, "a\0", "(?P<n>a)(?P<n>b)"])
def test_what_is_no_pattern_is_said(tmp_path: Path, pattern: str) -> None:
    logs = {"a": write(tmp_path / "a", (10, STDOUT, b"x\n"))}
    with pytest.raises(InvalidArgument, match=r"pattern|regular expression"), Search(logs, Query(pattern=pattern)) as search:
        list(search)


def test_an_empty_log_has_no_lines(tmp_path: Path) -> None:
    with Search({"a": tmp_path / "none"}, Query(pattern="x")) as search:
        assert list(search) == []
        assert search.done is not None and search.done.complete
