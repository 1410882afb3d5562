"""Images: see the table in workers/contract.py. Loading and importing are streams of the agent, not tasks."""

from __future__ import annotations

import time
from typing import Any

from engine import errors
from workers import contract, host, report
from workers.operation import Act, task


@task(contract.TAG_IMAGE)
def tag(act: Act) -> dict[str, Any]:
    tenant, image_id = act.payload["tenant"], act.payload["image_id"]
    host.engine().images.tag(tenant, image_id, act.payload["ref"])
    return {"time_ns": _tell_image(act, tenant, image_id)}


@task(contract.REMOVE_IMAGE)
def remove(act: Act) -> dict[str, Any]:
    """The panel may know the image by one name and keep others: what is left of it is told, or that it is gone."""
    tenant = act.payload["tenant"]
    name = act.payload.get("ref") or act.payload["image_id"]
    store = host.engine().images
    try:
        image_id = store.resolve_id(tenant, name)
    except errors.NotFound:
        if act.replay:
            return {"untagged": [], "deleted": [], "images": []}
        raise
    prune = not act.payload.get("no_prune")
    done: dict[str, Any] = host.engine().remove_image(tenant, name, force=bool(act.payload.get("force")), prune=prune)
    _tell_images(act, tenant, {image_id, *done["images"]})
    return {**done, "image_id": image_id}


@task(contract.PRUNE_IMAGES)
def prune(act: Act) -> dict[str, Any]:
    tenant, images = act.payload["tenant"], act.payload["images"]
    done = host.engine().prune_images(tenant, images, named=bool(act.payload.get("all")))
    _tell_images(act, tenant, {*done["untagged"].values(), *done["images"]})
    return done


def _tell_images(act: Act, tenant: str, ids: set[str]) -> None:
    for image_id in sorted(ids):
        _tell_image(act, tenant, image_id)


def _tell_image(act: Act, tenant: str, image_id: str) -> int:
    """What ``tenant`` now calls the image, or that it has it no more. The time before looking, in ns: what was done by then is in it."""
    store, now = host.engine().images, time.time_ns()
    holding = store.refs_of.read(tenant)
    kind, state = report.image_fact(store, image_id, holding.names_of(image_id) if image_id in holding.images else None)
    act.tell(kind, tenant, image_id, seq=now, state=state)
    return now
