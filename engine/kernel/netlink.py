"""rtnetlink(7) by hand-packed messages over kept sockets: what attaching a container needs, in one send each.

pyroute2 would encode these too, but its import takes 249 ms and 20 MiB, and each process that starts a container would pay for
it; what is done once for a tenant is done with it (links.py). Layout: linux/netlink.h, linux/rtnetlink.h, linux/if_link.h,
linux/if_addr.h, linux/veth.h. Raises OSError with the kernel's errno and, where the kernel gives one, its own sentence
(NETLINK_EXT_ACK, Linux 4.12).

    nlmsghdr  length u32 · type u16 · flags u16 · sequence u32 · port u32     then a fixed header, then attributes
    nlattr    length u16 · type u16 · payload, padded to 4
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, Self

NETLINK_ROUTE: Final = 0
_SOL_NETLINK: Final = 270
_NETLINK_CAP_ACK: Final = 10
_NETLINK_EXT_ACK: Final = 11
_SIOCGIFFLAGS: Final = 0x8913
_SIOCETHTOOL: Final = 0x8946
_ETHTOOL_GLINK: Final = 0x0A  # linux/ethtool.h
_SIOCGIFMTU: Final = 0x8921
_SIOCGIFINDEX: Final = 0x8933

_NLMSG_ERROR: Final = 2
_NLMSG_DONE: Final = 3
_REQUEST: Final = 1
_ACK: Final = 4
_DUMP: Final = 0x300
CREATE: Final = 0x400
EXCL_CREATE: Final = 0x600
_REPLACE_CREATE: Final = 0x500
_CAPPED: Final = 0x100  # flags of an error message: the request is not repeated in it
_ACK_TLVS: Final = 0x200
_NLMSGERR_ATTR_MSG: Final = 1

_RTM_NEWLINK: Final = 16
_RTM_DELLINK: Final = 17
_RTM_GETLINK: Final = 18
_RTM_SETLINK: Final = 19
_RTM_NEWADDR: Final = 20
_RTM_GETADDR: Final = 22
_RTM_NEWROUTE: Final = 24
_RTM_GETROUTE: Final = 26

_IFLA_ADDRESS: Final = 1
_IFLA_IFNAME: Final = 3
_IFLA_MTU: Final = 4
_IFLA_MASTER: Final = 10
_IFLA_PROTINFO: Final = 12
_IFLA_LINKINFO: Final = 18
_IFLA_AF_SPEC: Final = 26
_IFLA_NET_NS_FD: Final = 28
_IFLA_INFO_KIND: Final = 1
_IFLA_INFO_DATA: Final = 2
_IFLA_INET6_ADDR_GEN_MODE: Final = 8
_ADDR_GEN_MODE_NONE: Final = 1
_VETH_INFO_PEER: Final = 1
_IFLA_BRPORT_MODE: Final = 4
_IFLA_BRPORT_ISOLATED: Final = 33
NLA_F_NESTED: Final = 0x8000

_IFA_ADDRESS: Final = 1
_IFA_LOCAL: Final = 2
_IFA_BROADCAST: Final = 4
_IFA_F_NODAD: Final = 2
_RTA_DST: Final = 1
_RTA_OIF: Final = 4
_RTA_GATEWAY: Final = 5
_RT_TABLE_MAIN: Final = 254
_RTPROT_BOOT: Final = 3
_RTN_UNICAST: Final = 1
_RT_SCOPE_UNIVERSE: Final = 0

IFF_UP: Final = 1
IFNAMSIZ: Final = 16

_HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_IFINFO: Final = struct.Struct("=BxHiII")  # family, device type, index, flags, change
_IFADDR: Final = struct.Struct("=BBBBi")  # family, prefix length, flags, scope, index
_RTMSG: Final = struct.Struct("=BBBBBBBBI")  # family, dst length, src length, tos, table, protocol, scope, type, flags
_ERROR: Final = struct.Struct("=i")
_U32: Final = struct.Struct("=I")
RECEIVE: Final = 64 << 10
_TIMEOUT_S: Final = 10.0


class Message(NamedTuple):
    """A request without its header. ``what`` names the step in errors. Marks that frame a batch are not ``answered``."""

    type: int
    flags: int
    body: bytes
    what: str
    answered: bool = True


class Socket:
    """One kept netlink socket of the network namespace it was made in. Threads take turns."""

    def __init__(self, sock: socket.socket | None = None) -> None:
        self._sock = sock or open_socket()
        self._lock = threading.Lock()
        self._sequence = 0

    def close(self) -> None:
        self._sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, messages: Sequence[Message]) -> None:
        """Carry the messages out in order, in one send; the first refusal is raised after all were answered.

        The kernel goes on with the rest after a refusal: the caller undoes.
        """
        with self._lock:
            first = self._sequence + 1
            batch = b"".join(self._framed(message, _ACK if message.answered else 0) for message in messages)
            self._sock.send(batch)
            failure: OSError | None = None
            waiting = sum(message.answered for message in messages)
            while waiting:
                for kind, flags, sequence, body in split(self._sock.recv(RECEIVE)):
                    if kind != _NLMSG_ERROR or sequence < first:
                        continue  # an answer to an earlier request that timed out
                    waiting -= 1
                    (code,) = _ERROR.unpack_from(body)
                    if code and failure is None:
                        failure = _failure(-code, flags, body, messages[sequence - first].what)
            if failure is not None:
                raise failure

    def dump(self, message: Message) -> list[tuple[int, bytes]]:
        """Every object that a GET request lists, as (message type, body)."""
        with self._lock:
            self._sock.send(self._framed(message, _DUMP))
            found: list[tuple[int, bytes]] = []
            while True:
                for kind, flags, sequence, body in split(self._sock.recv(RECEIVE)):
                    if sequence != self._sequence:
                        continue
                    if kind == _NLMSG_DONE:
                        return found
                    if kind == _NLMSG_ERROR:
                        raise _failure(-_ERROR.unpack_from(body)[0], flags, body, message.what)
                    found.append((kind, body))

    def index(self, name: str) -> int:
        """The number of the link ``name`` in this socket's namespace. netdevice(7); ENODEV when absent."""
        answer = fcntl.ioctl(self._sock, _SIOCGIFINDEX, struct.pack("16si20x", name.encode(), 0))
        return int(struct.unpack_from("16si", answer)[1])

    def mtu(self, name: str) -> int:
        answer = fcntl.ioctl(self._sock, _SIOCGIFMTU, struct.pack("16si20x", name.encode(), 0))
        return int(struct.unpack_from("16si", answer)[1])

    def is_up(self, name: str) -> bool:
        """Whether there is a link ``name`` and it is set up. netdevice(7)."""
        try:
            answer = fcntl.ioctl(self._sock, _SIOCGIFFLAGS, struct.pack("16sh22x", name.encode(), 0))
        except OSError as error:
            if error.errno == errno.ENODEV:
                return False
            raise
        return bool(struct.unpack_from("16sh", answer)[1] & IFF_UP)

    def settle(self, name: str) -> None:
        """Let a link's new carrier state take effect now: its queue, and its port of a bridge.

        The kernel does that later, in a work queue that waits for the RTNL lock; packets until then are lost, so that the first
        connection of a container would take a second on a busy host. Asking for the link state does it on the spot: ethtool_op_get_link.
        """
        value = array.array("I", [_ETHTOOL_GLINK, 0])
        fcntl.ioctl(self._sock, _SIOCETHTOOL, struct.pack("16sP16x", name.encode(), value.buffer_info()[0]))

    def _framed(self, message: Message, flags: int) -> bytes:
        self._sequence += 1
        length = _HEADER.size + len(message.body)
        return _HEADER.pack(length, message.type, _REQUEST | message.flags | flags, self._sequence, 0) + message.body


