"""nftables from two sides: any nft(8) command through libnftables.so.1, and single set elements by hand-packed messages.

A command costs 2.1 ms by an ``nft`` process and 0.07 to 0.4 ms by the library, which reads the tables of the whole host first;
an element by its own message costs 0.03 ms, whatever else the host has. libnftables(3) comes with Debian's package
``nftables``, whose service need not run. Messages: linux/netfilter/nf_tables.h, linux/netfilter/nfnetlink.h.
"""

from __future__ import annotations

import ctypes
import errno
import json
import struct
import threading
from typing import Any, Final

from engine.kernel import netlink

_LIBRARY: Final = "libnftables.so.1"
_OUTPUT_JSON: Final = 1 << 4  # NFT_CTX_OUTPUT_JSON, nftables/libnftables.h
_OUTPUT_HANDLE: Final = 1 << 3  # NFT_CTX_OUTPUT_HANDLE

NETLINK_NETFILTER: Final = 12
BATCH_BEGIN, BATCH_END = 0x10, 0x11
SUBSYSTEM: Final = 10  # NFNL_SUBSYS_NFTABLES
_GROUP: Final = 7  # NFNLGRP_NFTABLES
_RULE_KINDS: Final = {SUBSYSTEM << 8 | kind for kind in (0, 2, 3, 5, 6, 8)}  # NEW and DEL of TABLE, CHAIN, RULE
_NEWSETELEM: Final = SUBSYSTEM << 8 | 12
_GETSETELEM: Final = SUBSYSTEM << 8 | 13
_DELSETELEM: Final = SUBSYSTEM << 8 | 14
_ELEM_LIST_TABLE, _ELEM_LIST_SET, _ELEM_LIST_ELEMENTS = 1, 2, 3
_LIST_ELEM: Final = 1
_SET_ELEM_KEY, _SET_ELEM_DATA = 1, 2
_DATA_VALUE: Final = 1
_NFGENMSG: Final = struct.Struct(">BBH")  # family, version, subsystem
INET: Final = 1  # NFPROTO_INET
BRIDGE: Final = 7  # NFPROTO_BRIDGE


class Nftables:
    """One kept context of the network namespace it was made in. Threads take turns: a context is not thread-safe.

    OSError with ENOSYS when the library is missing.
    """

    def __init__(self) -> None:
        try:
            library = ctypes.CDLL(_LIBRARY)
        except OSError as error:
            raise OSError(errno.ENOSYS, f"{_LIBRARY} is missing: install Debian's package nftables") from error
        library.nft_ctx_new.restype = ctypes.c_void_p
        library.nft_ctx_new.argtypes = [ctypes.c_uint32]
        library.nft_ctx_free.argtypes = [ctypes.c_void_p]
        library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
        library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        for part in ("output", "error"):
            getattr(library, f"nft_ctx_buffer_{part}").argtypes = [ctypes.c_void_p]
            getattr(library, f"nft_ctx_get_{part}_buffer").argtypes = [ctypes.c_void_p]
            getattr(library, f"nft_ctx_get_{part}_buffer").restype = ctypes.c_char_p
        self._library = library
        self._lock = threading.Lock()
        self._context = library.nft_ctx_new(0)
        if not self._context:
            raise OSError(errno.ENOMEM, "nft_ctx_new failed")
        library.nft_ctx_buffer_output(self._context)
        library.nft_ctx_buffer_error(self._context)

    def run(self, commands: str) -> None:
        """All of the commands or none. OSError (EINVAL: the errno is not told) with nft's own words."""
        self._run(commands, 0)

    def list(self, what: str) -> list[dict[str, Any]]:
        """What ``nft -j list <what>`` prints, with handles: [{"rule": {…}}, …]. libnftables-json(5). OSError when it is not there."""
        answer = self._run(f"list {what}", _OUTPUT_JSON | _OUTPUT_HANDLE)
        found: list[dict[str, Any]] = json.loads(answer)["nftables"] if answer else []
        return found

    def close(self) -> None:
        with self._lock:
            if self._context:
                self._library.nft_ctx_free(self._context)
                self._context = None

    def _run(self, commands: str, flags: int) -> str:
        with self._lock:
            self._library.nft_ctx_output_set_flags(self._context, flags)
            failed = self._library.nft_run_cmd_from_buffer(self._context, commands.encode())
            output = self._library.nft_ctx_get_output_buffer(self._context) or b""
            complaint = self._library.nft_ctx_get_error_buffer(self._context) or b""
        if failed:
            first = complaint.decode(errors="replace").strip().splitlines()
            raise OSError(errno.EINVAL, f"nft: {first[0] if first else 'failed'}")
        return str(output.decode())


