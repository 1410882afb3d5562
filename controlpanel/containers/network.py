"""The identity of the networks that a tenant has in this release. PURE."""

from __future__ import annotations

import hashlib
from typing import Final

DRIVERS: Final = {"bridge": "bridge", "none": "null"}  # by name


def network_id(tenant: str, name: str) -> str:
    """64 digits that stay: the same network is the same id on every answer."""
    return hashlib.sha256(f"slipway network {tenant} {name}".encode()).hexdigest()