def open_socket(protocol: int = NETLINK_ROUTE) -> socket.socket:
    """In the calling thread's network namespace."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    sock.settimeout(_TIMEOUT_S)
    sock.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
    sock.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
    return sock


# What is asked for -------------------------------------------------------------------------------------------------


def add_veth(name: str, *, bridge: int, mtu: int, peer: str, peer_mac: str, peer_netns: int) -> Message:
    """A pair, both ends down: ``name`` here, a port of link number ``bridge``; ``peer`` made inside the namespace of the fd. veth(4)."""
    peer_info = (
        _IFINFO.pack(0, 0, 0, 0, 0)
        + attribute(_IFLA_IFNAME, _text(peer))
        + attribute(_IFLA_ADDRESS, _mac(peer_mac))
        + attribute(_IFLA_MTU, _U32.pack(mtu))
        + attribute(_IFLA_NET_NS_FD, _U32.pack(peer_netns))
    )
    kind = attribute(_IFLA_INFO_KIND, b"veth\0") + attribute(_IFLA_INFO_DATA, attribute(_VETH_INFO_PEER, peer_info))
    return Message(
        _RTM_NEWLINK,
        EXCL_CREATE,
        _IFINFO.pack(0, 0, 0, 0, 0)
        + attribute(_IFLA_IFNAME, _text(name))
        + attribute(_IFLA_MTU, _U32.pack(mtu))
        + attribute(_IFLA_MASTER, _U32.pack(bridge))
        + attribute(_IFLA_LINKINFO, kind),
        f"create veth {name}",
    )


def add_ifb(name: str) -> Message:
    """A link that other links' packets can be led through. ifb(4)."""
    kind = attribute(_IFLA_LINKINFO, attribute(_IFLA_INFO_KIND, b"ifb\0"))
    return Message(
        _RTM_NEWLINK, EXCL_CREATE, _IFINFO.pack(0, 0, 0, 0, 0) + attribute(_IFLA_IFNAME, _text(name)) + kind, f"create ifb {name}"
    )


