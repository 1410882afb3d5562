"""Allow-lists that hold now, as files for whoever builds the rules anew.

    networks/limits/containers/<id>     {"places": its addresses, "rules": Rules}     while it runs; spec.json has the list beyond that
    networks/limits/networks/<id>       {"places": its subnets, "rules": Rules}       while there is such a network

netd relays IPv6 to published ports, so the container never sees who came: a port whose lists are for some addresses alone is closed to it.
"""

from __future__ import annotations

import ipaddress
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from engine import disk
from engine.model.codec import from_json, to_json
from engine.model.network import PortBinding
from engine.model.rules import Rules
from engine.networks.elements import Closed
from engine.networks.limits import CONTAINERS, NETWORKS, SCOPES, Limit, allows_everybody

_EVERY_ADDRESS = ("", "::")


class Limited:
    """Methods raise OSError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "limits"

    def write(self, scope: str, name: str, places: tuple[str, ...], rules: Rules) -> Limit | None:
        """In place of what it had. None: nothing is limited."""
        if not rules or not places:
            self.forget(scope, name)
            return None
        path = self._folder / scope / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        disk.write_json(path, {"places": places, "rules": to_json(rules)})
        return Limit(scope, places, rules)

    def of(self, scope: str, name: str) -> Limit | None:
        record = disk.read_json(f"{self._folder}/{scope}/{name}")
        return None if record is None else Limit(scope, tuple(record["places"]), from_json(Rules, record["rules"]))

    def forget(self, scope: str, name: str) -> None:
        """Gone already is fine."""
        (self._folder / scope / name).unlink(missing_ok=True)

    def clear(self, scope: str) -> None:
        shutil.rmtree(self._folder / scope, ignore_errors=True)

    def all(self) -> Iterator[Limit]:
        for scope in SCOPES:
            yield from self._in(scope)

    def is_selective(self, container_id: str, address: str) -> bool:
        """Whether a list says who may come to the ports that lead to this address."""
        limits = [self.of(CONTAINERS, container_id), *self._in(NETWORKS)]
        return any(limit and limit.rules.ingress is not None and _holds(limit, address) for limit in limits)

    def closed(self, published: Iterable[tuple[str, str, tuple[PortBinding, ...]]]) -> Iterator[Closed]:
        """``published``: (container id, address, ports)."""
        networks = list(self._in(NETWORKS))
        for container_id, address, ports in published:
            lists = [limit.rules.ingress for limit in (self.of(CONTAINERS, container_id), *networks) if limit and _holds(limit, address)]
            for port in ports:
                everybody = all(allows_everybody(each, port.protocol, port.container_port) for each in lists)
                if not everybody and (port.host_ip in _EVERY_ADDRESS or ":" in port.host_ip):
                    yield Closed("" if port.host_ip in _EVERY_ADDRESS else port.host_ip, port.protocol, port.host_port)

    def _in(self, scope: str) -> Iterator[Limit]:
        try:
            names = os.listdir(self._folder / scope)
        except FileNotFoundError:
            return
        for name in names:
            limit = None if name.startswith(".") else self.of(scope, name)
            if limit is not None:
                yield limit


def _holds(limit: Limit, address: str) -> bool:
    if limit.scope == CONTAINERS:
        return address in limit.places
    return bool(address) and any(ipaddress.ip_address(address) in ipaddress.ip_network(place) for place in limit.places)
