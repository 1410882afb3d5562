"""REST: the audit log of a tenant, and of all for operators of the platform."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.http import HttpRequest, StreamingHttpResponse
from ninja import Query, Router, Schema
from pydantic import Field

from controlpanel.audit import export, search, streaming
from controlpanel.audit import services as audit
from controlpanel.audit.models import Record
from controlpanel.base import database
from controlpanel.hosts import queries
from controlpanel.tenants.models import Tenant
from controlpanel.tenants.queries import tenant_named
from controlpanel.tenants.rest import actor, operator

router = Router()

PAGE_MAX = 1000


class Sought(Schema):
    """Words that are left out ask for nothing."""

    who: str = Field("", description="A part of the actor's name.")
    verb: str = Field("", description="container.start; with a dot at its end the beginning: container.")
    object: str = Field("", description="A part of the object's name.")
    door: str = Field("", description=f"One of {', '.join(search.DOORS)}.")
    result: str = Field("", description=f"One of {', '.join(search.RESULTS)}.")
    since: str = Field("", description="ISO 8601; UTC unless it says otherwise.")
    until: str = Field("", description="As since; what is of this very time is not shown.")


class RecordOut(Schema):
    number: int = Field(description="1, 2, … within the tenant.")
    time: datetime
    actor: str
    door: str
    address: str
    verb: str
    object: str
    result: str = Field(description="done, failed, refused; queued: its host has not answered yet; begun: a stream whose end nobody told.")
    about: int = Field(description="The number of the record whose result this is; 0: an act of its own.")
    detail: dict[str, Any]
    hash: str = Field(description="Of this record and the hash before.")


class PlatformRecordOut(RecordOut):
    key: int = Field(description="What `before` takes to go on.")
    tenant: str = Field(description="Empty: of the platform itself. #NUMBER: of a tenant that was deleted.")


@router.get("/tenants/{tenant}/audit", response=list[RecordOut], summary="Who did what, newest first")
async def list_records(request: HttpRequest, tenant: str, asked: Query[Sought], before: int = 0, limit: int = 100) -> list[dict[str, Any]]:
    who = await actor(request, tenant, "audit.view")
    words = search.read(asked.dict())
    return await database.read(_page, words, who.tenant_number, before, limit)


@router.get("/tenants/{tenant}/audit/export", summary="All of it as JSON lines or CSV, oldest first")
async def export_records(request: HttpRequest, tenant: str, asked: Query[Sought], format: str = "jsonl") -> StreamingHttpResponse:
    who = await actor(request, tenant, "audit.view")
    response = streaming.answer(search.read(asked.dict()), who.tenant_number, format, {who.tenant_number: tenant}, tenant)
    await database.run(audit.record, who, "audit.export", tenant, format=format)
    return response


@router.get("/audit", response=list[PlatformRecordOut], summary="Of all tenants and the platform itself (operators)")
async def list_all(request: HttpRequest, asked: Query[Sought], tenant: str = "", before: int = 0, limit: int = 100) -> list[dict[str, Any]]:
    operator(request, "audit.all")
    words = search.read(asked.dict())
    chain = (await database.read(tenant_named, tenant)).pk if tenant else None
    return await database.read(_page, words, chain, before, limit)


@router.get("/audit/export", summary="All of them as JSON lines or CSV, oldest first (operators)")
async def export_all(request: HttpRequest, asked: Query[Sought], format: str = "jsonl") -> StreamingHttpResponse:
    who = operator(request, "audit.all")
    tenants = await database.read(_names)
    response = streaming.answer(search.read(asked.dict()), None, format, tenants, "slipway")
    await database.run(audit.record, who, "audit.export", "every tenant", format=format)
    return response


def _page(words: search.Search, chain: int | None, before: int, limit: int) -> list[dict[str, Any]]:
    rows = search.page(words, chain, before=before, limit=min(max(1, limit), PAGE_MAX))
    tenants, results = _names(), queries.results_of(rows)
    return [_shown(row, tenants, results) for row in rows]


def _shown(row: Record, tenants: dict[int, str], results: dict[int, str]) -> dict[str, Any]:
    return {**export.shown(row, tenants), "key": row.pk, "result": results[row.pk]}


def _names() -> dict[int, str]:
    return dict(Tenant.objects.values_list("pk", "name"))
