"""What a tenant has on this host: images it brought, and its names for them. <engine>/refs/<tenant>.json

    {"names": {"busybox:latest": "sha256:…"}, "images": ["sha256:…", …]}

``images`` is possession: everything the tenant proved to have by bringing the bytes, named or not. All changes happen under the
store's lock; readers need none, files are replaced whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from engine import disk
from engine.config import PUBLIC_TENANT, EngineConfig
from engine.errors import InvalidArgument
from engine.model.reference import Reference
from engine.model.tenant import check_tenant_name


@dataclass(slots=True)
class Holding:
    """A tenant's own part of the store; change it and ``write`` it."""

    names: dict[str, str] = field(default_factory=dict)
    images: set[str] = field(default_factory=set)

    def names_of(self, image_id: str) -> list[str]:
        return sorted(name for name, each in self.names.items() if each == image_id)

    def drop(self, image_id: str) -> None:
        """Image and names."""
        self.images.discard(image_id)
        for name in self.names_of(image_id):
            del self.names[name]


class Refs:
    def __init__(self, config: EngineConfig) -> None:
        self._folder = config.refs
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def read(self, tenant: str) -> Holding:
        """Empty for a tenant without images."""
        record = disk.read_json(self._path(tenant)) or {}
        return Holding(dict(record.get("names", {})), set(record.get("images", ())))

    def write(self, tenant: str, holding: Holding) -> None:
        if not holding.images:
            self._path(tenant).unlink(missing_ok=True)
            return
        disk.write_json(self._path(tenant), {"names": holding.names, "images": sorted(holding.images)})

    def forget(self, tenant: str) -> None:
        self._path(tenant).unlink(missing_ok=True)

    def all(self) -> Iterator[Holding]:
        for path in self._folder.glob("*.json"):
            yield self.read(path.stem)

    def _path(self, tenant: str) -> Path:
        if tenant != PUBLIC_TENANT:
            check_tenant_name(tenant)  # it comes out of messages, and becomes a path
        return self._folder / f"{tenant}.json"


def parse_name(text: str) -> str:
    """A name to be given: with a tag, never a digest. InvalidArgument in moby's words."""
    reference = Reference.parse(text)
    if reference.digest:
        raise InvalidArgument("refusing to create a tag with a digest reference")
    return str(reference)
