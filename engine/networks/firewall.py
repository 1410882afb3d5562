"""The instance's nftables tables: what a tenant's container may reach. Rules never change; sets and maps do.

    inet slipway_<instance>
      raw           from a link to 127.0.0.0/8: never, for published ports open the way there (route_localnet)
      published     a published port of the host's, from outside or from the host itself, is its container's from here on; of IPv6 but
                    for ::1 and link-local addresses, which do not leave their link: those, and containers without IPv6, are netd's to relay
      input         from a tenant's bridge to the host itself, on whatever address: only answers to what the host began, and who asks for
                    the MAC address of the gateway;
                    by IPv6 to a published port that netd relays: not where an allow-list of the container's is for some alone
      forward       one bridge → the same bridge (by a published port, or with br_netfilter loaded): yes, unless icc is off; but not by way
                    of the gateway, which would look for one neighbour after the other until the table that all tenants share is full
                    what an allow-list of a container or its network leaves out (engine.networks.limits): no, whoever began it and when
                    anything → our bridge: answers and published ports, so neither the world, nor another instance, nor another network
                    gets in; to or from an internal one not even those
                    our bridge → metadata service, other container platforms' bridges: no
                    our bridge → world: yes, while the bridge has connections left
                    what is over its tenant's share (engine.networks.shares), to or from a bridge: no
      arriving      of what may come to a bridge: what both tenants' shares allow
      from_host     what the host itself sends to a bridge, within the share
      hosted        from a tenant's process in the host's network to a bridge of ours or to the metadata service: only by a published port;
                    to the world: as a bridge does, while they all together have connections left
      postrouting   who has connections is noted; a tenant's address leaves by the host's; a container that uses a published port, and who
                    does on the host's loopback, is answered by way of the host (iifname is not known here of what br_netfilter hands over)
    bridge slipway_<instance>
      prerouting    a port lets in IPv4, IPv6 and ARP with its own MAC and IP addresses and nothing else. Of IPv6 there is one of
                    the network and one of the link; who has none lets in none. Nobody advertises what is not his, and nobody is a router.
      from_port     the set ``sent`` counts what a port lets in, by link, but for what IPv6 needs on a link
      to_port       and ``received`` what goes to one, but for that and a bridge's own IGMP; what they counted outlives the link

An administrator's ``flush ruleset`` takes the tables away; the next ``add_…`` fails then, for its set is gone, and the caller
builds everything again from the kernel's bridges and the leases. The rules use no NFT_BRIDGE_META: some kernels lack it.
"""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from engine.kernel import netlink
from engine.kernel.conntrack import Conntrack
from engine.kernel.nftables import BRIDGE, INET, Elements, Nftables
from engine.model.tenant import IDS_PER_TENANT
from engine.networks import elements, limits, shares
from engine.networks.elements import Bridge, Closed, Forward, Port
from engine.networks.limits import Limit
from engine.networks.shares import LIMIT_IN, LIMIT_OUT, Share

# Of other platforms: what a tenant has no business in. libvirt, LXD, Incus, podman, CNI; Docker's own networks are br-<id>.
_FOREIGN = ("docker0", "docker_gwbridge", "br-*", "virbr*", "lxcbr*", "lxdbr*", "incusbr*", "podman*", "cni*")
_METADATA: Final = ("169.254.0.0/16", "100.100.100.200", "168.63.129.16", "192.0.0.192")  # link-local; Alibaba, Azure, Oracle
_METADATA6: Final = ("fd00:ec2::254", "fd20:ce::254", "fd00:c1::a9fe:a9fe", "64:ff9b::a9fe:0/112")  # the same by NAT64
_CONNTRACK_MAX = Path("/proc/sys/net/netfilter/nf_conntrack_max")
_COUNTED: Final = ("sent", "received")
_SHARE = 4  # a tenant may fill a quarter of the host's connection table
_OF_LINK: Final = "ether type ip6 icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, mld2-listener-report }"
_AFAR: Final = "ip6 daddr != { ::1, fe80::/10 }"
_DNAT: Final = "".join(
    f"\n    {family} fib daddr type local dnat {target} map @{name}"
    for family, target, name in (
        ("", "ip to ip daddr . meta l4proto . th dport", "addressed"),
        ("", "ip to meta l4proto . th dport", "published"),
        (_AFAR, "ip6 to ip6 daddr . meta l4proto . th dport", "addressed6"),
        (_AFAR, "ip6 to meta l4proto . th dport", "published6"),
    )
)


