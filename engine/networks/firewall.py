"""The instance's nftables tables: what a tenant's container may reach. Rules never change; sets do.

    inet slipway_<instance>
      input         from a tenant's bridge to the host itself, on whatever address: only answers to what the host began
      forward       one bridge → the same bridge (seen here only when br_netfilter is loaded): yes
                    anything → our bridge: only answers, so neither the world, nor another instance, nor another tenant gets in
                    our bridge → metadata service (link-local), other container platforms' bridges: no
                    our bridge → world: yes, while the tenant has connections left
      postrouting   a tenant's address leaves by the host's
    bridge slipway_<instance>
      prerouting    a port lets in IPv4 and ARP with its own MAC and IP address and nothing else: no spoofing, no IPv6 yet

An administrator's ``flush ruleset`` takes the tables away; the next ``add_…`` fails then, for its set is gone, and the caller
builds everything again from the kernel's bridges and the leases. The rules use no NFT_BRIDGE_META: some kernels lack it.
"""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from engine.kernel import netlink
from engine.kernel.nftables import BRIDGE, Elements, Nftables

# Of other platforms: what a tenant has no business in. libvirt, LXD, Incus, podman, CNI; Docker's own networks are br-<id>.
_FOREIGN = ("docker0", "docker_gwbridge", "br-*", "virbr*", "lxcbr*", "lxdbr*", "incusbr*", "podman*", "cni*")
_CONNTRACK_MAX = Path("/proc/sys/net/netfilter/nf_conntrack_max")
_SHARE = 4  # a tenant may fill a quarter of the host's connection table


class Bridge(NamedTuple):
    name: str
    subnet: str


class Port(NamedTuple):
    link: str
    mac: str
    address: str


