"""Images of a tenant's build cache: not the tenant's to list or name, but its containers may be made of them, and the store keeps them.

<engine>/builds/cache/<tenant>/held/<hex>   an empty file for each; made under the store's lock
"""

from __future__ import annotations

import os
from pathlib import Path

from engine import disk
from engine.config import PUBLIC_TENANT, EngineConfig
from engine.model.tenant import check_tenant_name


def folder_of(config: EngineConfig, tenant: str) -> Path:
    """All of a tenant's build cache."""
    return config.builds / "cache" / check_tenant_name(tenant)


def is_held(config: EngineConfig, tenant: str, digits: str) -> bool:
    return tenant != PUBLIC_TENANT and (folder_of(config, tenant) / "held" / digits).exists()


def everybodys(config: EngineConfig) -> set[str]:
    """The hex digits of all that is held, whoever's cache it is in."""
    found: set[str] = set()
    for folder in (config.builds / "cache").glob("*/held"):
        found.update(os.listdir(folder))
    return found


def forget(config: EngineConfig, tenant: str) -> None:
    """The whole cache of a tenant."""
    disk.to_trash(folder_of(config, tenant), config.trash)
