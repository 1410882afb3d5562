"""``down``: the supervisor and what it runs; with the containers also the keeper's family and the networks."""

from __future__ import annotations

import os
import select
import signal
import time
from contextlib import suppress
from typing import Final

from engine import errors
from engine.runtime import lock
from engine.runtime.client import KeeperClient
from workers.platform import health
from workers.platform.places import Places
from workers.platform.say import Refusal, step

_GRACE_S: Final = 40.0  # web and workers, then Redis, each up to 10 s and a SIGKILL


def down(places: Places, *, containers: bool) -> int:
    stopped = stop_supervisor(places)
    if containers:
        stop_containers(places)
    elif stopped:
        step("the platform is stopped; containers go on, and the next `up` takes them over (`down --containers` ends them too)")
    if not stopped and not containers:
        step("the platform was not running")
    return 0


def stop_supervisor(places: Places) -> bool:
    """False when none ran."""
    account = health.supervisor_parts(places)
    if account is None:
        return False
    try:
        pidfd = os.pidfd_open(account["pid"])
    except ProcessLookupError:
        return True
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        if not select.select([pidfd], [], [], _GRACE_S)[0]:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)  # its children get SIGTERM from the kernel
            select.select([pidfd], [], [], 5.0)
    except ProcessLookupError:
        pass
    finally:
        os.close(pidfd)
    return True


def stop_containers(places: Places) -> None:
    """Containers, then keeper, launcher, logger, netd, agent. Also when the keeper was just killed: its foster forks the next one."""
    keeper = KeeperClient(places.engine)
    deadline = time.monotonic() + _GRACE_S
    ran = False
    while lock.is_held(places.engine):
        ran = True
        with suppress(errors.Unavailable):
            keeper.stop(containers=True)
        if time.monotonic() > deadline:
            raise Refusal(f"the keeper does not end: its log is {places.log}/keeper.log")
        time.sleep(0.05)
    _leave_kernel(places)
    if ran:
        step("containers, keeper, launcher, logger, netd and agent are stopped")


def _leave_kernel(places: Places) -> None:
    """Bridges, rules and cgroups without a container are nobody's; the next start makes them anew."""
    if (places.engine.engine / "instance").exists():
        from engine import leaving
        from engine.engine import Engine

        leaving.leave_kernel(Engine(places.engine))