class Firewall:
    """Methods raise OSError. ``everything`` tells what must be in the sets when the tables are built."""

    def __init__(self, instance: str, everything: Callable[[], tuple[list[Bridge], list[Port]]]) -> None:
        self._table = f"slipway_{instance}"
        self._port_prefix = f"{instance}v"
        self._everything = everything
        self._nft: Nftables | None = None
        self._ports: Elements | None = None
        self._lock = threading.Lock()

    def add_bridge(self, bridge: Bridge) -> None:
        """Before the link exists: whoever finds the link finds it walled in."""
        self.nftables().run(
            f"add element inet {self._table} bridges {{ {_quoted(bridge.name)} }}\n"
            f"add element inet {self._table} subnets {{ {bridge.subnet} }}\n"
            f"add element inet {self._table} pairs {{ {_pair(bridge)} }}\n"
        )

    def add_port(self, port: Port) -> None:
        """Before the link exists: it may talk from its first frame on."""
        self._port_elements().add(_key(port))

    def drop_port(self, port: Port) -> None:
        """Gone already is fine."""
        try:
            self._port_elements().delete(_key(port))
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise

    def drop_bridge(self, bridge: Bridge) -> None:
        """After the link is gone: without rules its tenant would be free."""
        for name, element in (("pairs", _pair(bridge)), ("subnets", bridge.subnet), ("bridges", _quoted(bridge.name))):
            self._drop(f"delete element inet {self._table} {name} {{ {element} }}\n")

    def is_whole(self) -> bool:
        """The tables are there and their sets hold what they must."""
        bridges, ports = self._everything()
        try:
            have_bridges = set(self._elements("inet", "bridges"))
            have_ports = {tuple(element["concat"]) for element in self._elements("bridge", "ports")}
        except OSError:
            return False
        return have_bridges >= {bridge.name for bridge in bridges} and have_ports >= {tuple(port) for port in ports}

    def build(self) -> None:
        """Both tables anew, in one transaction: there is no moment without rules."""
        bridges, ports = self._everything()
        families = ("inet", "bridge")
        forget = "".join(f"add table {family} {self._table}\ndelete table {family} {self._table}\n" for family in families)
        self.nftables().run(forget + self._inet(bridges) + self._bridge(ports))

    def remove(self) -> None:
        for family in ("inet", "bridge"):
            self._drop(f"delete table {family} {self._table}\n")

    def nftables(self) -> Nftables:
        with self._lock:
            if self._nft is None:
                self._nft = Nftables()
            return self._nft

    def _port_elements(self) -> Elements:
        with self._lock:
            if self._ports is None:
                self._ports = Elements(BRIDGE, self._table, "ports")
            return self._ports

    def close(self) -> None:
        with self._lock:
            for part in (self._nft, self._ports):
                if part is not None:
                    part.close()
            self._nft = self._ports = None

    def _inet(self, bridges: list[Bridge]) -> str:
        uplinks = netlink.default_route_links()
        keep = f"oifname != {{ {', '.join(map(_quoted, sorted(uplinks)))} }}" if uplinks else ""
        foreign = "\n".join(f"    iifname @bridges oifname {_quoted(name)} {keep} ct state new drop" for name in _FOREIGN)
        return f"""
table inet {self._table} {{
  set bridges {{ type ifname; {_elements(_quoted(bridge.name) for bridge in bridges)} }}
  set subnets {{ type ipv4_addr; flags interval; {_elements(bridge.subnet for bridge in bridges)} }}
  set pairs {{ type ifname . ifname; {_elements(_pair(bridge) for bridge in bridges)} }}
  set connections {{ type ifname; size 65535; flags dynamic; }}
  chain input {{
    type filter hook input priority filter - 10; policy accept;
    iifname @bridges ct state established,related accept
    iifname @bridges drop
  }}
  chain forward {{
    type filter hook forward priority filter - 10; policy accept;
    iifname . oifname @pairs accept
    iifname @bridges oifname @bridges drop
    oifname @bridges ct state established,related accept
    oifname @bridges drop
    iifname @bridges ip daddr 169.254.0.0/16 drop
    iifname @bridges meta nfproto ipv6 drop
    iifname @bridges ip saddr != @subnets drop
{foreign}
    iifname @bridges ct state new add @connections {{ iifname ct count over {_connections()} }} drop
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr @subnets oifname != @bridges masquerade
  }}
}}
"""

    def _bridge(self, ports: list[Port]) -> str:
        return f"""
table bridge {self._table} {{
  set ports {{ type ifname . ether_addr . ipv4_addr; {_elements(map(_port, ports))} }}
  chain prerouting {{
    type filter hook prerouting priority -300; policy accept;
    iifname != "{self._port_prefix}*" accept
    ether type arp iifname . arp saddr ether . arp saddr ip != @ports drop
    ether type arp iifname . ether saddr . arp saddr ip @ports accept
    ether type ip iifname . ether saddr . ip saddr @ports accept
    drop
  }}
}}
"""

    def _drop(self, commands: str) -> None:
        """Gone already is fine; nft does not tell that from other failures."""
        try:
            self.nftables().run(commands)
        except OSError:
            pass

    def _elements(self, family: str, name: str) -> list[Any]:
        found = self.nftables().list(f"set {family} {self._table} {name}")
        return [element for item in found if "set" in item for element in item["set"].get("elem", [])]


def _connections() -> int:
    """How many connections of one tenant the host tracks at a time, so that no tenant fills the table for all."""
    try:
        return max(4096, int(_CONNTRACK_MAX.read_text()) // _SHARE)
    except (FileNotFoundError, ValueError):
        return 16384


def _elements(words: Iterable[str]) -> str:
    joined = ", ".join(words)
    return f"elements = {{ {joined} }}" if joined else ""


def _quoted(name: str) -> str:
    return f'"{name}"'


def _pair(bridge: Bridge) -> str:
    return f'"{bridge.name}" . "{bridge.name}"'


def _key(port: Port) -> bytes:
    mac = bytes.fromhex(port.mac.replace(":", ""))
    return port.link.encode().ljust(netlink.IFNAMSIZ, b"\0") + mac + b"\0\0" + socket.inet_aton(port.address)


def _port(port: Port) -> str:
    return f'"{port.link}" . {port.mac} . {port.address}'
