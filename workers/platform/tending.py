"""Making sure that the keeper is there and that it supervises netd and the agent; and that the server's certificate does not end.

The keeper restarts launcher, logger, netd and agent by itself, and its foster the keeper; this is for the first start, for a keeper
that lost its list, and for the day on which all of them were killed at once.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Final

from engine import errors
from engine.runtime.client import KeeperClient
from workers.platform import parts
from workers.platform.places import Places

CERTIFICATE_EVERY_S: Final = 3600.0  # between looks at it


def tend(places: Places, release: Path, *, renew: bool = False) -> None:
    """Idempotent. ``renew``, for a new release: the keeper's family goes on with its code, and netd and agent are the release's own.

    A keeper that refuses the new code goes on with the old, which is said and holds nothing up: its protocol has a version.
    """
    keeper = KeeperClient(places.engine)
    keeper.ensure_running()
    present = keeper.parts()
    if parts.AGENT not in present:
        # a keeper without an agent is new: what an earlier one took with it (a reboot) is settled before the agent tells what runs
        from engine import recovery
        from engine.engine import Engine

        recovery.settle_lost(Engine(places.engine))
        renew = True
    if renew:
        try:
            keeper.renew()
        except (errors.FailedPrecondition, errors.Unsupported) as error:
            print(f"slipway: {error.message}", file=sys.stderr, flush=True)
    if renew or parts.NETD not in present:  # before the agent, which starts containers that need it
        keeper.supervise(parts.NETD, parts.netd_argv(release), parts.netd_environment(release))
    if renew:
        keeper.supervise(parts.AGENT, parts.agent_argv(release), places.host_environment(release))


def fork(places: Places, release: Path) -> int:
    """``tend`` in a child, for the keeper may take its time and the supervisor must not. The child's pid."""
    pid = os.fork()
    if pid:
        return pid
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        tend(places, release)
        if places.tls and places.panel_here:
            _renew_certificate(places)
        os._exit(0)
    except (OSError, errors.EngineError) as error:
        print(f"the keeper does not answer: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(1)


def _renew_certificate(places: Places) -> None:
    looked = places.tls_folder / "looked"
    if looked.exists() and time.time() - looked.stat().st_mtime < CERTIFICATE_EVERY_S:
        return
    from workers.platform import certificates

    try:
        if certificates.make(places):
            print("the server's certificate was renewed", file=sys.stderr, flush=True)
    except (OSError, ValueError) as error:
        print(f"the server's certificate could not be looked after: {error}", file=sys.stderr, flush=True)


def start(places: Places, release: Path) -> None:
    """The keeper alone, before the platform: the unit slipway-keeper's start."""
    from workers.platform import prepare

    prepare.ensure_user(places)
    prepare.make_folders(places)
    prepare.make_keys(places)
    tend(places, release)
