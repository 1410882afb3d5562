"""How much of this process one container may have: relayed connections and datagram flows, two descriptors each."""

from __future__ import annotations

import resource
from dataclasses import dataclass, field
from typing import Final

FLOWS_LIMIT: Final = 4096  # of all ports of one container
FLOWS_WHEN_SHORT: Final = 128  # when all containers together have half of what there is
_PART: Final = 8  # of the descriptors that this process may have; two a flow make a quarter of them, and the rest is for names


@dataclass(slots=True)
class Whole:
    """Of all containers."""

    limit: int = field(default_factory=lambda: resource.getrlimit(resource.RLIMIT_NOFILE)[0] // _PART)
    used: int = 0


@dataclass(slots=True)
class Share:
    whole: Whole
    used: int = 0

    def is_full(self) -> bool:
        whole = self.whole
        limit = FLOWS_LIMIT if whole.used < whole.limit // 2 else min(FLOWS_WHEN_SHORT, whole.limit // 8)
        return self.used >= limit or whole.used >= whole.limit

    def take(self) -> None:
        self.used += 1
        self.whole.used += 1

    def give_back(self) -> None:
        self.used -= 1
        self.whole.used -= 1
