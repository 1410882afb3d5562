"""Tokens and certificates on the settings page."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from controlpanel.base import database
from controlpanel.base.units import parse_lifetime
from controlpanel.dashboard.views import settings_path, show_settings
from controlpanel.tenants import credentials
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.credentials_api import context_file
from controlpanel.tenants.pages import act, form_of, page
from engine.errors import EngineError


@form_of("settings")
@page("token.create", fresh=True)
async def make_token(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Answers with the page itself: the secret is shown once and is in no URL."""
    try:
        words = _words(request)
        _made, secret = await database.run(lambda: credentials.create_token(actor, **words))
    except EngineError as error:
        return await show_settings(request, actor, refusal=error)
    return await show_settings(request, actor, secret=secret)


@require_POST
@page("token.revoke")
async def revoke_token(request: HttpRequest, actor: Actor, token_id: int) -> HttpResponse:
    deed = database.run(credentials.revoke_token, actor, token_id)
    return await act(request, deed, done=_("The token no longer works."), to=settings_path(actor))


@form_of("settings")
@page("certificate.create", fresh=True)
async def make_certificate(request: HttpRequest, actor: Actor) -> HttpResponse:
    """A download: the key is in it, and nowhere else."""
    try:
        words = _words(request)
        return context_file(*await database.run(lambda: credentials.create_certificate(actor, **words)))
    except EngineError as error:
        return await show_settings(request, actor, refusal=error)


@require_POST
@page("certificate.revoke")
async def revoke_certificate(request: HttpRequest, actor: Actor, certificate_id: int) -> HttpResponse:
    deed = database.run(credentials.revoke_certificate, actor, certificate_id)
    return await act(request, deed, done=_("The certificate no longer works."), to=settings_path(actor))


def _words(request: HttpRequest) -> dict[str, Any]:
    return {
        "role": request.POST.get("role", ""),
        "project": request.POST.get("project", "").strip(),
        "name": request.POST.get("name", "").strip(),
        "verbs": request.POST.get("verbs", "").replace(",", " ").split(),
        "lifetime": parse_lifetime(request.POST.get("expires", "")),
    }
