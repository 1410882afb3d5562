"""A name and a password where there is neither a page nor a session: the registry's door. Counters, locks and records are those of the
login page, so that nobody has a second set of guesses here.

Whoever has set up a second factor does not come in by a password alone: they use a token. The refusal is one for all, or it would tell
whose password was right.
"""

from __future__ import annotations

from typing import Final

from allauth.account.adapter import get_adapter
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import ValidationError
from django.http import HttpRequest

from controlpanel.accounts import second_factor, sessions
from controlpanel.accounts.models import User
from engine.errors import Unauthenticated

_WRONG: Final = (
    "the user name or the password is wrong. Programs, and people with a second factor, give a token as the password "
    "(./manage.py token create, or the panel's settings)"
)


def user_by(name: str, password: str, *, address: str, door: str) -> User:
    """An active user. Unauthenticated otherwise. It takes as long as the hash does, a third of a second: for a thread."""
    request = HttpRequest()
    request.META["REMOTE_ADDR"] = address or sessions.NOWHERE
    request.user = AnonymousUser()
    request.door = door  # type: ignore[attr-defined]  # accounts.who
    known = User.objects.filter(username__iexact=name).first()
    if known is not None and second_factor.is_set_up(known):
        password = f"\0{password}"  # is nobody's, and costs what a wrong one costs
    try:
        user = get_adapter(request).authenticate(request, username=name, password=password)
    except ValidationError:
        raise Unauthenticated("too many attempts have failed: wait five minutes, then try again") from None
    if not isinstance(user, User) or not user.is_active:
        raise Unauthenticated(_WRONG)
    return user
