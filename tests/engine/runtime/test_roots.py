"""Roots are let go after their containers' end, by a process that may be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from engine.runtime.roots import Roots

KEPT = len(("its socket", "epoll", "the root", "the pidfd"))

pytestmark = pytest.mark.requires("root", "overlay")


@pytest.fixture
def roots() -> Iterator[Roots]:
    made = Roots()
    yield made
    end(made)


def end(roots: Roots) -> None:
    if roots._socket is not None:
        roots._close()
    for pid in roots._dying:
        os.waitpid(pid, 0)


def held(roots: Roots) -> list[str]:
    """What its process has open. Just born, it is closing what it has of ours while we read."""
    found = []
    for path in Path(f"/proc/{roots._pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(os.readlink(path))
    return found


def waits_for(what: object, roots: Roots, count: int) -> None:
    deadline = time.monotonic() + 10
    while held(roots).count(str(what)) != count:
        assert time.monotonic() < deadline, held(roots)
        time.sleep(0.01)


def test_a_root_is_held_until_its_process_has_ended_and_a_killed_holder_is_replaced(roots: Roots, tmp_path: Path) -> None:
    root = os.open(tmp_path, os.O_PATH)
    with subprocess.Popen(["sleep", "600"]) as process, ExitStack() as undo:
        undo.callback(process.kill)
        pidfd = os.pidfd_open(process.pid)
        roots.hold(root, pidfd)
        waits_for(tmp_path, roots, 1)

        os.kill(roots._pid, signal.SIGKILL)
        killed = roots._pid
        os.waitid(os.P_PID, killed, os.WEXITED | os.WNOWAIT)
        roots.hold(root, pidfd)
        assert roots._pid != killed
        waits_for(tmp_path, roots, 1)

        process.kill()
        process.wait()
        waits_for(tmp_path, roots, 0)
    os.close(root)
    os.close(pidfd)


def test_it_keeps_nothing_else_of_its_parent_and_ends_with_it(tmp_path: Path) -> None:
    other = os.open(tmp_path, os.O_PATH)
    roots = Roots()
    pidfd = os.pidfd_open(os.getpid())
    roots.hold(other, pidfd)
    waits_for(tmp_path, roots, 1)
    deadline = time.monotonic() + 10
    while len(own := [path.name for path in Path(f"/proc/{roots._pid}/fd").iterdir() if int(path.name) > 2]) != KEPT:
        assert time.monotonic() < deadline, own  # it was born with all of ours, and closes them first
        time.sleep(0.01)
    end(roots)  # returns when it has ended
    for fd in (other, pidfd):
        os.close(fd)


def test_what_may_take_for_ever_is_let_go_of_by_a_child(roots: Roots, tmp_path: Path) -> None:
    """A pipe's end stands for the mount: the other end tells when the last reference is gone."""
    with subprocess.Popen(["sleep", "600"]) as process, ExitStack() as undo:
        undo.callback(process.kill)
        pidfd = os.pidfd_open(process.pid)
        reading, writing = os.pipe()
        undo.callback(os.close, reading)
        roots.hold(writing, pidfd, aside=True)
        os.close(writing)
        root = os.open(tmp_path, os.O_PATH)
        roots.hold(root, pidfd)
        waits_for(tmp_path, roots, 1)
        process.kill()
        process.wait()
        assert os.read(reading, 1) == b""
        waits_for(tmp_path, roots, 0)
        assert not Path(f"/proc/{roots._pid}/task/{roots._pid}/children").read_text(), "no zombie either"
    os.close(root)
    os.close(pidfd)
