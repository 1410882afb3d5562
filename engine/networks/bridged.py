"""A network on this host: the tenant's default bridge, or one that the tenant made. The value, and which records it comes from. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from engine.model.network import DEFAULT, NetworkSpec, Pool
from engine.model.tenant import TenantHost
from engine.networks import ipam

_DEFAULT_NAME = "bridge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bridged:
    """``key``: under which its leases stand, the tenant's name or the network's id; neither is ever the other."""

    id: str  # "" = the tenant's default bridge
    key: str
    tenant: str
    name: str
    link: str  # at most 15 characters
    pool: Pool | None  # complete; None = no IPv4
    internal: bool = False
    icc: bool = True
    mtu: int = 0  # 0 = the host's
    ipv6_pool: Pool | None = None  # likewise

    @property
    def mac_address(self) -> str:
        """Of the bridge."""
        return ipam.mac_address((self.pool or self.ipv6_pool or Pool()).gateway)


def default_bridge(instance: str, tenant: TenantHost) -> Bridged:
    return Bridged(
        id=DEFAULT,
        key=tenant.name,
        tenant=tenant.name,
        name=_DEFAULT_NAME,
        link=f"{instance}b{tenant.number}",
        pool=Pool(subnet=tenant.subnet, gateway=ipam.gateway(tenant.subnet)),
    )


def defined_bridge(instance: str, number: int, spec: NetworkSpec) -> Bridged:
    """Of a spec whose pools are complete."""
    return Bridged(
        id=spec.id,
        key=spec.id,
        tenant=spec.tenant,
        name=spec.name,
        link=f"{instance}bn{number}",
        pool=spec.pool,
        internal=spec.internal,
        icc=spec.icc,
        mtu=spec.mtu,
        ipv6_pool=spec.ipv6_pool,
    )
