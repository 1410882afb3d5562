"""Who is in which network, and what each container may find there. In memory; engine.networks.facts has the files.

A name is looked up in the networks that the asker is a member of, in their order, and the first that knows it answers, as in moby:
links of its own, names, aliases, short ids; then each of them with the network's name behind a dot.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from engine.networks.names import Member, Names

SHORT_ID: Final = 12


class Network:
    def __init__(self, name: str) -> None:
        self.name = name
        self.suffix = f".{name}".lower().encode()
        self.members: dict[str, Member] = {}
        self._by_name: dict[bytes, dict[str, list[bytes]]] = {}
        self._by_address: dict[bytes, str] = {}

    def enter(self, member: Member) -> None:
        self.leave(member.container_id)
        self.members[member.container_id] = member
        addresses = list(packed(member))
        if addresses:
            for name in _names(member):
                self._by_name.setdefault(name, {})[member.container_id] = addresses
        for address in addresses:
            self._by_address[address] = member.container_id

    def leave(self, container_id: str) -> None:
        member = self.members.pop(container_id, None)
        if member is None:
            return
        for name in _names(member):
            bearers = self._by_name.get(name)
            if bearers is not None:
                bearers.pop(container_id, None)
                if not bearers:
                    del self._by_name[name]
        for address in packed(member):
            if self._by_address.get(address) == container_id:
                del self._by_address[address]

    def find(self, name: bytes, *, turn: bool) -> list[bytes] | None:
        bearers = self._by_name.get(name)
        if bearers is None:
            return None
        found = [address for addresses in bearers.values() for address in addresses]
        if turn and len(bearers) > 1:
            first = next(iter(bearers))
            bearers[first] = bearers.pop(first)
        return found

    def addresses_of(self, container_id: str) -> list[bytes]:
        member = self.members.get(container_id)
        return [] if member is None else list(packed(member))

    def called(self, address: bytes) -> bytes | None:
        """<container name>.<network name>"""
        container_id = self._by_address.get(address)
        return None if container_id is None else f"{self.members[container_id].name}.{self.name}".encode()


class Directory:
    def __init__(self) -> None:
        self.networks: dict[str, Network] = {}

    def enter(self, key: str, name: str, member: Member) -> None:
        network = self.networks.get(key)
        if network is None:
            network = self.networks[key] = Network(name)
        network.enter(member)

    def leave(self, key: str, container_id: str) -> None:
        network = self.networks.get(key)
        if network is not None:
            network.leave(container_id)
            if not network.members:
                del self.networks[key]


@dataclass(slots=True)
class View:
    """What one container sees of the directory."""

    directory: Directory
    names: Names
    links: dict[bytes, str]

    @classmethod
    def of(cls, directory: Directory, names: Names) -> View:
        return cls(directory, names, {alias.lower().encode(): container_id for alias, container_id in names.links.items()})

    def find(self, name: bytes, *, turn: bool) -> list[bytes] | None:
        """Addresses, of 4 and of 16 bytes; None when nobody here is called so. ``turn``: the next answer begins with the next of them."""
        networks = [network for key in self.names.networks if (network := self.directory.networks.get(key)) is not None]
        for network in networks:
            found = self._find(network, name, turn)
            if found is not None:
                return found
        for network in networks:
            if name.endswith(network.suffix):
                found = self._find(network, name[: -len(network.suffix)], turn)
                if found is not None:
                    return found
        return None

    def called(self, address: bytes) -> bytes | None:
        for key in self.names.networks:
            network = self.directory.networks.get(key)
            if network is not None and (name := network.called(address)) is not None:
                return name
        return None

    def _find(self, network: Network, name: bytes, turn: bool) -> list[bytes] | None:
        if self.links and name in self.links:
            addresses = network.addresses_of(self.links[name])
            if addresses:
                return addresses
        return network.find(name, turn=turn)


def packed(member: Member) -> Iterator[bytes]:
    for family, address in ((socket.AF_INET, member.address), (socket.AF_INET6, member.ipv6_address)):
        if address:
            with suppress(OSError):
                yield socket.inet_pton(family, address)


def _names(member: Member) -> set[bytes]:
    return {name.lower().encode() for name in (member.name, *member.aliases, member.container_id[:SHORT_ID]) if name}
