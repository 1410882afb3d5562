"""Pages of the second factor: allauth's views with our templates."""

from __future__ import annotations

from allauth.mfa.base import views as base
from allauth.mfa.recovery_codes import views as recovery
from allauth.mfa.totp import views as totp
from django.views.decorators.cache import never_cache

from controlpanel.accounts.views import Resuming


class Code(base.AuthenticateView):
    template_name = "accounts/code.html"


class Reauthenticate(Resuming, base.ReauthenticateView):
    template_name = "accounts/reauthenticate_code.html"


class SetUp(totp.ActivateTOTPView):
    template_name = "accounts/set_up.html"


class TakeAway(totp.DeactivateTOTPView):
    template_name = "accounts/take_away.html"


class NewCodes(recovery.GenerateRecoveryCodesView):
    template_name = "accounts/new_codes.html"


class Codes(recovery.ViewRecoveryCodesView):
    template_name = "accounts/codes.html"


class CodesFile(recovery.DownloadRecoveryCodesView):
    template_name = "accounts/codes.txt"


code = never_cache(Code.as_view())
reauthenticate = never_cache(Reauthenticate.as_view())
set_up = never_cache(SetUp.as_view())
take_away = never_cache(TakeAway.as_view())
new_codes = never_cache(NewCodes.as_view())
codes = Codes.as_view()
codes_file = CodesFile.as_view()
