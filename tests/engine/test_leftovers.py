"""Leftovers made on purpose: those of the dead go, everything of the living stays."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import instances, leftovers
from engine.kernel import cgroups
from engine.model.resources import Resources

pytestmark = [pytest.mark.requires("root", "cgroup", "nft"), pytest.mark.guest]


class Instance:
    """What an instance has on the machine, made by hand: a cgroup with a process, a bridge, a veth, two nft tables, a mount, its note."""

    def __init__(self, folder: Path) -> None:
        self.name = secrets.token_hex(2)
        self.data = folder / self.name
        (self.data / "engine").mkdir(parents=True)
        (self.data / "engine" / "instance").write_text(f"{self.name}\n")
        instances.note(self.name, self.data, ["10.200.0.0/14"], folder / "claims.json")
        self.group = f"/slipway-{self.name}"
        cgroups.ensure(f"{self.group}/t", Resources())
        self.process = subprocess.Popen(["sleep", "1000"])
        cgroups.enter(f"{self.group}/t", self.process.pid)
        ip("link", "add", f"{self.name}b1", "type", "bridge")
        ip("link", "add", f"{self.name}v12345678", "type", "veth", "peer", "name", f"{self.name}peer")
        for family in ("inet", "bridge"):
            subprocess.run(["/usr/sbin/nft", "add", "table", family, f"slipway_{self.name}"], check=True)

    def here(self) -> set[str]:
        found = {name for _, name in socket.if_nameindex() if name.startswith(self.name)}
        if cgroups.exists(self.group):
            found.add("cgroup")
        tables = subprocess.run(["/usr/sbin/nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
        found |= {row for row in tables.splitlines() if row.endswith(f"slipway_{self.name}")}
        if self.name in instances.noted():
            found.add("note")
        return found

    def remove(self) -> None:
        self.process.kill()
        self.process.wait()
        cgroups.remove_soon(self.group)
        for name in (f"{self.name}b1", f"{self.name}v12345678"):
            ip("link", "del", name, check=False)
        for family in ("inet", "bridge"):
            subprocess.run(["/usr/sbin/nft", "delete", "table", family, f"slipway_{self.name}"], check=False, capture_output=True)
        instances.forget(self.name)


def ip(*words: str, check: bool = True) -> None:
    subprocess.run(["ip", *words], check=check, capture_output=True)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[list[Instance]]:
    if shutil.which("ip") is None:
        pytest.skip("no ip: install iproute2")
    made = [Instance(tmp_path), Instance(tmp_path), Instance(tmp_path)]
    try:
        yield made
    finally:
        for instance in made:
            instance.remove()


def test_what_an_instance_left_that_is_gone_goes_and_all_else_stays(make: list[Instance]) -> None:
    gone, living, unknown = make
    shutil.rmtree(gone.data)
    instances.forget(unknown.name)
    before = living.here(), unknown.here()
    assert len(before[0]) == 7 and len(gone.here()) == 7

    mine = {gone.name, living.name, unknown.name}
    found = [item for item in leftovers.of_others() if any(name in item.what for name in mine)]  # the machine may have others' too
    said = {item.what for item in found if item.remove is not None}
    assert said == {
        f"cgroup {gone.group}",
        f"link {gone.name}b1",
        f"link {gone.name}v12345678",
        f"nft table inet slipway_{gone.name}",
        f"nft table bridge slipway_{gone.name}",
        f"rules for {gone.name} in other firewalls",
        f"claims of instance {gone.name}",
    }
    assert [item.why for item in found if item.remove is None and unknown.name in item.what], "nobody's is said, not touched"

    for item in leftovers.of_others():
        if item.remove is not None and gone.name in item.what:
            item.remove()
    assert gone.here() == set()
    assert gone.process.wait(10) == -9
    assert (living.here(), unknown.here()) == before
    assert living.process.poll() is None and os.path.exists(living.data)
