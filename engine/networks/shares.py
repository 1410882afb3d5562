"""What all networks of a tenant together may carry: a token bucket (``limit``) for each way, which every bridge of the tenant leads to.

    map shares_out    bridge : limit    what comes from it and goes elsewhere, to the host itself as well
    map shares_in     bridge : limit    what comes to it from elsewhere, by routing or from the host itself

What is over it is dropped, and TCP keeps below. It is no queue of tc, for which a packet would be led from the bridge to an ifb: that takes
its connection away (nf_reset_ct), and with br_netfilter, which dockerd loads, it gets none again and leaves with the container's address.
What stays inside a network never gets here. PURE: texts for nft(8).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from engine.model.bandwidth import Bandwidth

MAPS: Final = ("shares_in", "shares_out")
LIMIT_IN: Final = "limit name oifname map @shares_in drop"
LIMIT_OUT: Final = "limit name iifname map @shares_out drop"
_BURST_S: Final = 0.05
_BURST_LEAST: Final = 128 << 10  # a packet of the largest kind (64 KiB, GSO) is dropped or carried whole


class Share(NamedTuple):
    """``number``: the tenant's. ``links``: its bridges, whether they are there or not."""

    number: int
    links: tuple[str, ...]
    bandwidth: Bandwidth


def limits(shares: Iterable[Share]) -> dict[str, str]:
    """Their names, which tell the rate (a limit never changes), and what they are."""
    return {
        _name(way, share.number, rate): f"rate over {rate} bytes/second burst {max(int(rate * _BURST_S), _BURST_LEAST)} bytes"
        for share in shares
        for way, rate in _rates(share)
    }


def elements(shares: Iterable[Share]) -> dict[str, list[str]]:
    """By map."""
    found: dict[str, list[str]] = {name: [] for name in MAPS}
    for share in shares:
        for way, rate in _rates(share):
            found[f"shares_{way}"] += [f'"{link}" : "{_name(way, share.number, rate)}"' for link in share.links]
    return found


def declarations(shares: list[Share]) -> str:
    """For the table, with what is in the maps."""
    lines = [f"  limit {name} {{ {words} }}" for name, words in limits(shares).items()]
    for name, words in elements(shares).items():
        filled = f"elements = {{ {', '.join(words)} }}" if words else ""
        lines.append(f"  map {name} {{ type ifname : limit; {filled} }}")
    return "\n".join(lines)


def _rates(share: Share) -> list[tuple[str, int]]:
    return [(way, rate) for way, rate in (("in", share.bandwidth.into), ("out", share.bandwidth.out)) if rate]


def _name(way: str, number: int, rate: int) -> str:
    return f"{way}_{number}_{rate}"
