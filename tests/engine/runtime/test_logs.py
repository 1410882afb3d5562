"""Reading logs: tails, times, streams, frames and followers, on logs made by hand."""

from __future__ import annotations

import asyncio
import json
import os
import random
import struct
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from engine.runtime import log_search, logs
from engine.runtime.logs import FIRST, LogReader, LogWatch, docker_time, end_position
from engine.runtime.segments import LogWriter

from .test_logger_segments import write

START_NS = 10**18  # 2001-09-09T01:46:40Z


def read(folder: Path, **words: Any) -> bytes:
    words.setdefault("frames", False)
    return b"".join(LogReader(folder, **words))


def frames(data: bytes) -> list[tuple[int, bytes]]:
    found = []
    at = 0
    while at < len(data):
        stream, length = struct.unpack_from(">BxxxI", data, at)
        found.append((stream, data[at + 8 : at + 8 + length]))
        at += 8 + length
    return found


@pytest.mark.guest
def test_frames_name_the_stream_and_neighbours_of_one_stream_share_one(tmp_path: Path) -> None:
    write(tmp_path, (1, b"a\n"), (1, b"b\n"), (2, b"oops\n"), (1, b"c\n"))
    assert frames(read(tmp_path, frames=True)) == [(1, b"a\nb\n"), (2, b"oops\n"), (1, b"c\n")]


@pytest.mark.guest
@pytest.mark.parametrize(
    ("lines", "expected"),
    [(0, b""), (1, b"tail"), (2, b"c\ntail"), (3, b"b\nc\ntail"), (4, b"a\nb\nc\ntail"), (99, b"a\nb\nc\ntail"), (-1, b"a\nb\nc\ntail")],
)
def test_tail_counts_a_last_line_without_end(tmp_path: Path, lines: int, expected: bytes) -> None:
    write(tmp_path, (1, b"a\nb"), (1, b"\nc\nta"), (1, b"il"))
    assert read(tmp_path, tail=lines) == expected


@pytest.mark.guest
def test_tail_of_one_stream_passes_over_the_other(tmp_path: Path) -> None:
    write(tmp_path, (1, b"a\nb\n"), (2, b"x\ny\n"), (1, b"c\n"), (2, b"z\n"))
    assert read(tmp_path, tail=2, stderr=False) == b"b\nc\n"
    assert read(tmp_path, tail=2, stdout=False) == b"y\nz\n"
    assert read(tmp_path, tail=3) == b"y\nc\nz\n"


@pytest.mark.guest
@pytest.mark.parametrize("max_size", [1 << 30, 5000], ids=["one segment", "many segments"])
def test_every_tail_of_a_random_log(tmp_path: Path, max_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_search, "_SCAN", 97)
    monkeypatch.setattr(logs, "_RECORDS", 7)
    monkeypatch.setattr(log_search, "_RECORDS", 7)
    monkeypatch.setattr(logs, "PIECE", 61)
    dice = random.Random(7)
    blocks = [(1, "".join(dice.choice("ab\n") for _ in range(dice.randrange(1, 200))).encode()) for _ in range(150)]
    write(tmp_path, *blocks, max_size=max_size)
    whole = b"".join(data for _stream, data in blocks)
    assert read(tmp_path) == whole
    lines = whole.splitlines(keepends=True)
    for tail in (*range(1, 60), len(lines) - 1, len(lines), len(lines) + 1):
        assert read(tmp_path, tail=tail) == b"".join(lines[-tail:]), tail


@pytest.mark.guest
def test_one_stream_of_a_random_log_of_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_search, "_SCAN", 31)
    monkeypatch.setattr(logs, "_RECORDS", 5)
    monkeypatch.setattr(log_search, "_RECORDS", 5)
    dice = random.Random(8)
    blocks = [(dice.choice((1, 2)), f"{number} {dice.random()}\n".encode() * dice.randrange(1, 4)) for number in range(300)]
    write(tmp_path, *blocks, max_size=4000)
    out = b"".join(data for stream, data in blocks if stream == 1).splitlines(keepends=True)
    for tail in (1, 2, 3, 10, 100, len(out), len(out) + 5):
        assert read(tmp_path, tail=tail, stderr=False) == b"".join(out[-tail:])


