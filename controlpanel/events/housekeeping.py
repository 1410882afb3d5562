"""What need not be kept for ever: old events and operations, ended sessions and tokens. The audit log is kept."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from django.contrib.sessions.models import Session
from django.db import connection, transaction
from django.utils import timezone

from controlpanel.accounts.models import Token
from controlpanel.events import log
from controlpanel.execs import rows as execs
from controlpanel.hosts.models import Operation

OPERATIONS: Final = timedelta(days=30)


def tidy() -> None:
    """For the panel worker's schedule. Each step is a transaction of its own, so that writers wait for none of them long."""
    connection.close_if_unusable_or_obsolete()
    now = timezone.now()
    with transaction.atomic():
        log.trim()
    with transaction.atomic():
        execs.tidy()
    Operation.everywhere.exclude(state=Operation.QUEUED).filter(created_at__lt=now - OPERATIONS).delete()
    Session.objects.filter(expire_date__lt=now).delete()
    Token.objects.filter(expires_at__lt=now - OPERATIONS).delete()
