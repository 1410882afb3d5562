"""Ports of the host that are published: one bound socket each, for each address family, as long as its container has it.

nftables carries IPv4 past these sockets (engine.networks.firewall), so an IPv4 one only holds its port, deaf. It cannot carry IPv6 to an
container without it, nor [::1] to any: an IPv6 socket is deaf until its container has an address, and then relays what comes (relay,
datagrams).

What a binding without an address means is moby's: every address of the host, by IPv4 and by IPv6, at the same port.
"""

from __future__ import annotations

import errno
import ipaddress
import resource
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Final

from engine.errors import FailedPrecondition, Unsupported
from engine.kernel import deaf
from engine.model.network import PORTS_MAX, PortBinding
from engine.networks.facts import Facts
from engine.networks.netd.relays import Relay, relay
from engine.networks.netd.share import Share, Whole
from engine.runtime.loop import Loop, say

_KINDS: Final = {
    "tcp": (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    "udp": (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    "sctp": (socket.SOCK_STREAM, socket.IPPROTO_SCTP),
}
_FREE_PORTS: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")  # moby takes free ports from the same
_FREE_PORTS_DEFAULT: Final = (49153, 65535)
BACKLOG: Final = 1024
_NO_PROTOCOL: Final = (errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT)
_NO_IPV6: Final = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
_NEVER: Final = "no IPv6"
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_ANY: Final[tuple[Address, ...]] = (ipaddress.IPv4Address("0.0.0.0"), ipaddress.IPv6Address("::"))


@dataclass(slots=True, eq=False)
class Held:
    """One port of one address of the host. ``sock`` is None while another program has it: only after a kill, when it must be had again."""

    owner: str
    address: Address
    protocol: str
    port: int
    container_port: int
    sock: socket.socket | None = None
    relay: Relay | None = None
    missed: bool = False  # that it could not be had again was said

    def key(self) -> tuple[str, int]:
        return self.protocol, self.port

    def overlaps(self, address: Address) -> bool:
        same_family = self.address.version == address.version
        return same_family and (self.address == address or self.address.is_unspecified or address.is_unspecified)

    def lead_to(self, loop: Loop, target: str, share: Share) -> None:
        """IPv4 is nftables' affair."""
        if self.sock is None or self.address.version == 4 or self.protocol == "sctp":
            return
        is_deaf = self.relay is None
        if self.relay is not None:
            self.relay.close()
            self.relay = None
        if target:
            if is_deaf:
                deaf.hear(self.sock)
            self.relay = relay(loop, self.protocol, self.sock, (target, self.container_port), share)
        elif not is_deaf:
            deaf.deafen(self.sock)

    def close(self) -> None:
        if self.relay is not None:
            self.relay.close()
        if self.sock is not None:
            self.sock.close()


@dataclass(slots=True)
class Owner:
    share: Share
    bindings: list[PortBinding] = field(default_factory=list)  # as they are bound
    held: list[list[Held]] = field(default_factory=list)  # of each
    target: str = ""
    tenant: str = ""  # "" after a return from files: until its next hold


class Ports:
    def __init__(self, loop: Loop, facts: Facts) -> None:
        self._loop, self._facts = loop, facts
        self._owners: dict[str, Owner] = {}
        self._held: dict[tuple[str, int], list[Held]] = {}
        self._whole = Whole()
        self._last: dict[str, int] = {}  # free port that was given last, by protocol

    @property
    def count(self) -> int:
        return sum(len(owner.bindings) for owner in self._owners.values())

    @property
    def flows(self) -> int:
        return sum(held.relay.flows for held in self._all() if held.relay is not None)

    def hold(self, container_id: str, wanted: Sequence[PortBinding], target: str, tenant: str = "") -> list[PortBinding]:
        """Exactly these; as in NetdClient. What fails leaves everything as it was."""
        owner = self._owners.get(container_id) or Owner(Share(self._whole))
        owner.tenant = tenant or owner.tenant
        self._check_room(container_id, owner.tenant, len(wanted))
        kept = _matches(wanted, owner.bindings)
        future = Owner(owner.share, target=target or owner.target, tenant=owner.tenant)
        with ExitStack() as undo:
            for binding, present in zip(wanted, kept, strict=True):
                if present is not None:
                    future.bindings.append(owner.bindings[present])
                    future.held.append(owner.held[present])
                    continue
                bound, held = self._bind(container_id, binding)
                undo.callback(self._drop, held)
                future.bindings.append(bound)
                future.held.append(held)
            self._facts.hold(container_id, future.bindings)
            undo.pop_all()
        for index, held in enumerate(owner.held):
            if index not in kept:
                self._drop(held)
        if future.bindings:
            self._owners[container_id] = future
        else:
            self._owners.pop(container_id, None)
        for index, held in enumerate(future.held):
            if kept[index] is None or (target and target != owner.target):
                self._lead(held, future)
        return future.bindings

    def target(self, container_id: str, address: str) -> None:
        owner = self._owners.get(container_id)
        if owner is not None and owner.target != address:
            owner.target = address
            for held in owner.held:
                self._lead(held, owner)

    def release(self, container_id: str) -> None:
        owner = self._owners.pop(container_id, None)
        for held in owner.held if owner else ():
            self._drop(held)

    def restore(self, container_id: str, bindings: Sequence[PortBinding], target: str) -> None:
        """As they were before a kill, also where another program was quicker: then ``hold_missing`` tries again."""
        owner = self._owners[container_id] = Owner(Share(self._whole), list(bindings), [], target)
        for binding in bindings:
            held = [_unbound(container_id, address, binding, binding.host_port) for address in _addresses(binding)]
            held = [one for one in held if _try_again(one) != _NEVER]
            for one in held:
                self._held.setdefault(one.key(), []).append(one)
            owner.held.append(held)
            self._lead(held, owner)

    def hold_missing(self) -> bool:
        """Whether some are still missing."""
        missing = False
        for held in self._all():
            if held.sock is None:
                if not _try_again(held):
                    self._lead([held], self._owners[held.owner])
                else:
                    missing = True
        return missing

    # -- inside ----------------------------------------------------------------------------------

    def _check_room(self, container_id: str, tenant: str, count: int) -> None:
        """Nobody takes the ports, and our descriptors, from all others."""
        others = [owner for number, owner in self._owners.items() if number != container_id]
        mine = sum(len(owner.bindings) for owner in others if tenant and owner.tenant == tenant)
        if mine + count > PORTS_MAX:
            raise FailedPrecondition(f"too many published ports: tenant {tenant} has {mine} and wants {count}, of at most {PORTS_MAX}")
        first, last = _free_ports()  # the host's own connections need some of them
        room = min(resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2 // len(_ANY), (last - first) // 2)
        if sum(len(owner.bindings) for owner in others) + count > room:
            raise FailedPrecondition("too many published ports: this host has as many as it can hold")

    def _all(self) -> Iterator[Held]:
        for owner in self._owners.values():
            for held in owner.held:
                yield from held

    def _bind(self, container_id: str, binding: PortBinding) -> tuple[PortBinding, list[Held]]:
        """At the first port that is free by all of its addresses."""
        for port in self._candidates(binding):
            try:
                held = self._bind_at(container_id, binding, port)
            except FailedPrecondition:
                if binding.host_port and binding.host_port_end <= binding.host_port:
                    raise
                continue
            if not binding.host_port:
                self._last[binding.protocol] = port
            return replace(binding, host_port=port, host_port_end=0), held
        raise FailedPrecondition("all ports are allocated")

    def _bind_at(self, container_id: str, binding: PortBinding, port: int) -> list[Held]:
        addresses = _addresses(binding)
        for address in addresses:
            if any(other.overlaps(address) for other in self._held.get((binding.protocol, port), ())):
                raise FailedPrecondition(f"Bind for {_shown(address, port)} failed: port is already allocated")
        with ExitStack() as undo:
            found = []
            for address in addresses:
                held = _unbound(container_id, address, binding, port)
                try:
                    held.sock = _bound(address, binding.protocol, port)
                except OSError as error:
                    if address.version == 6 and not binding.host_ip and error.errno in _NO_IPV6:
                        continue  # a host without IPv6
                    if error.errno in _NO_PROTOCOL:
                        raise Unsupported(f"this host's kernel has no {binding.protocol}: {error.strerror}") from error
                    reason = (error.strerror or str(error)).lower()
                    raise FailedPrecondition(f"failed to bind host port {_shown(address, port)}/{binding.protocol}: {reason}") from error
                undo.callback(held.sock.close)
                found.append(held)
            undo.pop_all()
        for held in found:
            self._held.setdefault(held.key(), []).append(held)
        return found

    def _candidates(self, binding: PortBinding) -> Iterable[int]:
        if binding.host_port:
            return range(binding.host_port, max(binding.host_port, binding.host_port_end) + 1)
        first, last = _free_ports()
        after = self._last.get(binding.protocol, first - 1) + 1
        if not first <= after <= last:
            after = first
        return chain(range(after, last + 1), range(first, after))

    def _drop(self, held: Sequence[Held]) -> None:
        for one in held:
            one.close()
            others = self._held[one.key()]
            others.remove(one)
            if not others:
                del self._held[one.key()]

    def _lead(self, held: Sequence[Held], owner: Owner) -> None:
        for one in held:
            one.lead_to(self._loop, owner.target, owner.share)


def _matches(wanted: Sequence[PortBinding], bound: Sequence[PortBinding]) -> list[int | None]:
    """For each that is wanted, the index of the bound one that is it."""
    left = set(range(len(bound)))
    found: list[int | None] = []
    for binding in wanted:
        match = next((index for index in sorted(left) if _is(binding, bound[index])), None)
        left.discard(-1 if match is None else match)
        found.append(match)
    return found


def _is(wanted: PortBinding, bound: PortBinding) -> bool:
    end = max(wanted.host_port, wanted.host_port_end)
    same = (wanted.container_port, wanted.protocol, wanted.host_ip) == (bound.container_port, bound.protocol, bound.host_ip)
    return same and (not wanted.host_port or wanted.host_port <= bound.host_port <= end)


def _addresses(binding: PortBinding) -> tuple[Address, ...]:
    return (ipaddress.ip_address(binding.host_ip),) if binding.host_ip else _ANY


def _unbound(owner: str, address: Address, binding: PortBinding, port: int) -> Held:
    return Held(owner, address, binding.protocol, port, binding.container_port)


def _bound(address: Address, protocol: str, port: int) -> socket.socket:
    """Deaf."""
    kind, number = _KINDS[protocol]
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, number)
    try:
        deaf.deafen(sock)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if protocol == "tcp":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of whoever had the port before may still be ending
        sock.bind((str(address), port))
        if protocol == "tcp":
            sock.listen(BACKLOG)  # a bound socket alone would let in another one with SO_REUSEADDR
    except BaseException:
        sock.close()
        raise
    return sock


def _try_again(held: Held) -> str:
    """ "" when it is bound now, else why not; ``_NEVER`` for IPv6 on a host without."""
    try:
        held.sock = _bound(held.address, held.protocol, held.port)
    except OSError as error:
        if held.address == _ANY[1] and error.errno in _NO_IPV6:
            return _NEVER
        if not held.missed:
            held.missed = True
            say(f"{_shown(held.address, held.port)}/{held.protocol} of {held.owner[:12]} is not held: {error.strerror}")
        return error.strerror or str(error)
    return ""


def _free_ports() -> tuple[int, int]:
    try:
        first, last = map(int, _FREE_PORTS.read_text().split())
    except (OSError, ValueError):
        return _FREE_PORTS_DEFAULT
    return first, last


def _shown(address: Address, port: int) -> str:
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
