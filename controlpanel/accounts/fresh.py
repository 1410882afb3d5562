"""Whether somebody has just said who they are. What can take a tenant over asks again: a browser left open is not its owner.

Asked for: members and roles, invitations and tokens made, an operator's visit, the policy of a tenant, anything about the second factor.
Not for what makes things safer: ending a session, revoking a token or an invitation. A bearer token is never asked; it cannot do more
than it was made for.
"""

from __future__ import annotations

import time

from allauth.account import app_settings
from allauth.account.adapter import get_adapter
from allauth.account.authentication import get_authentication_records
from allauth.account.internal.flows.reauthentication import suspend_request
from django.http import HttpRequest, HttpResponse

from controlpanel.accounts.models import User
from engine.errors import PermissionDenied

METHODS = frozenset({"password", "mfa"})


def is_fresh(request: HttpRequest, user: User) -> bool:
    """Password or code were given within ACCOUNT_REAUTHENTICATION_TIMEOUT seconds, at login or since. The session is loaded already."""
    told = [record["at"] for record in get_authentication_records(request, user) if record.get("method") in METHODS]
    return bool(told) and 0 <= time.time() - told[-1] < app_settings.REAUTHENTICATION_TIMEOUT


def require_fresh(request: HttpRequest, user: User) -> None:
    """For what has no page to ask on. PermissionDenied says where to go."""
    if not is_fresh(request, user):
        raise PermissionDenied(
            "this asks who you are once more: open /accounts/reauthenticate/ in this browser, or send a bearer token",
            rule="reauthentication",
        )


def ask_again(request: HttpRequest) -> HttpResponse:
    """To the page that asks who you are; a form that was sent waits in the session meanwhile and is acted on afterwards."""
    return suspend_request(request, get_adapter().get_reauthentication_methods(request.user)[0]["url"])