def no_ipv6_address(name: str) -> Message:
    """The link makes no link-local address of its own (and sends no neighbour discovery) when it comes up. Linux 3.17."""
    mode = attribute(_IFLA_INET6_ADDR_GEN_MODE, bytes([_ADDR_GEN_MODE_NONE]))
    spec = attribute(_IFLA_AF_SPEC | NLA_F_NESTED, attribute(socket.AF_INET6 | NLA_F_NESTED, mode))
    body = _IFINFO.pack(0, 0, 0, 0, 0) + attribute(_IFLA_IFNAME, _text(name)) + spec
    return Message(_RTM_SETLINK, 0, body, f"set {name} addrgenmode none")


def set_up(name: str) -> Message:
    return Message(_RTM_SETLINK, 0, _IFINFO.pack(0, 0, 0, IFF_UP, IFF_UP) + attribute(_IFLA_IFNAME, _text(name)), f"set {name} up")


def delete_link(index: int, name: str) -> Message:
    """17 to 26 ms of everybody's RTNL lock for a veth: not on the path of a container."""
    return Message(_RTM_DELLINK, 0, _IFINFO.pack(0, 0, index, 0, 0), f"delete link {name}")


def add_address(index: int, address: str, prefix: int, *, replace: bool = False) -> Message:
    """An IPv6 one is in use at once, without looking for duplicates: whoever gives it sees to that."""
    family, raw = packed(address)
    words = attribute(_IFA_LOCAL, raw) + attribute(_IFA_ADDRESS, raw)
    if family == socket.AF_INET:
        broadcast = _U32.unpack(raw)[0] | socket.htonl((1 << 32 - prefix) - 1)
        words += attribute(_IFA_BROADCAST, _U32.pack(broadcast))
    return Message(
        _RTM_NEWADDR,
        _REPLACE_CREATE if replace else EXCL_CREATE,
        _IFADDR.pack(family, prefix, _IFA_F_NODAD if family == socket.AF_INET6 else 0, 0, index) + words,
        f"add address {address}/{prefix}",
    )


def isolate_port(index: int) -> Message:
    """A port of a bridge that reaches the bridge, and no other isolated port. Linux 4.18."""
    return _bridge_port(index, _IFLA_BRPORT_ISOLATED, f"isolate port {index}")


def hairpin_port(index: int) -> Message:
    """A port of a bridge that gets frames back which came from it."""
    return _bridge_port(index, _IFLA_BRPORT_MODE, f"set port {index} hairpin")


def _bridge_port(index: int, option: int, what: str) -> Message:
    switched_on = attribute(_IFLA_PROTINFO | NLA_F_NESTED, attribute(option, b"\1"))
    return Message(_RTM_SETLINK, 0, _IFINFO.pack(socket.AF_BRIDGE, 0, index, 0, 0) + switched_on, what)


def set_master(name: str, bridge: int) -> Message:
    """A port of link number ``bridge`` from now on."""
    body = _IFINFO.pack(0, 0, 0, 0, 0) + attribute(_IFLA_IFNAME, _text(name)) + attribute(_IFLA_MASTER, _U32.pack(bridge))
    return Message(_RTM_SETLINK, 0, body, f"set {name} master {bridge}")


def default_route(index: int, gateway: str, *, replace: bool = False) -> Message:
    """Of the gateway's family."""
    family, raw = packed(gateway)
    return Message(
        _RTM_NEWROUTE,
        _REPLACE_CREATE if replace else EXCL_CREATE,
        _RTMSG.pack(family, 0, 0, 0, _RT_TABLE_MAIN, _RTPROT_BOOT, _RT_SCOPE_UNIVERSE, _RTN_UNICAST, 0)
        + attribute(_RTA_GATEWAY, raw)
        + attribute(_RTA_OIF, _U32.pack(index)),
        f"add default route via {gateway}",
    )


