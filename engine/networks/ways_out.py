"""By which of its networks a container's default routes go. PURE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from engine.model.network import EndpointSpec
from engine.networks.bridged import Bridged


class WaysOut(NamedTuple):
    """Ids of networks; None: it has no such route."""

    ipv4: str | None
    ipv6: str | None


NOWHERE: Final = WaysOut(None, None)


def of(wanted: Sequence[EndpointSpec], networks: Sequence[Bridged]) -> WaysOut:
    """moby's order: the greatest priority, then the first name; an internal network leads nowhere."""
    ways = sorted(
        (-each.gw_priority, network.name, network.id, network.pool is not None, network.ipv6_pool is not None)
        for each, network in zip(wanted, networks, strict=True)
        if not network.internal
    )
    ipv4, ipv6 = (next((way[2] for way in ways if way[family]), None) for family in (3, 4))
    return WaysOut(ipv4, ipv6)
