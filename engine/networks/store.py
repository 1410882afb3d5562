"""Who has which address: symlinks whose text is the record, so that worker, agent and command line share them without a lock.

    networks/leases/<network>/<address>       → <key>          symlink(2) refuses a taken name: the claim; one for each family
    networks/leases/<network>/.last[6]        the offset given last (a hint)
    networks/endpoints/<key>[+<network id>]   → <network>/[<address>]/<link>[/[<mac>][/<IPv6 address>]]
                                              the way back; without an id: in the default bridge

``network`` is engine.networks.bridged.Bridged.key. The key is the container's id in base 64, 43 characters instead of 64: a text below 60
bytes lives in the inode itself (ext4), a longer one costs a block. symlink(2) makes name and text in one step: no reader sees half a
record, also after kill -9. A claim without its way back (killed between the two) is freed by ``dead``.
"""

from __future__ import annotations

import base64
import ipaddress
import os
import secrets
import shutil
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from engine.errors import FailedPrecondition, InvalidArgument, PermissionDenied
from engine.model.network import DEFAULT, EndpointSpec, Pool
from engine.networks import ipam
from engine.networks.bridged import Bridged
from engine.networks.departed import Departed
from engine.networks.elements import Port

YOUNG_S = 60.0  # older than any list of the living that a caller may hold
_LAST = {4: ".last", 6: ".last6"}
_DIGITS = {4: 8, 6: 40}  # of the hint, which is written over


class Lease(NamedTuple):
    network: str  # its key
    address: str  # "" in a network without IPv4
    link: str
    mac: str
    ipv6_address: str = ""

    def port(self) -> Port:
        return Port(self.link, self.mac, self.address, self.ipv6_address)


class Leases:
    def __init__(self, folder: Path, link_prefix: str) -> None:
        """``link_prefix``: of the host ends of veths; a lease adds 8 random digits, so that a link that is still dying is never met."""
        self._leases = folder / "leases"
        self._endpoints = folder / "endpoints"
        self._link_prefix = link_prefix
        self.departed = Departed(folder)

    def claim(self, network: Bridged, container_id: str, wanted: EndpointSpec) -> Lease:
        """The container's lease in the network, the same one when it has one. FailedPrecondition when the subnet is full.

        InvalidArgument or PermissionDenied, in moby's words, for a wanted address that the network does not have, or has given.
        """
        known = self.of(container_id, network.id)
        if known is not None:
            return known
        folder = self._leases / network.key
        if not folder.is_dir():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._endpoints.mkdir(mode=0o700, exist_ok=True)
        key = _key(container_id)
        for asked, pool in ((wanted.ip_address, network.pool), (wanted.ipv6_address, network.ipv6_pool)):
            if asked and pool is None:
                raise InvalidArgument(f"no configured subnet contains IP address {asked}")
        address = _claimed(folder, network.name, network.pool, wanted.ip_address, key) if network.pool else ""
        try:
            ipv6_address = _claimed(folder, network.name, network.ipv6_pool, wanted.ipv6_address, key) if network.ipv6_pool else ""
        except BaseException:
            if address:
                os.unlink(folder / address)
            raise
        link, mac = f"{self._link_prefix}{secrets.token_hex(4)}", wanted.mac_address or ipam.mac_address(address or ipv6_address)
        fields = [network.key, address, link, wanted.mac_address, ipv6_address]
        try:
            os.symlink("/".join(fields).rstrip("/"), self._endpoints / _name(container_id, network.id))
        except FileExistsError:  # another process claimed for the same container: its claim stands
            for each in filter(None, (address, ipv6_address)):
                os.unlink(folder / each)
            return self.claim(network, container_id, wanted)
        return Lease(network.key, address, link, mac, ipv6_address)

    def of(self, container_id: str, network_id: str = DEFAULT) -> Lease | None:
        return _read(self._endpoints / _name(container_id, network_id))

    def all_of(self, container_id: str, network_ids: Iterable[str]) -> list[Lease]:
        return [lease for each in network_ids if (lease := self.of(container_id, each)) is not None]

    def free(self, container_id: str, network_id: str = DEFAULT) -> None:
        """Gone already is fine."""
        lease = self.of(container_id, network_id)
        if lease is not None:
            self.departed.add(lease.link, lease.network, container_id)
            for address in filter(None, (lease.address, lease.ipv6_address)):
                claim = self._leases / lease.network / address
                if _text(claim) == _key(container_id):
                    claim.unlink(missing_ok=True)
            (self._endpoints / _name(container_id, network_id)).unlink(missing_ok=True)

    def all(self) -> Iterator[tuple[str, str, Lease]]:
        """(container id, network id, lease), in no order."""
        for name in _names(self._endpoints):
            lease = _read(self._endpoints / name)
            if lease is not None:
                yield *_ids(name), lease

    def networks(self) -> list[str]:
        """The keys of those that anybody was ever in."""
        return _names(self._leases)

    def is_used(self, network: str) -> bool:
        """Whether anybody has an address of the network with this key."""
        return any(not name.startswith(".") for name in _names(self._leases / network))

    def dead(self, live: Collection[str], *, older_than_s: float) -> list[tuple[str, str]]:
        """(container id, network id) of the leases of containers that are not ``live``, except those younger than the list may be."""
        newest = time.time() - older_than_s
        found = [(*_ids(name), name) for name in _names(self._endpoints)]
        gone = [(container, network) for container, network, name in found if container not in live and self._is_old(name, newest)]
        for network in _names(self._leases):
            for address in _names(self._leases / network):
                claim = self._leases / network / address
                if not address.startswith(".") and _made_before(claim, newest):
                    owner = _text(claim)
                    if owner is not None and not self._leads_back(owner, network, address):
                        claim.unlink(missing_ok=True)
        return gone

    def _is_old(self, name: str, newest: float) -> bool:
        return _made_before(self._endpoints / name, newest)

    def _leads_back(self, owner: str, network: str, address: str) -> bool:
        ways = (self._endpoints / owner, self._endpoints / f"{owner}+{network}")
        leases = [lease for way in ways if (lease := _read(way)) is not None]
        return any(lease.network == network and address in (lease.address, lease.ipv6_address) for lease in leases)

    def forget(self, network: str) -> None:
        """All of the network with this key."""
        for container_id, network_id, lease in list(self.all()):
            if lease.network == network:
                self.free(container_id, network_id)
        shutil.rmtree(self._leases / network, ignore_errors=True)

    def clear(self) -> None:
        for folder in (self._leases, self._endpoints):
            shutil.rmtree(folder, ignore_errors=True)


