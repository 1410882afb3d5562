"""Taking images away: dockerd's rules for one tenant, then the bytes when nobody on the host needs them.

A tenant hears only of its own names, images and containers, never that somebody else has the same image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from engine import disk
from engine.config import PUBLIC_TENANT
from engine.errors import FailedPrecondition, NotFound, PermissionDenied
from engine.images.refs import Holding
from engine.images.staging import pinned
from engine.images.trash import sweep_soon
from engine.model.image import ImageRecord
from engine.model.reference import Reference, image_id_prefix

if TYPE_CHECKING:
    from engine.images.store import ImageStore

Containers = Callable[[str], Sequence[str]]  # image id → ids of the tenant's containers that use it


def remove(store: ImageStore, tenant: str, name: str, *, force: bool, in_use: Containers, running: Containers) -> dict[str, list[str]]:
    with store.lock():
        image_id = store.resolve_id(tenant, name)
        holding = store.refs_of.read(tenant)
        used = _Use(image_id, list(in_use(image_id)), list(running(image_id)))
        untagged, gone = _by_dockers_rules(holding, used, tenant, name, force)
        deleted = _as_the_tenant_sees_it(store, tenant, holding, image_id) if gone else []
        store.refs_of.write(tenant, holding)
        collect(store)
    sweep_soon(store.config.trash)
    return {"untagged": untagged, "deleted": deleted}


def forget_tenant(store: ImageStore, tenant: str) -> None:
    with store.lock():
        store.refs_of.forget(tenant)
        collect(store)
    sweep_soon(store.config.trash)


def recover(store: ImageStore) -> None:
    """Dead loads, half-made images, layers that no image has."""
    with store.lock():
        collect(store)
        wanted = pinned(store.config).union(*(record.chain_ids for record in _records(store)))
        for path in store.config.layers.iterdir():
            if path.name not in wanted:
                store.layers.discard(path.name)
    sweep_soon(store.config.trash)


def collect(store: ImageStore) -> None:
    """Images that no tenant has and no container uses, with what was theirs alone. Under the store's lock."""
    held: set[str] = set()
    for holding in store.refs_of.all():
        held.update(holding.images, holding.names.values())
    idle = {digits for digits in store.records.all() if f"sha256:{digits}" not in held}
    if idle:
        idle -= {image_id.removeprefix("sha256:") for image_id in _used_by_containers(store)}
    if not idle:
        return
    chains: list[str] = []
    blobs: set[str] = set()
    for digits in idle:
        record = store.records.read(digits)
        chains += reversed(record.chain_ids) if record else ()
        blobs |= store.records.blobs(digits)
    kept = [digits for digits in store.records.all() if digits not in idle]
    kept_chains = pinned(store.config)
    for digits in kept:
        record = store.records.read(digits)
        kept_chains.update(record.chain_ids if record else ())
        blobs -= store.records.blobs(digits)
    for chain_id in dict.fromkeys(chains):
        if chain_id not in kept_chains:
            store.layers.discard(chain_id)
    store.content.remove(blobs)
    for digits in idle:  # last: should we die before, the next start goes on here
        store.records.remove(digits)


class _Use:
    def __init__(self, image_id: str, containers: Sequence[str], running: Sequence[str]) -> None:
        self.image_id = image_id
        self.containers = containers
        self.running = running

    def conflict(self, *, soft: bool, names: Sequence[str]) -> str | None:
        """Why the image has to stay. Hard reasons hold against force as well; ``soft`` asks for the others, too."""
        short = self.image_id.removeprefix("sha256:")[:12]
        if self.running:
            return (
                f"conflict: unable to delete {short} (cannot be forced) - image is being used by running container {self.running[0][:12]}"
            )
        if soft and names:
            return f"conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
        if soft and self.containers:
            return (
                f"conflict: unable to delete {short} (must be forced) - image is being used by stopped container {self.containers[0][:12]}"
            )
        return None


def _by_dockers_rules(holding: Holding, used: _Use, tenant: str, name: str, force: bool) -> tuple[list[str], bool]:
    """Changes ``holding``. The names taken away, and whether the image itself goes."""
    image_id = used.image_id
    names = holding.names_of(image_id)
    ref = _as_name(name, image_id)
    if image_id not in holding.images or (ref is not None and ref not in holding.names):
        raise PermissionDenied(
            f"{name} belongs to everybody on this host (tenant {PUBLIC_TENANT!r}): only the host's operator can remove it"
        )
    if ref is not None:
        if not force and len(names) <= 1 and used.containers:
            raise FailedPrecondition(
                f'conflict: unable to remove repository reference "{name}" (must force) - container {used.containers[0][:12]} '
                f"is using its referenced image {image_id.removeprefix('sha256:')[:12]}"
            )
        del holding.names[ref]
        if len(names) > 1 or used.conflict(soft=not force, names=()):
            return [ref], False
        holding.drop(image_id)
        return [ref], True
    single = len(names) <= 1
    if why := used.conflict(soft=not force, names=() if single else names):
        raise FailedPrecondition(why)
    holding.drop(image_id)
    return names, True


def _as_name(name: str, image_id: str) -> str | None:
    """The words as a full name; None when they are the image's id or its start."""
    digits = image_id_prefix(name)
    if digits is not None and image_id.removeprefix("sha256:").startswith(digits):
        return None
    return str(Reference.parse(name))


def _as_the_tenant_sees_it(store: ImageStore, tenant: str, holding: Holding, image_id: str) -> list[str]:
    """Image and chain ids, the topmost first, that the tenant has no longer, whoever else may have them."""
    left = set(holding.images)
    if tenant != PUBLIC_TENANT:
        left |= store.refs_of.read(PUBLIC_TENANT).images
    if image_id in left:
        return []
    try:
        chain = store.get(image_id).chain_ids
    except NotFound:
        return [image_id]
    kept = {chain_id for record in _records(store) if record.id in left for chain_id in record.chain_ids}
    return [image_id, *(f"sha256:{chain_id}" for chain_id in reversed(chain) if chain_id not in kept)]


def _records(store: ImageStore) -> list[ImageRecord]:
    return [record for digits in store.records.all() if (record := store.records.read(digits)) is not None]


def _used_by_containers(store: ImageStore) -> set[str]:
    """From the containers' own records, whichever tenant's they are."""
    used: set[str] = set()
    for path in store.config.containers.glob("*/spec.json"):
        if isinstance(spec := disk.read_json(path), dict):
            used.add(str(spec.get("image_id", "")))
    return used
