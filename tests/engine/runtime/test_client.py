"""Keeper, launcher and logger as the engine uses them: started when absent, asked again when killed, with real containers."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from engine import disk, errors
from engine.model.resources import Resources
from engine.runtime import lock
from engine.runtime.client import launch
from engine.runtime.logs import LogReader

from .keeping import COUNTED, COUNTING
from .launching import Host, host, until

pytestmark = pytest.mark.requires("root", "overlay", "userns", "cgroup", kernel="5.19")


@pytest.fixture
def engine() -> Iterator[Host]:
    with host() as running:
        yield running


@pytest.mark.guest
def test_ensure_running_leaves_alone_what_runs(engine: Host) -> None:
    before = engine.keeper.parts()
    engine.keeper.ensure_running()
    assert engine.keeper.parts() == before
    assert all(part["pid"] for part in before.values())


@pytest.mark.guest
def test_the_parts_belong_to_nobody_and_know_nothing(engine: Host) -> None:
    """No terminal, no secrets: a session of its own, / as folder, and of the environment what it needs."""
    for name, part in engine.keeper.parts().items():
        pid = part["pid"]
        assert os.getsid(pid) != os.getsid(0), name
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        with open(f"/proc/{pid}/environ", "rb") as file:
            names = {word.partition(b"=")[0] for word in file.read().split(b"\0") if word}
        assert names <= {b"PATH", b"LANG", b"SLIPWAY_DATA", b"SLIPWAY_RUN", b"PYTHONPATH"}


@pytest.mark.guest
def test_the_parts_hold_nothing_of_who_started_them(engine: Host) -> None:
    """Who reads a pipe of ours to its end would wait for as long as containers run."""
    engine.keeper.stop()
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    engine.keeper.ensure_running()
    os.close(writing)
    assert os.read(reading, 1) == b""
    os.close(reading)


@pytest.mark.guest
def test_many_callers_at_once_start_one_engine(engine: Host) -> None:
    engine.keeper.stop()
    with pytest.raises(errors.Unavailable):
        engine.keeper.parts()
    threads = [threading.Thread(target=engine.keeper.ensure_running) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert engine.run("echo", "works").output == "works\n"
    held = str(lock.path(engine.config))
    until(lambda: sum(holds(pid, held) for pid in os.listdir("/proc") if pid.isdigit()) == 2, what="one foster, one keeper")


def holds(pid: str, path: str) -> bool:
    try:
        return any(os.readlink(f"/proc/{pid}/fd/{fd}") == path for fd in os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return False


@pytest.mark.guest
@pytest.mark.parametrize("part", ["launcher", "logger", "keeper", "foster"])
def test_a_container_outlives_each_part(engine: Host, part: str) -> None:
    with engine.running("sh", "-c", COUNTING) as container:
        for _ in range(2):
            time.sleep(0.3)
            pid = engine.part(part)
            os.kill(pid, signal.SIGKILL)
            until(lambda pid=pid: others_answer(engine, part, pid), what=f"the next {part}")
        assert engine.wait(container.id) == 7
        reader = LogReader(engine.config.container(container.id) / "log", frames=False)
        assert b"".join(reader) == COUNTED and reader.complete
    assert engine.run("echo", "afterwards").output == "afterwards\n"


def others_answer(engine: Host, part: str, than: int) -> bool:
    try:
        return engine.keeper.answers() and engine.part(part) != than
    except errors.Unavailable:
        return False


@pytest.mark.guest
def test_a_launch_waits_for_the_next_launcher(engine: Host) -> None:
    for _ in range(5):
        os.kill(engine.part("launcher"), signal.SIGKILL)
        words = engine.words("true")
        with launch(engine.config, **words) as launched:
            launched.start()
        assert engine.wait(words["id"]) == 0


@pytest.mark.guest
def test_death_for_want_of_memory_is_recorded(engine: Host) -> None:
    hungry = "x=0123456789abcdef; while :; do x=$x$x; done"
    with engine.running("sh", "-c", hungry, resources=Resources(memory_bytes=16 << 20, memory_swap_bytes=16 << 20)) as container:
        engine.wait(container.id)
        record = disk.read_json(engine.config.container(container.id) / "exit.json")
    assert record is not None
    assert (record["exit_code"], record["signal"], record["oom_killed"]) == (137, 9, True)


def test_a_hundred_containers_and_a_killed_keeper(engine: Host) -> None:
    words = [engine.words("sh", "-c", f"read word; echo $word; exit {number}", open_stdin=True) for number in range(100)]
    for word in words:
        with launch(engine.config, **word) as launched:
            launched.start()
    pid = engine.part("keeper")
    os.kill(pid, signal.SIGKILL)
    until(lambda: others_answer(engine, "keeper", pid))
    assert {found["id"] for found in engine.keeper.list()} == {word["id"] for word in words}
    for word in words:
        (stdin,) = engine.keeper.fds(word["id"], ["stdin"]).values()
        os.write(stdin, word["id"].encode() + b"\n")
        os.close(stdin)
    for number, word in enumerate(words):
        assert engine.wait(word["id"]) == number
        assert b"".join(LogReader(word["log_dir"], frames=False)) == word["id"].encode() + b"\n"
    for part, most in (("logger", 12), ("keeper", 30)):
        pid = engine.part(part)
        until(lambda pid=pid, most=most: len(os.listdir(f"/proc/{pid}/fd")) < most, timeout_s=60.0, what=f"closed descriptors of {part}")
