"""What carries a published port's IPv6 traffic to its container: streams or datagrams."""

from __future__ import annotations

import socket
from typing import Protocol

from engine.networks.netd.datagrams import DatagramRelay
from engine.networks.netd.share import Share
from engine.networks.netd.streams import StreamRelay
from engine.runtime.loop import Loop


class Relay(Protocol):
    @property
    def flows(self) -> int:
        """How many are open."""

    def close(self) -> None:
        """Every flow ends. The listening socket stays its holder's."""


def relay(loop: Loop, protocol: str, sock: socket.socket, target: tuple[str, int], share: Share) -> Relay:
    return StreamRelay(loop, sock, target, share) if protocol == "tcp" else DatagramRelay(loop, sock, target, share)