def _key(container_id: str) -> str:
    return base64.urlsafe_b64encode(bytes.fromhex(container_id)).rstrip(b"=").decode()


def _container_id(key: str) -> str:
    return base64.urlsafe_b64decode(key + "=").hex()


def _name(container_id: str, network_id: str) -> str:
    return f"{_key(container_id)}+{network_id}" if network_id else _key(container_id)


def _ids(name: str) -> tuple[str, str]:
    key, _, network_id = name.partition("+")
    return _container_id(key), network_id


def _read(way: Path) -> Lease | None:
    text = _text(way)
    if text is None:
        return None
    network, address, link, mac, ipv6_address = (*text.split("/"), "", "")[:5]
    return Lease(network, address, link, mac or ipam.mac_address(address or ipv6_address), ipv6_address)


def _claimed(folder: Path, name: str, pool: Pool, wanted: str, key: str) -> str:
    return _take_this(folder, pool, wanted, key) if wanted else _take(folder, name, pool, key)


def _take_this(folder: Path, pool: Pool, wanted: str, key: str) -> str:
    address = str(ipaddress.ip_address(wanted))  # IPv6 has several ways to write the same one
    if not ipam.is_inside(pool.subnet, address):
        raise InvalidArgument(f"no configured subnet contains IP address {wanted}")
    try:
        if address in _never(pool):
            raise FileExistsError
        os.symlink(key, folder / address)
    except FileExistsError:
        raise PermissionDenied("Address already in use", rule="ip") from None
    return address


def _take(folder: Path, name: str, pool: Pool, key: str) -> str:
    """Claim the next free address."""
    version = 6 if ":" in pool.subnet else 4
    fd = os.open(folder / _LAST[version], os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        text = os.pread(fd, _DIGITS[version], 0)
        last = int(text) if text.isdigit() else ipam.GATEWAY_OFFSET
        for offset, address in ipam.candidates(pool.subnet, last, ip_range=pool.ip_range, never=_never(pool)):
            try:
                os.symlink(key, folder / address)
            except FileExistsError:
                continue
            os.pwrite(fd, b"%0*d" % (_DIGITS[version], offset), 0)
            return address
    finally:
        os.close(fd)
    raise FailedPrecondition(f"no available IPv{version} addresses on this network's address pools: {name} ({pool.subnet})")


def _never(pool: Pool) -> tuple[str, ...]:
    """Addresses that are given to nobody, in the one way to write them."""
    return tuple(str(ipaddress.ip_address(each)) for each in (pool.gateway, *pool.reserved))


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _text(link: Path) -> str | None:
    try:
        return os.readlink(link)
    except FileNotFoundError:
        return None


def _made_before(link: Path, moment: float) -> bool:
    try:
        return link.lstat().st_mtime <= moment
    except FileNotFoundError:
        return False