@pytest.mark.guest
def test_since_and_until_choose_blocks_by_time(tmp_path: Path) -> None:
    write(tmp_path, *((1, b"%d\n" % number) for number in range(1, 101)), start_ns=START_NS, max_size=1500)
    second = 10**9
    assert read(tmp_path, since_ns=START_NS + 98 * second) == b"98\n99\n100\n"
    assert read(tmp_path, until_ns=START_NS + 3 * second) == b"1\n2\n3\n"
    assert read(tmp_path, since_ns=START_NS + 50 * second, until_ns=START_NS + 51 * second) == b"50\n51\n"
    assert read(tmp_path, since_ns=START_NS + 1000 * second) == b""
    assert read(tmp_path, since_ns=START_NS + 50 * second, tail=2) == b"99\n100\n"
    assert read(tmp_path, since_ns=START_NS + 99 * second, tail=20) == b"99\n100\n"


@pytest.mark.guest
def test_timestamps_stand_before_each_line_and_never_within(tmp_path: Path) -> None:
    write(tmp_path, (1, b"a\nb"), (2, b"x\n"), (1, b"c\n"), start_ns=START_NS)
    one, two = b"2001-09-09T01:46:41.000000000Z ", b"2001-09-09T01:46:42.000000000Z "
    assert frames(read(tmp_path, frames=True, timestamps=True)) == [(1, one + b"a\n" + one + b"b"), (2, two + b"x\n"), (1, b"c\n")]
    assert docker_time(1_700_000_000_000_000_042) == "2023-11-14T22:13:20.000000042Z"


