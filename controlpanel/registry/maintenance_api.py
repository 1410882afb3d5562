"""REST: the tags of a repository, what they were, copies, the trash, and a tenant's rules of what stays."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal, TypeVar

from django.http import HttpRequest
from ninja import Query, Router, Schema, Status
from pydantic import Field

from controlpanel.base import database
from controlpanel.base.rest import Asked
from controlpanel.registry import copying, errors, history, retention, rules, tags, trash
from controlpanel.registry.errors import Refused
from controlpanel.registry.models import Manifest, Rule, Sweep
from controlpanel.registry.names import is_tag, split, tenant_of
from controlpanel.tenants.rest import actor
from engine.errors import InvalidArgument

T = TypeVar("T")

router = Router()


class TagOut(Schema):
    name: str
    digest: str
    media_type: str
    size_bytes: int = Field(
        description="Of the image as it is pulled: its manifest, config and layers; of an index, of its manifest alone."
    )
    pushed_at: datetime
    pushed_by: str
    pulled_at: datetime | None
    pulls: int
    pinned: bool
    immutable: bool


class TagChangeIn(Asked):
    """Either, or both."""

    digest: str = Field("", description="The manifest that the tag shall be from now on: retag, or return to what it was.")
    pinned: bool | None = Field(None, description="Pinned, no rule takes the tag away.")


class MoveOut(Schema):
    number: int
    digest: str = Field(description="Empty: the tag went away.")
    at: datetime
    by: str


class CopyIn(Asked):
    source: str = Field(description="acme/web:1.2 or acme/web@sha256:…; also a public one of another tenant.")
    target: str = Field(description="acme/prod/web:1.2")


class CopyOut(Schema):
    digest: str


class TrashOut(Schema):
    repository: str
    digest: str
    tags: list[str] = Field(description="That it had.")
    size_bytes: int
    deleted_at: datetime
    deleted_by: str


class TrashIn(Asked):
    repository: str
    digest: str


class RestoredOut(Schema):
    tags: list[str] = Field(description="That it has again; those that are another manifest's by now stay so.")


class RuleIn(Asked):
    """``immutable``: nobody moves or removes these tags. ``keep``: see the figures; of the repositories that such a rule is for, tags that
    none keeps go."""

    kind: Literal["immutable", "keep"]
    repositories: str = Field(description="team-a/**: behind the tenant's name; * within a part, ** anything, a,b either.", max_length=255)
    tags: str = Field("**", max_length=128)
    last: int = Field(0, description="So many that were pushed last stay.")
    pushed_days: int = Field(0, description="And those pushed within so many days.")
    pulled_days: int = Field(0, description="And those pulled within so many days.")
    untagged_days: int = Field(0, description="What has no tag goes after so many days; 0: it stays.")


class RuleOut(RuleIn):
    id: int


class RetentionOut(Schema):
    repository: str
    digest: str
    tag: str = Field(description="Empty: a manifest without one.")
    stays: bool
    why: str


class SweepOut(Schema):
    at: datetime
    by: str
    kept: int
    removed: int
    gone: list[dict[str, Any]] = Field(description="The first thousand of what was removed, with the reason.")


async def _deed(work: Callable[..., T], *words: Any) -> T:
    """In the writer's thread. What the registry refuses has REST's status and words."""
    try:
        return await database.run(work, *words)
    except Refused as error:
        raise errors.rest(error) from None


# -- tags --------------------------------------------------------------------------------------------


@router.get("/tenants/{tenant}/tags/{path:ref}", response=list[TagOut], summary="Tags of a repository")
async def list_tags(request: HttpRequest, tenant: str, ref: str) -> list[dict[str, Any]]:
    """Of acme/web, the last pushed first."""
    who = await actor(request, tenant, "registry.pull")
    return await database.read(lambda: [shown._asdict() for shown in tags.tags(who, ref)])


@router.patch("/tenants/{tenant}/tags/{path:ref}", response={204: None}, summary="Move or pin a tag")
async def change_tag(request: HttpRequest, tenant: str, ref: str, asked: TagChangeIn) -> Status[None]:
    """Of acme/web:1.2."""
    who = await actor(request, tenant, "registry.push")
    name, tag = _target(tenant, ref)
    if asked.digest:
        await _deed(copying.copy, who, name, asked.digest, name, tag)
    if asked.pinned is not None:
        await _deed(tags.pin, who, name, tag, asked.pinned)
    return Status(204, None)


@router.get("/tenants/{tenant}/tag-history/{path:ref}", response=list[MoveOut], summary="What a tag was, and when")
async def tag_history(
    request: HttpRequest, tenant: str, ref: str, before: int = 0, limit: int = Query(100, ge=1, le=1000)
) -> list[dict[str, Any]]:
    """Of acme/web:latest, newest first; ``before``: the number of the last one that is known already."""
    who = await actor(request, tenant, "registry.pull")
    name, tag = _target(tenant, ref)

    def found() -> list[dict[str, Any]]:
        moves = history.of(tags.repository(who, name).pk, tag, before=before, limit=limit)
        return [{"number": move.pk, "digest": move.digest, "at": move.at, "by": move.by} for move in moves]

    return await database.read(found)


@router.post(
    "/tenants/{tenant}/copies", response={201: CopyOut}, summary="Copy an image to another repository or tag, without moving bytes"
)
async def copy(request: HttpRequest, tenant: str, asked: CopyIn) -> Status[dict[str, Any]]:
    """Promote: with all it is made of, and what refers to it (signatures, SBOMs)."""
    who = await actor(request, tenant, "registry.push")
    source, reference = split(asked.source)
    name, tag = _target(tenant, asked.target)
    foreign = tenant_of(source) != tenant
    digest = await _deed(lambda: copying.copy(who, source, reference, name, tag, public_only=foreign))
    return Status(201, {"digest": digest})


def _target(tenant: str, ref: str) -> tuple[str, str]:
    name, tag = split(ref)
    if tenant_of(name) != tenant or not is_tag(tag):
        raise InvalidArgument(f"{ref[:300]!r} is no tag of this tenant's: they are called {tenant}/NAME:TAG")
    return name, tag


# -- the trash ---------------------------------------------------------------------------------------


@router.get("/tenants/{tenant}/registry/trash", response=list[TrashOut], summary="What was deleted and can be had back")
async def list_trash(request: HttpRequest, tenant: str) -> list[dict[str, Any]]:
    who = await actor(request, tenant, "registry.pull")
    return await database.read(lambda: [_trashed(row) for row in trash.content(who)])


def _trashed(row: Manifest) -> dict[str, Any]:
    names = ("digest", "size_bytes", "deleted_at", "deleted_by")
    return {"repository": row.repository.name, "tags": row.lost_tags, **{name: getattr(row, name) for name in names}}


@router.post("/tenants/{tenant}/registry/trash/restore", response=RestoredOut, summary="Have a deleted image back")
async def restore(request: HttpRequest, tenant: str, asked: TrashIn) -> dict[str, Any]:
    who = await actor(request, tenant, "registry.delete")
    return {"tags": await _deed(trash.restore, who, asked.repository, asked.digest)}


@router.delete("/tenants/{tenant}/registry/trash", response={204: None}, summary="Empty the trash, or take one image out of it, for good")
async def empty_trash(request: HttpRequest, tenant: str, repository: str = "", digest: str = "") -> Status[None]:
    who = await actor(request, tenant, "registry.maintain")
    if repository or digest:
        await _deed(lambda: trash.empty(who, [trash.found(who, repository, digest)]))
    else:
        await _deed(lambda: trash.empty(who, trash.content(who)))
    return Status(204, None)


# -- rules -------------------------------------------------------------------------------------------


@router.get("/tenants/{tenant}/registry/rules", response=list[RuleOut], summary="Rules of what is immutable and what stays")
async def list_rules(request: HttpRequest, tenant: str) -> list[dict[str, Any]]:
    who = await actor(request, tenant, "registry.pull")
    return await database.read(lambda: [_rule(row) for row in rules.rules(who)])


@router.post("/tenants/{tenant}/registry/rules", response={201: RuleOut}, summary="Make a rule")
async def create_rule(request: HttpRequest, tenant: str, asked: RuleIn) -> Status[dict[str, Any]]:
    who = await actor(request, tenant, "registry.maintain")
    return Status(201, _rule(await _deed(lambda: rules.create(who, **asked.dict()))))


@router.delete("/tenants/{tenant}/registry/rules/{number}", response={204: None}, summary="Remove a rule")
async def remove_rule(request: HttpRequest, tenant: str, number: int) -> Status[None]:
    who = await actor(request, tenant, "registry.maintain")
    await _deed(rules.remove, who, number)
    return Status(204, None)


def _rule(row: Rule) -> dict[str, Any]:
    return {"id": row.pk, **{name: getattr(row, name) for name in RuleIn.model_fields}}


@router.get("/tenants/{tenant}/registry/retention", response=list[RetentionOut], summary="What would go now by the rules, and why")
async def dry_run(request: HttpRequest, tenant: str) -> list[dict[str, Any]]:
    """Nothing changes."""
    who = await actor(request, tenant, "registry.pull")
    return await database.read(lambda: [{**verdict._asdict(), "why": str(verdict.why)} for verdict in retention.plan(who)])


@router.post("/tenants/{tenant}/registry/retention", response=SweepOut, summary="Follow the rules now, not only once a day")
async def follow_rules(request: HttpRequest, tenant: str) -> dict[str, Any]:
    who = await actor(request, tenant, "registry.maintain")
    return _sweep(await _deed(retention.sweep, who))


@router.get("/tenants/{tenant}/registry/sweeps", response=list[SweepOut], summary="When the rules were followed, and what went")
async def list_sweeps(request: HttpRequest, tenant: str) -> list[dict[str, Any]]:
    who = await actor(request, tenant, "registry.pull")
    return await database.read(lambda: [_sweep(row) for row in retention.sweeps(who)])


def _sweep(row: Sweep) -> dict[str, Any]:
    return {name: getattr(row, name) for name in SweepOut.model_fields}
