"""Acts on images. Bytes never pass here: load and import stream through the agent, and ``added`` takes note of the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from controlpanel.audit import services as audit
from controlpanel.base import database
from controlpanel.hosts import operations, queries
from controlpanel.hosts.models import Operation
from controlpanel.images import projection, rows
from controlpanel.images.models import Image, Tag
from controlpanel.images.projection import ImageView
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.permissions import require
from engine.errors import EngineError, InvalidArgument, PermissionDenied
from engine.model.reference import Reference
from workers import contract


async def added(actor: Actor, images: Sequence[dict[str, Any]], act: audit.Recorded, *, action: str = "load") -> None:
    """After the agent's ``load`` or ``import``: ``images`` is its last line's [{"refs": […], "record": ImageRecord}]."""
    require(actor, "image.load")
    await database.run(_added, actor, images, act, action)


def _added(actor: Actor, images: Sequence[dict[str, Any]], act: audit.Recorded, action: str) -> None:
    for item in images:
        record = rows.record_from(item["record"])
        row = rows.put(actor.tenant_number, record)
        for ref in item["refs"]:
            rows.point(row, ref, time_ns=item.get("time_ns", 0))
        if action == "import":
            for ref in item["refs"]:
                rows.tell(actor.tenant_number, "tag", record.id, ref)
        rows.tell(actor.tenant_number, action, record.id, record.id)
    act.done(images=[{"id": item["record"]["id"], "refs": item["refs"]} for item in images])
    rows.remind(actor.tenant_number)


async def tag(actor: Actor, name: str, ref: str) -> None:
    """Give an image, also a public one, another name in the tenant."""
    require(actor, "image.tag")
    reference = Reference.parse(ref)
    if reference.digest:
        raise InvalidArgument("refusing to create a tag with a digest reference")
    image = await projection.image(actor, name)
    await operations.ask(await database.run(_begin_tag, actor, image, str(reference)))


def _begin_tag(actor: Actor, image: ImageView, ref: str) -> Operation:
    tenant = actor.tenant
    assert tenant is not None
    before = Tag.everywhere.filter(tenant=tenant, ref=ref).values_list("image__image_id", flat=True).first()
    return operations.begin(
        actor,
        queries.local_host(),
        verb="image.tag",
        object=ref,
        task=contract.TAG_IMAGE,
        key=f"images:{tenant.name}",
        payload={"tenant": tenant.name, "image_id": image.id, "ref": ref},
        detail={"before": before, "after": image.id},
    )


def _tagged(operation: Operation, ok: dict[str, Any], error: EngineError | None) -> None:
    image_id, ref = operation.payload["image_id"], operation.payload["ref"]
    if error is not None or operation.tenant_id is None:
        return
    row = Image.everywhere.filter(tenant_id=operation.tenant_id, image_id=image_id).first()
    if row is None:
        public = Image.everywhere.filter(tenant=None, image_id=image_id).first()
        if public is None:
            return  # removed by the operator meanwhile; the host's inventory settles it
        row = rows.put(operation.tenant_id, public.to_record())
    rows.point(row, ref, time_ns=ok.get("time_ns", 0))
    rows.remind(operation.tenant_id)
    rows.tell(operation.tenant_id, "tag", image_id, ref)


async def remove(actor: Actor, name: str, *, force: bool = False, no_prune: bool = False) -> dict[str, list[str]]:
    """{"untagged": [ref, …], "deleted": [id, …]}. The host refuses with moby's sentences while containers use the image."""
    require(actor, "image.remove")
    image = await projection.image(actor, name)
    if image.public:
        raise PermissionDenied(f"image {name} is public: every tenant has it, and only operators of the platform remove it", rule="public")
    outcome: dict[str, list[str]] | None = await operations.ask(await database.run(_begin_remove, actor, image, name, force, no_prune))
    return outcome or {"untagged": [], "deleted": []}


def _begin_remove(actor: Actor, image: ImageView, name: str, force: bool, no_prune: bool) -> Operation:
    tenant = actor.tenant
    assert tenant is not None
    payload: dict[str, Any] = {"tenant": tenant.name, "force": force, "no_prune": no_prune}
    ref = _ref_of(image, name)
    payload |= {"ref": ref} if ref else {"image_id": image.id}
    return operations.begin(
        actor,
        queries.local_host(),
        verb="image.remove",
        object=name,
        task=contract.REMOVE_IMAGE,
        key=f"images:{tenant.name}",
        payload=payload,
        detail={"image_id": image.id, "force": force},
    )


def _ref_of(image: ImageView, name: str) -> str:
    """The reference by which ``name`` found the image; empty when it was its id."""
    try:
        ref = Reference.parse(name).key
    except InvalidArgument:
        return ""
    return ref if ref in image.refs else ""


def _removed(operation: Operation, ok: dict[str, Any], error: EngineError | None) -> dict[str, list[str]] | None:
    if error is not None:
        return None
    untagged, deleted = list(ok.get("untagged") or []), list(ok.get("deleted") or [])
    tenant_id = operation.tenant_id
    taken_away(tenant_id, {ref: ok.get("image_id", ref) for ref in untagged}, deleted, ok.get("images") or ())
    return {"untagged": untagged, "deleted": deleted}


def taken_away(tenant_id: int | None, untagged: dict[str, str], deleted: Sequence[str], images: Sequence[str]) -> None:
    """``untagged``: name → image id. ``deleted`` are the ids that Docker tells, of layers too; ``images`` the tenant has no longer.

    The rows may be gone already, by what the host told everybody: who reads events is told of a deletion all the same.
    """
    for image_id in untagged.values():
        rows.tell(tenant_id, "untag", image_id, image_id)
    rows.unpoint(tenant_id, untagged)
    rows.drop(tenant_id, images)
    rows.remind(tenant_id)
    for image_id in deleted:
        if image_id in images:
            rows.tell(tenant_id, "delete", image_id, image_id)


operations.on_answer(contract.TAG_IMAGE, _tagged)
operations.on_answer(contract.REMOVE_IMAGE, _removed)
