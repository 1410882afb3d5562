"""Pages about oneself: login, who you are, password, sessions. allauth's views, our templates. The second factor is beside."""

from __future__ import annotations

import inspect
from typing import Any

from allauth.account import views as allauth
from allauth.mfa.models import Authenticator
from asgiref.sync import async_to_sync
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from controlpanel.accounts import sessions
from controlpanel.accounts.agents import in_words
from controlpanel.accounts.models import User
from controlpanel.accounts.who import person


class Login(allauth.LoginView):
    template_name = "accounts/login.html"


class Logout(allauth.LogoutView):
    template_name = "accounts/logout.html"


class Inactive(allauth.AccountInactiveView):
    template_name = "accounts/inactive.html"


class Password(allauth.PasswordChangeView):
    template_name = "accounts/password.html"

    def form_valid(self, form: Any) -> HttpResponse:
        response = super().form_valid(form)
        messages.success(self.request, _("The new password holds from now on. Your other sessions have ended."))
        return response


class Resuming:
    """What was asked for before the question is done after the answer, also when its view is asynchronous."""

    def form_valid(self, form: Any) -> HttpResponseBase:
        response = super().form_valid(form)  # type: ignore[misc]
        return async_to_sync(_awaited)(response) if inspect.isawaitable(response) else response


async def _awaited(response: Any) -> HttpResponseBase:
    answer: HttpResponseBase = await response
    return answer


class Reauthenticate(Resuming, allauth.ReauthenticateView):
    template_name = "accounts/reauthenticate.html"


login = Login.as_view()
logout = Logout.as_view()
inactive = Inactive.as_view()
password = never_cache(Password.as_view())
reauthenticate = never_cache(Reauthenticate.as_view())


@never_cache
@login_required
def security(request: HttpRequest) -> HttpResponse:
    user = _user(request)
    factors = {factor.type: factor for factor in Authenticator.objects.filter(user=user)}
    codes = factors.get(Authenticator.Type.RECOVERY_CODES)
    shown = [
        {"number": row.pk, "words": in_words(row.user_agent), "row": row, "current": row.session_key == request.session.session_key}
        for row in sessions.sessions_of(user)
    ]
    context = {
        "totp": factors.get(Authenticator.Type.TOTP),
        "codes_left": len(codes.wrap().get_unused_codes()) if codes else 0,
        "sessions": sorted(shown, key=lambda each: not each["current"]),
    }
    return render(request, "accounts/security.html", context)


@require_POST
@login_required
def end_session(request: HttpRequest, number: int) -> HttpResponse:
    sessions.end_session(person(request), _user(request), number)
    messages.success(request, _("The session has ended, and so has what it had open."))
    return redirect("mfa_index")


@require_POST
@login_required
def end_other_sessions(request: HttpRequest) -> HttpResponse:
    count = sessions.end_sessions(person(request), _user(request), keep=request.session.session_key or "")
    messages.success(request, ngettext("%(n)d other session has ended.", "%(n)d other sessions have ended.", count) % {"n": count})
    return redirect("mfa_index")


def _user(request: HttpRequest) -> User:
    assert isinstance(request.user, User)
    return request.user
