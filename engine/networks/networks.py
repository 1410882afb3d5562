"""The networks of one instance: addresses (files), bridges and veths (kernel), rules (nftables), and the files that name things.

Safe for several threads and processes at once. Kernel objects are made at the first need of them and found by name later, so
nothing here must be started, and a process that dies leaves nothing that the next one does not understand.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

from engine import ceilings
from engine.claims import Claims
from engine.config import EngineConfig
from engine.errors import FailedPrecondition, Internal, NotFound, PermissionDenied, Unavailable
from engine.kernel import netlink, shaping
from engine.kernel.netns import Opener
from engine.model.bandwidth import Bandwidth
from engine.model.network import DEFAULT, EndpointSpec, NetworkSpec, PortBinding
from engine.model.rules import Rules, check_rules
from engine.model.tenant import TenantHost
from engine.networks import bridge as bridges
from engine.networks import endpoints, ipam, ways_out
from engine.networks.bridged import Bridged, default_bridge
from engine.networks.defined import Defined
from engine.networks.endpoints import Endpoint
from engine.networks.flows import Flows
from engine.networks.limits import check_size
from engine.networks.rulebook import Rulebook
from engine.networks.shares import Share
from engine.networks.store import YOUNG_S, Lease, Leases
from engine.networks.ways_out import NOWHERE, WaysOut
from engine.tenants import Tenants

DEFAULT_ALONE = (EndpointSpec(),)
NO_RULES = Rules()


class ProcessEnded(FailedPrecondition):
    """Before its network was there: whoever made it knows why."""


class Networks:
    def __init__(self, config: EngineConfig, tenants: Tenants, claims: Claims | None = None) -> None:
        self._instance = instance = tenants.instance()
        self._config, self._tenants = config, tenants
        self._folder = config.engine / "networks"
        self._leases = Leases(self._folder, f"{instance}v")
        self._claims = claims or Claims()
        self._defined = Defined(self._folder, instance, self._claims)
        self._rules = Rulebook(self._folder, instance, self._leases, self._defined, self._claims, tenants, self._shares)
        self.flows = Flows(instance, self._leases, self._defined, self._rules, tenants)
        self._opener = Opener()
        self._lock = threading.Lock()
        self._socket: netlink.Socket | None = None
        self._mtu: int | None = None

    # -- networks of a tenant --------------------------------------------------------------------

    def create(self, spec: NetworkSpec) -> NetworkSpec:
        """With the pool it got; its bridge comes with the first container. The same one again is once."""
        check_rules(spec.rules)
        check_size(spec.rules)
        with self._rules.changing():
            made = self._defined.add(spec)
            self._rules.limit_network(made)
            return made

    def limit_network(self, tenant: str, network_id: str, rules: Rules) -> NetworkSpec:
        """Other allow-lists for it, from now on; what they leave out ends."""
        check_rules(rules)
        check_size(rules)
        with self._rules.changing():
            spec = replace(self._defined.spec(tenant, network_id), rules=rules)
            self._defined.put_back(spec, self._defined.get(tenant, network_id))
            self._rules.limit_network(spec)
            return spec

    def remove(self, tenant: str, network_id: str) -> None:
        """PermissionDenied in moby's words while a container that runs is in it; gone already is fine."""
        with self._rules.changing():
            try:
                network, spec = self._defined.get(tenant, network_id), self._defined.spec(tenant, network_id)
            except NotFound:
                return
            self._defined.drop(tenant, network_id)  # first: whoever claims an address now finds that it is gone, and lets go
            if self._leases.is_used(network.key):
                self._defined.put_back(spec, network)
                sentence = f"error while removing network: network {network.name} id {network.id} has active endpoints"
                raise PermissionDenied(sentence, rule="network")
            self._remove(network)

    def defined(self, tenant: str) -> list[Bridged]:
        return self._defined.of(tenant)

    def specs(self) -> list[NetworkSpec]:
        """What every tenant made, with the pools they got."""
        return self._defined.specs()

    def network(self, tenant: TenantHost, network_id: str) -> Bridged:
        """NotFound also for another tenant's."""
        return default_bridge(self._instance, tenant) if network_id == DEFAULT else self._defined.get(tenant.name, network_id)

    # -- one container ---------------------------------------------------------------------------

    def reserve(self, tenant: TenantHost, container_id: str, wanted: Sequence[EndpointSpec] = DEFAULT_ALONE) -> tuple[Endpoint, ...]:
        """Its addresses, the same ones when it has them; files only. FailedPrecondition when a subnet is full; nothing is kept then.

        The first one is eth0; the default route goes by the greatest ``gw_priority``, then the first name, never by an internal network.
        """
        networks = [self.network(tenant, each.network_id) for each in wanted]
        ways = ways_out.of(wanted, networks)
        had = {each.network_id for each in wanted if self._leases.of(container_id, each.network_id) is not None}
        made = []
        try:
            for number, (each, network) in enumerate(zip(wanted, networks, strict=True)):
                lease = self._claim(network, container_id, each)
                made.append(_endpoint(lease, network, f"eth{number}", ways))
        except BaseException:
            for each in wanted:
                if each.network_id not in had:
                    self._leases.free(container_id, each.network_id)
            raise
        return tuple(made)

    def attach(self, tenant: TenantHost, reserved: Sequence[Endpoint], pid: int) -> None:
        """An interface for each, with address and default route, in the network namespace of the process, which must live until then.

        When it fails the namespace may hold a half-made one, which dies with it.
        """
        with self.inside(pid) as netns:
            for endpoint in reserved:
                self._plug(tenant, endpoint, reserved, netns)

    def wall_off(self, tenant: TenantHost) -> None:
        """Before a process of it begins in the host's network: that reaches no container's address but by its published ports."""
        try:
            self._rules.wall_off(tenant)
        except OSError as error:
            raise _said(error, f"wall off tenant {tenant.name} in the host's network") from error

    def connect(
        self, tenant: TenantHost, container_id: str, wanted: EndpointSpec, present: Sequence[Endpoint], pid: int, rules: Rules = NO_RULES
    ) -> Endpoint:
        """Of a container that runs; its default route stays. Nothing is left when it fails. ``rules`` are its own."""
        network = self.network(tenant, wanted.network_id)
        lease = self._claim(network, container_id, wanted)
        interface = endpoints.free_interface({each.interface for each in present})
        endpoint = _endpoint(lease, network, interface, NOWHERE)
        if any(name == lease.link for _, name in socket.if_nameindex()):  # of a connect that was killed
            bridges.delete(lease.link)
        try:
            self.limit(container_id, (*present, endpoint), rules)
            with self.inside(pid) as netns:
                self._plug(tenant, endpoint, (*present, endpoint), netns)
        except BaseException:
            self.disconnect(container_id, endpoint)
            raise
        return endpoint

    def ways_out(self, tenant: TenantHost, wanted: Sequence[EndpointSpec]) -> WaysOut:
        return ways_out.of(wanted, [self.network(tenant, each.network_id) for each in wanted])

    def disconnect(self, container_id: str, endpoint: Endpoint) -> None:
        """Of a container that runs. The pair goes, so the address is free at once."""
        try:
            bridges.delete(endpoint.link)
            shaping.remove(self._host(), self._ifb(endpoint.link))
            self._rules.unlimit(container_id, *endpoint.addresses)
            with self._rules.letting_go(endpoint.port()):
                self._leases.free(container_id, endpoint.network_id)
        except OSError as error:
            raise _said(error, f"disconnect {endpoint}") from error

    def route(self, endpoint: Endpoint, pid: int) -> None:
        """The container's default routes whose way out it is go by this one from now on."""
        try:
            with self.inside(pid) as netns:
                endpoints.route(self._opener, endpoint, netns=netns)
        except OSError as error:
            raise _said(error, f"route by {endpoint}") from error

    def limit(self, container_id: str, reserved: Sequence[Endpoint], rules: Rules) -> None:
        """The container's allow-lists hold for these addresses, and for no other ones; before it is attached to them."""
        try:
            self._rules.limit(container_id, tuple(address for each in reserved for address in each.addresses), rules)
        except OSError as error:
            raise _said(error, f"limit what container {container_id} reaches") from error

    def shape(self, reserved: Sequence[Endpoint], bandwidth: Bandwidth) -> None:
        """Of what is attached: so much through each of these, from now on."""
        try:
            for endpoint in reserved:
                shaping.limit_to_container(self._host(), endpoint.link, bandwidth.into)
                shaping.limit_from_container(self._host(), endpoint.link, self._ifb(endpoint.link), bandwidth.out)
        except OSError as error:
            raise _said(error, "limit bandwidth") from error

    def shape_tenants(self) -> None:
        """So much by all networks of a tenant together as its record and its ceiling say now. What stays in a network is free."""
        try:
            with self._rules.changing():
                self._rules.share()
        except OSError as error:
            raise _said(error, "limit the bandwidth of tenants") from error

    def publish(self, container_id: str, endpoint: Endpoint, ports: Sequence[PortBinding], *, ipv6: Endpoint | None = None) -> None:
        """The ports of the host lead to the container's address there, and no other ones do; by IPv6 to the one at ``ipv6``, which may be
        the same endpoint.

        With br_netfilter, which dockerd loads, who uses a port of its own gets the frame back from the bridge: its port must allow that.
        """
        try:
            sock = self._host()
            sock.run([netlink.hairpin_port(sock.index(link)) for link in {endpoint.link, ipv6.link if ipv6 else endpoint.link}])
            self._rules.publish(container_id, endpoint.ip_address, ipv6.ipv6_address if ipv6 else "", ports)
        except OSError as error:
            raise _said(error, f"publish ports of {endpoint}") from error

    def unpublish(self, container_id: str) -> None:
        """No port leads to it."""
        try:
            self._rules.unpublish(container_id)
        except OSError as error:
            raise _said(error, "withdraw published ports") from error

    def ports(self, container_id: str) -> tuple[PortBinding, ...]:
        """Those that lead to it."""
        return self._rules.ports(container_id)

    def release(self, container_id: str, network_ids: Collection[str] = (DEFAULT,)) -> None:
        """Its addresses and ports are free again. The caller asserts that its processes are gone. Without any: nothing happens."""
        leases = [(each, lease) for each in network_ids if (lease := self._leases.of(container_id, each)) is not None]
        try:
            self._rules.unpublish(container_id)
            self._rules.unlimit(container_id)
            with self._rules.letting_go(*(lease.port() for _, lease in leases)):
                for network_id, lease in leases:
                    shaping.remove(self._host(), self._ifb(lease.link))
                    self._leases.free(container_id, network_id)
        except OSError as error:
            raise _said(error, f"release {', '.join(lease.address or lease.ipv6_address for _, lease in leases)}") from error

    # -- all of them -----------------------------------------------------------------------------

    def reconcile(self, live: Collection[str]) -> list[str]:
        """Free what containers that are not ``live`` left (returned), and put the rules right where somebody changed them.

        Leases younger than YOUNG_S stay: their container may have come after the caller made the list.
        """
        dead = self._leases.dead(set(live), older_than_s=YOUNG_S)
        for container_id, network_id in dead:
            self.release(container_id, (network_id,))
        self.heal()
        return [container_id for container_id, _ in dead]

    def dead(self, live: Collection[str]) -> list[str]:
        """What ``reconcile`` would free."""
        return [container_id for container_id, _ in self._leases.dead(set(live), older_than_s=YOUNG_S)]

    def links(self, live: Collection[str]) -> set[str]:
        """Host ends of the veths of all that is ``live`` or may just be starting."""
        dead = set(self.dead(live))
        return {lease.link for container_id, _, lease in self._leases.all() if container_id not in dead}

    def heal(self) -> None:
        """Put right what somebody changed: flushed our tables, stopped forwarding, started a firewall of his own, deleted a bridge."""
        try:
            if bridges.existing(self._instance) or self.is_bridge_missing():
                with self._rules.changing():
                    self._rules.make()
                self._mend_bridges()
        except OSError as error:
            raise _said(error, "repair the firewall rules") from error

    def is_whole(self) -> bool:
        """Whether rules and bridges are as ``heal`` leaves them."""
        try:
            return not self.is_bridge_missing() and (not bridges.existing(self._instance) or self._rules.is_whole())
        except OSError as error:
            raise _said(error, "look at the firewall rules") from error

    def is_bridge_missing(self) -> bool:
        """Of a network that somebody is in. Cheap: for who asks again and again."""
        there = {name for _, name in socket.if_nameindex()}
        return any(network.link not in there for network in self._used() if self._leases.is_used(network.key))

    def bridges_of(self, tenant: TenantHost) -> list[str]:
        """Names of the links of its networks, whether they are up or not."""
        return [network.link for network in (default_bridge(self._instance, tenant), *self._defined.of(tenant.name))]

    def remove_tenant(self, tenant: TenantHost) -> None:
        """Bridges, rules, leases. The caller asserts that none of its containers runs."""
        with self._rules.changing():
            for network in (default_bridge(self._instance, tenant), *self._defined.of(tenant.name)):
                self._remove(network)
            self._defined.forget(tenant.name)
            for link, (key, _) in self._leases.departed.all().items():
                if key == tenant.name:
                    self._leases.departed.drop(link)

    def remove_all(self) -> None:
        """Every link, rule and lease of the instance; forwarding as it was before, unless another instance needs it.

        The networks that tenants made stay on record, and come back with their next container.
        """
        try:
            for name in bridges.links_of(self._instance):
                bridges.delete(name)
            self._rules.remove()
        except OSError as error:
            raise _said(error, "remove the networks") from error
        self._leases.clear()

    def close(self) -> None:
        """Let go of sockets and thread; what was made stays. Not needed before a process ends."""
        self._opener.close()
        self._rules.close()
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None

    # -- inside ----------------------------------------------------------------------------------

    def _ifb(self, link: str) -> str:
        """Through which goes what comes from the container, when that is limited."""
        return f"{self._instance}i{link.removeprefix(self._instance)[1:]}"

    def _claim(self, network: Bridged, container_id: str, wanted: EndpointSpec) -> Lease:
        lease = self._leases.claim(network, container_id, wanted)
        if network.id != DEFAULT:
            try:
                self._defined.get(network.tenant, network.id)
            except NotFound:  # removed meanwhile
                self._leases.free(container_id, network.id)
                raise
        return lease

    def _plug(self, tenant: TenantHost, endpoint: Endpoint, everything: Sequence[Endpoint], netns: int) -> None:
        knows_ipv6 = any(each.ipv6_address for each in everything)
        network = self.network(tenant, endpoint.network_id)
        try:
            sock = self._host()
            self._ensure_bridge(sock, network)
            self._rules.let_in(endpoint.port())
            mtu = network.mtu or self._link_mtu()
            endpoints.plug(sock, self._opener, endpoint, bridge=network, mtu=mtu, netns=netns, knows_ipv6=knows_ipv6)
        except OSError as error:
            raise _said(error, f"attach {endpoint} to network {network.name} of tenant {tenant.name}") from error

    @contextmanager
    def inside(self, pid: int) -> Iterator[int]:
        """The fd of its network namespace. ProcessEnded."""
        try:
            netns = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise ProcessEnded(f"the container's process {pid} ended before its network was there") from error
        try:
            yield netns
        finally:
            os.close(netns)

    def _shares(self) -> list[Share]:
        found = []
        for tenant in self._tenants.list():
            if bandwidth := tenant.bandwidth.within(ceilings.read(self._config, tenant.name).bandwidth):
                links = (default_bridge(self._instance, tenant).link, *(network.link for network in self._defined.of(tenant.name)))
                found.append(Share(tenant.number, links, bandwidth))
        return found

    def _used(self) -> Iterator[Bridged]:
        """The networks that anybody was ever in."""
        defined = {network.key: network for network in self._defined.all()}
        for key in self._leases.networks():
            with suppress(NotFound):  # of a tenant, or network, that is being removed
                yield defined.get(key) or default_bridge(self._instance, self._tenants.get(key))

    def _mend_bridges(self) -> None:
        """Ports whose bridge was deleted, or made anew without them, are its ports again, as they were."""
        sock, masters = self._host(), netlink.masters()
        used = {network.key: network for network in self._used()}
        published = self._rules.published()
        for container_id, _, lease in self._leases.all():
            network = used.get(lease.network)
            if network is None or masters.get(lease.link, -1) != 0:
                continue
            self._ensure_bridge(sock, network)
            index = sock.index(lease.link)
            steps = [netlink.set_master(lease.link, sock.index(network.link))]
            steps += [netlink.isolate_port(index)] if not network.icc else []
            steps += [netlink.hairpin_port(index)] if container_id in published else []
            sock.run(steps)
            for name in (lease.link, network.link):
                sock.settle(name)

    def _remove(self, network: Bridged) -> None:
        """Nobody is in it."""
        try:
            if network.link in bridges.existing(self._instance):
                bridges.delete(network.link)
                self._rules.drop_bridge(network)
        except OSError as error:
            raise _said(error, f"remove network {network.name} of tenant {network.tenant}") from error
        self._leases.forget(network.key)
        self._leases.departed.network_gone(network.key, network.tenant)
        self._rules.forget_network(network)

    def _ensure_bridge(self, sock: netlink.Socket, network: Bridged) -> None:
        """Rules, link, address, up: in this order, so that a bridge which is up is complete and walled in."""
        if not sock.is_up(network.link):
            with self._rules.changing():
                if sock.is_up(network.link):
                    return  # another thread or process was first
                self._rules.add_bridge(network)
                bridges.create(network)

    def _host(self) -> netlink.Socket:
        with self._lock:
            if self._socket is None:
                self._socket = netlink.Socket()
            return self._socket

    def _link_mtu(self) -> int:
        if self._mtu is None:
            self._mtu = bridges.uplink_mtu()
        return self._mtu


def _endpoint(lease: Lease, network: Bridged, interface: str, ways: WaysOut) -> Endpoint:
    ipv4, ipv6 = network.pool if lease.address else None, network.ipv6_pool if lease.ipv6_address else None
    return Endpoint(
        ip_address=lease.address,
        prefix_len=ipam.prefix_length(ipv4.subnet) if ipv4 else 0,
        gateway=ipv4.gateway if ipv4 else "",
        mac_address=lease.mac,
        link=lease.link,
        network_id=network.id,
        interface=interface,
        is_way_out=network.id == ways.ipv4,
        ipv6_address=lease.ipv6_address,
        ipv6_prefix_len=ipam.prefix_length(ipv6.subnet) if ipv6 else 0,
        ipv6_gateway=ipv6.gateway if ipv6 else "",
        is_ipv6_way_out=network.id == ways.ipv6,
    )


def _said(error: OSError, doing: str) -> Internal | Unavailable:
    """ENOSYS means that the nftables library is missing, which an administrator can mend; the rest is ours."""
    sentence = f"{doing}: {error.strerror or error}"
    return Unavailable(sentence) if error.errno == errno.ENOSYS else Internal(sentence)
