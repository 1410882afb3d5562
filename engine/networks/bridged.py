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
    subnet: str
    gateway: str
    ip_range: str = ""  # "" = the whole subnet
    reserved: tuple[str, ...] = ()
    internal: bool = False
    icc: bool = True
    mtu: int = 0  # 0 = the host's
    ipv6_pool: Pool | None = None  # complete; None = no IPv6

    @property
    def pool(self) -> Pool:
        """Of IPv4."""
        return Pool(subnet=self.subnet, gateway=self.gateway, ip_range=self.ip_range, reserved=self.reserved)


def default_bridge(instance: str, tenant: TenantHost) -> Bridged:
    return Bridged(
        id=DEFAULT,
        key=tenant.name,
        tenant=tenant.name,
        name=_DEFAULT_NAME,
        link=f"{instance}b{tenant.number}",
        subnet=tenant.subnet,
        gateway=ipam.gateway(tenant.subnet),
    )


def defined_bridge(instance: str, number: int, spec: NetworkSpec) -> Bridged:
    """Of a spec whose pool is complete."""
    return Bridged(
        id=spec.id,
        key=spec.id,
        tenant=spec.tenant,
        name=spec.name,
        link=f"{instance}bn{number}",
        subnet=spec.pool.subnet,
        gateway=spec.pool.gateway,
        ip_range=spec.pool.ip_range,
        reserved=spec.pool.reserved,
        internal=spec.internal,
        icc=spec.icc,
        mtu=spec.mtu,
        ipv6_pool=spec.ipv6_pool,
    )
