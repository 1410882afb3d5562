"""Under which digests registries know a tenant's layers, and in which repositories: <engine>/origins/<tenant>.json

    {"<diffID>": [{"digest", "size", "media_type", "repositories": ["host/path", …]}, …]}

A push asks by it whether the registry has a layer before it is compressed, and offers it from another repository (mount). It is a hint:
wrong or lost it costs time, nothing else. Changed under the store's lock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from engine import disk
from engine.config import EngineConfig
from engine.model.tenant import check_tenant_name

_LAYERS: Final = 5_000  # of one tenant; the oldest go
_FORMS: Final = 4  # digests of one layer
_REPOSITORIES: Final = 16  # of one digest, the newest first


@dataclass(frozen=True, slots=True)
class Origin:
    """A layer as a registry has it."""

    digest: str
    size: int
    media_type: str
    repositories: tuple[str, ...] = ()

    def in_registry(self, domain: str) -> list[str]:
        """Paths of repositories there."""
        return [path for host, _slash, path in (each.partition("/") for each in self.repositories) if host == domain]


class Origins:
    def __init__(self, config: EngineConfig, tenant: str) -> None:
        self._path = file_of(config, tenant)
        self._all: dict[str, list[dict[str, Any]]] = disk.read_json(self._path) or {}

    def of(self, diff_id: str) -> list[Origin]:
        """The newest first."""
        found = self._all.get(diff_id, [])
        return [Origin(each["digest"], each["size"], each["media_type"], tuple(each["repositories"])) for each in found]

    def note(self, layers: Mapping[str, Origin], place: str) -> None:
        """These layers are in ``place`` (host/path) now."""
        for diff_id, origin in layers.items():
            known = self.of(diff_id)
            old = next((each for each in known if each.digest == origin.digest), origin)
            repositories = [place, *(each for each in old.repositories if each != place)][:_REPOSITORIES]
            newest = {"digest": origin.digest, "size": origin.size, "media_type": origin.media_type, "repositories": repositories}
            others = [
                {"digest": each.digest, "size": each.size, "media_type": each.media_type, "repositories": list(each.repositories)}
                for each in known
                if each.digest != origin.digest
            ]
            self._all.pop(diff_id, None)
            self._all[diff_id] = [newest, *others][:_FORMS]
        while len(self._all) > _LAYERS:
            del self._all[next(iter(self._all))]
        self._path.parent.mkdir(mode=0o700, exist_ok=True)
        disk.write_json(self._path, self._all)


def forget(config: EngineConfig, tenant: str) -> None:
    file_of(config, tenant).unlink(missing_ok=True)


def file_of(config: EngineConfig, tenant: str) -> Path:
    return config.engine / "origins" / f"{check_tenant_name(tenant)}.json"
