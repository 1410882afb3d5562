"""Who is called what, as netd is told it: a network's members, and what a container may look up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Member:
    """A container in one network. It is found by its name, its aliases and the first 12 digits of its id."""

    container_id: str
    name: str
    aliases: tuple[str, ...] = ()
    address: str = ""  # IPv4, dotted
    ipv6_address: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "container_id": self.container_id,
            "name": self.name,
            "aliases": list(self.aliases),
            "address": self.address,
            "ipv6_address": self.ipv6_address,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Member:
        aliases, ipv6_address = tuple(map(str, data["aliases"])), str(data.get("ipv6_address", ""))
        return cls(str(data["container_id"]), str(data["name"]), aliases, str(data["address"]), ipv6_address)


@dataclass(frozen=True, slots=True)
class Names:
    """What a container's resolver answers from. Nothing outside of ``networks`` is ever looked up for it."""

    networks: tuple[str, ...] = ()  # keys; the first that knows a name answers
    links: Mapping[str, str] = field(default_factory=dict)  # alias that this container alone uses → container id
    servers: tuple[str, ...] = ()  # its own --dns, asked from inside its network namespace; none: the host's, asked by the host
    forward: bool = True  # other names are asked elsewhere; False for a container that has internal networks alone

    def to_json(self) -> dict[str, Any]:
        return {"networks": list(self.networks), "links": dict(self.links), "servers": list(self.servers), "forward": self.forward}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Names:
        links = {str(alias): str(container_id) for alias, container_id in data["links"].items()}
        return cls(tuple(map(str, data["networks"])), links, tuple(map(str, data["servers"])), bool(data["forward"]))
