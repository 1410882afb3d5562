"""Who was refused what: by a role, a policy or a quota. Each door calls ``tell`` when such an error passes it.

A refusal costs whoever is refused nothing, so records of them are bounded, lest somebody fill the disk: BURST at once for each actor of
a tenant and then one every EACH_S. What is over it is counted, and the actor's next record says how many there were; when
none comes, one is written for the count after EACH_S. So an actor gets 1,440 records a day at most. A panel that is killed forgets the
count, never a record.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Final

from django.db.utils import DatabaseError

from controlpanel.audit import services as audit
from controlpanel.audit.models import REFUSED
from controlpanel.base import database
from controlpanel.tenants import attempts
from engine.errors import PermissionDenied, QuotaExceeded

log = logging.getLogger(__name__)

BURST: Final = 30
EACH_S: Final = 60.0
ACTORS_MAX: Final = 10_000  # that are remembered; beyond it the idle ones are forgotten


@dataclass(slots=True)
class _Allowance:
    left: float
    at: float  # time.monotonic of ``left``
    unrecorded: int = 0
    later: asyncio.TimerHandle | None = None

    def take(self) -> bool:
        now = time.monotonic()
        self.left, self.at = self.left_at(now), now
        if self.left < 1:
            return False
        self.left -= 1
        return True

    def left_at(self, now: float) -> float:
        return min(float(BURST), self.left + (now - self.at) / EACH_S)


_allowances: dict[tuple[int, str], _Allowance] = {}
_writing: set[asyncio.Task[None]] = set()


async def tell(error: BaseException | None, *, what: str = "") -> None:
    """Record the refusal of what this request tries, unless it has its record. ``what``: the object, as the request has it; ``error`` None:
    the page that was answered tells of it."""
    attempt = attempts.current()
    if attempt is None or attempt.told or not (error is None or isinstance(error, PermissionDenied | QuotaExceeded)):
        return
    attempt.told = True
    await tell_of(attempt.actor, attempt.verb, what, error)


async def tell_of(who: audit.Who, verb: str, what: str, error: BaseException | None) -> None:
    """For a door that refuses before anything is tried. Never raises: the refusal itself must reach the client."""
    allowance = _allowance(who)
    if not allowance.take():
        allowance.unrecorded += 1
        if allowance.later is None:
            loop = asyncio.get_running_loop()
            allowance.later = loop.call_later(EACH_S, _later, who, verb)
        return
    words = audit.words_of(error) if error is not None else {}
    await _write(who, verb, what, words, allowance)


def _later(who: audit.Who, verb: str) -> None:
    allowance = _allowance(who)
    allowance.later = None
    if allowance.unrecorded and allowance.take():
        task = asyncio.ensure_future(_write(who, verb, "", {}, allowance))
        _writing.add(task)
        task.add_done_callback(_writing.discard)


async def stop() -> None:
    """At the end of the process: what is counted is written."""
    for (chain, label), allowance in list(_allowances.items()):
        if allowance.later is not None:
            allowance.later.cancel()
        if allowance.unrecorded:
            await _write(audit.Named(chain, label, "", ""), "refusals", "", {}, allowance)
    _allowances.clear()


async def _write(who: audit.Who, verb: str, what: str, words: dict[str, str], allowance: _Allowance) -> None:
    unrecorded, allowance.unrecorded = allowance.unrecorded, 0
    counted = {"unrecorded": unrecorded} if unrecorded else {}
    try:
        await database.run(lambda: audit.record(who, verb, what, result=REFUSED, **words, **counted))
    except DatabaseError:
        allowance.unrecorded += unrecorded + 1
        log.exception("a refusal of %s to %s is not recorded", verb, who.label)


def _allowance(who: audit.Who) -> _Allowance:
    key = (who.tenant_number, who.label)
    found = _allowances.get(key)
    if found is None:
        if len(_allowances) >= ACTORS_MAX:
            now = time.monotonic()
            for known, each in list(_allowances.items()):
                if each.later is None and each.left_at(now) >= BURST:
                    del _allowances[known]
        found = _allowances[key] = _Allowance(float(BURST), time.monotonic())
    return found