class Everything(NamedTuple):
    bridges: list[Bridge]
    ports: list[Port]
    forwards: list[Forward]
    limits: list[Limit]
    closed: list[Closed]
    shares: list[Share]
    first_ids: list[int]  # of each tenant


class Firewall:
    """Methods raise OSError. ``everything`` tells what must be in the sets when the tables are built."""

    def __init__(self, instance: str, everything: Callable[[], Everything]) -> None:
        self._table = f"slipway_{instance}"
        self._port_prefix = f"{instance}v"
        self._everything = everything
        self._nft: Nftables | None = None
        self._sets: dict[str, Elements] = {}
        self._conntrack: Conntrack | None = None
        self._lock = threading.Lock()

    def add_bridge(self, bridge: Bridge) -> None:
        """Before the link exists: whoever finds the link finds it walled in."""
        places = "".join(f"add element inet {self._table} {name} {{ {element} }}\n" for name, element in elements.places(bridge))
        self.nftables().run(places)

    def add_ids(self, first: int) -> None:
        """A tenant's processes, wherever they are."""
        self.nftables().run(f"add element inet {self._table} people {{ {_ids(first)} }}\n")

    def add_port(self, port: Port) -> None:
        """Before the link exists: it may talk from its first frame on."""
        for name, key in elements.keys(port):
            self._elements_of(name).add(key)

    def drop_port(self, port: Port) -> None:
        """Gone already is fine."""
        for name, key in elements.keys(port):
            with _gone_is_fine():
                self._elements_of(name).delete(key)

    def forget_connections(self, address: str) -> None:
        """What the host tracks for it ends, so that whoever has the address next gets none of it. Nobody has it any more.

        Most containers of a moment have none: those that have are in a set, for the kernel looks through its whole table (0.8 ms [m]).
        """
        try:
            family, raw = netlink.packed(address)
            self._elements_of("talkers" if family == socket.AF_INET else "talkers6").delete(raw)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            return
        with self._lock:
            if self._conntrack is None:
                self._conntrack = Conntrack()
        self._conntrack.forget(address)

    def publish(self, forward: Forward) -> None:
        name, key, value = elements.mapped(forward)
        try:
            self._elements_of(name).add(key, value)
        except FileExistsError:  # of one that is no more: whoever has the port is held by netd
            self._elements_of(name).delete(key)
            self._elements_of(name).add(key, value)

    def unpublish(self, forward: Forward) -> None:
        """Gone already is fine."""
        name, key, _value = elements.mapped(forward)
        with _gone_is_fine():
            self._elements_of(name).delete(key)

    def limit(self, before: Iterable[Limit], now: Iterable[Limit]) -> None:
        """In place of the lists ``before``. In one transaction: no moment without either."""
        old, new = limits.elements(before), limits.elements(now)
        commands = [self._change("delete", name, set(old[name]).difference(new.get(name, ()))) for name in old]
        commands += [self._change("add", name, set(new[name]).difference(old.get(name, ()))) for name in new]
        if any(commands):
            self.nftables().run("".join(commands))

    def refill(self) -> None:
        """The sets of all allow-lists, and of the ports that they close, anew in one transaction."""
        everything = self._everything()
        wanted = {**limits.elements(everything.limits), **elements.closed(everything.closed)}
        names = (*limits.names(), *elements.CLOSED)
        commands = "".join(f"flush set inet {self._table} {name}\n" for name in names)
        self.nftables().run(commands + "".join(self._change("add", name, wanted.get(name, ())) for name in names))

    def share(self) -> None:
        """The shares of all tenants as they are now, in one transaction; a bucket that stays keeps what is in it."""
        wanted = self._everything().shares
        before = [item["limit"]["name"] for item in self.nftables().list(f"limits table inet {self._table}") if "limit" in item]
        now = shares.limits(wanted)
        commands = [f"flush map inet {self._table} {name}\n" for name in shares.MAPS]
        commands += [f"delete limit inet {self._table} {name}\n" for name in before if name not in now]
        commands += [f"add limit inet {self._table} {name} {{ {words} }}\n" for name, words in now.items() if name not in before]
        commands += [self._change("add", name, words) for name, words in shares.elements(wanted).items()]
        self.nftables().run("".join(commands))

    def counted(self) -> dict[str, dict[str, tuple[int, int]]]:
        """Of ``sent`` and ``received``: {link: (bytes, packets)}."""
        found: dict[str, dict[str, tuple[int, int]]] = {}
        for name in _COUNTED:
            elements = [element["elem"] for element in self._elements("bridge", "set", name)]
            found[name] = {each["val"]: (each["counter"]["bytes"], each["counter"]["packets"]) for each in elements}
        return found

    def forget_counted(self, link: str) -> None:
        """Gone already is fine."""
        for name in _COUNTED:
            with _gone_is_fine():
                self._elements_of(name).delete(elements.link_name(link))

    def _change(self, verb: str, name: str, elements: Collection[str]) -> str:
        return f"{verb} element inet {self._table} {name} {{ {', '.join(elements)} }}\n" if elements else ""

    def drop_bridge(self, bridge: Bridge) -> None:
        """After the link is gone: without rules its tenant would be free."""
        for name, element in reversed(elements.places(bridge)):
            self._drop(f"delete element inet {self._table} {name} {{ {element} }}\n")

    def is_whole(self) -> bool:
        """The tables are there and their sets hold what they must."""
        bridges, ports, forwards, limited, closed, shared, _ids = self._everything()
        wanted = {**limits.elements(limited), **elements.closed(closed)}
        try:
            have_bridges = set(self._elements("inet", "set", "bridges"))
            self.counted()
            have_ports = {tuple(each["concat"]) for name in ("ports", "ports6") for each in self._elements("bridge", "set", name)}
            have_forwards = sum(len(self._elements("inet", "map", name)) for name in elements.MAPS)
            has_shares = all(len(self._elements("inet", "map", name)) >= len(words) for name, words in shares.elements(shared).items())
            has_lists = all(len(self._elements("inet", "set", name)) >= len(set(wanted[name])) for name in wanted)
        except OSError:
            return False
        wanted_ports = elements.allowed(ports)
        return (
            has_lists
            and has_shares
            and have_bridges >= {each.name for each in bridges}
            and have_ports >= wanted_ports
            and have_forwards >= len(set(forwards))
        )

    def build(self) -> None:
        """Both tables anew, in one transaction: there is no moment without rules.

        What was let go between the look and the transaction is taken out again. Whoever lets go drops his element before and after he
        says so: one of the two finds it, whatever came between.
        """
        everything = self._everything()
        families = ("inet", "bridge")
        forget = "".join(f"add table {family} {self._table}\ndelete table {family} {self._table}\n" for family in families)
        self.nftables().run(forget + self._inet(everything) + self._bridge(everything.ports))
        now = self._everything()
        for port in set(everything.ports).difference(now.ports):
            self.drop_port(port)
        for forward in set(everything.forwards).difference(now.forwards):
            self.unpublish(forward)

    def remove(self) -> None:
        for family in ("inet", "bridge"):
            self._drop(f"delete table {family} {self._table}\n")

    def nftables(self) -> Nftables:
        with self._lock:
            if self._nft is None:
                self._nft = Nftables()
            return self._nft

    def _elements_of(self, name: str) -> Elements:
        with self._lock:
            if name not in self._sets:
                self._sets[name] = Elements(BRIDGE if name in (*elements.GUARDS, *_COUNTED) else INET, self._table, name)
            return self._sets[name]

    def close(self) -> None:
        with self._lock:
            for part in (self._nft, self._conntrack, *self._sets.values()):
                if part is not None:
                    part.close()
            self._nft, self._conntrack, self._sets = None, None, {}

    def _inet(self, everything: Everything) -> str:
        bridges, forwards, closed = everything.bridges, everything.forwards, elements.closed(everything.closed)
        talkers = dict.fromkeys(port.address for port in everything.ports if port.address)
        talkers6 = dict.fromkeys(port.ipv6_address for port in everything.ports if port.ipv6_address)
        uplinks = netlink.default_route_links() | netlink.default_route_links(socket.AF_INET6)
        keep = f"oifname != {{ {', '.join(map(elements.quoted, sorted(uplinks)))} }}" if uplinks else ""
        foreign = "\n".join(f"    iifname @bridges oifname {elements.quoted(name)} {keep} ct state new drop" for name in _FOREIGN)
        return f"""
table inet {self._table} {{
  set bridges {{ type ifname; {elements.of(bridges, "bridges")} }}
  set subnets {{ type ipv4_addr; flags interval; {elements.of(bridges, "subnets")} }}
  set subnets6 {{ type ipv6_addr; flags interval; {elements.of(bridges, "subnets6")} }}
  set pairs {{ type ifname . ifname; {elements.of(bridges, "pairs")} }}
  set gateways {{ type ifname . ether_addr; {elements.of(bridges, "gateways")} }}
  set internals {{ type ifname; {elements.of(bridges, "internals")} }}
  set people {{ type uid; flags interval; {elements.filled(map(_ids, everything.first_ids))} }}
  set connections {{ type ifname; size 65535; flags dynamic; }}
  set talkers {{ type ipv4_addr; size 65535; flags dynamic; {elements.filled(talkers)} }}
  set talkers6 {{ type ipv6_addr; size 65535; flags dynamic; {elements.filled(talkers6)} }}
  map published {{ type inet_proto . inet_service : ipv4_addr . inet_service; {elements.forwarded(forwards, "published")} }}
  map addressed {{ type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; {elements.forwarded(forwards, "addressed")} }}
  map published6 {{ type inet_proto . inet_service : ipv6_addr . inet_service; {elements.forwarded(forwards, "published6")} }}
  map addressed6 {{ type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; {elements.forwarded(forwards, "addressed6")} }}
  set closed {{ type inet_proto . inet_service; {elements.filled(closed["closed"])} }}
  set closed_at {{ type ipv6_addr . inet_proto . inet_service; {elements.filled(closed["closed_at"])} }}
{limits.sets(limits.elements(everything.limits))}
{shares.declarations(everything.shares)}
  chain raw {{
    type filter hook prerouting priority raw; policy accept;
    iifname != "lo" ip daddr 127.0.0.0/8 drop
  }}
  chain published {{
    type nat hook prerouting priority dstnat; policy accept;{_DNAT}
  }}
  chain published_here {{
    type nat hook output priority -100; policy accept;{_DNAT}
  }}
  chain input {{
    type filter hook input priority filter - 10; policy accept;
    iifname @bridges ct state established,related {LIMIT_OUT}
    iifname @bridges ct state established,related accept
    iifname @bridges icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
    iifname @bridges drop
    meta nfproto ipv6 iifname != "lo" meta l4proto . th dport @closed drop
    meta nfproto ipv6 iifname != "lo" ip6 daddr . meta l4proto . th dport @closed_at drop
  }}{limits.chains()}
  chain arriving {{
    {LIMIT_OUT}
    {LIMIT_IN}
    accept
  }}
  chain forward {{
    type filter hook forward priority filter - 10; policy accept;
    iifname . oifname @pairs ct status dnat accept
    iifname . oifname @pairs iifname . ether daddr @gateways drop
    iifname . oifname @pairs accept
{limits.jumps()}
    iifname @internals drop
    oifname @internals drop
    oifname @bridges ct state established,related goto arriving
    oifname @bridges ct status dnat goto arriving
    iifname @bridges oifname @bridges drop
    oifname @bridges drop
    iifname @bridges ip daddr {{ {", ".join(_METADATA)} }} drop
    iifname @bridges ip6 daddr {{ {", ".join(_METADATA6)} }} drop
    iifname @bridges ip saddr != @subnets drop
    iifname @bridges ip6 saddr != @subnets6 drop
    iifname @bridges meta nfproto ipv6 ct state untracked drop
{foreign}
    iifname @bridges ct state new add @connections {{ iifname ct count over {_connections()} }} drop
    {LIMIT_OUT}
  }}
  chain from_host {{
    type filter hook postrouting priority filter; policy accept;
    oifname @bridges fib saddr type local {LIMIT_IN}
  }}
  chain of_people {{
    ct state new ct count over {_connections()} drop
    ct status dnat accept
    oifname @bridges drop
    ip daddr {{ {", ".join(_METADATA)} }} drop
    ip6 daddr {{ {", ".join(_METADATA6)} }} drop
  }}
  chain hosted {{
    type filter hook output priority filter - 10; policy accept;
    meta skuid @people jump of_people
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    iifname @bridges ip daddr != 224.0.0.0/4 update @talkers {{ ip saddr }}
    iifname @bridges ip6 daddr != ff00::/8 update @talkers6 {{ ip6 saddr }}
    oifname @bridges ct status dnat update @talkers {{ ip daddr }}
    oifname @bridges ct status dnat update @talkers6 {{ ip6 daddr }}
    ip saddr @subnets oifname @bridges ct status dnat masquerade
    ip saddr 127.0.0.0/8 oifname @bridges masquerade
    ip saddr @subnets oifname != @bridges masquerade
    ip6 saddr @subnets6 oifname @bridges ct status dnat masquerade
    ip6 saddr @subnets6 oifname != @bridges masquerade
  }}
}}
"""

    def _bridge(self, ports: list[Port]) -> str:
        guards = elements.guarded(ports)
        return f"""
table bridge {self._table} {{
  set ports {{ type ifname . ether_addr . ipv4_addr; {guards["ports"]} }}
  set ports6 {{ type ifname . ether_addr . ipv6_addr; {guards["ports6"]} }}
  set targets6 {{ typeof meta iifname . ether saddr . {elements.TARGET}; {guards["targets6"]} }}
  set sent {{ type ifname; size 65535; flags dynamic; }}
  set received {{ type ifname; size 65535; flags dynamic; }}
  chain prerouting {{
    type filter hook prerouting priority -300; policy accept;
    iifname != "{self._port_prefix}*" accept
    ether type arp iifname . arp saddr ether . arp saddr ip != @ports drop
    ether type arp iifname . ether saddr . arp saddr ip @ports accept
    ether type ip iifname . ether saddr . ip saddr @ports goto from_port
    ether type ip6 icmpv6 type {{ nd-router-advert, nd-redirect, mld-listener-query }} drop
    ether type ip6 icmpv6 type nd-neighbor-advert ip6 nexthdr != 58 drop
    ether type ip6 icmpv6 type nd-neighbor-advert iifname . ether saddr . {elements.TARGET} != @targets6 drop
    ether type ip6 iifname . ether saddr . ip6 saddr != @ports6 drop
    {_OF_LINK} accept
    ether type ip6 goto from_port
    drop
  }}
  chain from_port {{
    update @sent {{ iifname counter }}
    accept
  }}
  chain to_port {{
    type filter hook postrouting priority 0; policy accept;
    ip daddr != 224.0.0.0/24 oifname "{self._port_prefix}*" update @received {{ oifname counter }}
    {_OF_LINK} accept
    ether type ip6 oifname "{self._port_prefix}*" update @received {{ oifname counter }}
  }}
}}
"""

    def _drop(self, commands: str) -> None:
        """Gone already is fine; nft does not tell that from other failures."""
        try:
            self.nftables().run(commands)
        except OSError:
            pass

    def _elements(self, family: str, kind: str, name: str) -> list[Any]:
        found = self.nftables().list(f"{kind} {family} {self._table} {name}")
        return [element for item in found if kind in item for element in item[kind].get("elem", [])]


def _connections() -> int:
    """How many connections of one tenant the host tracks at a time, so that no tenant fills the table for all."""
    try:
        return max(4096, int(_CONNTRACK_MAX.read_text()) // _SHARE)
    except (FileNotFoundError, ValueError):
        return 16384


def _ids(first: int) -> str:
    return f"{first}-{first + IDS_PER_TENANT - 1}"


@contextmanager
def _gone_is_fine() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
