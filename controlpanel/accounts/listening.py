"""What allauth tells by signals, into the audit log. Connected when the app is ready."""

from __future__ import annotations

from typing import Any

from allauth.account.signals import password_changed
from allauth.mfa.models import Authenticator
from allauth.mfa.signals import authentication_failed, authenticator_added, authenticator_removed, authenticator_reset, authenticator_used
from django.http import HttpRequest

from controlpanel.accounts import sessions
from controlpanel.accounts.models import User
from controlpanel.accounts.who import person
from controlpanel.audit.services import record


def connect() -> None:
    password_changed.connect(_password_changed, dispatch_uid="slipway")
    authenticator_added.connect(_factor("user.mfa_add"), weak=False, dispatch_uid="slipway")
    authenticator_removed.connect(_factor("user.mfa_remove"), weak=False, dispatch_uid="slipway")
    authenticator_reset.connect(_factor("user.mfa_new_codes"), weak=False, dispatch_uid="slipway")
    authentication_failed.connect(_factor("user.code_failed"), weak=False, dispatch_uid="slipway")
    authenticator_used.connect(_used, dispatch_uid="slipway")


def _factor(verb: str) -> Any:
    def heard(request: HttpRequest, user: User, authenticator: Authenticator, **_words: Any) -> None:
        record(person(request, user.username), verb, user.username, factor=authenticator.type)

    return heard


def _used(request: HttpRequest, user: User, authenticator: Authenticator, **_words: Any) -> None:
    """A code of the app is part of the login's record; a recovery code is one less."""
    if authenticator.type == Authenticator.Type.RECOVERY_CODES:
        left = len(Authenticator.objects.get(pk=authenticator.pk).wrap().get_unused_codes())  # the one at hand was read before
        record(person(request, user.username), "user.recovery_code", user.username, left=left)


def _password_changed(request: HttpRequest, user: User, **_words: Any) -> None:
    """By the user: the session at hand goes on, under a new key; the others end."""
    record(person(request), "user.password", user.username)
    sessions.end_sessions(person(request), user, keep=request.session.session_key or "")
