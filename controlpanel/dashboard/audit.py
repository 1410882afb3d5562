"""The audit log as a page: of a tenant for who may see it, of all for operators of the platform."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import render

from controlpanel.audit import search, streaming
from controlpanel.audit import services as audit
from controlpanel.audit.models import Record
from controlpanel.base import database
from controlpanel.hosts import queries
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.models import Tenant
from controlpanel.tenants.pages import page, platform_page, show
from controlpanel.tenants.queries import tenant_named
from engine.errors import InvalidArgument

PAGE: Final = 100
_WORDS: Final = ("who", "verb", "object", "door", "result", "since", "until")


@page("audit.view")
async def of_tenant(request: HttpRequest, actor: Actor) -> HttpResponse:
    return await show(request, actor, "audit/tenant.html", {"nav": "audit", **await _context(request, actor.tenant_number)})


@page("audit.view")
async def export_tenant(request: HttpRequest, actor: Actor) -> StreamingHttpResponse:
    assert actor.tenant is not None
    return await _export(request, actor, actor.tenant_number, actor.tenant.name)


@platform_page("audit.all")
async def of_platform(request: HttpRequest, actor: Actor) -> HttpResponse:
    name = request.GET.get("tenant", "")
    chain = (await database.read(tenant_named, name)).pk if name else None
    return render(request, "audit/platform.html", {"nav": "audit", **await _context(request, chain, tenant=name)})


@platform_page("audit.all")
async def export_platform(request: HttpRequest, actor: Actor) -> StreamingHttpResponse:
    name = request.GET.get("tenant", "")
    chain = (await database.read(tenant_named, name)).pk if name else None
    return await _export(request, actor, chain, name or "slipway")


async def _export(request: HttpRequest, actor: Actor, chain: int | None, name: str) -> StreamingHttpResponse:
    format = request.GET.get("format", "jsonl")
    response = streaming.answer(search.read(request.GET.dict()), chain, format, await database.read(_names), name)
    await database.run(audit.record, actor, "audit.export", name, format=format)
    return response


async def _context(request: HttpRequest, chain: int | None, **of: str) -> dict[str, Any]:
    """``of``: what the addresses of the other pages name beside the search."""
    words = {name: request.GET[name] for name in _WORDS if request.GET.get(name)}
    problem = ""
    try:
        asked = search.read(words)
    except InvalidArgument as error:
        asked, problem = search.Search(), error.message
    before = request.GET.get("before", "")
    records = await database.read(_records, asked, chain, int(before) if before.isdecimal() and len(before) < 19 else 0)
    older = urlencode({**of, **words, "before": records[-1]["cursor"]}) if len(records) == PAGE else ""
    return {
        "records": records,
        "asked": words,
        "problem": problem,
        "doors": search.DOORS,
        "results": search.RESULTS,
        "older": older,
        "newest": urlencode({**of, **words}) if before else "",
        "query": urlencode({**of, **words}),
        "of": of,
    }


def _records(asked: search.Search, chain: int | None, before: int) -> list[dict[str, Any]]:
    rows = search.page(asked, chain, before=before, limit=PAGE)
    results, tenants = queries.results_of(rows), {} if chain is not None else _names()
    return [_shown(row, results[row.pk], tenants) | {"cursor": row.pk if chain is None else row.number} for row in rows]


def _shown(row: Record, result: str, tenants: dict[int, str]) -> dict[str, Any]:
    return {
        "at": datetime.fromtimestamp(row.time_ns / 1e9, UTC),
        "result": result,
        "tenant": tenants.get(row.tenant_number, f"#{row.tenant_number}") if row.tenant_number else "",
        "reason": row.detail.get("error", ""),
        "detail": json.dumps(row.detail, indent=2, ensure_ascii=False) if row.detail else "",
        **{name: getattr(row, name) for name in ("number", "actor", "door", "address", "verb", "object", "about")},
    }


def _names() -> dict[int, str]:
    return dict(Tenant.objects.values_list("pk", "name"))
