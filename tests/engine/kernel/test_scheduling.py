from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import machine

pytestmark = pytest.mark.requires("root")

SAYS = """
import os
from pathlib import Path
from engine.kernel import scheduling
os.setsid()
def said():
    words = Path("/proc/self/sched").read_text()
    return [line.split()[-1] for line in words.splitlines() if line.startswith("se.slice")]
default = said()
scheduling.prefer_session()
print(Path("/proc/self/autogroup").read_text().split()[-1] if Path("/proc/self/autogroup").exists() else "")
preferred = said()
scheduling.as_others()
print(default, preferred, said())
"""


def test_a_session_is_preferred_and_what_becomes_a_tenants_is_not() -> None:
    done = subprocess.run([sys.executable, "-c", SAYS], capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": "."})
    weight, slices = done.stdout.splitlines()
    if Path("/proc/self/autogroup").exists():
        assert weight == "-8"
    default, preferred, after = re.findall(r"\[(.*?)\]", slices)
    assert after == default
    if default and not machine.kernel_older_than("6.12"):  # before that the kernel takes slices and keeps its own
        assert preferred == "'300000'"
