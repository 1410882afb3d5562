"""What stands in the tables is read by nft on machines that have little installed."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = [pytest.mark.requires("root", "nft"), pytest.mark.guest]

BUILD = """
from engine.networks.firewall import Everything, Firewall
Firewall("abcd", lambda: Everything([], [], [], [], [], [], [])).build()
"""


def test_the_tables_need_no_names_of_protocols_and_services() -> None:
    """Debian's netbase brings both files; a small installation is without it."""
    hidden = "mount --bind /dev/null /etc/protocols; mount --bind /dev/null /etc/services"
    command = ["unshare", "--mount", "--net", "sh", "-c", f'{hidden}; exec "$0" -c "$1"', sys.executable, BUILD]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
