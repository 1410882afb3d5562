"""What the supervisor runs: each part as a command line. The keeper's family is not here: it outlives the supervisor."""

from __future__ import annotations

import grp
import os
import pwd
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from workers.platform.places import REDIS_USER, USER, Places
from workers.platform.spawn import Identity

WEB: Final = "web"
PANEL_WORKER: Final = "panel-worker"
REDIS: Final = "redis"
AGENT: Final = "agent"
NETD: Final = "netd"
SUPERVISED: Final = (REDIS, WEB, PANEL_WORKER, "host-worker")
KEPT: Final = ("keeper", "launcher", "logger", NETD, AGENT)  # children of the keeper; containers hang on them
ALL: Final = SUPERVISED + KEPT


@dataclass(frozen=True, slots=True)
class Part:
    name: str
    argv: tuple[str, ...]
    environment: dict[str, str] = field(repr=False)  # it holds passwords
    folder: str
    identity: Identity | None = None  # None: root
    takes_sockets: bool = False  # the HTTP listener and what it stored with us
    end_with: signal.Signals = signal.SIGTERM
    grace_s: float = 10.0  # between that and SIGKILL


def supervised(places: Places, release: Path) -> list[Part]:
    """In the order of their start. They wait for each other by themselves, so nobody waits for them."""
    python = str(release / "venv" / "bin" / "python")
    folder = str(release)
    parts = []
    if places.private_redis:
        parts.append(
            Part(
                REDIS,
                ("/usr/bin/redis-server", str(places.redis_conf)),
                {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
                str(places.redis_folder),
                identity(REDIS_USER),
            )
        )
    if places.panel_here:
        panel, panel_environment = identity(USER), places.panel_environment(release)
        parts += [
            Part(
                WEB,
                (python, "-m", "controlpanel.server"),
                {**panel_environment, "NOTIFY_SOCKET": str(places.notify_socket)},
                folder,
                panel,
                takes_sockets=True,
            ),
            Part(PANEL_WORKER, (python, "-m", "controlpanel.worker"), panel_environment, folder, panel),
        ]
    return [*parts, Part("host-worker", (python, "-m", "workers.host_worker"), places.host_environment(release), folder)]


def elsewhere(places: Places) -> frozenset[str]:
    """Parts that this machine needs and others run."""
    redis = () if places.private_redis else (REDIS,)
    panel = () if places.panel_here else (WEB, PANEL_WORKER)
    return frozenset((*redis, *panel))


def agent_argv(release: Path) -> list[str]:
    return [str(release / "venv" / "bin" / "python"), "-m", "workers.agent"]


def netd_argv(release: Path) -> list[str]:
    return [str(release / "venv" / "bin" / "python"), "-S", "-m", "engine.networks.netd"]  # -S: third-party folders aren't needed


def netd_environment(release: Path) -> dict[str, str]:
    """The keeper adds the two folders. It knows nothing else, so it can tell nothing else."""
    return {"PYTHONPATH": str(release), "PYTHONDONTWRITEBYTECODE": "1"}


def identity(user: str) -> Identity:
    """Of passwd(5) and group(5). KeyError: ``up`` makes the user first."""
    entry = pwd.getpwnam(user)
    return Identity(entry.pw_uid, entry.pw_gid, tuple(os.getgrouplist(user, entry.pw_gid)))


def gid() -> int:
    return grp.getgrnam(USER).gr_gid
