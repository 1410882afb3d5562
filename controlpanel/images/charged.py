"""What a tenant's images take of its quota: the layers of its own images, each once, without those that everybody has.

How large an image is nobody knows before it is unpacked (a manifest tells compressed sizes). So one may come while there is room at all;
the one that goes past the limit stays, and is the last until there is room again.
"""

from __future__ import annotations

from controlpanel.images.models import Image
from controlpanel.tenants.models import Tenant
from controlpanel.tenants.quota import ledger
from controlpanel.tenants.quota.resources import IMAGES


def image_bytes(tenant_id: int, *, without: int = 0) -> int:
    """``without``: an image that is not to count, by its row."""
    own = Image.everywhere.filter(tenant_id=tenant_id).exclude(pk=without).values_list("chain_ids", "layer_bytes", "size_bytes")
    sizes = {chain: size for chains, counted, total in own for chain, size in _layers(chains, counted, total)}
    if sizes:
        for chains in Image.everywhere.filter(tenant=None).values_list("chain_ids", flat=True):
            for chain in chains:
                sizes.pop(chain, None)
    return sum(sizes.values())


def _layers(chains: list[str], counted: list[int], total: int) -> list[tuple[str, int]]:
    """As images.usage.layers: of an image whose layers nobody counted all is at the last one."""
    if len(counted) == len(chains):
        return list(zip(chains, counted, strict=True))
    return [(chain, 0) for chain in chains[:-1]] + [(chain, total) for chain in chains[-1:]]


def check_room(tenant: Tenant) -> None:
    """QuotaExceeded when nothing is left. Before anything that may bring an image: pull, load, import, build, commit."""
    ledger.account(tenant.pk).admit({IMAGES: 1})


def added(row: Image) -> None:
    """An image the tenant had not. Inside the transaction that wrote its row."""
    assert row.tenant_id is not None
    account = ledger.account(row.tenant_id)
    if account.limit(IMAGES):
        account.passed(IMAGES, image_bytes(row.tenant_id) - image_bytes(row.tenant_id, without=row.pk))


ledger.counted_by(IMAGES, image_bytes)
