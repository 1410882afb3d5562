"""Who calls REST: a bearer token, which is of one tenant, or a logged-in user with cookie and CSRF token.

A view asks ``await actor(request, tenant, "container.view")`` first: strangers get NotFound, others the rule that refuses them.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings
from django.http import HttpRequest
from ninja.security.base import AuthBase
from ninja.utils import check_csrf

from controlpanel.accounts.models import User
from controlpanel.tenants import access
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.permissions import require
from controlpanel.tenants.queries import no_such_tenant
from engine.errors import PermissionDenied, Unauthenticated

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Caller:
    """Exactly one of both is set."""

    token: Actor | None = None
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
        return Caller(token=await access.actor_for_token(words[1].strip(), address=request.META.get("REMOTE_ADDR", "")))


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
        return Caller(user=user)


def caller(request: HttpRequest) -> Caller:
    found: Caller = request.auth  # type: ignore[attr-defined]
    return found


async def actor(request: HttpRequest, tenant: str, verb: str) -> Actor:
    """Who acts in this tenant, and may do this."""
    who = caller(request)
    if who.token is not None:
        if who.token.tenant is None or who.token.tenant.name != tenant:
            raise no_such_tenant(tenant)
        found = who.token
    else:
        assert who.user is not None
        found = await access.actor_for_user(who.user, tenant, address=request.META.get("REMOTE_ADDR", ""))
    require(found, verb)
    return found
