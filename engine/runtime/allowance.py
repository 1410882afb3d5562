"""How fast the tenants' output may become log: what one writes as fast as it can must not fill the disk's queue before the others'.

A token bucket each. Whoever has used its burst waits in its own pipe, as behind any slow reader: nothing is lost, its writers
only go on at ``RATE``. That is twice what dockerd's json-file takes in at its best, so nobody meets it by mistake.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

RATE: Final = 64 << 20  # bytes a second
BURST: Final = 256 << 20  # bytes
TURN: Final = 1 << 20  # bytes; for less than that nobody is woken


@dataclass(slots=True)
class _Bucket:
    left: float
    at: float


class Allowances:
    def __init__(self, rate: int = RATE, burst: int = BURST) -> None:
        self._rate, self._burst = rate, burst
        self._buckets: dict[str, _Bucket] = {}

    def wait_s(self, tenant: str, now: float) -> float:
        """How long the tenant has to wait from ``now`` (monotonic seconds) until it may write again; 0: it may."""
        bucket = self._fill(tenant, now)
        return 0.0 if bucket.left > 0 else (min(TURN, self._burst) - bucket.left) / self._rate

    def take(self, tenant: str, moved: int, now: float) -> None:
        """``moved`` bytes were written. A debt is fine: it is waited for."""
        self._fill(tenant, now).left -= moved

    def _fill(self, tenant: str, now: float) -> _Bucket:
        bucket = self._buckets.get(tenant)
        if bucket is None:
            bucket = self._buckets[tenant] = _Bucket(self._burst, now)
        bucket.left = min(self._burst, bucket.left + (now - bucket.at) * self._rate)
        bucket.at = now
        return bucket
