"""One port of a local address leads to another of the same address, within the calling thread's network namespace.

Four nftables rules in the output hook that write other port numbers into passing headers, there and back. No NAT: nothing is tracked, so
the namespace's other traffic pays four failed comparisons and no connection table. Packed by hand (one send, 0.2 ms [m]; linux/netfilter/
nf_tables.h), because a context of libnftables costs more than the rest of a resolver.

    table ip slipway-names {
      chain output { type filter hook output priority raw;
        ip daddr <address> udp dport <port> udp dport set <udp>         ip saddr <address> udp sport <udp> udp sport set <port>
        ip daddr <address> tcp dport <port> tcp dport set <tcp>         ip saddr <address> tcp sport <tcp> tcp sport set <port>
      }
    }
"""

from __future__ import annotations

import socket
import struct
from functools import cache
from typing import Final

from engine.kernel import netlink, nftables
from engine.kernel.netlink import NLA_F_NESTED, Message, attribute

_IN_TABLE: Final = attribute(1, b"slipway-names\0")
_CHAIN: Final = b"output\0"
_FAMILY: Final = 2  # NFPROTO_IPV4
_NEWTABLE, _DELTABLE, _NEWCHAIN, _NEWRULE, _GETRULE = (nftables.SUBSYSTEM << 8 | kind for kind in (0, 2, 3, 6, 7))
_EXPRESSIONS: Final = 4
_APPEND: Final = 0x800
_RULES: Final = 4
_LOCAL_OUT: Final = 3
_RAW: Final = -300
_REGISTER: Final = 1
_NETWORK, _TRANSPORT = 1, 2  # bases of a payload expression
_SOURCE, _DESTINATION = (12, 0), (16, 2)  # offsets of the address and the port in their headers
_L4PROTO: Final = 16
_CHECKSUM: Final = {socket.IPPROTO_UDP: 6, socket.IPPROTO_TCP: 16}  # offset in the transport header
_CHECKSUM_INET: Final = 1


def shift(address: str, port: int, *, udp: int, tcp: int) -> None:
    """FileExistsError where it is done already (``shifted``, ``replace``). Another OSError where the kernel lacks it (nf_tables, tables
    of IPv4), or we CAP_NET_ADMIN over the namespace."""
    _run([_message(_NEWTABLE, netlink.EXCL_CREATE, _IN_TABLE), *_chain(address, port, udp, tcp)])


def replace(address: str, port: int, *, udp: int, tcp: int) -> None:
    """As ``shift``, whatever there was. 15 ms: the kernel waits until nobody reads the old rules."""
    _run(
        [_message(_NEWTABLE, netlink.CREATE, _IN_TABLE), _message(_DELTABLE, 0, _IN_TABLE), _message(_NEWTABLE, netlink.CREATE, _IN_TABLE)]
    )
    _run(_chain(address, port, udp, tcp))


def shifted() -> tuple[int, int] | None:
    """The ports for UDP and TCP that were last given to ``shift``."""
    with netlink.Socket(netlink.open_socket(nftables.NETLINK_NETFILTER)) as sock:
        rules = sock.dump(_message(_GETRULE, 0, _IN_TABLE + attribute(2, _CHAIN)))
    written = []
    for _kind, body in rules:
        for kind, expressions in netlink.attributes(body[4:]):
            if kind == _EXPRESSIONS:
                written += [port for _, expression in netlink.attributes(expressions) if (port := _written(expression))]
    return (written[0], written[2]) if len(written) == _RULES else None


def _chain(address: str, port: int, udp: int, tcp: int) -> list[Message]:
    packed = socket.inet_aton(address)
    hook = _nested(4, _number(1, _LOCAL_OUT), _number(2, _RAW))
    rules = [
        rule
        for protocol, own in ((socket.IPPROTO_UDP, udp), (socket.IPPROTO_TCP, tcp))
        for rule in (_rule(protocol, packed, _DESTINATION, port, own), _rule(protocol, packed, _SOURCE, own, port))
    ]
    return [
        _message(_NEWCHAIN, netlink.CREATE, _IN_TABLE + attribute(3, _CHAIN) + attribute(7, b"filter\0") + hook),
        *(
            _message(_NEWRULE, netlink.CREATE | _APPEND, _IN_TABLE + attribute(2, _CHAIN) + _nested(_EXPRESSIONS, *map(_element, rule)))
            for rule in rules
        ),
    ]


def _run(messages: list[Message]) -> None:
    mark = struct.pack(">BBH", 0, 0, nftables.SUBSYSTEM)
    begin, end = (Message(kind, 0, mark, "", answered=False) for kind in (nftables.BATCH_BEGIN, nftables.BATCH_END))
    with netlink.Socket(netlink.open_socket(nftables.NETLINK_NETFILTER)) as sock:
        sock.run([begin, *messages, end])


def _rule(protocol: int, address: bytes, offsets: tuple[int, int], present: int, future: int) -> list[bytes]:
    """Packets with this address and that port get another port."""
    before, after = _constant(protocol, address, offsets)
    return [
        *before,
        _compare(present.to_bytes(2, "big")),
        _expression(b"immediate", _number(1, _REGISTER), _nested(2, attribute(1, future.to_bytes(2, "big")))),
        after,
    ]


@cache
def _constant(protocol: int, address: bytes, offsets: tuple[int, int]) -> tuple[list[bytes], bytes]:
    """What a rule has before and after its two ports: the most of it, and always the same."""
    address_at, port_at = offsets
    checksum = _number(6, _CHECKSUM_INET) + _number(7, _CHECKSUM[protocol])
    before = [
        _load(_NETWORK, address_at, 4),
        _compare(address),
        _expression(b"meta", _number(1, _REGISTER), _number(2, _L4PROTO)),
        _compare(bytes((protocol,))),
        _load(_TRANSPORT, port_at, 2),
    ]
    write = _expression(b"payload", _number(5, _REGISTER), _number(2, _TRANSPORT), _number(3, port_at), _number(4, 2), checksum)
    return before, write


def _written(expression: bytes) -> int | None:
    """The port that an immediate expression puts into the register."""
    found = dict(netlink.attributes(expression))
    if found.get(1) != b"immediate\0":
        return None
    data = dict(netlink.attributes(dict(netlink.attributes(found[2]))[2]))
    return int.from_bytes(data[1][:2], "big")


def _load(base: int, offset: int, length: int) -> bytes:
    return _expression(b"payload", _number(1, _REGISTER), _number(2, base), _number(3, offset), _number(4, length))


def _compare(value: bytes) -> bytes:
    return _expression(b"cmp", _number(1, _REGISTER), _number(2, 0), _nested(3, attribute(1, value)))


def _expression(name: bytes, *attributes: bytes) -> bytes:
    return attribute(1, name + b"\0") + _nested(2, *attributes)


def _element(expression: bytes) -> bytes:
    return _nested(1, expression)


def _message(kind: int, flags: int, attributes: bytes) -> Message:
    return Message(kind, flags, struct.pack(">BBH", _FAMILY, 0, 0) + attributes, "shift a port")


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack(">i", value))


def _nested(kind: int, *attributes: bytes) -> bytes:
    return attribute(kind | NLA_F_NESTED, b"".join(attributes))
