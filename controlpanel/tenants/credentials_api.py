"""REST: a tenant's tokens and clients' certificates."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import Router, Schema, Status
from pydantic import Field

from controlpanel.accounts.models import Certificate, Token
from controlpanel.base import database
from controlpanel.base.rest import Asked
from controlpanel.base.units import parse_lifetime
from controlpanel.tenants import credentials, queries
from controlpanel.tenants.authority import Signed, docker_context
from controlpanel.tenants.rest import actor, member_of

router = Router()


class CredentialOut(Schema):
    id: int
    prefix: str
    name: str
    role: str = Field(description="One of the five, or one of the tenant's own.")
    project: str = Field(description="In this one alone; empty: wherever the role holds.")
    verbs: list[str] = Field(description="These alone, of what the role may; empty: all of it.")
    user: str | None
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    last_used_from: str


class NewTokenOut(CredentialOut):
    secret: str


class TokenIn(Asked):
    name: str = Field("", max_length=100)
    role: str = Field("viewer", max_length=63)
    project: str = Field("", description="In this one alone; empty: wherever the role holds.", max_length=63)
    verbs: list[str] = Field([], description="container.view, container.*, …; empty: all that the role may", max_length=200)
    expires: str = Field("", description="30d, 12h, 90m; empty: never")


class CertificateIn(Asked):
    name: str = Field("", max_length=100)
    role: str = Field("developer", max_length=63)
    project: str = Field("", description="As of a token.", max_length=63)
    verbs: list[str] = Field([], description="As of a token.", max_length=200)
    expires: str = Field("", description="7d when empty; 90d at most: it can be renewed")
    host: str = Field(
        "", description="Name or address, and port, by which clients reach the TLS port; empty: as this request did, or its own"
    )


@router.get("/tenants/{tenant}/tokens", response=list[CredentialOut], summary="Its tokens, newest first")
async def list_tokens(request: HttpRequest, tenant: str) -> list[dict[str, Any]]:
    who = await actor(request, tenant, "token.view")
    return await database.read(lambda: [shown(token) for token in queries.tokens_of(who)])


@router.post("/tenants/{tenant}/tokens", response={201: NewTokenOut}, summary="Make a token; its secret is in this answer only")
async def create_token(request: HttpRequest, tenant: str, payload: TokenIn) -> Status[dict[str, Any]]:
    who = await actor(request, tenant, "token.create", fresh=True)
    words = _words(payload)
    token, secret = await database.run(lambda: credentials.create_token(who, **words))
    return Status(201, {**shown(token), "secret": secret})


@router.delete("/tenants/{tenant}/tokens/{token_id}", response={204: None}, summary="Revoke a token; what is open by it is cut")
async def revoke_token(request: HttpRequest, tenant: str, token_id: int) -> Status[None]:
    who = await actor(request, tenant, "token.revoke")
    await database.run(credentials.revoke_token, who, token_id)
    return Status(204, None)


@router.get("/tenants/{tenant}/certificates", response=list[CredentialOut], summary="Its clients' certificates, newest first")
async def list_certificates(request: HttpRequest, tenant: str) -> list[dict[str, Any]]:
    who = await actor(request, tenant, "certificate.view")
    return await database.read(lambda: [shown(certificate) for certificate in queries.certificates_of(who)])


@router.post("/tenants/{tenant}/certificates", summary="Make a certificate: a file for docker context import")
async def create_certificate(request: HttpRequest, tenant: str, payload: CertificateIn) -> HttpResponse:
    who = await actor(request, tenant, "certificate.create", fresh=True)
    words = _words(payload)
    return context_file(*await database.run(lambda: credentials.create_certificate(who, host=payload.host, **words)))


@router.post("/tenants/{tenant}/certificates/renew", summary="Renew the certificate that this request came with: the same file, anew")
async def renew_certificate(request: HttpRequest, tenant: str, host: str = "") -> HttpResponse:
    who = await member_of(request, tenant)
    return context_file(*await database.run(credentials.renew_certificate, who, host=host))


@router.delete(
    "/tenants/{tenant}/certificates/{certificate_id}", response={204: None}, summary="Revoke a certificate; what is open by it is cut"
)
async def revoke_certificate(request: HttpRequest, tenant: str, certificate_id: int) -> Status[None]:
    who = await actor(request, tenant, "certificate.revoke")
    await database.run(credentials.revoke_certificate, who, certificate_id)
    return Status(204, None)


def _words(payload: TokenIn | CertificateIn) -> dict[str, Any]:
    kept = {name: getattr(payload, name) for name in ("role", "project", "name", "verbs")}
    return {**kept, "lifetime": parse_lifetime(payload.expires)}


def context_file(row: Certificate, signed: Signed) -> HttpResponse:
    name = row.tenant.name
    response = HttpResponse(docker_context(name, signed, description=row.description), content_type="application/x-tar", status=201)
    response.headers["Content-Disposition"] = f'attachment; filename="{name}.dockercontext"'
    response.headers["X-Slipway-Certificate"] = str(row.pk)
    response.headers["Cache-Control"] = "no-store"
    return response


def shown(row: Token | Certificate) -> dict[str, Any]:
    names = ("id", "prefix", "name", "role", "project", "verbs", "created_at", "expires_at", "last_used_at", "last_used_from")
    return {**{name: getattr(row, name) for name in names}, "user": row.user.username if row.user else None}
