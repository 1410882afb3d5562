"""Where django-allauth asks us: words, limits, the audit log, what a login passes through.

Failed logins are counted in the cache by address and by the name that was typed, whether it is somebody's or not: so a lock tells nobody
that a name exists. It ends by itself; ``./manage.py user unlock NAME`` ends it at once.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

from allauth.account.adapter import DefaultAccountAdapter
from allauth.core import ratelimit
from allauth.usersessions.models import UserSession
from django.core.cache import cache
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from controlpanel.accounts import sessions
from controlpanel.accounts.fresh import is_fresh
from controlpanel.accounts.models import User
from controlpanel.accounts.who import person
from controlpanel.audit.services import record

LOCK_S: Final = 300  # as ACCOUNT_RATE_LIMITS has it: within this time a lock is told once
UNKNOWN: Final = "(no such user)"  # a name that nobody has may be a password in the wrong field


class AccountAdapter(DefaultAccountAdapter):
    error_messages = {
        **DefaultAccountAdapter.error_messages,
        "username_password_mismatch": _("The user name or the password is wrong."),
        "too_many_login_attempts": _("Too many attempts have failed. Wait five minutes, then try again."),
        "rate_limited": _("Too many attempts have failed. Wait five minutes, then try again."),
        "enter_current_password": _("This is not your current password."),
        "incorrect_password": _("This is not your current password."),
        "incorrect_code": _("This code is wrong, or it was used already."),
    }

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        """By invitation alone (tenants.invitations)."""
        return False

    def get_login_stages(self) -> list[str]:
        """Without a mail server and a phone there is one."""
        return ["controlpanel.accounts.second_factor.SecondFactorStage"]

    def get_client_ip(self, request: HttpRequest) -> str:
        return request.META.get("REMOTE_ADDR") or sessions.NOWHERE

    def get_password_change_redirect_url(self, request: HttpRequest) -> str:
        return reverse("mfa_index")

    def is_reauthentication_required(self, *, app: str, **kwargs: Any) -> bool:
        """A login of just now counts as much as an answer of just now."""
        assert isinstance(self.request.user, User)
        return super().is_reauthentication_required(app=app, **kwargs) and not is_fresh(self.request, self.request.user)

    def set_password(self, user: Any, password: str) -> None:
        user.set_password(password)
        user.save(update_fields=["password"])

    def pre_authenticate(self, request: HttpRequest, **credentials: Any) -> None:
        try:
            super().pre_authenticate(request, **credentials)
        except ValidationError:
            _told_once(request, credentials.get("username", ""))
            raise

    def authentication_failed(self, request: HttpRequest, **credentials: Any) -> None:
        record(person(request), "user.login_failed", _known(credentials.get("username", "")))

    def post_login(self, request: HttpRequest, user: Any, **kwargs: Any) -> HttpResponse:
        record(person(request, user.username), "user.login", user.username, agent=request.headers.get("User-Agent", "")[:200])
        return super().post_login(request, user, **kwargs)

    def logout(self, request: HttpRequest) -> None:
        user, key = request.user, request.session.session_key
        assert isinstance(user, User)
        record(person(request), "user.logout", user.username)
        super().logout(request)
        UserSession.objects.filter(session_key=key).delete()
        sessions.tell(user.pk)

    def _get_login_attempts_cache_key(self, request: HttpRequest, **credentials: Any) -> str:
        """allauth puts the Host header before the name: each name of the panel would be a new counter."""
        return attempts_of(credentials.get("username", ""))


def attempts_of(name: str) -> str:
    """The counter of a name's failed logins."""
    return f"login:{name.lower()}"


def unlock(user: User, address: str = "") -> None:
    """The locks of a user's name and second factor, and of a client's ``address``."""
    request = HttpRequest()
    request.META["REMOTE_ADDR"] = address or sessions.NOWHERE
    for key in (attempts_of(user.username), f"mfa-auth-user-{user.pk}"):
        ratelimit.clear(request, action="login_failed", key=key)
    cache.delete(_telling_of(user.username))


def _told_once(request: HttpRequest, name: str) -> None:
    """Who hammers at a locked door fills no log."""
    if cache.add(_telling_of(name), 1, timeout=LOCK_S):
        record(person(request), "user.locked", _known(name))


def _telling_of(name: str) -> str:
    return f"locked:{hashlib.sha256(name.lower().encode()).hexdigest()}"


def _known(name: str) -> str:
    found = User.objects.filter(username__iexact=name).first()
    return found.username if found else UNKNOWN
