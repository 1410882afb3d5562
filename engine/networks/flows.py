"""What goes through containers' ends of networks, by whose they are: of those that are there, and of those that are gone uncounted."""

from __future__ import annotations

import socket
from typing import NamedTuple

from engine.model.traffic import Counts
from engine.networks import bridge as bridges
from engine.networks.defined import Defined
from engine.networks.rulebook import Rulebook
from engine.networks.store import YOUNG_S, Leases
from engine.tenants import Tenants


class Flow(NamedTuple):
    """What has gone through a container's end of a network since the link was made, or the rules were."""

    link: str
    tenant: str
    container_id: str
    counts: Counts


class Flows:
    """Methods raise OSError."""

    def __init__(self, instance: str, leases: Leases, defined: Defined, rules: Rulebook, tenants: Tenants) -> None:
        self._instance = instance
        self._leases, self._defined, self._rules, self._tenants = leases, defined, rules, tenants

    def all(self) -> tuple[list[Flow], list[str]]:
        """Of every link that there is, and of every one that is gone since the last ``forget`` of it; the names of the latter.

        From the first call on it is noted whose the links were.
        """
        self._leases.departed.begin()
        alive = {lease.link: (lease.network, container_id) for container_id, _, lease in self._leases.all()}
        gone = self._leases.departed.all()  # afterwards: none is missed that goes meanwhile
        try:
            counted = self._rules.counted()
        except OSError:
            if bridges.existing(self._instance):
                raise
            counted = {}  # no container yet, or none any more
        owners = {network.key: network.tenant for network in self._defined.all()}
        tenants = {tenant.name for tenant in self._tenants.list()}
        flows = []
        for link, (key, container_id) in {**alive, **gone}.items():
            tenant = owners.get(key, key)
            if tenant in tenants:
                flows.append(Flow(link, tenant, container_id, counted.get(link, Counts())))
            elif link in gone and self._leases.departed.is_old(link, YOUNG_S):  # who removed its network, or tenant, was killed
                self.forget(link)
        present = {name for _, name in socket.if_nameindex()}
        for link in counted.keys() - alive.keys() - gone.keys() - present:  # something came for it while it went
            self._rules.forget_counted(link)
        return flows, [flow.link for flow in flows if flow.link in gone]

    def forget(self, link: str) -> None:
        """One that is gone, once it is counted."""
        self._rules.forget_counted(link)
        self._leases.departed.drop(link)
