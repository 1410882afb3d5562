"""How often one token, certificate, user or unix user may ask: SLIPWAY_RATE_LIMIT requests a minute, all at once or spread out.

The generic cell rate algorithm (ITU-T I.371): one number for each who asks, the moment at which all that was spent is earned again.
It costs a request 1 µs [m]. Kept in this process: the panel has one that serves, and several would each allow as much.
"""

from __future__ import annotations

import math
import time
from typing import Final

from django.conf import settings

from controlpanel.tenants import access
from engine.errors import RateLimited

_WINDOW_S: Final = 60.0
_KNOWN_MAX: Final = 10_000  # then those are forgotten who have not asked for a while

_earned_at: dict[tuple[str, ...], float] = {}


def spend(credential: tuple[str, ...]) -> None:
    """One request. RateLimited, with ``retry_after_s``, when it is one too many. Root of the machine is not counted."""
    limit = settings.RATE_LIMIT
    if not limit or not credential or (credential[0] == "uid" and credential[-1] == access.ROOT):
        return
    now, each_s = time.monotonic(), _WINDOW_S / limit
    earned_at = max(_earned_at.get(credential, 0.0), now) + each_s
    over_s = earned_at - now - _WINDOW_S
    if over_s > 1e-9:
        wait_s = math.ceil(over_s)
        raise RateLimited(
            f"more than {limit} requests a minute: wait {wait_s} s, or ask the operator for more (SLIPWAY_RATE_LIMIT)", retry_after_s=wait_s
        )
    _earned_at[credential] = earned_at
    if len(_earned_at) > _KNOWN_MAX:
        for known in [known for known, moment in _earned_at.items() if moment < now]:
            del _earned_at[known]


def clear() -> None:
    _earned_at.clear()
