"""Power cuts: the platform's folder as it was at a random moment under load, minus what no fsync had made safe; then ``up`` on that.

    load ── SIGSTOP to every part ── copy of the folder ── SIGKILL to everything ── some of what was written in the last
    WINDOW_S is taken away from the copy ── the copy takes the folder's place, the run folder is empty ── up

What must hold: the platform comes up by itself and healthy; a container that had been there for longer than WINDOW_S is there, once,
with its exit code and its whole log; one that ran has ended; rows, records and names agree; new containers run; nothing is left over.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from engine.kernel import cgroups
from tests.faults import invariants
from tests.faults.load import API, Client, Seen, frames
from tests.faults.run import TENANT
from tests.support.platform import Platform
from tests.support.raw import ask

WINDOW_S = 5.0  # how often the kernel writes back by itself: ext4's commit interval
TAIL = 64 << 10  # bytes of a growing file that may be lost
OLD = 6  # containers that are safe before the cut
LINES = 500
SYNCED = ("tenants/", "instance", "app/", "etc/", ".claim", "host-worker.lock")  # written with fsync, or never changed


def power_cut(platform: Platform, *, seed: int, clients: int = 3) -> tuple[list[str], str]:
    """(findings, one line that says what was cut). The tenant TENANT must exist; its containers are removed."""
    chance = random.Random(f"{seed} power")
    before = invariants.outside(platform)
    old = {f"old{number}": _old(platform, f"old{number}", number) for number in range(OLD)}
    platform.docker("run", "-d", "--name", "runs", "busybox", "sleep", "1000000", tenant=TENANT)
    os.sync()
    time.sleep(WINDOW_S)
    seen, over = Seen(), threading.Event()
    people = [Client(number, platform.socket(TENANT), random.Random(f"{seed} {number}"), seen, over) for number in range(clients)]
    for client in people:
        client.start()
    time.sleep(chance.uniform(1.0, WINDOW_S))
    copy = platform.data.with_name("cut")
    with _stopped(platform):
        moment = time.time()
        copy.mkdir(mode=0o755)
        for entry in platform.data.iterdir():  # the installed code is never written again: links will do
            subprocess.run(["cp", "-al" if entry.name == "app" else "-a", entry, copy], check=True)
    over.set()
    _kill_everything(platform)
    for client in people:
        client.join(300)
    lost = _lose(copy, moment, chance)
    shutil.rmtree(platform.data)
    shutil.rmtree(platform.run)
    copy.rename(platform.data)
    release = platform.data / "app" / "current"
    words = [release / "venv" / "bin" / "python", release / "manage.py", "up", "--detach", "--no-demo"]
    done = subprocess.run(words, env=platform.environment, capture_output=True, text=True, check=False)
    if done.returncode:
        return [f"up: {done.stdout}{done.stderr}"], ""
    platform.wait_healthy(60.0)
    findings = _look(platform, old)
    for container in platform.docker("ps", "-aq", tenant=TENANT).stdout.split():
        gone = platform.docker("rm", "-f", container, tenant=TENANT, check=False)
        if gone.returncode:
            findings.append(f"rm {container}: {gone.stderr.strip()}")
    findings += _left(platform, before)
    return findings, f"seed {seed}: {seen.acts.total()} acts before the cut, {lost} files lost what was written last"


def _old(platform: Platform, name: str, code: int) -> int:
    platform.docker("run", "--name", name, "busybox", "sh", "-c", f"seq 1 {LINES}; exit {code}", tenant=TENANT, check=False)
    return code


@contextlib.contextmanager
def _stopped(platform: Platform) -> Iterator[None]:
    """Every process of the platform, so that nobody writes."""
    pids = _pids(platform)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    yield
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def _pids(platform: Platform) -> list[int]:
    """All with the platform's folder in their environment, but for whoever runs this: the parts, and their helpers of the moment."""
    wanted, found = f"SLIPWAY_DATA={platform.data}".encode(), []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0") and b"tests.faults" not in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
    return found


def _kill_everything(platform: Platform) -> None:
    instance = (platform.data / "engine" / "instance").read_text().strip()
    deadline = time.monotonic() + 20
    while pids := _pids(platform):  # again: one may just have started another
        assert time.monotonic() < deadline, pids
        for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped first, or the ones would start the others again
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
        time.sleep(0.1)
    while cgroups.pids(f"/slipway-{instance}"):
        cgroups.kill_all(f"/slipway-{instance}")
        assert time.monotonic() < deadline
        time.sleep(0.1)
    cgroups.remove_soon(f"/slipway-{instance}")  # the kernel's memory goes with the power


def _lose(copy: Path, moment: float, chance: random.Random) -> int:
    """How many files lost something: growing files their tail, records that were renamed into their place all that was in them."""
    count = 0
    for path in sorted(copy.rglob("*")):
        relative = str(path.relative_to(copy)).removeprefix("engine/")
        if path.is_symlink() or not path.is_file() or relative.startswith(SYNCED) or "/upper/" in relative or relative.endswith(SYNCED):
            continue
        status = path.stat()
        if moment - status.st_mtime > WINDOW_S or chance.random() < 0.5 or not status.st_size:
            continue
        if path.suffix in (".data", ".idx", ".aof", ".log") or path.name.endswith("-wal"):
            os.truncate(path, max(0, status.st_size - chance.randrange(TAIL)))
        elif path.suffix == ".json" or path.parent.parent.name == "names":
            os.truncate(path, 0)
        else:
            continue
        count += 1
    return count


def _look(platform: Platform, old: dict[str, int]) -> list[str]:
    deadline = time.monotonic() + 90
    while (wrong := invariants.agreed(platform, TENANT)) and time.monotonic() < deadline:
        time.sleep(1)
    findings = wrong
    for name, code in old.items():
        status, said = ask(platform.socket(TENANT), "GET", f"{API}/containers/{name}/json")
        if status != 200:
            findings.append(f"{name} is lost: {said!r}")
            continue
        if (state := json.loads(said)["State"])["ExitCode"] != code or state["Status"] != "exited":
            findings.append(f"{name}: {state}, not exit code {code}")
        _, said = ask(platform.socket(TENANT), "GET", f"{API}/containers/{name}/logs?stdout=1")
        if frames(said).decode() != "".join(f"{number}\n" for number in range(1, LINES + 1)):
            findings.append(f"log of {name} is not whole")
    status, said = ask(platform.socket(TENANT), "GET", f"{API}/containers/runs/json")
    if status != 200 or (state := json.loads(said)["State"])["Status"] != "exited" or state["ExitCode"] != 137:
        findings.append(f"runs: {status} {said!r}")
    fresh = platform.docker("run", "--rm", "busybox", "echo", "fresh", tenant=TENANT, check=False)
    if fresh.stdout != "fresh\n":
        findings.append(f"a new container: {fresh.stdout}{fresh.stderr}")
    return findings


def _left(platform: Platform, before: set[str]) -> list[str]:
    deadline = time.monotonic() + 100
    while True:
        left = (invariants.outside(platform) - before) | invariants.inside(platform)
        if not left or time.monotonic() > deadline:
            return [f"left over: {thing}" for thing in sorted(left)]
        time.sleep(1)
