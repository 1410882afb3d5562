"""Forgetting tracked connections by their addresses: nfnetlink's conntrack messages, packed by hand. linux/netfilter/nfnetlink_conntrack.h.

By a filter (CTA_FILTER with tuples) the kernel looks through its whole table, 0.8 ms a message [m]. Linux 6.1 refuses to delete by one, so
there they are listed by it (since 5.8; 3.4 ms) and deleted one by one. Of IPv6 the filter takes all *others* (ctnetlink_filter_match_tuple
compares the wrong way round, 5.8 to 6.18 at least): the table is looked through here.
"""

from __future__ import annotations

import errno
import socket
import struct
from contextlib import suppress
from typing import Final

from engine.kernel import netlink
from engine.kernel.netlink import NLA_F_NESTED, Message, attribute, attributes, packed

_NETLINK_NETFILTER: Final = 12
_GET, _DELETE = (1 << 8 | kind for kind in (1, 2))  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET, _DELETE
_TUPLE_ORIG, _TUPLE_REPLY, _FILTER = 1, 2, 25
_FILTER_ORIG, _FILTER_REPLY = 1, 2
_TUPLE_IP: Final = 1
_AT_ONCE: Final = 256  # of what one send holds
_BY_SRC: Final = 1 << 0  # CTA_FILTER_F_CTA_IP_SRC
_NFGENMSG: Final = struct.Struct(">BBH")  # family, version, resource
_KINDS: Final = {  # by the length of an address: nfgenmsg, and CTA_IP_V4_SRC or CTA_IP_V6_SRC
    4: (_NFGENMSG.pack(socket.AF_INET, 0, 0), 1),
    16: (_NFGENMSG.pack(socket.AF_INET6, 0, 0), 3),
}


class Conntrack:
    """Of the network namespace it was made in. Threads take turns."""

    def __init__(self) -> None:
        self._sock = netlink.Socket(netlink.open_socket(_NETLINK_NETFILTER))
        self._by_filter = True

    def forget(self, address: str) -> None:
        """Every connection that the address has begun, and every one that a published port led to it."""
        raw = packed(address)[1]
        if self._by_filter and len(raw) == 4:
            try:
                self._sock.run([_message(_DELETE, direction, raw) for direction in (_TUPLE_ORIG, _TUPLE_REPLY)])
                return
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                    raise
                self._by_filter = False
        head = _KINDS[len(raw)][0]
        deletes = [
            Message(_DELETE, 0, head + attribute(_TUPLE_ORIG | NLA_F_NESTED, each), "forget a connection") for each in self.of(address)
        ]
        for at in range(0, len(deletes), _AT_ONCE):
            with suppress(FileNotFoundError):  # it has just ended by itself
                self._sock.run(deletes[at : at + _AT_ONCE])

    def of(self, address: str) -> set[bytes]:
        """The original tuple of each that ``forget`` forgets."""
        raw = packed(address)[1]
        if len(raw) == 4:
            asked = [_message(_GET, direction, raw) for direction in (_TUPLE_ORIG, _TUPLE_REPLY)]
        else:
            asked = [Message(_GET, 0, _KINDS[len(raw)][0], "connections")]
        found = set()
        for _, entry in (each for message in asked for each in self._sock.dump(message)):
            if raw in entry:
                words = dict(attributes(entry[_NFGENMSG.size :]))
                if raw in (_source(words[_TUPLE_ORIG], len(raw)), _source(words[_TUPLE_REPLY], len(raw))):
                    found.add(words[_TUPLE_ORIG])
        return found

    def close(self) -> None:
        self._sock.close()


def _message(kind: int, direction: int, address: bytes) -> Message:
    """About those with this source in the direction."""
    head, kind_of_source = _KINDS[len(address)]
    source = attribute(_TUPLE_IP | NLA_F_NESTED, attribute(kind_of_source, address))
    here, there = (_FILTER_ORIG, _FILTER_REPLY) if direction == _TUPLE_ORIG else (_FILTER_REPLY, _FILTER_ORIG)
    wanted = attribute(here, struct.pack("=I", _BY_SRC)) + attribute(there, struct.pack("=I", 0))
    return Message(
        kind,
        0,
        head + attribute(direction | NLA_F_NESTED, source) + attribute(_FILTER | NLA_F_NESTED, wanted),
        "connections by their address",
    )


def _source(tuple_: bytes, length: int) -> bytes | None:
    return dict(attributes(dict(attributes(tuple_)).get(_TUPLE_IP, b""))).get(_KINDS[length][1])
