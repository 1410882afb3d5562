"""The ceiling of a tenant: what root of this machine lets it have beyond what every tenant may. No message of the panel exceeds it.

A file for each tenant, ``<engine>/ceilings/<tenant>.json``, written by ``python3 -m engine ceiling`` alone; without one nothing is
granted. A panel that was broken into can ask for anything, and gets what stands here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from engine import disk
from engine.config import EngineConfig
from engine.errors import InvalidArgument, PermissionDenied
from engine.model.codec import from_json, to_json
from engine.model.container import ContainerSpec
from engine.model.tenant import check_tenant_name

_DEVICE: Final = re.compile(r"/dev/[A-Za-z0-9_][A-Za-z0-9_./-]*(?::[rwm]{1,3})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """``devices``: ``/dev/fuse`` or ``/dev/fuse:rw``; without letters r, w and m. ``seccomp_unconfined``: no filter, or a filter of the
    tenant's own instead of the platform's."""

    devices: tuple[str, ...] = ()
    seccomp_unconfined: bool = False

    def access(self, device: str) -> str:
        """The letters granted for a device of the host; "" for none."""
        for granted in self.devices:
            path, _, letters = granted.partition(":")
            if path == device:
                return letters or "rwm"
        return ""


def read(config: EngineConfig, tenant: str) -> Ceiling:
    record = disk.read_json(_file(config, tenant))
    return Ceiling() if record is None else from_json(Ceiling, record)


def change(
    config: EngineConfig, tenant: str, *, grant: tuple[str, ...] = (), revoke: tuple[str, ...] = (), seccomp_unconfined: bool | None = None
) -> Ceiling:
    """What is granted from now on. Containers that were made keep what they were given."""
    for device in grant:
        if not _DEVICE.fullmatch(device) or ".." in device:
            raise InvalidArgument(f"invalid device {device!r}: use /dev/NAME or /dev/NAME:rwm")
    present = read(config, tenant)
    gone = {words.partition(":")[0] for words in (*revoke, *grant)}
    kept = tuple(words for words in present.devices if words.partition(":")[0] not in gone)
    ceiling = replace(present, devices=(*kept, *grant))
    if seccomp_unconfined is not None:
        ceiling = replace(ceiling, seccomp_unconfined=seccomp_unconfined)
    path = _file(config, tenant)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    disk.write_json(path, to_json(ceiling), sync=True)
    return ceiling


def forget(config: EngineConfig, tenant: str) -> None:
    _file(config, tenant).unlink(missing_ok=True)


def check_seccomp(spec: ContainerSpec, ceiling: Ceiling) -> None:
    if spec.seccomp == "unconfined" and not ceiling.seccomp_unconfined:
        raise PermissionDenied("seccomp=unconfined is not allowed: this host's ceiling for the tenant does not grant it", rule="seccomp")


def _file(config: EngineConfig, tenant: str) -> Path:
    return config.engine / "ceilings" / f"{check_tenant_name(tenant)}.json"
