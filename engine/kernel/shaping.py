"""How many bytes a second a link may carry: tc-tbf(8) on the way out of it, and on the way in by a link of kind ifb.

    container ── veth ══ link ── bridge       to the container:   tbf at the root of ``link``
                                              from it:            what comes in by ``link`` is led through ``ifb``, and a tbf there

Packed by hand (linux/pkt_sched.h, linux/pkt_cls.h, linux/tc_act/tc_mirred.h). A filter of kind u32 leads the packets, because some kernels
lack matchall and police. Raises OSError.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import Final

from engine.kernel import netlink
from engine.kernel.netlink import CREATE, EXCL_CREATE, Message, attribute

_NEWQDISC, _DELQDISC, _NEWFILTER = 36, 37, 44
_REPLACE: Final = 0x100
_TCMSG: Final = struct.Struct("=BxxxiIII")  # family, link, handle, parent, info
_ROOT, _INGRESS, _INGRESS_HANDLE = 0xFFFFFFFF, 0xFFFFFFF1, 0xFFFF0000
_KIND, _OPTIONS = 1, 2  # TCA_

_TBF_PARMS, _TBF_BURST = 1, 6
_TBF_QOPT: Final = struct.Struct("=BBHhHI12xIII")  # rate: cell_log, link layer, overhead, align, mpu, rate; peak; limit, buffer, mtu
_ETHERNET: Final = 1  # the link layer: the kernel then needs no table of rates
_BURST_S, _QUEUE_S = 0.02, 0.1
_BURST_LEAST, _QUEUE_LEAST = 16 << 10, 128 << 10  # a packet of the largest kind waits whole

_U32_SEL, _U32_ACT = 5, 7
_SELECT_ALL: Final = struct.pack("=BBBxHHhhI", 1, 0, 1, 0, 0, 0, 0, 0) + bytes(16)  # terminal, one key with an empty mask
_FIRST_OF_ALL: Final = 1 << 16 | socket.htons(3)  # preference 1, ETH_P_ALL
_ACT_KIND, _ACT_OPTIONS, _MIRRED_PARMS = 1, 2, 2
_STOLEN, _EGRESS_REDIRECT = 4, 1


def limit_to_container(sock: netlink.Socket, link: str, rate: int) -> None:
    """``rate`` in bytes a second; 0: no limit."""
    _limit_root(sock, sock.index(link), rate)


def limit_from_container(sock: netlink.Socket, link: str, ifb: str, rate: int) -> None:
    """Live as well; ``ifb`` is made when it is not there, and goes with the limit."""
    index = sock.index(link)
    if not rate:
        _forgiving(sock, _untake(index, link))
        remove(sock, ifb)
        return
    if sock.is_up(ifb):  # it comes up last: everything is there
        _limit_root(sock, sock.index(ifb), rate)
        return
    _forgiving(sock, _untake(index, link))  # what somebody left who was killed
    remove(sock, ifb)
    sock.run([netlink.add_ifb(ifb)])
    number = sock.index(ifb)
    _limit_root(sock, number, rate)
    sock.run([_ingress(index, link), _redirect(index, number, link), netlink.set_up(ifb)])


def remove(sock: netlink.Socket, ifb: str) -> None:
    """Gone already is fine."""
    try:
        sock.run([netlink.delete_link(sock.index(ifb), ifb)])
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise


def _limit_root(sock: netlink.Socket, index: int, rate: int) -> None:
    if not rate:
        _forgiving(sock, Message(_DELQDISC, 0, _TCMSG.pack(0, index, 0, _ROOT, 0), f"free link {index}"))
        return
    burst = max(int(rate * _BURST_S), _BURST_LEAST)
    waiting = max(int(rate * _QUEUE_S), _QUEUE_LEAST)
    options = attribute(_TBF_PARMS, _TBF_QOPT.pack(0, _ETHERNET, 0, 0, 0, rate, waiting, 0, 0)) + attribute(
        _TBF_BURST, struct.pack("=I", burst)
    )
    body = _TCMSG.pack(0, index, 0, _ROOT, 0) + attribute(_KIND, b"tbf\0") + attribute(_OPTIONS, options)
    sock.run([Message(_NEWQDISC, CREATE | _REPLACE, body, f"limit link {index} to {rate} bytes a second")])


def _ingress(index: int, link: str) -> Message:
    body = _TCMSG.pack(0, index, _INGRESS_HANDLE, _INGRESS, 0) + attribute(_KIND, b"ingress\0")
    return Message(_NEWQDISC, EXCL_CREATE, body, f"take what comes in by {link}")


def _untake(index: int, link: str) -> Message:
    return Message(_DELQDISC, 0, _TCMSG.pack(0, index, _INGRESS_HANDLE, _INGRESS, 0), f"free what comes in by {link}")


def _redirect(index: int, ifb: int, link: str) -> Message:
    mirred = attribute(_MIRRED_PARMS, struct.pack("=IIiiiiI", 0, 0, _STOLEN, 0, 0, _EGRESS_REDIRECT, ifb))
    action = attribute(1, attribute(_ACT_KIND, b"mirred\0") + attribute(_ACT_OPTIONS, mirred))
    options = attribute(_U32_SEL, _SELECT_ALL) + attribute(_U32_ACT, action)
    body = _TCMSG.pack(0, index, 0, _INGRESS_HANDLE, _FIRST_OF_ALL) + attribute(_KIND, b"u32\0") + attribute(_OPTIONS, options)
    return Message(_NEWFILTER, EXCL_CREATE, body, f"lead what comes in by {link} elsewhere")


def _forgiving(sock: netlink.Socket, message: Message) -> None:
    """There was no limit: fine. The kernel says ENOENT, or EINVAL of the root that every link has."""
    try:
        sock.run([message])
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EINVAL):
            raise
