"""Awaiting processes that are not our children."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from engine.runtime.exits import Exit, ExitFile, Process, start_time
from engine.runtime.fostered import Fostered
from engine.runtime.loop import Loop


@pytest.mark.guest
def test_awaited_twice_is_told_once_and_the_loop_rests(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A second await left the first's pidfd in the loop, readable for ever: the keeper span."""
    loop = Loop()
    fostered = Fostered(loop, ExitFile(tmp_path / "exits"))
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    told: list[Exit] = []
    pidfd = os.pidfd_open(pid)
    try:
        process = Process(pid, start_time(pid))
        fostered.await_exit(process, pidfd, lambda _ended: told.append(_ended))
        fostered.await_exit(process, pidfd, lambda ended: (told.append(ended), loop.after(0.2, loop.stop)))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        loop.run()
    finally:
        os.close(pidfd)
    assert len(told) == 1
    assert "handler failed" not in capfd.readouterr().err