# What is there -----------------------------------------------------------------------------------------------------


class Network(NamedTuple):
    """An address of a link, or a route by it: ``link`` is its index, 0 where a route has none."""

    link: int
    address: str
    prefix: int


def masters() -> dict[str, int]:
    """{name of a link: index of the bridge that it is a port of, or 0}."""
    with Socket() as sock:
        found = {}
        for _, body in sock.dump(Message(_RTM_GETLINK, 0, _IFINFO.pack(socket.AF_UNSPEC, 0, 0, 0, 0), "list links")):
            words = dict(attributes(body[_IFINFO.size :]))
            (master,) = _U32.unpack(words.get(_IFLA_MASTER, bytes(4)))
            found[words[_IFLA_IFNAME].rstrip(b"\0").decode()] = master
        return found


def addresses(family: socket.AddressFamily = socket.AF_INET) -> list[Network]:
    """Every address of this namespace. Without IPv6 in the kernel there is none of it."""
    with Socket() as sock:
        found = []
        for _, body in sock.dump(Message(_RTM_GETADDR, 0, _IFADDR.pack(family, 0, 0, 0, 0), "list addresses")):
            given, prefix, _flags, _scope, index = _IFADDR.unpack_from(body)
            words = dict(attributes(body[_IFADDR.size :]))
            if given == family and (address := words.get(_IFA_LOCAL) or words.get(_IFA_ADDRESS if family == socket.AF_INET6 else 0)):
                found.append(Network(index, socket.inet_ntop(family, address), prefix))
        return found


def routes(family: socket.AddressFamily = socket.AF_INET) -> list[Network]:
    """Every unicast route in any table; the default route is 0.0.0.0/0, or ::/0."""
    with Socket() as sock:
        found, anywhere = [], bytes(4 if family == socket.AF_INET else 16)
        for _, body in sock.dump(Message(_RTM_GETROUTE, 0, _RTMSG.pack(family, *[0] * 8), "list routes")):
            if body[0] == family and body[7] == _RTN_UNICAST:
                route = dict(attributes(body[_RTMSG.size :]))
                (link,) = _U32.unpack(route.get(_RTA_OIF, bytes(4)))
                found.append(Network(link, socket.inet_ntop(family, route.get(_RTA_DST, anywhere)), body[1]))
        return found


def default_route_links(family: socket.AddressFamily = socket.AF_INET) -> set[str]:
    """Names of the links that a default route leaves by."""
    return {socket.if_indextoname(route.link) for route in routes(family) if route.prefix == 0 and route.link}


# Bytes -------------------------------------------------------------------------------------------------------------


def packed(address: str) -> tuple[socket.AddressFamily, bytes]:
    """Its family, and its 4 or 16 bytes."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return family, socket.inet_pton(family, address)


def attribute(kind: int, payload: bytes) -> bytes:
    """linux/netlink.h struct nlattr with its padding."""
    length = _ATTRIBUTE.size + len(payload)
    return _ATTRIBUTE.pack(length, kind) + payload + bytes(-length % 4)


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        yield kind & ~NLA_F_NESTED, data[at + _ATTRIBUTE.size : at + length]
        at += length + -length % 4


def split(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """(type, flags, sequence, body) of each message of a datagram."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, flags, sequence, _port = _HEADER.unpack_from(data, at)
        yield kind, flags, sequence, data[at + _HEADER.size : at + length]
        at += length + -length % 4


def _failure(code: int, flags: int, body: bytes, what: str) -> OSError:
    """linux/netlink.h nlmsgerr: error i32, header of the request, (the request unless capped,) attributes."""
    sentence = os.strerror(code)
    if flags & _ACK_TLVS and flags & _CAPPED:
        said = dict(attributes(body[_ERROR.size + _HEADER.size :])).get(_NLMSGERR_ATTR_MSG)
        if said:
            sentence += f" ({said.rstrip(bytes(1)).decode(errors='replace')})"
    return OSError(code, f"{what}: {sentence}")


def _text(name: str) -> bytes:
    raw = name.encode()
    if not 0 < len(raw) < IFNAMSIZ:
        raise OSError(errno.EINVAL, f"link name {name!r} must have 1 to {IFNAMSIZ - 1} characters")
    return raw + b"\0"


def _mac(address: str) -> bytes:
    return bytes.fromhex(address.replace(":", ""))
