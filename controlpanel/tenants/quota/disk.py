"""A quota of disk is the sum of declared sizes, each of which the host's kernel holds. So whatever takes disk needs a size.

What comes without one (a plain ``docker run``, a volume of an image) gets a part: a 32nd of the quota, at most PART_MAX, or an equal share
of what is left when that is less. To refuse it would leave a tenant with a quota no ``docker run`` that its users know; to give it all
that is left would leave nothing for the second. Whoever needs more, or wants more of them, says how much: ``--storage-opt size=``,
``-o size=``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from controlpanel.tenants.quota.ledger import Account
from controlpanel.tenants.quota.resources import DISK
from engine.errors import QuotaExceeded

PARTS: Final = 32
PART_MIN: Final = 16 << 20  # an ext4 in a file needs some of it for itself
PART_MAX: Final = 10 << 30
NONE: Final = -1  # in place of a size: it takes no disk
_MIB: Final = 1 << 20


def part(limit: int) -> int:
    """Bytes for what has no size of its own."""
    return max(PART_MIN, min(PART_MAX, limit // PARTS)) // _MIB * _MIB


def sizes(account: Account, asked: Mapping[str, int]) -> dict[str, int]:
    """``asked``: bytes of each thing, 0 where nobody named a size. The same with sizes for all, when there is a quota; NONE is 0 then."""
    plain = {name: max(0, size) for name, size in asked.items()}
    limit = account.limit(DISK)
    without = [name for name, size in asked.items() if size == 0]
    if not limit or not without:
        return plain
    left = (account.left(DISK) or 0) - sum(plain.values())
    each = min(part(limit), left // len(without) // _MIB * _MIB)
    if each < PART_MIN:
        each = part(limit)  # which is not there: so it is refused with the whole figure
    return {**plain, **dict.fromkeys(without, each)}


@contextmanager
def explained(account: Account) -> Iterator[None]:
    """A refusal for want of disk says what things without a size take."""
    try:
        yield
    except QuotaExceeded as error:
        if error.detail.get("rule") != f"quota.{DISK}":
            raise
        raise QuotaExceeded(
            f"{error.message}. A layer or volume without a size of its own takes {part(account.limit(DISK))} bytes: "
            "name a smaller one with --storage-opt size=… or -o size=…, or remove what is not needed",
            **error.detail,
        ) from None
