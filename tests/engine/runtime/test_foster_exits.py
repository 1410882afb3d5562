"""How processes that are nobody's children ended: notes, the kernel's memory, and the last resort."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.runtime import fostered as fostered_room
from engine.runtime.exits import LOST, Exit, ExitFile, Process, exit_of_stranger, next_exit, open_process, reap, start_time
from engine.runtime.fostered import Fostered
from engine.runtime.loop import Loop

pytestmark = pytest.mark.guest


def child(act: Callable[[], None]) -> Process:
    pid = os.fork()
    if pid == 0:
        try:
            act()
        finally:
            os._exit(99)
    return Process(pid, start_time(pid))


def sleep() -> None:
    time.sleep(1000)


def until_ended(process: Process) -> None:
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


@pytest.mark.parametrize(("act", "expected"), [(lambda: os._exit(42), (42, 0)), (lambda: os.kill(os.getpid(), 9), (137, 9))])
def test_a_zombie_shows_its_end_to_a_stranger(act: Callable[[], None], expected: tuple[int, int]) -> None:
    process = child(act)
    until_ended(process)
    pidfd = open_process(process)
    assert pidfd is not None
    try:
        ended = exit_of_stranger(process, pidfd)
        assert ended is not None and ended[:2] == expected
        found = next_exit()
        assert found is not None and (found[0], found[1][:2]) == (process.pid, expected)
        reap(process.pid)
        remembered = exit_of_stranger(process, pidfd)
        assert remembered is None or remembered[:2] == expected  # None before Linux 6.15
    finally:
        os.close(pidfd)


def test_a_living_process_has_no_end_and_another_of_its_number_is_not_it() -> None:
    process = child(sleep)
    pidfd = open_process(process)
    assert pidfd is not None
    try:
        assert exit_of_stranger(process, pidfd) is None
        assert open_process(Process(process.pid, process.start_time + 1)) is None
    finally:
        os.close(pidfd)
        os.kill(process.pid, signal.SIGKILL)
        os.waitpid(process.pid, 0)
    assert open_process(process) is None and start_time(process.pid) == 0


def test_notes_are_kept_until_a_new_keeper_has_asked_for_all(tmp_path: Path) -> None:
    one, two, never = Process(4_000_001, 1), Process(4_000_002, 2), Process(4_000_003, 3)
    notes = ExitFile(tmp_path / "exits")
    notes.append(one, Exit(1, 0, 111))
    notes.append(two, Exit(2, 0, 222))
    loop = Loop()
    fostered, told = Fostered(loop, ExitFile(tmp_path / "exits")), []
    living = child(sleep)
    pidfd = open_process(living)
    notes.append(living, Exit(7, 0, 777))
    fostered.await_exit(living, pidfd, told.append)  # told at once, and then nothing is awaited any more
    for process in (one, two, never):
        fostered.await_exit(process, None, told.append)
    assert [ended.exit_code for ended in told] == [7, 1, 2, LOST]
    loop.after(1.5, loop.stop)
    loop.run()
    assert (tmp_path / "exits").stat().st_size == 0
    os.kill(living.pid, signal.SIGKILL)
    os.waitpid(living.pid, 0)
    assert pidfd is not None
    os.close(pidfd)


@pytest.mark.requires("root")
def test_the_end_of_inits_children_is_heard_from_the_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fostered_room, "exit_of_stranger", lambda _process, _pidfd: None)  # as when init was faster, before 6.15
    loop = Loop()
    fostered, told = Fostered(loop, ExitFile(tmp_path / "exits")), []
    reading, writing = os.pipe()

    def wait_for_word() -> None:
        os.read(reading, 1)
        os._exit(42)

    for act in (wait_for_word, sleep):
        process = child(act)
        pidfd = open_process(process)
        assert pidfd is not None
        fostered.await_exit(process, pidfd, told.append)
        os.close(pidfd)
    fostered.listen_for_strangers(os.getpid())  # the "foster" is their parent: no need
    assert fostered._events is None
    fostered.listen_for_strangers(1)
    assert fostered._events is not None
    os.write(writing, b"x")
    os.kill(process.pid, signal.SIGKILL)
    for _ in range(2):
        os.wait()
    loop.after(1.5, loop.stop)
    loop.run()
    assert sorted(ended[:2] for ended in told) == [(42, 0), (137, 9)]
    assert fostered._events is None  # nobody is awaited: nothing is listened to
    for fd in (reading, writing):
        os.close(fd)


def test_a_half_written_note_is_read_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "exits"
    reader = ExitFile(path)
    path.write_bytes(b"10 20 3 0 400\n11 21 ")
    assert reader.read_new() == {Process(10, 20): Exit(3, 0, 400)}
    with open(path, "ab") as file:
        file.write(b"4 0 500\n")
    assert reader.read_new() == {Process(11, 21): Exit(4, 0, 500)}