class Elements:
    """Puts elements into one set or map and takes them out. Threads take turns.

    ``key``, and ``value`` of a map: their fields one after another, each padded to 4 bytes: ifname 16, ether_addr 6 + 2, ipv4_addr 4,
    inet_proto 1 + 3, inet_service 2 + 2.
    """

    def __init__(self, family: int, table: str, name: str) -> None:
        self._sock = netlink.Socket(netlink.open_socket(NETLINK_NETFILTER))
        self._family = family
        self._where = netlink.attribute(_ELEM_LIST_TABLE, _text(table)) + netlink.attribute(_ELEM_LIST_SET, _text(name))

    def add(self, key: bytes, value: bytes = b"") -> None:
        """There already is fine; with another value it is EEXIST. OSError with ENOENT when there is no such set."""
        self._batch(_NEWSETELEM, netlink.CREATE, key, "add element", value)

    def delete(self, key: bytes) -> None:
        """OSError with ENOENT when it, or the set, is not there.

        Asks first: a transaction that fails waits for a grace period of RCU (6 ms [m]), and most of what is deleted twice is gone.
        """
        self._sock.run([self._message(_GETSETELEM, 0, key, "find element")])
        self._batch(_DELSETELEM, 0, key, "delete element")

    def close(self) -> None:
        self._sock.close()

    def _batch(self, kind: int, flags: int, key: bytes, what: str, value: bytes = b"") -> None:
        mark = _NFGENMSG.pack(0, 0, SUBSYSTEM)
        self._sock.run(
            [
                netlink.Message(BATCH_BEGIN, 0, mark, what, answered=False),
                self._message(kind, flags, key, what, value),
                netlink.Message(BATCH_END, 0, mark, what, answered=False),
            ]
        )

    def _message(self, kind: int, flags: int, key: bytes, what: str, value: bytes = b"") -> netlink.Message:
        element = _nested(_SET_ELEM_KEY, netlink.attribute(_DATA_VALUE, key))
        if value:
            element += _nested(_SET_ELEM_DATA, netlink.attribute(_DATA_VALUE, value))
        elements = _nested(_ELEM_LIST_ELEMENTS, _nested(_LIST_ELEM, element))
        return netlink.Message(kind, flags, _NFGENMSG.pack(self._family, 0, 0) + self._where + elements, what)


class Watch:
    """Readable when anybody changed nftables in this network namespace; for select(2) and event loops. nfnetlink multicast."""

    def __init__(self) -> None:
        self._sock = netlink.open_socket(NETLINK_NETFILTER)
        self._sock.setblocking(False)
        self._sock.bind((0, 1 << _GROUP - 1))

    def fileno(self) -> int:
        return self._sock.fileno()

    def rules_changed(self) -> bool:
        """Take what has come; whether it was about tables, chains or rules (our own elements come and go with each container)."""
        changed = False
        while True:
            try:
                data = self._sock.recv(netlink.RECEIVE)
            except BlockingIOError:
                return changed
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                changed = True  # more than the socket holds: nobody knows what
                continue
            changed = changed or any(kind in _RULE_KINDS for kind, *_ in netlink.split(data))

    def close(self) -> None:
        self._sock.close()


def _nested(kind: int, payload: bytes) -> bytes:
    return netlink.attribute(kind | netlink.NLA_F_NESTED, payload)


def _text(name: str) -> bytes:
    return name.encode() + b"\0"
