"""The images of one host. ``load`` and ``import_rootfs`` bring them in, ``resolve`` finds what a tenant may use.

    docker load │ spool: every file hashed, in incoming/<random>      nothing of this is seen by anybody
                │ archive: descriptors checked, images chosen
                │ layers: hash, decompress, hash, unpack, two at a time
                ▼ under the store's lock: blobs, layers, records, names by rename

A tenant uses what it brought itself and what tenant "public" has. Equal layers are kept once, and shared by id-mapped mounts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

from engine import disk
from engine.config import PUBLIC_TENANT, EngineConfig
from engine.errors import InvalidArgument, NotFound
from engine.images import held, outgoing, removal
from engine.images.content import DIGEST, Content
from engine.images.incoming import Incoming
from engine.images.layers import Layers
from engine.images.limits import DEFAULT, Limits
from engine.images.records import ImageRecords
from engine.images.refs import Refs, parse_name
from engine.images.streams import Readable
from engine.model.image import ImageRecord
from engine.model.reference import Reference, image_id_prefix

Listing = list[tuple[ImageRecord, list[str]]]
Removed = dict[str, list[str]]


class ImageStore:
    """Any number of processes and threads may have one on the same folders."""

    def __init__(self, config: EngineConfig, limits: Limits = DEFAULT) -> None:
        self.config = config
        self.limits = limits
        for folder in (config.engine, config.trash):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.content = Content(config)
        self.layers = Layers(config)
        self.refs_of = Refs(config)
        self.records = ImageRecords(config)

    # -- bringing in -----------------------------------------------------------------------------

    def load(self, tenant: str, stream: Readable, *, quiet: bool = False, platform: str = "") -> Iterator[dict[str, Any]]:
        """``docker load``: Docker's progress lines, then {"images": [ids]}. All of the archive or nothing of it.

        Raises from the first ``next`` on: InvalidArgument for what is wrong with the archive, Unavailable for a full disk.
        ``platform``: only images of it; empty is this host's, where the archive has a choice.
        """
        return Incoming(self).load(tenant, stream, quiet=quiet, platform=platform)

    def import_rootfs(
        self,
        tenant: str,
        stream: Readable,
        *,
        ref: str | None = None,
        changes: Sequence[str] = (),
        message: str = "",
        platform: str = "",
    ) -> Iterator[dict[str, Any]]:
        """``docker import``: one layer from a tar of a root file system. Lines as of dockerd, then {"images": [id]}.

        ``platform`` as linux/arm64/v8; empty is the host's.
        """
        return Incoming(self).import_rootfs(tenant, stream, ref=ref, changes=changes, message=message, platform=platform)

    # -- taking out ------------------------------------------------------------------------------

    def choose(self, tenant: str, names: Sequence[str], *, platform: str = "") -> list[outgoing.Chosen]:
        """What of the tenant's ``docker save NAME…`` means. NotFound in moby's words."""
        return outgoing.choose(self, tenant, names, platform=platform)

    def save(self, chosen: Sequence[outgoing.Chosen], out: int) -> None:
        """The archive of them to a blocking socket or pipe. OSError EPIPE: nobody reads it any more."""
        outgoing.write(self, chosen, out)

    # -- finding ---------------------------------------------------------------------------------

    def get(self, image_id: str) -> ImageRecord:
        """By the whole id, whoever has it: for containers that exist. Raises NotFound."""
        match = DIGEST.fullmatch(image_id)
        record = self.records.read(match["hex"]) if match else None
        if record is None:
            raise NotFound(f"No such image: {image_id}")
        return record

    def resolve(self, tenant: str, name: str) -> ImageRecord:
        """What the words mean to this tenant: its own name, then a public one, an id or the start of just one.

        Raises NotFound in dockerd's words, InvalidArgument when ``name`` is neither a name nor an id.
        """
        return self.get(self.resolve_id(tenant, name))

    def resolve_id(self, tenant: str, name: str) -> str:
        own, public = self.refs_of.read(tenant), self.refs_of.read(PUBLIC_TENANT)
        visible = own.images | public.images
        digits = image_id_prefix(name)
        if digits is not None and len(digits) == 64:
            if f"sha256:{digits}" in visible or held.is_held(self.config, tenant, digits):
                return f"sha256:{digits}"
            raise NotFound(f"No such image: {name}")
        try:
            ref = Reference.parse(name).key
        except InvalidArgument:
            if digits is None:
                raise
            ref = name
        for holding in (own, public):
            if ref in holding.names:
                return holding.names[ref]
        if digits is not None:
            found = [each for each in visible if each.startswith(f"sha256:{digits}")]
            if len(found) == 1:
                return found[0]
        raise NotFound(f"No such image: {ref}")

    def list(self, tenant: str) -> Listing:
        """Own and public images with the names that mean them to this tenant, the youngest first."""
        own, public = self.refs_of.read(tenant), self.refs_of.read(PUBLIC_TENANT)
        names = {**public.names, **own.names}
        by_image: dict[str, list[str]] = {image_id: [] for image_id in own.images | public.images}
        for name, image_id in sorted(names.items()):
            by_image.setdefault(image_id, []).append(name)
        found: Listing = []
        for image_id, its_names in by_image.items():
            try:
                found.append((self.get(image_id), its_names))
            except NotFound:
                continue  # removed while we looked
        return sorted(found, key=lambda pair: pair[0].created, reverse=True)

    def refs(self, tenant: str) -> dict[str, str]:
        """The tenant's own names: {"busybox:latest": "sha256:…"}."""
        return self.refs_of.read(tenant).names

    def is_public(self, image_id: str) -> bool:
        return image_id in self.refs_of.read(PUBLIC_TENANT).images

    def lower_dirs(self, record: ImageRecord) -> Sequence[str]:
        """The layers' folders for overlayfs, the topmost first, relative to EngineConfig.engine."""
        return [f"layers/{chain_id}/diff" for chain_id in reversed(record.chain_ids)]

    # -- changing --------------------------------------------------------------------------------

    def tag(self, tenant: str, image_id: str, ref: str) -> str:
        """One more name for an image that the tenant may use; the name as it is kept. A name in use moves."""
        name = parse_name(ref)
        with self.lock():
            image_id = self.resolve_id(tenant, image_id)
            holding = self.refs_of.read(tenant)
            holding.names[name] = image_id
            holding.images.add(image_id)
            self.refs_of.write(tenant, holding)
        return name

    def remove(
        self,
        tenant: str,
        name: str,
        *,
        force: bool = False,
        prune: bool = True,
        in_use: Callable[[str], Sequence[str]],
        running: Callable[[str], Sequence[str]] = lambda _image_id: (),
    ) -> Removed:
        """``docker rmi`` with dockerd's rules and words: {"untagged": [names], "deleted": [image and chain ids],
        "images": [image ids]}.

        ``in_use`` and ``running`` answer with the *tenant's own* containers that use an image: their ids are said in the error.
        The bytes go when nobody on the host has the image and no container uses it. ``prune``: nameless images that it was made
        from go as well.
        """
        return removal.remove(self, tenant, name, force=force, prune=prune, in_use=in_use, running=running)

    def prune(
        self,
        tenant: str,
        images: Sequence[str],
        *,
        named: bool,
        in_use: Callable[[str], Sequence[str]],
        running: Callable[[str], Sequence[str]] = lambda _image_id: (),
    ) -> dict[str, Any]:
        """Those of these image ids that nothing keeps: {"untagged": {name: image id}, "deleted", "images", "bytes": freed}.

        ``named``: also those with a tag.
        """
        return removal.prune(self, tenant, images, named=named, in_use=in_use, running=running)

    def forget_tenant(self, tenant: str) -> None:
        """All its names and images; for the end of a tenant."""
        removal.forget_tenant(self, tenant)

    def recover(self) -> None:
        """Once at the start of the platform: clears what dead processes left and images that nobody has any more."""
        removal.recover(self)

    def lock(self) -> AbstractContextManager[None]:
        """Exclusive on this host; held for renames and small files, never while bytes flow."""
        return disk.locked(self.config.engine / "images.lock")
