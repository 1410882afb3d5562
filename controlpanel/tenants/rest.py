"""Who calls REST: a bearer token or a client's certificate, which are of one tenant, or a logged-in user with cookie and CSRF token.

A view asks ``await actor(request, tenant, "container.view")`` first: strangers get NotFound, others the rule that refuses them.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings
from django.http import HttpRequest
from ninja.security.base import AuthBase
from ninja.utils import check_csrf

from controlpanel.accounts.fresh import require_fresh
from controlpanel.accounts.models import User
from controlpanel.base import precedence
from controlpanel.tenants import access, impersonation, rates, under_way
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.permissions import require
from controlpanel.tenants.queries import no_such_tenant
from engine.errors import PermissionDenied, Unauthenticated

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Caller:
    """Exactly one of both is set. ``bound``: by a token or a certificate, which act in one tenant."""

    bound: Actor | None = None
    user: User | None = None


class Bearer(AuthBase):
    """``Authorization: Bearer slw_…``. A wrong one is refused, whatever cookies come with it."""

    openapi_type = "http"
    openapi_scheme = "bearer"

    async def __call__(self, request: HttpRequest) -> Caller | None:
        words = request.headers.get("Authorization", "").split(None, 1)
        if not words:
            return None
        if len(words) != 2 or words[0].lower() != "bearer":
            raise Unauthenticated("only Authorization: Bearer TOKEN is understood here")
        return _bound(request, await access.actor_for_token(words[1].strip(), address=request.META.get("REMOTE_ADDR", "")))


class ClientCertificate(AuthBase):
    """On the TLS port. A browser's counts for nothing, see ``access.shown_certificate``."""

    openapi_type = "mutualTLS"

    async def __call__(self, request: HttpRequest) -> Caller | None:
        digest = access.shown_certificate(under_way.scope_of(request))
        if digest is None:
            return None
        return _bound(request, await access.actor_for_certificate(digest, address=request.META.get("REMOTE_ADDR", "")))


class Session(AuthBase):
    """The cookie of a logged-in browser; what changes something needs the header X-CSRFToken as well."""

    openapi_type = "apiKey"
    openapi_in = "cookie"
    openapi_name = settings.SESSION_COOKIE_NAME

    async def __call__(self, request: HttpRequest) -> Caller | None:
        user = await request.auser()
        if not user.is_authenticated:
            return None
        if request.method not in _SAFE and check_csrf(request) is not None:
            raise PermissionDenied(
                "a request with a cookie needs the header X-CSRFToken with the value of the cookie csrftoken", rule="csrf"
            )
        assert isinstance(user, User)
        rates.spend(("user", str(user.pk)))
        return Caller(user=user)


def _bound(request: HttpRequest, actor: Actor) -> Caller:
    rates.spend(actor.credential)
    under_way.follow(under_way.scope_of(request), actor)
    return Caller(bound=actor)


def caller(request: HttpRequest) -> Caller:
    found: Caller = request.auth  # type: ignore[attr-defined]
    return found


async def actor(request: HttpRequest, tenant: str, verb: str, *, fresh: bool = False) -> Actor:
    """Who acts in this tenant, and may do this. ``fresh``: with a cookie only who has said lately who they are (accounts.fresh)."""
    found = await member_of(request, tenant)
    require(found, verb)
    user = caller(request).user
    if fresh and user is not None:
        require_fresh(request, user)
    await precedence.of_loop().enter(found.tenant_number)
    return found


def operator(request: HttpRequest, verb: str, *, fresh: bool = False) -> Actor:
    """Who acts on the platform itself: operators, logged in. A key is of one tenant, whoever made it. ``fresh``: as of ``actor``."""
    who = caller(request)
    found = who.bound or access.platform_user(who.user, address=request.META.get("REMOTE_ADDR", ""))  # type: ignore[arg-type]
    require(found, verb)
    if fresh and who.user is not None:
        require_fresh(request, who.user)
    return found


async def member_of(request: HttpRequest, tenant: str) -> Actor:
    """Who acts in this tenant, whatever they may do; NotFound for strangers."""
    who = caller(request)
    if who.bound is not None:
        if who.bound.tenant is None or who.bound.tenant.name != tenant:
            raise no_such_tenant(tenant)
        found = who.bound
    else:
        assert who.user is not None
        found = await impersonation.actor_for(who.user, request.session, tenant, address=request.META.get("REMOTE_ADDR", ""))
        under_way.follow(under_way.scope_of(request), found, under_way.Login(who.user, request.session.session_key))
    return found
