"""A part whose place another has taken notices."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.runtime import protocol

pytestmark = pytest.mark.guest

IMPATIENT = """
import sys
from pathlib import Path
from engine.config import EngineConfig
from engine.runtime import logger, protocol
logger.PLACE_LOOK_S = 0.05
logger.serve(protocol.listen(Path(sys.argv[1])), EngineConfig(Path("/nowhere"), Path("/nowhere")))
"""


@pytest.mark.requires("root")
def test_a_place_is_lost_to_who_listens_there_next_and_with_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    with protocol.listen(path) as ours:
        first = protocol.Place(path, ours)
        assert not first.is_lost()
        with protocol.listen(path) as theirs:
            second = protocol.Place(path, theirs)
            assert first.is_lost() and not second.is_lost()
            assert protocol.Place(path, ours).is_lost(), "looked at when the name was another's already"
        path.unlink()
        assert second.is_lost()


@pytest.mark.requires("root")
def test_a_logger_that_nobody_reaches_any_more_ends(tmp_path: Path) -> None:
    path = tmp_path / "logger.sock"
    ours = subprocess.Popen([sys.executable, "-c", IMPATIENT, str(path)])
    try:
        deadline = time.monotonic() + 30
        while not path.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with protocol.listen(path):
            assert ours.wait(30) == 0
    finally:
        if ours.poll() is None:
            os.kill(ours.pid, signal.SIGKILL)
            ours.wait()
