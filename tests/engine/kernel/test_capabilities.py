"""Rights that are given up do not come back."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support.capabilities import parsed, sets_of

pytestmark = pytest.mark.requires("root")

CAP_SYS_TIME = 1 << 25
SCRIPT = f"""
import os
from engine.kernel import capabilities
capabilities.give_up({CAP_SYS_TIME})
print(open("/proc/self/status").read(), flush=True)
print("executed", flush=True)
os.execvp("cat", ["cat", "/proc/self/status"])
"""


def test_what_is_given_up_is_gone_for_what_is_executed_too() -> None:
    mine = sets_of(os.getpid())
    assert mine["CapEff"] & CAP_SYS_TIME, "else this test shows nothing"
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    for text in done.stdout.split("executed"):
        assert parsed(text) == {name: have & ~CAP_SYS_TIME for name, have in mine.items()}
