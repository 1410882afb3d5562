"""Taking images away: dockerd's rules for one tenant, then the bytes when nobody on the host needs them.

A tenant hears only of its own names, images and containers, never that somebody else has the same image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from engine import disk
from engine.config import PUBLIC_TENANT
from engine.errors import FailedPrecondition, NotFound, PermissionDenied
from engine.images import held as build_cache
from engine.images.refs import Holding
from engine.images.staging import pinned
from engine.images.trash import sweep_soon
from engine.model.image import ImageRecord
from engine.model.reference import Reference, image_id_prefix

if TYPE_CHECKING:
    from engine.images.store import ImageStore

Containers = Callable[[str], Sequence[str]]  # image id → ids of the tenant's containers that use it


def remove(
    store: ImageStore, tenant: str, name: str, *, force: bool, prune: bool, in_use: Containers, running: Containers
) -> dict[str, list[str]]:
    with store.lock():
        removal = _Removal(store, tenant, in_use, running)
        try:
            removal.remove(name, force=force, prune=prune)
        finally:
            removal.settle()
    sweep_soon(store.config.trash)
    return {"untagged": list(removal.untagged), "deleted": removal.deleted, "images": removal.images}


def prune(store: ImageStore, tenant: str, images: Sequence[str], *, named: bool, in_use: Containers, running: Containers) -> dict[str, Any]:
    """Those of ``images`` that nothing keeps; of those with tags only when ``named``. What something keeps stays, without a word."""
    with store.lock():
        removal = _Removal(store, tenant, in_use, running)
        for image_id in images:
            if image_id not in removal.holding.images or in_use(image_id):
                continue  # dockerd takes all but one name of an image that is in use; here it keeps them
            names = removal.holding.names_of(image_id)
            if not named and any("@" not in name for name in names):
                continue
            for name in names or [image_id]:
                if name in removal.holding.names or name in removal.holding.images:  # a digest has gone with its tag
                    with suppress(FailedPrecondition, NotFound):
                        removal.remove(name, force=False, prune=True)
        freed = sum(store.layers.size_bytes(each.removeprefix("sha256:")) for each in removal.deleted)
        removal.settle()
    sweep_soon(store.config.trash)
    return {"untagged": removal.untagged, "deleted": removal.deleted, "images": removal.images, "bytes": freed}


def forget_tenant(store: ImageStore, tenant: str) -> None:
    with store.lock():
        store.refs_of.forget(tenant)
        build_cache.forget(store.config, tenant)
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
    held.update(f"sha256:{digits}" for digits in build_cache.everybodys(store.config))
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


class _Removal:
    """One act on a tenant's holding, by the rules of moby's daemon/images/image_delete.go. Under the store's lock; ``settle`` it."""

    def __init__(self, store: ImageStore, tenant: str, in_use: Containers, running: Containers) -> None:
        self._store, self._tenant = store, tenant
        self._in_use, self._running = in_use, running
        self.holding = store.refs_of.read(tenant)
        self._public = store.refs_of.read(PUBLIC_TENANT) if tenant != PUBLIC_TENANT else Holding()
        self.untagged: dict[str, str] = {}  # name → the image it named
        self.deleted: list[str] = []  # image and chain ids, as Docker tells them
        self.images: list[str] = []  # those that the tenant has no longer

    def settle(self) -> None:
        self._store.refs_of.write(self._tenant, self.holding)
        if self.deleted or self.untagged:
            collect(self._store)

    def remove(self, name: str, *, force: bool, prune: bool) -> None:
        """Raises before anything has changed."""
        image_id = self._store.resolve_id(self._tenant, name)
        ref = _as_name(name, image_id)
        if image_id not in self.holding.images or (ref is not None and ref not in self.holding.names):
            raise PermissionDenied(
                f"{name} belongs to everybody on this host (tenant {PUBLIC_TENANT!r}): only the host's operator can remove it"
            )
        names = self.holding.names_of(image_id)
        if ref is not None:
            used = self._in_use(image_id)
            if not force and _are_one([*names, *self._public.names_of(image_id)]) and used:
                raise FailedPrecondition(
                    f'conflict: unable to remove repository reference "{name}" (must force) - container {used[0][:12]} '
                    f"is using its referenced image {_short(image_id)}"
                )
            self._untag(ref)
            if "@" not in ref and not any("@" not in each and _repository(each) == _repository(ref) for each in self._names(image_id)):
                for each in self._names(image_id):  # digests of a repository go with its last tag
                    if _repository(each) == _repository(ref):
                        self._untag(each)
            if image_id in self._public.images and not self._names(image_id):
                self.holding.drop(image_id)  # it is everybody's all the same
                self.images.append(image_id)
            elif not self._names(image_id) and self._conflict(image_id, soft=not force) is None:
                self._delete(image_id, prune=prune)
            return
        if why := self._conflict(image_id, soft=not force, references=not _are_one(names)):
            raise FailedPrecondition(why)
        for each in names:
            self._untag(each)
        self._delete(image_id, prune=prune)

    def _names(self, image_id: str) -> list[str]:
        return self.holding.names_of(image_id)

    def _untag(self, ref: str) -> None:
        self.untagged[ref] = self.holding.names.pop(ref)

    def _delete(self, image_id: str, *, prune: bool) -> None:
        """The image, and (``prune``) those it was made from as far as nothing else needs them."""
        while image_id:
            parent = self._parent(image_id)
            self.holding.drop(image_id)
            self.images.append(image_id)
            self.deleted += _as_the_tenant_sees_it(self._store, self._tenant, self.holding, image_id)
            if not prune or parent not in self.holding.images or self._conflict(parent, soft=True, references=True) is not None:
                return
            image_id = parent

    def _parent(self, image_id: str) -> str:
        try:
            return self._store.get(image_id).parent
        except NotFound:
            return ""

    def _has_children(self, image_id: str) -> bool:
        return any(self._parent(each) == image_id for each in self.holding.images if each != image_id)

    def _conflict(self, image_id: str, *, soft: bool, references: bool = False) -> str | None:
        """Why the image has to stay. Hard reasons hold against force as well; ``soft`` asks for the others, too."""
        short = _short(image_id)
        if self._has_children(image_id):
            return f"conflict: unable to delete {short} (cannot be forced) - image has dependent child images"
        if running := self._running(image_id):
            return f"conflict: unable to delete {short} (cannot be forced) - image is being used by running container {running[0][:12]}"
        if soft and references and self._names(image_id):
            return f"conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
        if soft and (used := self._in_use(image_id)):
            return f"conflict: unable to delete {short} (must be forced) - image is being used by stopped container {used[0][:12]}"
        return None


def _are_one(names: Sequence[str]) -> bool:
    """At most one tag, and digests of the same repository beside it (moby's isSingleReference)."""
    if len(names) <= 1:
        return True
    tags = [name for name in names if "@" not in name]
    repositories = {_repository(name) for name in names if "@" in name}
    return len(tags) <= 1 and repositories == {_repository((tags or names)[0])}


def _repository(ref: str) -> str:
    return Reference.parse(ref).name


def _short(image_id: str) -> str:
    return image_id.removeprefix("sha256:")[:12]


def _as_name(name: str, image_id: str) -> str | None:
    """The words as a full name; None when they are the image's id or its start."""
    digits = image_id_prefix(name)
    if digits is not None and image_id.removeprefix("sha256:").startswith(digits):
        return None
    return Reference.parse(name).key


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
