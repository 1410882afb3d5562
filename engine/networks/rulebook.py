"""The rules of one instance, kept in step with the files that say what they must be: who has an address, which ports lead where, which
allow-lists hold, what tenants may carry. Whoever changes a file changes the rule with it; somebody flushed the tables, and they are built
anew out of the files.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

from engine import disk
from engine.claims import Claims
from engine.kernel import netlink
from engine.model.network import NetworkSpec, PortBinding
from engine.model.rules import Rules
from engine.model.tenant import TenantHost
from engine.model.traffic import Counts
from engine.networks import bridge as bridges
from engine.networks import ipam, neighbours
from engine.networks.bridged import Bridged
from engine.networks.defined import Defined
from engine.networks.elements import Bridge, Port
from engine.networks.endpoints import HAS_IPV6
from engine.networks.firewall import Everything, Firewall
from engine.networks.limited import Limited
from engine.networks.limits import CONTAINERS, NETWORKS, check_size
from engine.networks.published import Published
from engine.networks.shares import Share
from engine.networks.store import Leases
from engine.tenants import Tenants

_FORWARDING: Final = "net/ipv4/ip_forward"
_IPV6_FORWARDING: Final = "net/ipv6/conf/all/forwarding"
_ADVERTISED: Final = "net/ipv6/conf/{}/accept_ra"  # 1: unless it forwards; 2: in any case


class Rulebook:
    """Methods raise OSError."""

    def __init__(
        self,
        folder: Path,
        instance: str,
        leases: Leases,
        defined: Defined,
        claims: Claims,
        tenants: Tenants,
        shares: Callable[[], list[Share]],
    ) -> None:
        self._folder, self._instance, self._shares = folder, instance, shares
        self._leases, self._defined, self._claims, self._tenants = leases, defined, claims, tenants
        self._firewall = Firewall(instance, self._everything)
        self._published = Published(folder, self._firewall)
        self._limited = Limited(folder)

    def changing(self) -> AbstractContextManager[None]:
        """Under it nobody else makes or removes networks, bridges or tables."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return disk.locked(self._folder / ".lock")

    # -- all of them -----------------------------------------------------------------------------

    def is_whole(self) -> bool:
        return self._firewall.is_whole()

    def make(self) -> None:
        """What is missing, also in others' firewalls. Under ``changing``."""
        if not self._firewall.is_whole():
            self._firewall.build()
        neighbours.accept_forwarding(self._firewall.nftables(), self._instance)
        self._claims.hold_sysctl(self._instance, _FORWARDING, "1")
        if HAS_IPV6 and any(network.ipv6_pool for network in self._defined.all()):
            self._forward_ipv6()

    def remove(self) -> None:
        """Ours, and what we put into others'; what containers had is forgotten. Forwarding as it was, unless another instance needs it."""
        self._firewall.remove()
        neighbours.withdraw(self._firewall.nftables(), self._instance)
        self._claims.drop_sysctls(self._instance)
        self._published.clear()
        self._limited.clear(CONTAINERS)

    def close(self) -> None:
        self._firewall.close()

    # -- a network -------------------------------------------------------------------------------

    def add_bridge(self, network: Bridged) -> None:
        """Before the link exists. Under ``changing``."""
        self.make()
        self._firewall.add_bridge(_bridge(network))
        self.share()  # its link may have been somebody else's, who was killed while he removed it

    def drop_bridge(self, network: Bridged) -> None:
        """After the link is gone. Nobody has an address there."""
        for _, _, lease in self._leases.all():
            if lease.network == network.key:
                self._firewall.drop_port(lease.port())
        self._firewall.drop_bridge(_bridge(network))

    def limit_network(self, spec: NetworkSpec) -> None:
        """Its own allow-lists hold, and no other ones. Under ``changing``."""
        if spec.rules or self._limited.of(NETWORKS, spec.id) is not None:
            subnets = tuple(pool.subnet for pool in (spec.pool, spec.ipv6_pool) if pool)
            self._limited.write(NETWORKS, spec.id, subnets, spec.rules)
            self._refill()

    def forget_network(self, network: Bridged) -> None:
        """Under ``changing``."""
        if self._limited.of(NETWORKS, network.key) is not None:
            self._limited.forget(NETWORKS, network.key)
            self._refill()

    def share(self) -> None:
        """Each tenant's networks together have what its record says. Under ``changing``."""
        try:
            self._firewall.share()
        except OSError:  # as of ``_refill``
            if bridges.existing(self._instance):
                self._firewall.build()

    # -- an address ------------------------------------------------------------------------------

    def let_in(self, port: Port) -> None:
        """Before its link exists."""
        self._insist(lambda: self._firewall.add_port(port))

    def wall_off(self, tenant: TenantHost) -> None:
        """What its processes in the host's network reach."""
        self._insist(lambda: self._firewall.add_ids(tenant.uid_start))

    @contextmanager
    def letting_go(self, *ports: Port) -> Iterator[None]:
        """Nobody has these addresses any more; who has one next gets nothing of this one's. The block says so in the files.

        The element is dropped before and after that: see Firewall.build.
        """
        for port in ports:
            self._firewall.drop_port(port)
            for address in filter(None, (port.address, port.ipv6_address)):
                self._firewall.forget_connections(address)
        yield
        for port in ports:
            self._firewall.drop_port(port)

    # -- traffic ---------------------------------------------------------------------------------

    def counted(self) -> dict[str, Counts]:
        """By link, also of those that are gone."""
        found = self._firewall.counted()
        sent, received = found["sent"], found["received"]
        counts = {}
        for link in sent.keys() | received.keys():
            (out_bytes, out_packets), (into_bytes, into_packets) = sent.get(link, (0, 0)), received.get(link, (0, 0))
            counts[link] = Counts(into_bytes=into_bytes, into_packets=into_packets, out_bytes=out_bytes, out_packets=out_packets)
        return counts

    def forget_counted(self, link: str) -> None:
        self._firewall.forget_counted(link)

    # -- published ports -------------------------------------------------------------------------

    def publish(self, container_id: str, address: str, ipv6_address: str, ports: Sequence[PortBinding]) -> None:
        """These lead to the addresses, and no other ones; one of the two may be ""."""
        self._insist(lambda: self._published.add(container_id, address, ipv6_address, ports))
        self._close_to_strangers(container_id, address or ipv6_address)

    def unpublish(self, container_id: str) -> None:
        ports, address = self._published.ports_of(container_id), self._published.address_of(container_id)
        self._published.drop(container_id)
        if ports:
            self._close_to_strangers(container_id, address)

    def ports(self, container_id: str) -> tuple[PortBinding, ...]:
        return self._published.ports_of(container_id)

    def published(self) -> set[str]:
        """Containers that have any."""
        return self._published.ids()

    # -- a container's allow-lists ----------------------------------------------------------------

    def limit(self, container_id: str, addresses: tuple[str, ...], rules: Rules) -> None:
        """They hold for these addresses, and for no other ones. Without lists nothing happens."""
        before = self._limited.of(CONTAINERS, container_id)
        if not rules and before is None:
            return
        check_size(rules)
        now = self._limited.write(CONTAINERS, container_id, addresses, rules)
        try:
            self._firewall.limit([before] if before else [], [now] if now else [])
        except OSError:  # another process was killed half way, or somebody flushed our tables
            with self.changing():
                self._refill()
            return
        if self._published.ports_of(container_id):
            with self.changing():
                self._refill()

    def unlimit(self, container_id: str, *addresses: str) -> None:
        """These are not its own any more; without any: none is."""
        before = self._limited.of(CONTAINERS, container_id)
        if before is not None:
            kept = tuple(each for each in before.places if each not in addresses) if addresses else ()
            now = self._limited.write(CONTAINERS, container_id, kept, before.rules)
            try:
                self._firewall.limit([before], [now] if now else [])
            except OSError:
                with self.changing():
                    self._refill()

    # -- inside ----------------------------------------------------------------------------------

    def _insist(self, act: Callable[[], None]) -> None:
        """Somebody may have flushed our tables: then they are made anew first."""
        try:
            act()
        except OSError:
            with self.changing():
                self.make()
            act()

    def _forward_ipv6(self) -> None:
        """The host keeps listening to the routers that it has its own way out from, which a router does not."""
        for link in netlink.default_route_links(socket.AF_INET6):
            self._claims.hold_sysctl(self._instance, _ADVERTISED.format(link), "2", only="1")
        self._claims.hold_sysctl(self._instance, _IPV6_FORWARDING, "1")

    def _close_to_strangers(self, container_id: str, address: str) -> None:
        """A list that says who may come to its ports says so to IPv6 as well, which netd relays to a container without."""
        if self._limited.is_selective(container_id, address):
            with self.changing():
                self._refill()

    def _refill(self) -> None:
        """Under the lock. Without a table there is nobody to limit yet: whoever makes it makes it whole."""
        try:
            self._firewall.refill()
        except OSError:  # somebody flushed our tables, or none was needed yet
            if bridges.existing(self._instance):
                self._firewall.build()

    def _everything(self) -> Everything:
        """Of a bridge whose network is unknown (removed half) nothing but its walls."""
        known = {network.link: network for network in self._defined.all()}
        there = []
        for link, subnet in bridges.existing(self._instance).items():
            network = known.get(link)
            is_closed = network is None and link.startswith(f"{self._instance}bn")
            mac = ipam.mac_address(ipam.gateway(subnet)) if subnet else ""
            there.append(_bridge(network) if network else Bridge(link, subnet, internal=is_closed, mac=mac))
        return Everything(
            bridges=there,
            ports=[lease.port() for _, _, lease in self._leases.all()],
            forwards=self._published.all(),
            limits=list(self._limited.all()),
            closed=list(self._limited.closed(self._published.addressed())),
            shares=self._shares(),
            first_ids=[tenant.uid_start for tenant in self._tenants.list()],
        )


def _bridge(network: Bridged) -> Bridge:
    subnet, ipv6_subnet = (pool.subnet if pool else "" for pool in (network.pool, network.ipv6_pool))
    return Bridge(network.link, subnet, network.internal, network.icc, network.mac_address, ipv6_subnet)
