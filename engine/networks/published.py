"""Published ports: what leads to which container, as files for whoever builds the rules anew, and in the firewall.

    networks/published/<container id>     {"address": the container's, "ipv6_address", "ports": [PortBinding with its host_port]}
                                          an address "" = none of that family

The firewall forwards IPv4 to the one address and IPv6 to the other, so a container sees who comes. netd holds each port and relays what is
left of IPv6 (engine.networks.netd): to a container without, and to [::1], which leads out of no host.
"""

from __future__ import annotations

import ipaddress
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from engine import disk
from engine.model.codec import from_json, to_json
from engine.model.network import PortBinding
from engine.networks.elements import Forward
from engine.networks.firewall import Firewall


class Published:
    """Methods raise OSError."""

    def __init__(self, folder: Path, firewall: Firewall) -> None:
        self._folder = folder / "published"
        self._firewall = firewall

    def add(self, container_id: str, address: str, ipv6_address: str, ports: Sequence[PortBinding]) -> None:
        """These and no other ones lead to the container from now on."""
        old, new = set(self._forwards_of(container_id)), list(_forwards(address, ipv6_address, ports))
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        disk.write_json(self._folder / container_id, {"address": address, "ipv6_address": ipv6_address, "ports": to_json(ports)})
        for forward in old.difference(new):
            self._firewall.unpublish(forward)
        for forward in new:
            self._firewall.publish(forward)

    def drop(self, container_id: str) -> None:
        """Gone already is fine."""
        forwards = self._forwards_of(container_id)
        for forward in forwards:
            self._firewall.unpublish(forward)
        (self._folder / container_id).unlink(missing_ok=True)
        for forward in forwards:  # see Firewall.build
            self._firewall.unpublish(forward)

    def ports_of(self, container_id: str) -> tuple[PortBinding, ...]:
        record = disk.read_json(self._folder / container_id)
        return () if record is None else from_json(tuple[PortBinding, ...], record["ports"])

    def address_of(self, container_id: str) -> str:
        """Where its ports lead, by IPv4 if it can; "" = it has none."""
        record = disk.read_json(self._folder / container_id)
        return "" if record is None else _address(record)

    def addressed(self) -> Iterator[tuple[str, str, tuple[PortBinding, ...]]]:
        """(container id, ``address_of`` it, its ports)."""
        for path in self._paths():
            record = disk.read_json(path)
            if record is not None:
                yield path.name, _address(record), from_json(tuple[PortBinding, ...], record["ports"])

    def clear(self) -> None:
        """After the rules are gone."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def all(self) -> list[Forward]:
        return [forward for path in self._paths() for forward in self._forwards_of(path.name)]

    def ids(self) -> set[str]:
        return {path.name for path in self._paths()}

    def _paths(self) -> Iterator[Path]:
        return self._folder.glob("[!.]*")

    def _forwards_of(self, container_id: str) -> list[Forward]:
        record = disk.read_json(self._folder / container_id)
        if record is None:
            return []
        ports = from_json(tuple[PortBinding, ...], record["ports"])
        return list(_forwards(record["address"], record.get("ipv6_address", ""), ports))


def _address(record: Mapping[str, Any]) -> str:
    return str(record["address"] or record["ipv6_address"])


def _forwards(address: str, ipv6_address: str, ports: Iterable[PortBinding]) -> Iterator[Forward]:
    for port in ports:
        for target in filter(None, (address, ipv6_address)):
            any_, version = ("::", 6) if ":" in target else ("0.0.0.0", 4)
            if not port.host_ip or ipaddress.ip_address(port.host_ip).version == version:
                host_ip = "" if port.host_ip == any_ else port.host_ip
                yield Forward(host_ip, port.protocol, port.host_port, target, port.container_port)
