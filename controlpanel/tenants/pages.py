"""The edge of every page and websocket of a tenant: who is this, may they, and what does the frame need to show.

A view is written as ``async def view(request, actor, …)`` and wrapped in ``@page("container.view")``. Strangers get 404.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseNotAllowed
from django.shortcuts import redirect, render
from django.urls import reverse

from controlpanel.accounts.fresh import ask_again, is_fresh
from controlpanel.accounts.models import User
from controlpanel.base import database, live, precedence
from controlpanel.base.errors import http_status
from controlpanel.tenants import access, impersonation, queries, rates, refusals, under_way
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.permissions import may, require
from engine.errors import EngineError

LAST_TENANT = "slipway_tenant"  # cookie: where this browser was last; a convenience, never a permission

View = Callable[..., Awaitable[HttpResponseBase]]


def page(verb: str, *, fresh: bool = False) -> Callable[[View], View]:
    """The view gets an Actor who may do ``verb`` in the tenant of the URL; others get the login page, 404 or 403.

    ``fresh``: who has not said lately who they are is asked first (accounts.fresh), and what was sent is done afterwards.
    """

    def wrap(view: View) -> View:
        @functools.wraps(view)
        async def wrapped(request: HttpRequest, tenant: str, *args: Any, **kwargs: Any) -> HttpResponseBase:
            request.user = user = await request.auser()
            if not user.is_authenticated:
                return redirect(f"{reverse(settings.LOGIN_URL)}?{urlencode({'next': request.get_full_path()})}")
            rates.spend(("user", str(user.pk)))
            actor = await impersonation.actor_for(user, request.session, tenant, address=request.META.get("REMOTE_ADDR", ""))
            try:
                require(actor, verb)
                if fresh and not is_fresh(request, user):
                    return await sync_to_async(ask_again)(request)
                under_way.follow(under_way.scope_of(request), actor, under_way.Login(user, request.session.session_key))
                request.live_seen = live.seen(actor.tenant_number)  # type: ignore[attr-defined]  # before anything is read for the page
                async with precedence.request(actor.tenant_number):
                    response = await view(request, actor, *args, **kwargs)
            except EngineError as error:
                await refusals.tell(error, what=request.path)
                raise
            if response.status_code == HTTPStatus.FORBIDDEN:  # a form that shows why
                await refusals.tell(None, what=request.path)
            return response

        return wrapped

    return wrap


def platform_page(verb: str, *, fresh: bool = False) -> Callable[[View], View]:
    """As ``page``, of the platform: for its operators."""

    def wrap(view: View) -> View:
        @functools.wraps(view)
        async def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            request.user = user = await request.auser()
            if not user.is_authenticated:
                return redirect(f"{reverse(settings.LOGIN_URL)}?{urlencode({'next': request.get_full_path()})}")
            actor = access.platform_user(user, address=request.META.get("REMOTE_ADDR", ""))
            try:
                require(actor, verb)
                if fresh and not is_fresh(request, user):
                    return await sync_to_async(ask_again)(request)
                return await view(request, actor, *args, **kwargs)
            except EngineError as error:
                await refusals.tell(error, what=request.path)
                raise

        return wrapped

    return wrap


async def show(request: HttpRequest, actor: Actor, template: str, context: Mapping[str, Any], *, status: int = 200) -> HttpResponse:
    """A page in the tenant's frame. ``nav`` in the context names the menu entry that is open."""
    assert actor.tenant is not None and isinstance(request.user, User)
    frame = {
        "actor": actor,
        "tenant": actor.tenant,
        "memberships": await database.read(queries.memberships_of, request.user),
        "may": Permissions(actor),
    }
    response = render(request, template, {**frame, **context}, status=status)
    response.set_cookie(LAST_TENANT, actor.tenant.name, max_age=365 * 86400, httponly=True, samesite="Lax", secure=request.is_secure())
    return response


class Permissions:
    """``{% if may.container_start %}`` in templates: what a role may not do is not offered, and refused all the same."""

    def __init__(self, actor: Actor) -> None:
        self._actor = actor

    def __getitem__(self, name: str) -> bool:
        return may(self._actor, name.replace("_", ".", 1))


async def act(request: HttpRequest, deed: Awaitable[Any], *, done: str, to: str) -> HttpResponse:
    """Await a service on behalf of a button. htmx gets a toast (the live feed brings the change); without it, a redirect."""
    error: EngineError | None = None
    try:
        await deed
    except EngineError as failure:
        error = failure
        await refusals.tell(error, what=request.path)
    if "HX-Request" in request.headers:
        context = {"message": error.message if error else done, "failed": error is not None}
        response = render(request, "components/_toast.html", context, status=http_status(error) if error else 200)
        if not error and to and request.POST.get("then") == "leave":
            response.headers["HX-Redirect"] = to
        return response
    if error:
        messages.error(request, error.message)
    else:
        messages.success(request, done)
    return redirect(to)


def form_of(*parts: str) -> Callable[[View], View]:
    """Of a view that a form is sent to and that shows it again with its errors: whoever looks there anew (the page's own refresh, a reload)
    is led to the page that has the form. ``parts``: of its path in the tenant, {name} from the address.

    The outermost decorator; what is not POST does not get to the view.
    """

    def decorate(view: View) -> View:
        @functools.wraps(view)
        async def answer(request: HttpRequest, tenant: str, **words: str) -> HttpResponseBase:
            if request.method == "POST":
                return await view(request, tenant=tenant, **words)
            if request.method in ("GET", "HEAD"):
                return redirect(tenant_path(tenant, *(part.format(**words) for part in parts)))
            return HttpResponseNotAllowed(["GET", "HEAD", "POST"])

        return answer

    return decorate


def tenant_path(tenant: str, *parts: str) -> str:
    return "/t/" + "/".join(quote(part, safe="") for part in (tenant, *parts))
