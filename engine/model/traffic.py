"""What has gone through the networks of containers and tenants, by calendar month (UTC): packets, without the frames around them.

What stays in a network counts as well, for the one who sends and the one who receives. Counted is what a container sends, though its
tenant's share is used up and it is dropped then; and what comes for it, though a limit of its own (engine.kernel.shaping) drops it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    into_bytes: int = 0
    into_packets: int = 0
    out_bytes: int = 0
    out_packets: int = 0

    def __bool__(self) -> bool:
        return bool(self.into_packets or self.out_packets)

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            into_bytes=self.into_bytes + other.into_bytes,
            into_packets=self.into_packets + other.into_packets,
            out_bytes=self.out_bytes + other.out_bytes,
            out_packets=self.out_packets + other.out_packets,
        )

    def since(self, before: Counts) -> Counts:
        """What has come since a counter stood there. One that is smaller now began anew."""
        into = before if self.into_bytes >= before.into_bytes and self.into_packets >= before.into_packets else Counts()
        out = before if self.out_bytes >= before.out_bytes and self.out_packets >= before.out_packets else Counts()
        return Counts(
            into_bytes=self.into_bytes - into.into_bytes,
            into_packets=self.into_packets - into.into_packets,
            out_bytes=self.out_bytes - out.out_bytes,
            out_packets=self.out_packets - out.out_packets,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Sums of one month since the host's book was begun: told twice they are the same. A book that was lost is followed by another one,
    which begins with nothing."""

    book: str
    month: str  # 2026-11
    tenants: dict[str, Counts] = field(default_factory=dict)  # by name: of all containers that they ever had
    containers: dict[str, Counts] = field(default_factory=dict)  # by id, of those that are there


def month_of(moment_s: float) -> str:
    return time.strftime("%Y-%m", time.gmtime(moment_s))
