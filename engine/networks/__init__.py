"""Where containers talk: one bridge per tenant and host, and walls between tenants, instances and the host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.networks.endpoints import Endpoint
    from engine.networks.networks import Networks, ProcessEnded

__all__ = ["Endpoint", "Networks", "ProcessEnded"]


def __getattr__(name: str) -> Any:
    """At the first use: netd lives in this package, is resident on every host, and needs neither."""
    if name == "Endpoint":
        from engine.networks.endpoints import Endpoint

        return Endpoint
    if name in ("Networks", "ProcessEnded"):
        from engine.networks import networks

        return getattr(networks, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
