"""What crashes left of an instance that lives: ``doctor --repair`` finds, names and removes it, and touches nothing that runs."""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from engine.config import EngineConfig
from engine.engine import Engine
from engine.kernel import cgroups
from engine.model.network import NetworkSpec
from engine.model.resources import Resources
from engine.model.volume import VolumeSpec
from tests.faults import invariants
from tests.support import machine
from tests.support.platform import Platform

pytestmark = pytest.mark.requires("root", "overlay", "userns", "cgroup", "nft", "docker")

LONG_AGO_S = 120.0  # what is younger may just be being made


@pytest.fixture
def engine(platform: Platform) -> Engine:
    return Engine(EngineConfig(platform.data, platform.run))


@pytest.fixture
def runs(platform: Platform) -> Iterator[str]:
    """The id of a container that runs, below a cgroup parent of its own."""
    words = ("run", "-d", "--name", "stays", "--cgroup-parent", "group", "busybox", "sleep", "1000000")
    yield platform.docker(*words).stdout.strip()
    platform.docker("rm", "-f", "stays", check=False)


def long_ago(path: Path) -> None:
    os.utime(path, (time.time() - LONG_AGO_S,) * 2, follow_symlinks=False)


@contextmanager
def orphan(engine: Engine, group: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that nobody knows of, in a cgroup that a container had."""
    cgroups.ensure(group, Resources())
    process = subprocess.Popen(["sleep", "1000"])
    try:
        cgroups.enter(group, process.pid)
        yield process
    finally:
        process.kill()
        process.wait()


def test_an_instances_own_leftovers_go_and_what_runs_stays(platform: Platform, engine: Engine, runs: str) -> None:
    platform.manage("doctor", "--repair")
    before = invariants.outside(platform), invariants.inside(platform)
    pid = engine.state("demo", runs).pid
    root, gone, ended, half = f"/slipway-{engine.instance}", secrets.token_hex(32), "", secrets.token_hex(32)
    group = f"{root}/demo/group/below/{gone}"
    ended = platform.docker("run", "-d", "busybox", "true").stdout.strip()
    platform.docker("wait", ended)
    time.sleep(1)  # the agent has settled it
    link = f"{engine.instance}v{secrets.token_hex(4)}"
    try:
        with orphan(engine, group) as process, orphan(engine, f"{root}/demo/{ended}") as stray:
            subprocess.run(["ip", "link", "add", link, "type", "veth", "peer", "name", f"{link[:12]}pp"], check=True)
            (lease,) = engine.networks.reserve(engine.tenants.get("demo"), gone)
            for path in (platform.data / "engine" / "networks").rglob("*"):
                if path.is_symlink():
                    long_ago(path)
            table = f"slipway_{engine.instance}"
            port = f'"{lease.link}" . {lease.mac_address} . {lease.ip_address}'
            element = ["/usr/sbin/nft", "add", "element", "bridge", table, "ports", f"{{ {port} }}"]
            subprocess.run(element, check=True)
            for folder in (engine.config.container(half), engine.config.rootfs / half):
                folder.mkdir()
                long_ago(folder)
            said = platform.manage("doctor", "--repair").stdout
            assert process.wait(10) == -9 and stray.wait(10) == -9
        for what in (
            f"cgroup {root}/demo/group/below/{gone[:12]}: its container is gone",
            f"cgroup {root}/demo/{ended[:12]}: its container has ended",
            f"link {link}: no container that runs has it",
            f"address of {gone[:12]}: its container is gone",
            f"half-made container {half[:12]}: its creation was killed",
        ):
            assert f"removed  {what}" in said, said
        assert "FAILED" not in said and runs[:12] not in said
        platform.docker("rm", ended)
        deadline = time.monotonic() + 10 * machine.slowness()  # what was removed is in the trash until somebody has the time
        while (now := (invariants.outside(platform), invariants.inside(platform))) != before:
            assert time.monotonic() < deadline, [new ^ old for new, old in zip(now, before, strict=True)]
            time.sleep(0.1)
        assert engine.state("demo", runs).pid == pid and os.path.exists(f"/proc/{pid}")
        (engine.config.trash / f"{gone}.demo.0123abcd").mkdir()
        said = platform.manage("doctor", "--repair").stdout
        assert said == f"removed  trash {gone[:40]}: it was thrown away and not emptied yet\n"
        assert list(engine.config.trash.iterdir()) == []
    finally:
        subprocess.run(["ip", "link", "del", link], capture_output=True, check=False)


def test_down_with_containers_leaves_nothing_in_the_kernel(platform: Platform, engine: Engine, runs: str) -> None:
    pids = [engine.state("demo", runs).pid, *(platform.part(name)["pid"] for name in ("keeper", "launcher", "logger", "netd", "agent"))]
    try:
        said = platform.manage("down", "--containers").stderr
        assert "containers, keeper, launcher, logger, netd and agent are stopped" in said
        assert [pid for pid in pids if os.path.exists(f"/proc/{pid}")] == []
        assert invariants.outside(platform) == set()
        assert not cgroups.exists(f"/slipway-{engine.instance}")
        tables = subprocess.run(["/usr/sbin/nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
        assert engine.instance not in tables
        assert platform.manage("down", "--containers").returncode == 0, "twice is once"
    finally:
        platform.up()
    state = json.loads(platform.docker("inspect", "stays").stdout)[0]["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 137)
    platform.docker("start", "demo", "stays")
    assert engine.state("demo", runs).has_process


def test_a_row_that_a_power_cut_took_comes_back_and_only_to_its_tenant(platform: Platform, engine: Engine, runs: str) -> None:
    platform.tenant("passing")
    platform.docker("create", "--name", "left", "busybox", "true", tenant="passing")
    shown = platform.docker("inspect", "stays").stdout
    platform.manage("down")
    with closing(sqlite3.connect(platform.data / "panel" / "slipway.sqlite3")) as database, database:
        for name in ("stays", "left"):
            assert database.execute("DELETE FROM containers_container WHERE name = ?", (name,)).rowcount == 1
        number = database.execute("SELECT id FROM tenants_tenant WHERE name = 'passing'").fetchone()[0]
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            if "tenant_id" in {column[1] for column in database.execute(f"PRAGMA table_info({table})")}:
                database.execute(f"DELETE FROM {table} WHERE tenant_id = ?", (number,))
        database.execute("DELETE FROM tenants_tenant WHERE id = ?", (number,))
    platform.up()
    assert json.loads(platform.docker("inspect", "stays").stdout) == json.loads(shown)
    platform.tenant("passing")
    assert platform.docker("ps", "-aq", tenant="passing").stdout == ""
    said = platform.manage("doctor", "--repair").stdout
    left = next(spec for spec, _state in engine.list("passing"))
    assert f"note     container left ({left.id[:12]}): the tenant passing it was made for is not in the panel" in said
    assert runs[:12] not in said
    engine.remove("passing", left.id)
    platform.manage("tenant", "delete", "passing", "--now")


def test_what_the_host_has_without_the_panel_is_said_and_goes_with_its_tenant(platform: Platform, engine: Engine) -> None:
    """As a message that no panel sent would leave it."""
    platform.tenant("forged")
    platform.docker("create", "--name", "known", "-v", "known:/data", "busybox", "true", tenant="forged")
    known = next(spec for spec, _state in engine.list("forged"))
    number, planted = secrets.token_hex(32), secrets.token_hex(32)
    engine.create_volume(VolumeSpec(tenant="forged", name="planted"))
    engine.create_network(NetworkSpec(id=number, tenant="forged", name="planted"))
    engine.create(dataclasses.replace(known, id=planted, name="planted", mounts=()))
    try:
        assert platform.docker("volume", "ls", "-q", tenant="forged").stdout == "known\n"
        said = platform.manage("doctor", "--repair").stdout
        assert "note     volume planted: the panel has no row of it" in said and "goes with its tenant forged" in said
        assert f"note     network planted ({number[:12]}): the panel has no row of it" in said
        assert f"note     container planted ({planted[:12]}): the panel has no row of it" in said
        assert "volume known" not in said and "container known" not in said
    finally:
        said = platform.manage("tenant", "delete", "forged", "--now").stdout
    assert "nothing is left of tenant forged" in said
    assert ("forged" in engine.volumes.tenants(), engine.list("forged")) == (False, [])


def test_a_flushed_firewall_is_seen_and_repaired_while_the_agent_hangs(platform: Platform, engine: Engine, runs: str) -> None:
    """Who mends it within a second while he runs: workers.agent.walls."""
    agent, tables = platform.part("agent")["pid"], ("/usr/sbin/nft", "list", "tables")
    os.kill(agent, signal.SIGSTOP)
    try:
        for family in ("inet", "bridge"):
            subprocess.run(["/usr/sbin/nft", "delete", "table", family, f"slipway_{engine.instance}"], check=True)
        said = platform.manage("doctor", "--repair").stdout
        assert said.count(f"repaired nft tables and bridges of instance {engine.instance}") == 1, said
        assert subprocess.run(tables, capture_output=True, text=True, check=True).stdout.count(f"slipway_{engine.instance}") == 2
        assert "repaired" not in platform.manage("doctor", "--repair").stdout, "once"
    finally:
        os.kill(agent, signal.SIGCONT)


def test_a_container_whose_files_are_gone_is_gone(platform: Platform, engine: Engine) -> None:
    made = platform.docker("create", "--name", "lost", "busybox", "true").stdout.strip()
    engine.remove("demo", made)  # nobody tells the panel
    platform.manage("down")
    platform.up()
    assert platform.docker("inspect", "lost", check=False).returncode == 1
    told = platform.docker("events", "--since", "10m", "--until", "0s", "--filter", f"container={made}", "--format", "{{.Action}}")
    assert told.stdout.split()[-1] == "destroy"
    platform.docker("create", "--name", "lost", "busybox", "true")
    platform.docker("rm", "lost")
