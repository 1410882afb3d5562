"""Whom to kill, and when: SIGKILL for parts of one platform, in an order that a seed repeats."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

from engine import errors
from engine.config import EngineConfig
from engine.runtime.client import KeeperClient
from tests.support.platform import Platform
from workers.platform import health
from workers.platform.places import Places

# each as often as it stands here: a killed supervisor takes redis, web and the workers along, and `up` must be said again
PARTS = (
    *("redis", "web", "panel-worker", "host-worker", "agent", "netd", "launcher", "logger", "keeper", "foster") * 3,
    "supervisor",
)
PAUSE_S = (0.05, 1.5)
TWICE = 0.1  # how often two die in the same moment


@dataclass
class Kill:
    at_s: float  # since the run began
    parts: tuple[str, ...]
    pids: tuple[int, ...]


@dataclass
class Killer(threading.Thread):
    """Until ``count`` were killed; ``enough`` is set then. ``stop`` ends it early."""

    platform: Platform
    chance: random.Random
    count: int
    kills: list[Kill] = field(default_factory=list)
    missed: Counter[str] = field(default_factory=Counter)  # chosen while they did not run

    def __post_init__(self) -> None:
        super().__init__(daemon=True, name="killer")
        self.enough, self.stop = threading.Event(), threading.Event()
        self.began = time.monotonic()
        self._places = Places.from_environment(self.platform.environment)
        self._keeper = KeeperClient(EngineConfig(self.platform.data, self.platform.run))

    def __hash__(self) -> int:
        return id(self)

    @property
    def killed(self) -> Counter[str]:
        return Counter(part for kill in self.kills for part in kill.parts)

    def run(self) -> None:
        try:
            while sum(self.killed.values()) < self.count and not self.stop.wait(self.chance.uniform(*PAUSE_S)):
                wanted = self.chance.sample(sorted(set(PARTS)), 2) if self.chance.random() < TWICE else [self.chance.choice(PARTS)]
                self._kill(wanted)
        finally:
            self.enough.set()

    def _kill(self, wanted: list[str]) -> None:
        pids = self._pids()
        done: dict[str, int] = {}
        for part in wanted:
            pid = pids.get(part)
            try:
                if pid:
                    os.kill(pid, signal.SIGKILL)
                    done[part] = pid
            except ProcessLookupError:
                pass
            if part not in done:
                self.missed[part] += 1
        if done:
            self.kills.append(Kill(round(time.monotonic() - self.began, 2), tuple(done), tuple(done.values())))
        if "supervisor" in done:
            self._up()

    def _pids(self) -> dict[str, int]:
        """Of those that run and can be asked for just now."""
        found: dict[str, int] = {}
        account = health.supervisor_parts(self._places)
        if account is not None:
            found["supervisor"] = account["pid"]
            found.update({part["name"]: part["pid"] for part in account["parts"] if part["pid"]})
        try:
            found.update({name: part["pid"] for name, part in self._keeper.parts().items() if part["pid"]})
        except (OSError, errors.EngineError):
            pass
        return found

    def _up(self) -> None:
        """What systemd does, or the operator. While a killer kills it may well fail, and is said again."""
        while not self.stop.is_set():
            time.sleep(self.chance.uniform(0.0, 1.0))
            release = self.platform.data / "app" / "current"  # as the systemd unit does it: the code that was installed
            words = [release / "venv" / "bin" / "python", release / "manage.py", "up", "--detach", "--no-demo"]
            done = subprocess.run(words, env=self.platform.environment, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return
            print(f"up: {done.stdout}{done.stderr}".strip(), file=sys.stderr)
