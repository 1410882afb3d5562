"""Writing the audit log, and proving that nobody changed it."""

from __future__ import annotations

import time
from typing import Any, Protocol

from django.db import connection, transaction

from controlpanel.audit.models import GENESIS, Record
from controlpanel.base import statements

_LOCK = 0x51A0D17  # ours among the advisory locks of the database
_LAST = "SELECT number, hash FROM audit_record WHERE tenant_number = %s ORDER BY number DESC LIMIT 1"
PLATFORM = 0  # the chain of acts that belong to no tenant


class Who(Protocol):
    """What the log needs to know about who acts; tenants.actor.Actor is one."""

    @property
    def tenant_number(self) -> int: ...
    @property
    def label(self) -> str: ...
    @property
    def address(self) -> str: ...
    @property
    def door_name(self) -> str: ...


def record(who: Who, verb: str, object: str, *, tenant_number: int | None = None, **detail: Any) -> Record:
    """Append one record to the tenant's chain. Call it inside the transaction of the act itself.

    Appends to one chain are serialised: SQLite has one writer, PostgreSQL takes an advisory lock until the commit.
    """
    number = who.tenant_number if tenant_number is None else tenant_number
    with transaction.atomic(savepoint=False):
        last = _last(number)
        row = Record(
            tenant_number=number,
            number=last[0] + 1 if last else 1,
            time_ns=time.time_ns(),
            actor=who.label[:200],
            door=who.door_name,
            address=who.address[:100],
            verb=verb,
            object=object[:300],
            detail=detail,
        )
        row.hash = row.digest(last[1] if last else GENESIS)
        statements.insert(row)
    return row


def _last(tenant_number: int) -> tuple[int, str] | None:
    """Number and hash of the newest record; nobody else appends until the transaction ends."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [_LOCK, tenant_number & 0x7FFFFFFF])
        cursor.execute(_LAST, [tenant_number])
        found: tuple[int, str] | None = cursor.fetchone()
    return found


def first_broken(tenant_number: int) -> int | None:
    """The number of the first record that does not follow from the one before, or None when the chain is whole."""
    previous, expected = GENESIS, 1
    for row in Record.objects.filter(tenant_number=tenant_number).order_by("number").iterator():
        if row.number != expected or row.hash != row.digest(previous):
            return expected
        previous, expected = row.hash, expected + 1
    return None
