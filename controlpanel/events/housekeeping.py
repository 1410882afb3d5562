"""What need not be kept for ever: old events and operations, ended sessions, tokens and invitations. The audit log is kept."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from allauth.usersessions.models import UserSession
from django.contrib.sessions.models import Session
from django.db import connection, transaction
from django.utils import timezone

from controlpanel.accounts.models import Certificate, Token
from controlpanel.events import log
from controlpanel.execs import rows as execs
from controlpanel.hosts.models import Operation
from controlpanel.metrics import traffic
from controlpanel.tenants.models import Invitation

OPERATIONS: Final = timedelta(days=30)


def tidy() -> None:
    """For the panel worker's schedule. Each step is a transaction of its own, so that writers wait for none of them long."""
    connection.close_if_unusable_or_obsolete()
    now = timezone.now()
    with transaction.atomic():
        log.trim()
    with transaction.atomic():
        execs.tidy()
    with transaction.atomic():
        traffic.tidy()
    Operation.everywhere.exclude(state=Operation.QUEUED).filter(created_at__lt=now - OPERATIONS).delete()
    Session.objects.filter(expire_date__lt=now).delete()
    UserSession.objects.exclude(session_key__in=Session.objects.values("session_key")).delete()
    Invitation.everywhere.filter(expires_at__lt=now).delete()
    for kind in (Token, Certificate):
        kind.objects.filter(expires_at__lt=now - OPERATIONS).delete()
