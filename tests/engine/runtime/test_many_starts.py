"""Many containers at once, and a launcher that is killed, hidden from or told nonsense meanwhile."""

from __future__ import annotations

import os
import secrets
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import errors
from engine.kernel import cgroups, mounts, syscalls
from engine.model.tenant import TenantHost
from engine.runtime import protocol
from engine.runtime.client import launch

from .launching import UID_START, Host, host, until

pytestmark = pytest.mark.requires("root", "overlay", "userns", "cgroup", kernel="5.19")


@pytest.fixture(scope="module")
def engine() -> Iterator[Host]:
    with host() as running:
        yield running


@pytest.mark.guest
def test_two_tenants_share_a_layer_and_nothing_else(engine: Host) -> None:
    other = TenantHost(name="bob", number=2, uid_start=UID_START + 65536, subnet="10.0.1.0/24")
    script = "cat /proc/self/uid_map; stat -c %u:%g /bin/busybox; echo mine > /file; cat /file"
    for owner in (engine.tenant, other):
        result = engine.shell(script, owner=owner)
        assert result.output.split() == ["0", str(owner.uid_start), "65536", "0:0", "mine"]


@pytest.mark.guest
def test_a_setuid_file_of_a_layer_is_out_of_reach_for_the_host(engine: Host) -> None:
    """CVE-2021-41091: the tenant's view is a mount that only the keeper and its children have, below a folder of root's."""
    assert list(engine.config.mapped.iterdir()), "the launcher made it"
    assert not any((engine.config.mapped / "alice").iterdir()), "but not in this mount namespace"


@pytest.mark.guest
def test_twenty_at_once_all_run(engine: Host) -> None:
    results: list[tuple[int, str]] = []

    def one(number: int) -> None:
        result = engine.shell(f"echo {number}; exit {number}")
        results.append((result.exit_code, result.output))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [(number, f"{number}\n") for number in range(20)]


@pytest.mark.guest
def test_a_killed_launcher_is_back_and_what_it_held_is_gone(engine: Host) -> None:
    engine.run("true")
    with engine.running("sleep", "60") as survivor:
        with engine.launched("sleep", "60") as (launched, _container_id):
            pid = engine.part("launcher")
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(errors.EngineError):
                launched.start()
        until(lambda: not Path(f"/proc/{launched.pid}").exists(), what="the end of what had not started")
        until(lambda: engine.part("launcher") not in (0, pid), what="a new launcher")
        assert engine.run("echo", "back").output == "back\n", "with the tenant's mount of the launcher before"
        assert survivor.id in {item["id"] for item in engine.keeper.list()}


@pytest.mark.guest
def test_it_starts_where_a_part_of_the_hosts_proc_is_hidden() -> None:
    """As in somebody's privileged container."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            mounts.private_namespace()
            syscalls.mount("/dev/null", "/proc/uptime", "", syscalls.MS.BIND)
            with host() as hidden:
                code = 0 if hidden.run("cat", "/proc/self/comm").output == "cat\n" else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.guest
def test_bad_requests_get_an_answer(engine: Host) -> None:
    for words in (
        {"op": "start"},
        {"op": "dance"},
        {"op": "launch"},
        {"op": "launch", "id": "../x", "config": {}},
        {"op": "launch", "id": secrets.token_hex(32), "config": {"process": 5}},
        {"op": "launch", "id": secrets.token_hex(32), "config": engine.words("true")["config"]},
    ):
        with protocol.connect(engine.config.launcher_socket, timeout_s=60) as sock:
            protocol.send(sock, {"v": protocol.VERSION, **words})
            answer = protocol.receive(sock)
        assert answer is not None and answer[0]["error"]["code"] in ("invalid_argument", "failed_precondition", "unsupported"), words


@pytest.mark.bench
def test_how_long_it_takes(engine: Host, capsys: pytest.CaptureFixture[str]) -> None:
    """From the request to the reaped process; 200 times. Prints p50, p95."""
    times = []
    with engine.keeper.watch() as events:
        for _ in range(200):
            words = engine.words("true")
            begin = time.perf_counter()
            with launch(engine.config, **words) as launched:
                launched.start()
            while (event := next(events))["id"] != words["id"] or event["event"] != "exited":
                pass
            times.append(time.perf_counter() - begin)
            cgroups.remove(words["config"]["linux"]["cgroupsPath"])
    times.sort()
    with capsys.disabled():
        print(f"\nlaunch to reaped: p50 {times[100] * 1e3:.1f} ms, p95 {times[190] * 1e3:.1f} ms")
