"""The identity of the networks that every tenant has: its default bridge, and none; and the host's, which an administrator allows. PURE."""

from __future__ import annotations

import hashlib
from typing import Final

BRIDGE: Final = "bridge"
NONE: Final = "none"
HOST: Final = "host"
DRIVERS: Final = {BRIDGE: "bridge", HOST: "host", NONE: "null"}  # by name


def network_id(tenant: str, name: str) -> str:
    """64 digits that stay: the same network is the same id on every answer."""
    return hashlib.sha256(f"slipway network {tenant} {name}".encode()).hexdigest()
