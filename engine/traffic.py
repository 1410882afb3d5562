"""The host's book of traffic: what each container and each tenant has sent and received, by month.

    <engine>/traffic.json     {"id", "links": {link: Counts when it was last looked at}, "months": {"2026-11": {"tenants", "containers"}}}

nftables counts by link (engine.networks.firewall), also what a container does that ends before anybody looks; ``count`` adds to the book
what has come since, and what the counter stands at in the same write. So a killed process counts nothing twice, and forgets nothing.
A tenant's sum is on its own: it keeps what removed containers, and the steps of builds, have done. Two months are kept.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field, replace
from typing import Final

from engine import disk
from engine.config import EngineConfig
from engine.model.codec import from_json, to_json
from engine.model.traffic import Counts, Traffic, month_of
from engine.networks import Networks

MONTHS_KEPT: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Month:
    tenants: dict[str, Counts] = field(default_factory=dict)
    containers: dict[str, Counts] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Book:
    id: str
    links: dict[str, Counts] = field(default_factory=dict)
    months: dict[str, _Month] = field(default_factory=dict)


class TrafficBook:
    """Safe for several processes. Methods raise OSError."""

    def __init__(self, config: EngineConfig, networks: Networks) -> None:
        self._config, self._networks = config, networks
        self._path, self._lock = config.engine / "traffic.json", config.engine / ".traffic.lock"

    def count(self, *, tell_all: bool = False) -> list[Traffic]:
        """Adds what has come since the last time; the sums that are different now, or all that are in the book."""
        with disk.locked(self._lock):
            before = self._read()
            flows, gone = self._networks.flows.all()
            month = month_of(time.time())
            tenants: dict[str, Counts] = {}
            containers: dict[str, Counts] = {}
            for flow in flows:
                if gained := flow.counts.since(before.links.get(flow.link, Counts())):
                    tenants[flow.tenant] = tenants.get(flow.tenant, Counts()) + gained
                    if self._is_there(flow.container_id):
                        containers[flow.container_id] = containers.get(flow.container_id, Counts()) + gained
            months = {name: self._pruned(each) for name, each in before.months.items()}
            if tenants:
                present = months.get(month, _Month())
                tenants = {name: present.tenants.get(name, Counts()) + gained for name, gained in tenants.items()}
                containers = {name: present.containers.get(name, Counts()) + gained for name, gained in containers.items()}
                months[month] = _Month(tenants=present.tenants | tenants, containers=present.containers | containers)
            kept = {name: months[name] for name in sorted(months)[-MONTHS_KEPT:]}
            links = {flow.link: counts for flow in flows if (counts := flow.counts or before.links.get(flow.link))}
            book = replace(before, links=links, months=kept)
            if book != before:
                disk.write_json(self._path, to_json(book))
            for link in gone:
                self._networks.flows.forget(link)
        if tell_all:
            return [Traffic(book=book.id, month=name, tenants=each.tenants, containers=each.containers) for name, each in kept.items()]
        return [Traffic(book=book.id, month=month, tenants=tenants, containers=containers)] if tenants else []

    def forget(self, tenant: str) -> None:
        """Whoever has its name next begins with nothing. Its containers are gone."""
        with disk.locked(self._lock):
            book = self._read()
            months = {
                month: replace(each, tenants={name: counts for name, counts in each.tenants.items() if name != tenant})
                for month, each in book.months.items()
            }
            if months != book.months:
                disk.write_json(self._path, to_json(replace(book, months=months)))

    def _read(self) -> _Book:
        record = disk.read_json(self._path)
        return _Book(id=secrets.token_hex(8)) if record is None else from_json(_Book, record)

    def _pruned(self, month: _Month) -> _Month:
        return replace(month, containers={number: counts for number, counts in month.containers.items() if self._is_there(number)})

    def _is_there(self, container_id: str) -> bool:
        return (self._config.container(container_id) / "spec.json").exists()
