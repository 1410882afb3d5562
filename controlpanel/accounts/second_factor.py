"""The second factor of a login: a code of a TOTP app (RFC 6238), or one of ten recovery codes. allauth.mfa does it; its secrets are sealed.

Nothing here imports allauth's pages of it: those bring FIDO2 and cryptography, 12 MiB [m], and come with their first use (accounts.urls).
"""

from __future__ import annotations

from typing import Any

from allauth.account.stages import LoginStage
from allauth.core import context
from allauth.core.internal.httpkit import headed_redirect_response
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.internal.constants import LoginStageKey
from allauth.mfa.models import Authenticator
from django.db import transaction
from django.http import HttpResponse
from django.utils.translation import gettext_lazy as _

from controlpanel.accounts.models import User
from controlpanel.accounts.seal import seal, unseal
from controlpanel.audit.services import Who, record
from engine.errors import FailedPrecondition


class SecondFactorAdapter(DefaultMFAAdapter):
    error_messages = {**DefaultMFAAdapter.error_messages, "incorrect_code": _("This code is wrong, or it was used already.")}

    def encrypt(self, text: str) -> str:
        return seal(text)

    def decrypt(self, encrypted_text: str) -> str:
        return unseal(encrypted_text)

    def get_totp_issuer(self) -> str:
        """What the app shows above the code: which Slipway."""
        return f"Slipway {context.request.get_host()}"


class SecondFactorStage(LoginStage):
    """Between the password and the session: whoever has set up TOTP is asked for a code."""

    key = LoginStageKey.MFA_AUTHENTICATE.value
    urlname = "mfa_authenticate"

    def handle(self) -> tuple[HttpResponse | None, bool]:
        return (headed_redirect_response("mfa_authenticate") if is_set_up(self.login.user) else None), True


def is_set_up(user: Any) -> bool:
    return Authenticator.objects.filter(user_id=user.pk, type=Authenticator.Type.TOTP).exists()


@transaction.atomic
def reset(who: Who, user: User) -> None:
    """An operator's way for who lost phone and recovery codes. FailedPrecondition when there is nothing to take away."""
    removed, _by_model = Authenticator.objects.filter(user=user).delete()
    if not removed:
        raise FailedPrecondition(f"{user.username} has no second factor")
    record(who, "user.mfa_reset", user.username)
