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
            return {"untagged": [], "deleted": []}
        raise
    done: dict[str, Any] = host.engine().remove_image(tenant, name, force=bool(act.payload.get("force")))
    _tell_image(act, tenant, image_id)
    return {**done, "image_id": image_id}


def _tell_image(act: Act, tenant: str, image_id: str) -> int:
    """What ``tenant`` now calls the image, or that it has it no more. The time before looking, in ns: what was done by then is in it."""
    store, now = host.engine().images, time.time_ns()
    holding = store.refs_of.read(tenant)
    kind, state = report.image_fact(store, image_id, holding.names_of(image_id) if image_id in holding.images else None)
    act.tell(kind, tenant, image_id, seq=now, state=state)
    return now