@pytest.mark.guest
def test_an_empty_log_and_a_missing_folder_read_as_nothing(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        assert read(folder) == b"" and read(folder, tail=5, since_ns=1) == b""
        assert end_position(folder) == FIRST


@pytest.mark.guest
def test_an_attach_before_the_start_waits_for_the_next_end(tmp_path: Path) -> None:
    write(tmp_path, (1, b"old\n"))
    reader = LogReader(tmp_path, frames=False, start=end_position(tmp_path))
    assert reader.read() == b"" and not reader.complete
    write(tmp_path, (1, b"new\n"), run=2)
    assert b"".join(reader.follow()) == b"new\n" and reader.complete


@pytest.mark.guest
def test_following_the_tail_of_an_ended_log_ends_at_once(tmp_path: Path) -> None:
    write(tmp_path, (1, b"a\nb\n"))
    assert b"".join(LogReader(tmp_path, frames=False, tail=0).follow()) == b""
    assert b"".join(LogReader(tmp_path, frames=False, tail=1).follow()) == b"b\n"


@pytest.mark.guest
@pytest.mark.parametrize("begun", ["this run", "the one before", "none"])
def test_reading_an_ended_container_waits_for_the_logger(tmp_path: Path, begun: str) -> None:
    folder = tmp_path / "log"
    if begun == "the one before":
        write(folder, (1, b"first words\n"), run=2)
    writer = LogWriter(str(folder), max_size_bytes=1 << 20, max_files=2)
    if begun == "this run":
        writer.begin(3, START_NS)
    reading, writing = os.pipe()
    (tmp_path / "exit.json").write_text(json.dumps({"run": 3}))

    def late() -> None:
        time.sleep(0.2)
        if begun != "this run":
            writer.begin(3, START_NS)
        os.write(writing, b"last words\n")
        writer.splice(reading, 1, START_NS)
        writer.end(3, START_NS)

    thread = threading.Thread(target=late)
    thread.start()
    assert read(folder) == (b"first words\n" if begun == "the one before" else b"") + b"last words\n"
    thread.join()
    for fd in (reading, writing):
        os.close(fd)
    writer.close()


@pytest.mark.guest
async def test_many_followers_share_one_watch_in_an_event_loop(tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number in range(20)]
    writers = [LogWriter(str(folder), max_size_bytes=2000, max_files=100) for folder in folders]
    reading, writing = os.pipe()
    loop = asyncio.get_running_loop()

    async def follow(folder: Path) -> bytes:
        reader, found, woken = LogReader(folder, frames=False), bytearray(), asyncio.Event()
        number = watch.add(folder, woken.set)
        while True:
            woken.clear()
            while piece := reader.read():
                found += piece
            if reader.complete:
                break
            await woken.wait()
        watch.remove(number, woken.set)
        reader.close()
        return bytes(found)

    with LogWatch() as watch:
        loop.add_reader(watch.fileno(), watch.dispatch)
        followers = [asyncio.create_task(follow(folder)) for folder in folders for _ in range(2)]
        for turn in range(100):
            for index, writer in enumerate(writers):
                os.write(writing, b"%d of %d, %s\n" % (turn, index, b"x" * 50))
                writer.splice(reading, 1, START_NS + turn)
            await asyncio.sleep(0)
        for writer in writers:
            writer.end(1, START_NS + 1000)
        results = await asyncio.wait_for(asyncio.gather(*followers), 20)
        loop.remove_reader(watch.fileno())
    for index, found in enumerate(results):
        assert found == b"".join(b"%d of %d, %s\n" % (turn, index // 2, b"x" * 50) for turn in range(100))
    for writer in writers:
        writer.close()
    os.close(reading)
    os.close(writing)


@pytest.mark.guest
def test_a_follower_whose_segment_was_removed_goes_on_with_the_oldest(tmp_path: Path) -> None:
    writer = LogWriter(str(tmp_path), max_size_bytes=4096, max_files=2)
    writer.begin(1, START_NS)
    reader = LogReader(tmp_path, frames=False)
    reading, writing = os.pipe()
    found = b""
    for number in range(40):
        os.write(writing, b"%d" % (number % 10) * 999 + b"\n")
        writer.splice(reading, 1, START_NS + number)
        if number == 0:
            found = reader.read()
    writer.end(1, START_NS + 40)
    rest = b"".join(reader)
    assert found == b"0" * 999 + b"\n"
    assert rest.startswith(b"1" * 999) and rest.endswith(b"9" * 999 + b"\n")  # its own segment, then what is left
    assert reader.complete
    writer.close()
    os.close(reading)
    os.close(writing)


@pytest.mark.bench
def test_the_tail_of_a_huge_log_is_found_at_once(tmp_path: Path) -> None:
    line = b"x" * 63 + b"\n"
    write(tmp_path, *[(1, line * 1000)] * 3300)  # 211 MB
    started = time.monotonic()
    assert read(tmp_path, tail=10) == line * 10
    tail = time.monotonic() - started
    started = time.monotonic()
    assert sum(map(len, LogReader(tmp_path))) > 200_000_000
    whole = time.monotonic() - started
    started = time.monotonic()
    assert sum(map(len, LogReader(tmp_path, timestamps=True))) > 200_000_000
    stamped = time.monotonic() - started
    print(f"tail 10: {tail * 1e3:.2f} ms, whole: {211.2 / whole:.0f} MB/s, with timestamps: {211.2 / stamped:.0f} MB/s")
    assert tail < 0.05 and 211.2 / whole > 500


@pytest.mark.bench
def test_a_log_of_small_blocks(tmp_path: Path) -> None:
    write(tmp_path, *[(1 + number % 2, b"x" * 63 + b"\n") for number in range(100_000)])
    started = time.monotonic()
    data = read(tmp_path, frames=True)
    both = time.monotonic() - started
    count = len(frames(data))
    assert count == 100_000
    started = time.monotonic()
    read(tmp_path, stderr=False)
    print(f"{count / both:.0f} blocks/s of alternating streams; one stream of them {50_000 / (time.monotonic() - started):.0f}/s")
