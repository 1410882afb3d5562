"""The networks that tenants made, as files: what was asked for with the pool that it got, and a number that is small on this host.

    networks/defined/<tenant>/<id>.json     {"number", "spec": NetworkSpec}

A subnet of this host's choosing is a /24 of the blocks that the instance claims for them (engine.claims), of IPv6 a /64. All networks of
a host share one routing table, so a subnet is given once, whoever asks; and none is taken that the host itself or the world has use for.
"""

from __future__ import annotations

import ipaddress
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from engine import disk
from engine.claims import Claims, host_networks
from engine.config import tenants_subnets
from engine.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, PermissionDenied, Unsupported
from engine.model.codec import from_json, to_json
from engine.model.network import NetworkSpec, Pool, Subnet, check_network, check_network_id, is_within
from engine.model.tenant import check_tenant_name
from engine.networks.bridged import Bridged, defined_bridge
from engine.networks.endpoints import HAS_IPV6
from engine.networks.kept_free import kept_free

PREFIX: Final = {4: 24, 6: 64}  # of what the host chooses
WIDEST: Final = {4: 16, 6: 48}  # of what a tenant may ask for
_PRIVATE: Final = {  # RFC 1918; RFC 4193 and, as Docker's manual has it in its examples, 3849
    4: ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),
    6: ("fd00::/8", "2001:db8::/32"),
}
_OVERLAPS: Final = "invalid pool request: Pool overlaps with other one on this address space"


class Defined:
    """Changes happen under the caller's lock."""

    def __init__(self, folder: Path, instance: str, claims: Claims) -> None:
        self._folder = folder / "defined"
        self._instance = instance
        self._claims = claims
        asked = [ipaddress.ip_network(word) for word in tenants_subnets()]
        self._allowed: dict[int, list[Subnet]] = {
            version: [each for each in asked if each.version == version] or [ipaddress.ip_network(word) for word in words]
            for version, words in _PRIVATE.items()
        }

    def add(self, spec: NetworkSpec) -> NetworkSpec:
        """With its pool complete. The same one again is once. PermissionDenied (moby's 403) when its subnet is in use."""
        check_network(spec)
        if spec.ipv6_pool is not None and not HAS_IPV6:
            raise Unsupported("this host's kernel has no IPv6")
        known = list(self._records())
        for record in known:
            if record["spec"]["id"] == spec.id and record["spec"]["tenant"] == spec.tenant:
                return from_json(NetworkSpec, record["spec"])
            if record["spec"]["tenant"] == spec.tenant and record["spec"]["name"] == spec.name:
                raise AlreadyExists(f"network with name {spec.name} already exists")
        pool, ipv6_pool = (each and self._complete(each, version, known) for version, each in ((4, spec.pool), (6, spec.ipv6_pool)))
        made = replace(spec, pool=pool, ipv6_pool=ipv6_pool)
        taken = {record["number"] for record in known}
        number = next(number for number in range(1, len(taken) + 2) if number not in taken)
        path = self._path(spec.tenant, spec.id)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        disk.write_json(path, {"number": number, "spec": to_json(made)}, sync=True)
        return made

    def get(self, tenant: str, network_id: str) -> Bridged:
        """NotFound also for another tenant's."""
        record = disk.read_json(self._path(tenant, check_network_id(network_id)))
        if record is None:
            raise NotFound(f"network {network_id} not found")
        return self._bridged(record)

    def spec(self, tenant: str, network_id: str) -> NetworkSpec:
        record = disk.read_json(self._path(tenant, check_network_id(network_id)))
        if record is None:
            raise NotFound(f"network {network_id} not found")
        return from_json(NetworkSpec, record["spec"])

    def put_back(self, spec: NetworkSpec, network: Bridged) -> None:
        """After ``drop``, as it was."""
        number = int(network.link.rpartition("n")[2])
        disk.write_json(self._path(spec.tenant, spec.id), {"number": number, "spec": to_json(spec)}, sync=True)

    def drop(self, tenant: str, network_id: str) -> None:
        """Gone already is fine."""
        self._path(tenant, network_id).unlink(missing_ok=True)

    def of(self, tenant: str) -> list[Bridged]:
        return [self._bridged(record) for record in self._records(tenant)]

    def all(self) -> list[Bridged]:
        return [self._bridged(record) for record in self._records()]

    def specs(self) -> list[NetworkSpec]:
        """Every tenant's, with the pools they got."""
        return [from_json(NetworkSpec, record["spec"]) for record in self._records()]

    def forget(self, tenant: str) -> None:
        shutil.rmtree(self._folder / tenant, ignore_errors=True)

    def _bridged(self, record: dict[str, Any]) -> Bridged:
        return defined_bridge(self._instance, int(record["number"]), from_json(NetworkSpec, record["spec"]))

    def _records(self, tenant: str = "*") -> Iterator[dict[str, Any]]:
        for path in self._folder.glob(f"{tenant}/*.json"):
            record = disk.read_json(path)
            if record is not None:
                yield record

    def _path(self, tenant: str, network_id: str) -> Path:
        return self._folder / check_tenant_name(tenant) / f"{network_id}.json"

    def _complete(self, pool: Pool, version: int, known: list[dict[str, Any]]) -> Pool:
        pools = [record["spec"].get("pool" if version == 4 else "ipv6_pool") for record in known]
        used = [ipaddress.ip_network(each["subnet"]) for each in pools if each]
        subnet = self._checked(ipaddress.ip_network(pool.subnet), used) if pool.subnet else self._free(version, used)
        reserved = {ipaddress.ip_address(each) for each in pool.reserved}
        gateway = pool.gateway or next(address for address in subnet.hosts() if address not in reserved)
        return replace(pool, subnet=str(subnet), gateway=str(ipaddress.ip_address(gateway)))

    def _checked(self, subnet: Subnet, used: Iterable[Subnet]) -> Subnet:
        version = subnet.version
        if subnet.prefixlen < WIDEST[version]:
            raise InvalidArgument(f"invalid subnet {subnet}: a network of this host has at most a /{WIDEST[version]}")
        if not any(is_within(subnet, allowed) for allowed in self._allowed[version]):
            raise InvalidArgument(f"invalid subnet {subnet}: this host allows those of {', '.join(map(str, self._allowed[version]))}")
        own = (*used, *self._claims.everyones(version))
        if any(subnet.overlaps(other) for other in (*own, *kept_free(version, own))):
            raise PermissionDenied(_OVERLAPS, rule="subnet")
        return subnet

    def _free(self, version: int, used: list[Subnet]) -> Subnet:
        """The first free one; the instance claims another block when all are taken."""
        blocks, ours = 0, self._blocks(version, 1)
        foreign = [other for other in host_networks(version) if other.prefixlen >= 8 and other not in used and other not in ours]
        while True:
            for block in ours[blocks:]:
                for subnet in block.subnets(new_prefix=PREFIX[version]):
                    if not any(subnet.overlaps(other) for other in (*used, *foreign)):
                        return subnet
            if version == 6:
                raise FailedPrecondition(f"all IPv6 networks of this host are in use ({ours[0]})")
            blocks = len(ours)
            ours = self._blocks(version, blocks + 1)

    def _blocks(self, version: int, count: int) -> list[Subnet]:
        words = self._claims.blocks(self._instance, count) if version == 4 else [self._claims.ula(self._instance)]
        return [ipaddress.ip_network(word) for word in words]
