"""What must hold before anything is started, each with one line: what is wrong and who can fix it."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

from workers.platform import sockets
from workers.platform.places import ELSEWHERE, Places
from workers.platform.say import Refusal

_RUN_MAX: Final = 107 - len("/tenants//docker.sock") - 32  # unix(7) sun_path; 32: the longest name of a tenant


def require_root(verb: str) -> None:
    if os.geteuid() != 0:
        raise Refusal(f"`{verb}` needs root: run it with sudo, or ask your administrator")


def require_places(places: Places) -> None:
    for name, path in (("SLIPWAY_DATA", places.data), ("SLIPWAY_RUN", places.run)):
        if any(letter.isspace() or letter in "\"'%$\\" for letter in str(path)):
            raise Refusal(f"{name}={path}: choose a path without spaces, quotes, % and $, for it goes into configuration files and units")
    if len(str(places.run)) > _RUN_MAX:
        raise Refusal(
            f"SLIPWAY_RUN={places.run}: choose a path of at most {_RUN_MAX} letters, for a unix socket's holds 107 with a tenant's name"
        )


def require_panel(places: Places) -> None:
    """SLIPWAY_PANEL: what a panel elsewhere and this machine must share."""
    given = places.variables.get("SLIPWAY_PANEL") or "here"
    if given not in ("here", ELSEWHERE):
        raise Refusal(f"SLIPWAY_PANEL={given}: say here, or {ELSEWHERE} when web and the panel's worker run in containers")
    if given == ELSEWHERE and (places.private_redis or places.embedded_database):
        raise Refusal(f"SLIPWAY_PANEL={ELSEWHERE} needs REDIS_URL and DATABASE_URL: the panel in containers must reach the same two")


def require_one_way_in(places: Places) -> None:
    """Behind a proxy every request's own word about its client is believed; from the TLS port that word would be the client's."""
    if places.tls and places.variables.get("SLIPWAY_PROXY", "").strip().lower() in ("1", "true", "yes"):
        raise Refusal(
            "SLIPWAY_TLS and SLIPWAY_PROXY exclude each other: a proxy is the only way in. Let it end TLS, or unset SLIPWAY_PROXY"
        )


def require_kernel(places: Places) -> None:
    """What containers can't do without. ``doctor`` tells the whole list."""
    from engine.kernel import probe

    lacking = [finding for finding in probe.probe(existing(places.data)) if finding.required and not finding.ok]
    if lacking:
        rows = "; ".join(f"{finding.name}: {finding.reason} ({finding.fix})" for finding in lacking)
        raise Refusal(f"this kernel can't run containers: {rows}")


def require_ports(places: Places) -> None:
    for variable, address in (("SLIPWAY_HTTP", places.http), ("SLIPWAY_TLS", places.tls)):
        try:
            if address:
                sockets.open_http(address, variable).close()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise Refusal(f"{address} is taken by another program: stop that one, or set {variable} to a free address") from error
            raise Refusal(f"can't listen on {address}: {error.strerror}: set {variable} to an address of this machine") from error


def require_redis(places: Places) -> None:
    if places.private_redis and not os.access("/usr/bin/redis-server", os.X_OK):
        raise Refusal("/usr/bin/redis-server is missing: install Debian's redis-server as root, or set REDIS_URL to a Redis of yours")


def existing(path: Path) -> Path:
    """The path, or the nearest folder above that is there for whoever asks."""
    return path if os.path.exists(path) else existing(path.parent)
