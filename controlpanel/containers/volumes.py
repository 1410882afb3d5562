"""Which containers mount which volumes."""

from __future__ import annotations

from controlpanel.containers import projection
from controlpanel.containers.projection import ContainerView
from controlpanel.tenants.actor import Actor
from engine.model.volume import VOLUME


async def users(actor: Actor) -> dict[str, list[ContainerView]]:
    """Volume name → the tenant's containers that mount it, by name."""
    found: dict[str, list[ContainerView]] = {}
    for view in sorted(await projection.containers(actor), key=lambda view: view.name):
        for name in {mount.source for mount in view.spec.mounts if mount.type == VOLUME}:
            found.setdefault(name, []).append(view)
    return found
