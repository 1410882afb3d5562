"""Pages about oneself, below /accounts/. The names are those that allauth looks for; its mail and sign-up are left out.

A page's module is imported when somebody comes: the second factor's brings FIDO2 and cryptography.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from django.http import HttpRequest, HttpResponseBase
from django.urls import URLPattern, path


def _page(where: str, view: str, name: str, module: str = "views") -> URLPattern:
    def show(request: HttpRequest, **words: Any) -> HttpResponseBase:
        response: HttpResponseBase = getattr(import_module(f"controlpanel.accounts.{module}"), view)(request, **words)
        return response

    return path(where, show, name=name)


urlpatterns = [
    _page("login/", "login", "account_login"),
    _page("logout/", "logout", "account_logout"),
    _page("inactive/", "inactive", "account_inactive"),
    _page("password/", "password", "account_change_password"),
    _page("reauthenticate/", "reauthenticate", "account_reauthenticate"),
    _page("security/", "security", "mfa_index"),
    _page("sessions/end", "end_other_sessions", "end_other_sessions"),
    _page("sessions/<int:number>/end", "end_session", "end_session"),
    _page("login/code/", "code", "mfa_authenticate", "second_factor_views"),
    _page("reauthenticate/code/", "reauthenticate", "mfa_reauthenticate", "second_factor_views"),
    _page("two-step/", "set_up", "mfa_activate_totp", "second_factor_views"),
    _page("two-step/remove/", "take_away", "mfa_deactivate_totp", "second_factor_views"),
    _page("recovery/", "codes", "mfa_view_recovery_codes", "second_factor_views"),
    _page("recovery/new/", "new_codes", "mfa_generate_recovery_codes", "second_factor_views"),
    _page("recovery/file/", "codes_file", "mfa_download_recovery_codes", "second_factor_views"),
]
