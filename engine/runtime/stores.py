"""The engine's folder as each tenant sees it: ``t/<tenant>``, an id-mapped mount in the keeper's private mount namespace."""

from __future__ import annotations

import os

from engine.config import EngineConfig
from engine.kernel import mounts, namespaces, syscalls
from engine.model.tenant import check_tenant_name


class Stores:
    """The engine's folder as each tenant sees it: a mount at ``t/<tenant>`` in which container id n owns what id n owns on disk."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._open: dict[str, tuple[int, int]] = {}  # tenant → first id outside, O_PATH descriptor

    def open(self, tenant: str, uid_start: int, ids: int) -> int:
        """The descriptor stays ours. Made on first use; made anew when the tenant's ids have changed."""
        known = self._open.get(tenant)
        if known is not None and known[0] == uid_start:
            return known[1]
        check_tenant_name(tenant)
        if known is not None:
            os.close(self._open.pop(tenant)[1])
        place = self._config.mapped / tenant
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = os.stat(place).st_uid
        if owner != uid_start:
            if owner != 0:  # of a tenant of that name who had other ids
                syscalls.umount2(str(place), syscalls.MNT_DETACH)
            self._make(str(place), uid_start, ids)
        fd = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._open[tenant] = uid_start, fd
        return fd

    def _make(self, place: str, uid_start: int, ids: int) -> None:
        id_map = [(0, uid_start, ids)]
        userns = namespaces.user_namespace(id_map, id_map)
        try:
            clone = mounts.idmapped_clone(str(self._config.engine), userns)
            try:
                mounts.attach(clone, place)
            finally:
                os.close(clone)
        finally:
            os.close(userns)
