"""What is over is cleared away: sessions with their place in the list, and invitations."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from allauth.usersessions.models import UserSession
from django.contrib.sessions.models import Session
from django.utils import timezone

from controlpanel.events.housekeeping import tidy
from controlpanel.tenants import invitations
from controlpanel.tenants.actor import Role
from controlpanel.tenants.models import Invitation
from tests.controlpanel.accounts.test_login import log_in


def test_what_is_over_goes_and_what_is_not_stays(people: Any) -> None:
    alice, bob = log_in("alice")[0], log_in("bob")[0]
    for days in (1, 7):
        invitations.invite(people.actor(people.alice), role=Role.VIEWER, name=f"{days} d", lifetime=timedelta(days=days))
    now = timezone.now()
    Session.objects.filter(session_key=alice.session.session_key).update(expire_date=now)
    Invitation.everywhere.filter(name="1 d").update(expires_at=now)
    tidy()
    assert [row.user for row in UserSession.objects.all()] == [people.bob] and bob.get("/t/acme/").status_code == 200
    assert [row.name for row in Invitation.everywhere.all()] == ["7 d"]
