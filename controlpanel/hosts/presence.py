"""Whether the hosts' facts are fresh: what ran when a host fell silent may run or not, and nobody should say which.

In memory, per web process: told by the loop that follows a host's events.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Final

from controlpanel.base import live

GRACE_S: Final = 3.0  # an agent that is restarted is back before anybody needs to know

_silent: dict[str, tuple[float, float]] = {}  # host → (unix time, monotonic time) of the loss
_told: set[str] = set()


def lost(host: str) -> bool:
    """Nothing is heard at the moment; to be called again and again while that is so. Whether it was heard until now."""
    is_new = host not in _silent
    _silent.setdefault(host, (time.time(), time.monotonic()))
    if host not in _told and unknown_since(host) is not None:
        _told.add(host)
        _tell(host)
    return is_new


def back(host: str) -> None:
    """Its inventory has arrived: what the rows say is true again."""
    _silent.pop(host, None)
    if host in _told:
        _told.discard(host)
        _tell(host)


def unknown_since(host: str) -> datetime | None:
    """When the host fell silent; None while it is heard, or was a moment ago."""
    found = _silent.get(host)
    if found is None or time.monotonic() - found[1] < GRACE_S:
        return None
    return datetime.fromtimestamp(found[0], UTC)


def _tell(host: str) -> None:
    live.publish({"kind": "host", "tenant": live.EVERYONE, "name": host})
