"""Which containers mount which volumes."""

from __future__ import annotations

from controlpanel.containers import projection
from controlpanel.containers.projection import ContainerView
from controlpanel.tenants.actor import Actor
from engine.model.volume import VOLUME


async def users(actor: Actor) -> dict[str, list[ContainerView]]:
    """Volume name → the containers that mount it and that the actor knows of, by name."""
    return _users(await projection.containers(actor))


async def all_users(actor: Actor) -> dict[str, list[ContainerView]]:
    """Whoever asks, for what a decision rests on."""
    return _users(await projection.everything(actor))


def _users(views: list[ContainerView]) -> dict[str, list[ContainerView]]:
    found: dict[str, list[ContainerView]] = {}
    for view in sorted(views, key=lambda view: view.name):
        for name in {mount.source for mount in view.spec.mounts if mount.type == VOLUME}:
            found.setdefault(name, []).append(view)
    return found
