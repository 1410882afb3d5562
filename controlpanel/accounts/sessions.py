"""The browsers that a user is logged in with, and ending them. allauth.usersessions keeps the rows; here they end everywhere at once.

An open websocket has read its session long ago. So whoever ends one says ``{"kind": "logout", "user": pk}`` on the live feed, and the
consumers of that user look again whether theirs is still there (``is_alive``); so does whoever follows requests (tenants/under_way.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from allauth.usersessions.adapter import DefaultUserSessionsAdapter
from allauth.usersessions.models import UserSession
from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.sessions.backends.db import SessionStore
from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone

from controlpanel.accounts.models import User
from controlpanel.audit.services import Who, record
from controlpanel.base import live
from engine.errors import NotFound

LOGOUT = "logout"  # the kind of message
NOWHERE = "0.0.0.0"  # the address of who came by a socket
_AGENT_LENGTH = UserSession._meta.get_field("user_agent").max_length


class SessionsAdapter(DefaultUserSessionsAdapter):
    """What allauth ends by itself is told, too."""

    def end_sessions(self, sessions: Iterable[UserSession]) -> None:
        for session in sessions:
            session.end()
            tell(session.user_id)


def sessions_of(user: User) -> list[UserSession]:
    """Those that still work, the last used first; what has expired goes."""
    return sorted(UserSession.objects.purge_and_list(user), key=lambda session: session.last_seen_at, reverse=True)


@transaction.atomic
def end_session(who: Who, user: User, number: int) -> None:
    """One of the user's own."""
    session = UserSession.objects.filter(user=user, pk=number).first()
    if session is None:
        raise NotFound(f"No such session: {number}")
    _end(who, user, [session])


@transaction.atomic
def end_sessions(who: Who, user: User, *, keep: str = "") -> int:
    """All of a user's but the one with the key ``keep``; how many."""
    ending = list(UserSession.objects.filter(user=user).exclude(session_key=keep))
    _end(who, user, ending)
    return len(ending)


def _end(who: Who, user: User, ending: list[UserSession]) -> None:
    for session in ending:
        if session.exists():  # a new password gave the one at hand another key
            record(who, "user.session_end", user.username, address=session.ip, agent=session.user_agent)
        session.end()
    tell(user.pk)


def tell(user_pk: int) -> None:
    """In the transaction that ended a session: open websockets of the user look whether it was theirs."""
    live.on_commit({"kind": LOGOUT, "tenant": live.EVERYONE, "user": user_pk})


def is_alive(session_key: str | None, user: User) -> bool:
    """The session is there and still the user's: a new password ends it, too."""
    request = HttpRequest()
    request.session = SessionStore(session_key)
    return bool(get_user(request) == user)


def seen(session_key: str, user_pk: int, address: str, agent: str) -> None:
    """A request came with it. One from before this list existed gets its row."""
    found: dict[str, Any] = {"ip": address, "user_agent": agent[:_AGENT_LENGTH], "last_seen_at": timezone.now()}
    known = UserSession.objects.filter(session_key=session_key, user_id=user_pk).update(**found)
    if not known and SessionStore().exists(session_key):
        UserSession.objects.update_or_create(session_key=session_key, defaults={**found, "user_id": user_pk})


assert settings.SESSION_ENGINE == "django.contrib.sessions.backends.db"  # revoking is removing a row
