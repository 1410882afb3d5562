"""``uninstall``: ends everything and removes what this platform installed and made, after asking."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from engine import disk
from workers.platform import prepare, service, stopping
from workers.platform.places import USER, Places
from workers.platform.say import Refusal, line, step


def uninstall(places: Places, *, agreed: bool) -> int:
    """Containers, networks, the host-wide claims, units, the user if we made it, and both folders; Debian packages when asked."""
    line(f"This ends every container of {places.data} and removes {places.data}, {places.run}, its networks, its id ranges and its units.")
    if not agreed and not _says_yes("Type yes to go on: "):
        line("Nothing was removed.")
        return 1
    packages = disk.read_json(places.packages_note) or []
    made_user = prepare.made_user(places)
    service.remove(places)
    stopping.stop_supervisor(places)
    stopping.stop_containers(places)
    _remove_engine(places)
    os.chdir("/")  # we run from what goes now
    for folder in (places.run, places.data):
        with suppress(OSError):
            disk.remove_tree(folder)
        if folder.exists():
            raise Refusal(f"{folder} could not be removed whole: is something mounted below it, or a shell in it?")
    step("everything is removed")
    if _is_another_here():
        step("another platform lives on this machine: the user slipway and the Debian packages stay for it")
        return 0
    if made_user:
        subprocess.run(["userdel", USER], capture_output=True, check=False)
    if packages and not agreed and _says_yes(f"Remove the Debian packages that came with it, too ({' '.join(packages)})? Type yes: "):
        subprocess.run(["apt-get", "remove", "-y", *packages], check=False)
    elif packages:
        step(f"Debian packages that came with it stay: apt-get remove {' '.join(packages)}")
    return 0


def _says_yes(question: str) -> bool:
    if not sys.stdin.isatty():
        raise Refusal("nobody to ask: say `uninstall --yes`")
    return input(question).strip() == "yes"


def _remove_engine(places: Places) -> None:
    """What lies outside of the two folders."""
    from engine import leaving
    from engine.engine import Engine

    if (places.engine.engine / "instance").exists():
        leaving.remove_all(Engine(places.engine))


def _is_another_here() -> bool:
    """Each platform has id ranges in subuid(5); ours are given back by now."""
    try:
        return any(row.startswith("slipway-") for row in Path("/etc/subuid").read_text().splitlines())
    except FileNotFoundError:
        return False
