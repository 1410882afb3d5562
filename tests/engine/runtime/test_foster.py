"""Whichever process of the engine is killed: the container goes on, its log and its exit code are complete."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import errors
from engine.runtime import code
from engine.runtime.client import start_foster

from .keeping import COUNTED, COUNTING, Keeping, keeping, output_of, until

pytestmark = pytest.mark.requires("root")


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeping]:
    with keeping(tmp_path) as running:
        yield running


def kill(keeper: Keeping, part: str) -> None:
    """kill -9, then waits until its successor answers."""
    pid = keeper.wait_for(part)
    os.kill(pid, signal.SIGKILL)
    keeper.wait_for(part, other_than=pid)


@pytest.mark.guest
@pytest.mark.parametrize("part", ["logger", "keeper", "foster", "cloner"])
@pytest.mark.parametrize("tty", [False, True], ids=["pipes", "tty"])
def test_a_killed_part_loses_no_byte_and_no_exit_code(keeper: Keeping, part: str, tty: bool) -> None:
    container, _pid = keeper.run("sh", "-c", COUNTING, tty=tty)
    for _ in range(3):
        time.sleep(0.25)
        kill(keeper, part)
    assert keeper.wait(container)["exit_code"] == 7
    expected = COUNTED.replace(b"\n", b"\r\n") if tty else COUNTED
    assert output_of(keeper, container) == expected


@pytest.mark.guest
def test_a_container_that_ends_while_no_keeper_lives_keeps_its_exit_code(keeper: Keeping) -> None:
    container, pid = keeper.run("sh", "-c", "sleep 0.3; echo bye; exit 42")
    foster = keeper.wait_for("foster")
    os.kill(foster, signal.SIGSTOP)  # so that no new keeper comes
    try:
        os.kill(keeper.client.parts()["keeper"]["pid"], signal.SIGKILL)
        until(lambda: is_zombie(pid), what="the end of the container")
        assert keeper.exit_record(container) is None
    finally:
        os.kill(foster, signal.SIGCONT)
    assert keeper.wait(container)["exit_code"] == 42
    assert output_of(keeper, container) == b"bye\n"


def test_keeper_after_keeper_after_foster(keeper: Keeping) -> None:
    container, _pid = keeper.run("sh", "-c", COUNTING)
    for part in ("keeper", "keeper", "logger", "foster"):
        time.sleep(0.1)
        kill(keeper, part)
    assert keeper.wait(container)["exit_code"] == 7  # foster's foster was init: the kernel showed it
    assert output_of(keeper, container) == COUNTED


def test_foster_twice_keeps_the_parent(keeper: Keeping) -> None:
    """The keeper of the time is the containers' parent and becomes the foster: killed again, they are init's, but known."""
    container, _pid = keeper.run("sh", "-c", COUNTING)
    kill(keeper, "foster")
    assert [found["id"] for found in keeper.client.list()] == [container]
    assert keeper.wait(container)["exit_code"] == 7


def test_a_new_keeper_hands_out_every_descriptor_and_can_signal(keeper: Keeping) -> None:
    container, _pid = keeper.run("cat")
    kill(keeper, "keeper")
    fds = keeper.client.fds(container, ["stdin", "stdout", "stderr", "pidfd", "pty"])
    assert list(fds) == ["stdin", "stdout", "stderr", "pidfd"]
    os.write(fds["stdin"], b"still here\n")
    for fd in fds.values():
        os.close(fd)
    keeper.client.close_stdin(container)
    assert keeper.wait(container)["exit_code"] == 0
    assert output_of(keeper, container) == b"still here\n"


def test_logger_and_supervised_parts_survive_a_killed_keeper(keeper: Keeping) -> None:
    keeper.client.supervise("sleeper", ["sleep", "1000"], {})
    before = {name: keeper.wait_for(name) for name in ("logger", "sleeper")}
    kill(keeper, "keeper")
    kill(keeper, "foster")
    assert {name: keeper.wait_for(name) for name in before} == before
    kill(keeper, "sleeper")


def test_what_a_killed_keeper_was_writing_is_cleared_away(keeper: Keeping) -> None:
    unfinished = keeper.config.run / "running" / f".{'a' * 64}.json.0123abcd"
    unfinished.touch()
    kill(keeper, "keeper")
    until(lambda: not unfinished.exists())


def test_keeper_and_logger_killed_together_still_know_the_exit(keeper: Keeping) -> None:
    """The pipes are gone then, which is the documented limit; the container and its exit code are not."""
    container, _pid = keeper.run("sh", "-c", "trap '' PIPE; sleep 1; exit 9")
    old = keeper.client.parts()
    for part in ("logger", "keeper"):
        os.kill(old[part]["pid"], signal.SIGKILL)
    keeper.wait_for("keeper", other_than=old["keeper"]["pid"])
    assert [found["id"] for found in keeper.client.list()] == [container]
    assert keeper.wait(container)["exit_code"] == 9
    assert output_of(keeper, container) == b""


@pytest.mark.guest
def test_foster_and_keeper_killed_together_are_followed_by_a_new_pair(keeper: Keeping) -> None:
    told = "trap told=1 TERM; " + COUNTING.replace("exit 7", 'while [ -z "$told" ]; do sleep 0.1; done; exit 7')
    container, _pid = keeper.run("sh", "-c", told)
    old = keeper.client.parts()
    for part in ("foster", "keeper"):
        os.kill(old[part]["pid"], signal.SIGKILL)
    until(lambda: not is_alive(old["keeper"]["pid"]))
    start_foster(keeper.config)
    keeper.wait_for("keeper", other_than=old["keeper"]["pid"])
    keeper.client.signal(container, signal.SIGTERM)  # what ends before that, Linux before 6.15 may have forgotten
    assert keeper.wait(container)["exit_code"] == 7  # of init's child: shown by the kernel
    assert output_of(keeper, container) == COUNTED


def test_a_second_foster_leaves_the_first_alone(keeper: Keeping) -> None:
    before = keeper.client.parts()["keeper"]
    start_foster(keeper.config)
    time.sleep(0.3)
    assert keeper.client.parts()["keeper"] == before


@pytest.mark.guest
def test_a_renewed_keeper_runs_other_code_and_containers_notice_nothing(
    keeper: Keeping, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not keeper.client.renew()  # this very code
    home = tmp_path / "release"
    shutil.copytree(code.HOME / "engine", home / "engine", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code, "HOME", home)
    container, _pid = keeper.run("sh", "-c", COUNTING)
    time.sleep(0.2)
    before = keeper.client.parts()
    assert keeper.client.renew()
    after = keeper.client.parts()
    assert after["foster"] == before["foster"]  # the process stays
    assert after["keeper"]["code"].startswith(f"{home}/engine@")
    logger = keeper.wait_for("logger", other_than=before["logger"]["pid"])
    for pid in (after["foster"]["pid"], after["keeper"]["pid"], logger):
        assert f"PYTHONPATH={home}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    assert keeper.wait(container)["exit_code"] == 7
    assert output_of(keeper, container) == COUNTED


def test_code_that_does_not_run_is_refused(keeper: Keeping, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "broken"
    shutil.copytree(code.HOME / "engine", home / "engine", ignore=shutil.ignore_patterns("__pycache__"))
    (home / "engine" / "runtime" / "kept.py").write_text("import nonsense\n")
    monkeypatch.setattr(code, "HOME", home)
    container, _pid = keeper.run("sh", "-c", COUNTING)
    with pytest.raises(errors.FailedPrecondition, match="refuses"):
        keeper.client.renew()
    assert keeper.wait(container)["exit_code"] == 7
    assert output_of(keeper, container) == COUNTED


def test_a_foster_whose_run_folder_is_gone_ends(keeper: Keeping) -> None:
    parts = keeper.client.parts()
    shutil.rmtree(keeper.config.run)
    os.kill(parts["keeper"]["pid"], signal.SIGKILL)
    until(lambda: not is_alive(parts["foster"]["pid"]), what="the end of foster")


def test_stop_ends_everything(keeper: Keeping) -> None:
    container, _pid = keeper.run("sh", "-c", "trap 'echo got it; exit 3' TERM; echo ready; while :; do sleep 0.05; done")
    until(lambda: b"ready" in output_of(keeper, container))
    with pytest.raises(errors.FailedPrecondition, match="1 containers run"):
        keeper.client.stop()
    pids = [part["pid"] for part in keeper.client.parts().values() if part["pid"]]
    keeper.client.stop(containers=True)
    assert keeper.exit_record(container) is not None
    assert output_of(keeper, container) == b"ready\ngot it\n"
    until(lambda: not any(is_alive(pid) for pid in pids), what="the end of every part")


def test_supervised_parts_start_again_and_are_replaced(keeper: Keeping) -> None:
    log = keeper.config.data / "log" / "part.log"

    def said(*words: str) -> None:
        until(lambda: log.exists() and log.read_text().split() == list(words), what=str(words))

    argv = ["sh", "-c", "echo $WORD; sleep 1000"]
    keeper.client.supervise("part", argv, {"WORD": "one"})
    first = keeper.wait_for("part")
    said("one")
    keeper.client.supervise("part", argv, {"WORD": "one"})
    assert keeper.wait_for("part") == first
    keeper.client.supervise("part", argv, {"WORD": "two"})
    second = keeper.wait_for("part", other_than=first)
    said("one", "two")
    kill(keeper, "part")
    said("one", "two", "two")
    assert keeper.client.parts()["part"]["restarts"] == 2
    assert not is_alive(second)


def test_a_part_that_can_not_run_is_tried_with_a_growing_delay(keeper: Keeping) -> None:
    keeper.client.supervise("broken", ["/nonexistent"], {})
    time.sleep(0.5)
    status = keeper.client.parts()["broken"]
    assert status["pid"] == 0 and 2 <= status["restarts"] <= 4
    assert status["last_exit"] == {"exit_code": 127, "signal": 0}


def is_alive(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}") and not is_zombie(pid)


def is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True
