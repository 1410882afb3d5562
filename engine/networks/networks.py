"""The networks of one instance: addresses (files), bridges and veths (kernel), rules (nftables), and the files that name things.

Safe for several threads and processes at once. Kernel objects are made at the first need of them and found by name later, so
nothing here must be started, and a process that dies leaves nothing that the next one does not understand.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Collection
from contextlib import AbstractContextManager

from engine import disk
from engine.claims import Claims
from engine.config import EngineConfig
from engine.errors import FailedPrecondition, Internal, Unavailable
from engine.kernel import netlink
from engine.kernel.netns import Opener
from engine.model.container import ContainerSpec
from engine.model.tenant import TenantHost
from engine.networks import bridge as bridges
from engine.networks import endpoints, ipam, neighbours, resolve
from engine.networks.endpoints import Endpoint
from engine.networks.firewall import Bridge, Firewall, Port
from engine.networks.store import Lease, Leases

_FORWARDING = "net/ipv4/ip_forward"
YOUNG_S = 60.0  # older than any list of the living that a caller of reconcile may hold


class Networks:
    def __init__(self, config: EngineConfig, instance: str, claims: Claims | None = None) -> None:
        self._instance = instance
        self._folder = config.engine / "networks"
        self._leases = Leases(self._folder, f"{instance}v")
        self._claims = claims or Claims()
        self._firewall = Firewall(instance, self._everything)
        self._opener = Opener()
        self._lock = threading.Lock()
        self._socket: netlink.Socket | None = None
        self._mtu: int | None = None

    # -- one container ---------------------------------------------------------------------------

    def reserve(self, tenant: TenantHost, container_id: str) -> Endpoint:
        """An address for the container, the same one when it has one; files only. FailedPrecondition when the subnet is full."""
        lease = self._leases.claim(tenant, container_id)
        return Endpoint(
            ip_address=lease.address,
            prefix_len=ipam.prefix_length(tenant.subnet),
            gateway=ipam.gateway(tenant.subnet),
            mac_address=ipam.mac_address(lease.address),
            link=lease.link,
        )

    def attach(self, tenant: TenantHost, endpoint: Endpoint, pid: int) -> None:
        """eth0 with address and default route in the network namespace of the process, which must live until this returns.

        When it fails the namespace may hold a half-made eth0, which dies with it.
        """
        try:
            netns = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise FailedPrecondition(f"the container's process {pid} ended before its network was there") from error
        try:
            sock = self._host()
            bridge = self._ensure_bridge(sock, tenant)
            self._let_in(endpoint.port())
            endpoints.plug(sock, self._opener, endpoint, bridge=bridge.name, mtu=self._link_mtu(), netns=netns)
        except OSError as error:
            raise _said(error, f"attach {endpoint.ip_address} to the bridge of tenant {tenant.name}") from error
        finally:
            os.close(netns)

    def release(self, container_id: str) -> None:
        """Its address is free again. The caller asserts that the container's processes are gone. Without one: nothing happens."""
        lease = self._leases.of(container_id)
        if lease is None:
            return
        try:
            self._firewall.drop_port(_port(lease))
        except OSError as error:
            raise _said(error, f"release {lease.address}") from error
        self._leases.free(container_id)

    def resolv_conf(self, spec: ContainerSpec) -> str:
        return resolve.resolv_conf(spec, resolve.host_resolv_conf())

    def hosts_file(self, spec: ContainerSpec, endpoint: Endpoint | None) -> str:
        address, gateway = (endpoint.ip_address, endpoint.gateway) if endpoint else ("", "")
        return resolve.hosts_file(spec, address=address, gateway=gateway)

    # -- all of them -----------------------------------------------------------------------------

    def reconcile(self, live: Collection[str]) -> list[str]:
        """Free what containers that are not ``live`` left (returned), and put the rules right where somebody changed them.

        Leases younger than YOUNG_S stay: their container may have come after the caller made the list.
        """
        alive = set(live)
        dead = self._leases.dead(alive, older_than_s=YOUNG_S)
        for container_id in dead:
            self.release(container_id)
        self.heal()
        return dead

    def dead(self, live: Collection[str]) -> list[str]:
        """What ``reconcile`` would free."""
        return self._leases.dead(set(live), older_than_s=YOUNG_S)

    def links(self, live: Collection[str]) -> set[str]:
        """Host ends of the veths of all that is ``live`` or may just be starting."""
        dead = set(self.dead(live))
        return {lease.link for container_id, lease in self._leases.all() if container_id not in dead}

    def heal(self) -> None:
        """Put the rules right where somebody changed them: flushed our tables, stopped forwarding, started a firewall of his own."""
        try:
            if bridges.existing(self._instance):
                with self._changing():
                    self._make_rules()
        except OSError as error:
            raise _said(error, "repair the firewall rules") from error

    def remove_tenant(self, tenant: TenantHost) -> None:
        """Bridge, rules, leases. The caller asserts that none of its containers runs."""
        bridge = bridges.bridge_of(self._instance, tenant)
        try:
            if any(known.name == bridge.name for known in bridges.existing(self._instance)):
                bridges.delete(bridge.name)
                for _, lease in self._leases.all():
                    if lease.tenant == tenant.name:
                        self._firewall.drop_port(_port(lease))
                self._firewall.drop_bridge(bridge)
        except OSError as error:
            raise _said(error, f"remove the bridge of tenant {tenant.name}") from error
        self._leases.forget(tenant.name)

    def remove_all(self) -> None:
        """Every link, rule and lease of the instance; forwarding as it was before, unless another instance needs it."""
        try:
            for name in bridges.links_of(self._instance):
                bridges.delete(name)
            self._firewall.remove()
            neighbours.withdraw(self._firewall.nftables(), self._instance)
            self._claims.drop_sysctl(self._instance, _FORWARDING)
        except OSError as error:
            raise _said(error, "remove the networks") from error
        self._leases.clear()

    def close(self) -> None:
        """Let go of sockets and thread; what was made stays. Not needed before a process ends."""
        self._opener.close()
        self._firewall.close()
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None

    # -- inside ----------------------------------------------------------------------------------

    def _ensure_bridge(self, sock: netlink.Socket, tenant: TenantHost) -> Bridge:
        """Rules, link, address, up: in this order, so that a bridge which is up is complete and walled in."""
        bridge = bridges.bridge_of(self._instance, tenant)
        if not sock.is_up(bridge.name):
            with self._changing():
                if sock.is_up(bridge.name):
                    return bridge  # another thread or process was first
                self._make_rules()
                self._firewall.add_bridge(bridge)
                bridges.create(tenant, bridge)
        return bridge

    def _let_in(self, port: Port) -> None:
        try:
            self._firewall.add_port(port)
        except OSError:  # somebody flushed our tables
            with self._changing():
                self._make_rules()
            self._firewall.add_port(port)

    def _make_rules(self) -> None:
        if not self._firewall.is_whole():
            self._firewall.build()
        neighbours.accept_forwarding(self._firewall.nftables(), self._instance)
        self._claims.hold_sysctl(self._instance, _FORWARDING, "1")

    def _everything(self) -> tuple[list[Bridge], list[Port]]:
        return bridges.existing(self._instance), [_port(lease) for _, lease in self._leases.all()]

    def _changing(self) -> AbstractContextManager[None]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return disk.locked(self._folder / ".lock")

    def _host(self) -> netlink.Socket:
        with self._lock:
            if self._socket is None:
                self._socket = netlink.Socket()
            return self._socket

    def _link_mtu(self) -> int:
        if self._mtu is None:
            self._mtu = bridges.uplink_mtu()
        return self._mtu


def _port(lease: Lease) -> Port:
    return Port(lease.link, ipam.mac_address(lease.address), lease.address)


def _said(error: OSError, doing: str) -> Internal | Unavailable:
    """ENOSYS means that the nftables library is missing, which an administrator can mend; the rest is ours."""
    sentence = f"{doing}: {error.strerror or error}"
    return Unavailable(sentence) if error.errno == errno.ENOSYS else Internal(sentence)
