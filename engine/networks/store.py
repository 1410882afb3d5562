"""Who has which address: symlinks whose text is the record, so that worker, agent and command line share them without a lock.

    networks/leases/<tenant>/<address>  → <key>                             symlink(2) refuses a taken name: the claim
    networks/leases/<tenant>/.last      the offset given last (a hint)
    networks/endpoints/<key>            → <tenant>/<address>/<link name>    the way back

The key is the container's id in base 64, 43 characters instead of 64: a text below 60 bytes lives in the inode itself (ext4),
a longer one costs a block. symlink(2) makes name and text in one step: no reader sees half a record, also after kill -9. A
claim without its way back (killed between the two) is freed by ``dead``.
"""

from __future__ import annotations

import base64
import os
import secrets
import shutil
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from engine.errors import FailedPrecondition
from engine.model.tenant import TenantHost
from engine.networks import ipam

_LAST = ".last"


class Lease(NamedTuple):
    tenant: str
    address: str
    link: str


class Leases:
    def __init__(self, folder: Path, link_prefix: str) -> None:
        """``link_prefix``: of the host ends of veths; a lease adds 8 random digits, so that a link that is still dying is never met."""
        self._folder = folder
        self._leases = folder / "leases"
        self._endpoints = folder / "endpoints"
        self._link_prefix = link_prefix

    def claim(self, tenant: TenantHost, container_id: str) -> Lease:
        """The container's lease, the same one when it has one. FailedPrecondition when the subnet is full."""
        known = self.of(container_id)
        if known is not None:
            return known
        folder = self._leases / tenant.name
        if not folder.is_dir():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._endpoints.mkdir(mode=0o700, exist_ok=True)
        address = _take(folder, tenant.subnet, _key(container_id))
        if address is not None:
            lease = Lease(tenant.name, address, f"{self._link_prefix}{secrets.token_hex(4)}")
            try:
                os.symlink("/".join(lease), self._endpoints / _key(container_id))
            except FileExistsError:  # another process claimed for the same container: its claim stands
                os.unlink(folder / address)
                return self.claim(tenant, container_id)
            return lease
        raise FailedPrecondition(f"no free address in {tenant.subnet}: tenant {tenant.name} has {ipam.capacity(tenant.subnet)} containers")

    def of(self, container_id: str) -> Lease | None:
        text = _text(self._endpoints / _key(container_id))
        return None if text is None else Lease(*text.split("/"))

    def free(self, container_id: str) -> None:
        """Gone already is fine."""
        lease = self.of(container_id)
        if lease is not None:
            claim = self._leases / lease.tenant / lease.address
            if _text(claim) == _key(container_id):
                claim.unlink(missing_ok=True)
            (self._endpoints / _key(container_id)).unlink(missing_ok=True)

    def all(self) -> Iterator[tuple[str, Lease]]:
        """(container id, lease), in no order."""
        for name in _names(self._endpoints):
            container_id = _container_id(name)
            lease = self.of(container_id)
            if lease is not None:
                yield container_id, lease

    def dead(self, live: Collection[str], *, older_than_s: float) -> list[str]:
        """Containers with a lease that are not ``live``, except those whose lease is younger than the list of the living may be."""
        newest, alive = time.time() - older_than_s, {_key(container_id) for container_id in live}
        names = [name for name in _names(self._endpoints) if name not in alive and _made_before(self._endpoints / name, newest)]
        for tenant in _names(self._leases):
            for address in _names(self._leases / tenant):
                claim = self._leases / tenant / address
                if address != _LAST and _made_before(claim, newest):
                    owner = _text(claim)
                    if owner is not None and not os.path.lexists(self._endpoints / owner):
                        claim.unlink(missing_ok=True)
        return [_container_id(name) for name in names]

    def forget(self, tenant: str) -> None:
        """All of the tenant's."""
        for container_id, lease in list(self.all()):
            if lease.tenant == tenant:
                self.free(container_id)
        shutil.rmtree(self._leases / tenant, ignore_errors=True)

    def clear(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def _key(container_id: str) -> str:
    return base64.urlsafe_b64encode(bytes.fromhex(container_id)).rstrip(b"=").decode()


def _container_id(key: str) -> str:
    return base64.urlsafe_b64decode(key + "=").hex()


def _take(folder: Path, subnet: str, key: str) -> str | None:
    """Claim the next free address; None when all are taken."""
    fd = os.open(folder / _LAST, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        last = os.pread(fd, 8, 0)
        for offset in ipam.offsets_after(subnet, int(last) if last.isdigit() else ipam.FIRST_OFFSET - 1):
            address = ipam.address(subnet, offset)
            try:
                os.symlink(key, folder / address)
            except FileExistsError:
                continue
            os.pwrite(fd, b"%08d" % offset, 0)
            return address
        return None
    finally:
        os.close(fd)


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
