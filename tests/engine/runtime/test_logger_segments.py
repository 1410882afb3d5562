"""The log's writer, killed at any moment, and what its files say then."""

from __future__ import annotations

import fcntl
import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest

from engine.runtime.logs import LogReader
from engine.runtime.segments import BEGIN, END, STDOUT, LogWriter, segment_numbers

PUMP = """
import os, sys, time
from engine.runtime.segments import BEGIN, LogWriter
writer = LogWriter(sys.argv[1], max_size_bytes=int(sys.argv[2]), max_files=1000)
if writer.mark != BEGIN:
    writer.begin(1, time.time_ns())
os.write(3, b"r")
streams = [(4, 1), (5, 2)]
while streams:
    for pipe, stream in list(streams):
        try:
            if writer.splice(pipe, stream, time.time_ns()) == 0:
                streams.remove((pipe, stream))
        except BlockingIOError:
            pass
writer.end(1, time.time_ns())
"""
WRITE = """
import os, sys
word, count = sys.argv[1].encode(), int(sys.argv[2])
for number in range(count):
    os.write(1, b"%s %d\\n" % (word, number))
"""


def python(code: str, *words: str, fds: dict[int, int]) -> int:
    actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in fds.items()]
    env = {"PYTHONPATH": str(Path(__file__).parents[3])}
    return os.posix_spawn(sys.executable, [sys.executable, "-S", "-c", code, *words], env, file_actions=actions)


@pytest.mark.guest
@pytest.mark.parametrize("max_size", [1 << 30, 20_000], ids=["one segment", "many segments"])
def test_a_writer_killed_again_and_again_loses_and_doubles_nothing(tmp_path: Path, max_size: int) -> None:
    count, seed = 60_000, random.randrange(1 << 32)
    pauses = random.Random(seed)
    ends = [os.pipe2(os.O_CLOEXEC) for _stream in range(2)]
    high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 100) for end, _writing in ends]
    writers = [python(WRITE, word, str(count), fds={1: writing}) for word, (_end, writing) in zip(("out", "err"), ends, strict=True)]
    for reading, writing in ends:
        os.close(reading)
        os.close(writing)
    kills = 0
    while True:
        ready, end = os.pipe2(os.O_CLOEXEC)
        ready_in_child = fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 100)
        pump = python(PUMP, str(tmp_path), str(max_size), fds={3: ready_in_child, 4: high[0], 5: high[1]})
        os.close(end)
        os.close(ready_in_child)
        os.read(ready, 1)
        time.sleep(pauses.random() * 0.01)
        os.kill(pump, signal.SIGKILL)
        _pid, status = os.waitpid(pump, 0)
        os.close(ready)
        if not os.WIFSIGNALED(status):
            assert status == 0
            break
        kills += 1
        if kills == 25:  # the rest in peace
            pump = python(PUMP, str(tmp_path), str(max_size), fds={3: 2, 4: high[0], 5: high[1]})
            assert os.waitpid(pump, 0)[1] == 0
            break
    for writer in writers:
        os.waitpid(writer, 0)
    for fd in high:
        os.close(fd)
    print(f"seed {seed}, {kills} kills")
    for word, streams in (("out", {"stderr": False}), ("err", {"stdout": False})):
        reader = LogReader(tmp_path, frames=False, **streams)
        assert b"".join(reader) == b"".join(b"%s %d\n" % (word.encode(), number) for number in range(count))
        assert reader.complete


def write(folder: Path, *blocks: tuple[int, bytes], run: int = 1, start_ns: int = 10**18, max_size: int = 1 << 30) -> None:
    """A run whose blocks (stream, bytes) come one second after the other."""
    step_ns = 10**9
    writer = LogWriter(str(folder), max_size_bytes=max_size, max_files=1000)
    writer.begin(run, start_ns)
    for index, (stream, data) in enumerate(blocks):
        reading, writing = os.pipe()
        os.write(writing, data)
        os.close(writing)
        moved = 0
        while moved < len(data):
            moved += writer.splice(reading, stream, start_ns + (index + 1) * step_ns)
        os.close(reading)
    writer.end(run, start_ns + (len(blocks) + 1) * step_ns)
    writer.close()


@pytest.mark.guest
def test_a_block_without_its_length_gets_it_from_the_next_writer(tmp_path: Path) -> None:
    write(tmp_path, (1, b"whole\n"))
    idx = tmp_path / "1.idx"
    idx.write_bytes(idx.read_bytes()[:-32])  # no end mark
    with open(idx, "r+b") as file:  # killed between splice and length
        file.seek(32 + 16)
        file.write(bytes(8))
    assert b"".join(LogReader(tmp_path, frames=False)) == b""
    writer = LogWriter(str(tmp_path), max_size_bytes=1 << 20, max_files=2)
    assert (writer.mark, writer.marked_run) == (BEGIN, 1)
    writer.end(1, 0)
    writer.close()
    assert b"".join(LogReader(tmp_path, frames=False)) == b"whole\n"


@pytest.mark.guest
def test_a_rotation_that_was_interrupted_is_finished(tmp_path: Path) -> None:
    write(tmp_path, (1, b"first\n"))
    idx = tmp_path / "1.idx"
    idx.write_bytes(idx.read_bytes()[:-32])
    (tmp_path / "2.data").touch()
    (tmp_path / "2.idx").touch()  # killed before it said so in the first
    writer = LogWriter(str(tmp_path), max_size_bytes=1 << 20, max_files=2)
    assert writer.mark == 0
    writer.begin(1, 0)
    writer.end(1, 0)
    assert writer.mark == END
    writer.close()
    assert segment_numbers(str(tmp_path)) == [1, 2]
    reader = LogReader(tmp_path, frames=False)
    assert b"".join(reader) == b"first\n" and reader.complete


def test_what_a_power_loss_took_of_the_data_is_not_in_the_index_any_more(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    reading, writing = os.pipe()
    writer = LogWriter(str(folder), max_size_bytes=1 << 20, max_files=2)
    writer.begin(1, 1)
    for number in range(10):
        os.write(writing, b"%d: a line\n" % number)
        writer.splice(reading, STDOUT, 2 + number)
    writer.close()
    os.truncate(folder / "1.data", 45)  # in the middle of the fifth line
    again = LogWriter(str(folder), max_size_bytes=1 << 20, max_files=2)
    os.write(writing, b"!\nafter\n")
    again.splice(reading, STDOUT, 20)
    again.close()
    os.close(reading)
    os.close(writing)
    said = b"".join(LogReader(folder, frames=False))
    assert said == b"".join(b"%d: a line\n" % number for number in range(4)) + b"4: a !\nafter\n"
