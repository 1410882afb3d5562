"""A disk that takes no more, because some tenant filled it, ends no part."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.guest


@pytest.mark.parametrize(
    "script",
    [
        "from engine.runtime.loop import say; say('a line'); say('another')",
        "from workers.platform.supervisor import _say; _say('a line')",
    ],
)
def test_a_log_that_can_not_be_written_is_no_error(script: str) -> None:
    with open("/dev/full", "w") as full:
        assert subprocess.run([sys.executable, "-c", script], stderr=full, check=False).returncode == 0
