"""Writing the audit log.

record     in the transaction of the act itself: nothing is done that is not recorded
outcome    what came of an act that was recorded before it was done, when that is worth a record: nearly always that it failed
recorded   both, around an act that streams bytes
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol

from django.db import connection, transaction

from controlpanel.audit.models import BEGUN, DONE, DONE_AT_ONCE, FAILED, GENESIS, REFUSED, Record
from controlpanel.base import database, statements
from engine.errors import EngineError, PermissionDenied, QuotaExceeded

_LOCK: Final = 0x51A0D17  # ours among the advisory locks of the database
_LAST: Final = "SELECT number, hash FROM audit_record WHERE tenant_number = %s ORDER BY number DESC LIMIT 1"
PLATFORM: Final = 0  # the chain of acts that belong to no tenant
WORDS_MAX: Final = 500  # characters of an error's sentence


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


@dataclass(frozen=True, slots=True)
class Named:
    """A Who of whom only words are left."""

    tenant_number: int
    label: str
    address: str
    door_name: str


def record(
    who: Who, verb: str, object: str, *, tenant_number: int | None = None, result: str = DONE_AT_ONCE, about: int = 0, **detail: Any
) -> Record:
    """Append one record to the tenant's chain. Call it inside the transaction of the act itself.

    What a change changes is told as ``before`` and ``after``. Appends to one chain are serialised: SQLite has one writer, PostgreSQL
    takes an advisory lock until the commit.
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
            object=_plain(object)[:300],
            detail=detail,
            result=result,
            about=about,
        )
        row.hash = row.digest(last[1] if last else GENESIS)
        statements.insert(row)
    return row


def outcome(about: int, who: Who, verb: str, object: str, error: EngineError | OSError | None, **detail: Any) -> Record:
    """What became of record ``about`` of the same chain."""
    if error is None:
        return record(who, verb, object, result=DONE, about=about, **detail)
    return record(who, verb, object, result=result_of(error), about=about, **words_of(error), **detail)


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """For ``record``: those members that differ, as they were and as they are to be."""
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return {"before": {name: before.get(name) for name in names}, "after": {name: after.get(name) for name in names}}


def result_of(error: BaseException) -> str:
    return REFUSED if isinstance(error, PermissionDenied | QuotaExceeded) else FAILED


def words_of(error: BaseException) -> dict[str, Any]:
    """How an error stands in a record's detail."""
    if not isinstance(error, EngineError):
        return {"error": str(error)[:WORDS_MAX] or type(error).__name__}
    rule = {"rule": str(error.detail["rule"])[:100]} if "rule" in error.detail else {}
    return {**rule, "error": _plain(error.message)[:WORDS_MAX], "code": error.code}


class Recorded:
    """An act under way. Whatever becomes of it, one outcome follows."""

    def __init__(self, who: Who, verb: str, object: str, number: int) -> None:
        self._who, self._verb, self._object, self._number = who, verb, object, number
        self.told = False

    def done(self, **detail: Any) -> None:
        """In the transaction that makes it true."""
        self._tell(None, detail)

    def failed(self, error: BaseException) -> None:
        known = error if isinstance(error, EngineError | OSError) else ConnectionResetError("the client went away, or the platform ended")
        self._tell(known, {})

    def _tell(self, error: EngineError | OSError | None, detail: dict[str, Any]) -> None:
        if not self.told:
            self.told = True
            outcome(self._number, self._who, self._verb, self._object, error, **detail)


@asynccontextmanager
async def recorded(who: Who, verb: str, object: str, **detail: Any) -> AsyncIterator[Recorded]:
    """Recorded before it is begun, so that a client who leaves in the middle has still done it. An act that ends without ``done``
    was cut off."""
    number = await database.run(_begin, who, verb, object, detail)
    act = Recorded(who, verb, object, number)
    try:
        yield act
    except BaseException as error:
        await database.run(act.failed, error)  # also when this was cancelled: it is handed over before anything is waited for
        raise
    if not act.told:
        await database.run(act.failed, ConnectionResetError("cut off before its end"))


def _begin(who: Who, verb: str, object: str, detail: dict[str, Any]) -> int:
    return record(who, verb, object, result=BEGUN, **detail).number


def _plain(text: str) -> str:
    """Without what PostgreSQL keeps in no column and UTF-8 does not know."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _last(tenant_number: int) -> tuple[int, str] | None:
    """Number and hash of the newest record; nobody else appends until the transaction ends."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [_LOCK, tenant_number & 0x7FFFFFFF])
        cursor.execute(_LAST, [tenant_number])
        found: tuple[int, str] | None = cursor.fetchone()
    return found
