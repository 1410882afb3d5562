"""How many bytes a second may go in and come out: of a container, by each of its networks; of a tenant, by all of them together."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from engine.errors import InvalidArgument

IN_LABEL: Final = "io.slipway.bandwidth.in"
OUT_LABEL: Final = "io.slipway.bandwidth.out"
SLOWEST: Final = 8 << 10
FASTEST: Final = (1 << 32) - 1
_RATE: Final = re.compile(r"(\d{1,12}(?:\.\d{1,6})?) ?([kmg]?)(bit|b|)(?:/s)?", re.IGNORECASE | re.ASCII)
_POWER: Final = {"": 0, "k": 1, "m": 2, "g": 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bandwidth:
    """Bytes a second; 0 = no limit."""

    into: int = 0
    out: int = 0

    def __bool__(self) -> bool:
        return bool(self.into or self.out)

    def within(self, other: Bandwidth) -> Bandwidth:
        """The smaller one of each."""
        return Bandwidth(into=_smaller(self.into, other.into), out=_smaller(self.out, other.out))


def parse_rate(text: str | None) -> int:
    """``10mbit``, ``1MB``, ``500kB/s``, ``125000``: powers of 1000, as of networks; "" and 0 = no limit."""
    if not (text or "").strip():
        return 0
    found = _RATE.fullmatch((text or "").strip())
    if not found:
        raise InvalidArgument(f"invalid rate {text!r}: use 10mbit, 1MB or a number of bytes a second")
    rate = Decimal(found[1]) * 1000 ** _POWER[found[2].lower()] / (8 if found[3].lower() == "bit" else 1)
    return _checked(int(rate))


def spelled(rate: int) -> str:
    """As ``parse_rate`` takes it; "" of no limit."""
    for power, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if rate and rate % power == 0:
            return f"{rate // power}{unit}B"
    return str(rate or "")


def from_labels(labels: dict[str, str]) -> Bandwidth:
    return Bandwidth(into=parse_rate(labels.get(IN_LABEL)), out=parse_rate(labels.get(OUT_LABEL)))


def check_bandwidth(bandwidth: Bandwidth) -> None:
    for rate in (bandwidth.into, bandwidth.out):
        _checked(rate)


def _smaller(one: int, other: int) -> int:
    return min(one, other) if one and other else one or other


def _checked(rate: int) -> int:
    if rate and not SLOWEST <= rate <= FASTEST:
        raise InvalidArgument(f"invalid rate {rate}: from {SLOWEST} to {FASTEST} bytes a second, or 0 for no limit")
    return rate
