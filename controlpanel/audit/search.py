"""Finding records, and what came of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from django.db.models import Exists, OuterRef, QuerySet

from controlpanel.audit.models import BEGUN, DONE, DONE_AT_ONCE, FAILED, REFUSED, Record
from engine.errors import InvalidArgument

DOORS: Final = ("panel", "api", "tls", "registry", "socket", "cli", "system")  # tenants.actor.Door
RESULTS: Final = (DONE, FAILED, REFUSED)
CHUNK: Final = 1000


@dataclass(frozen=True, slots=True)
class Search:
    """Empty words ask for nothing. ``who`` and ``object`` are parts of what is there; ``verb`` is the whole or, with a dot at its end, its
    beginning (``container.``). Times are in ns, of which ``until_ns`` is no more within."""

    who: str = ""
    verb: str = ""
    object: str = ""
    door: str = ""
    result: str = ""
    since_ns: int = 0
    until_ns: int = 0


def find(search: Search, chain: int | None) -> QuerySet[Record]:
    """Of one chain, or (None) of all; in no order yet."""
    found = Record.objects.all() if chain is None else Record.objects.filter(tenant_number=chain)
    if search.who:
        found = found.filter(actor__icontains=search.who)
    if search.verb:
        found = found.filter(verb__startswith=search.verb) if search.verb.endswith(".") else found.filter(verb=search.verb)
    if search.object:
        found = found.filter(object__icontains=search.object)
    if search.door:
        found = found.filter(door=search.door)
    if search.since_ns:
        found = found.filter(time_ns__gte=search.since_ns)
    if search.until_ns:
        found = found.filter(time_ns__lt=search.until_ns)
    if search.result in (FAILED, REFUSED):
        found = found.filter(result=search.result)
    elif search.result == DONE:
        later = Record.objects.filter(tenant_number=OuterRef("tenant_number"), about=OuterRef("number"), about__gt=0)
        found = found.filter(result__in=(DONE_AT_ONCE, DONE)).exclude(Exists(later.filter(result__in=(FAILED, REFUSED))))
    return found


def page(search: Search, chain: int | None, *, before: int = 0, limit: int = 100) -> list[Record]:
    """Newest first, from ``before`` down: a number of the chain, or of all chains the key of a row."""
    order = "pk" if chain is None else "number"
    found = find(search, chain)
    if before:
        found = found.filter(**{f"{order}__lt": before})
    return list(found.order_by(f"-{order}")[:limit])


def everything(search: Search, chain: int | None) -> Iterator[list[Record]]:
    """All of it, oldest first, in pieces."""
    order, after = "pk" if chain is None else "number", 0
    while rows := list(find(search, chain).filter(**{f"{order}__gt": after}).order_by(order)[:CHUNK]):
        yield rows
        after = getattr(rows[-1], order)


def results(records: Sequence[Record]) -> dict[int, str]:
    """Key of the row → what came of it. "begun" of a stream whose end nobody told."""
    shown = {row.pk: row.result or DONE for row in records}
    by_chain: dict[int, dict[int, int]] = {}
    for row in records:
        if row.result in (DONE_AT_ONCE, BEGUN):
            by_chain.setdefault(row.tenant_number, {})[row.number] = row.pk
    for chain, numbers in by_chain.items():
        outcomes = Record.objects.filter(tenant_number=chain, about__in=list(numbers)).values_list("about", "result")
        shown.update({numbers[about]: result for about, result in outcomes})
    return shown


def read(words: Mapping[str, str]) -> Search:
    """From a query's words, named as the members but ``since`` and ``until``, which are ISO 8601, in UTC unless they say otherwise."""
    result = words.get("result", "")
    if result and result not in RESULTS:
        raise InvalidArgument(f"result {result[:20]!r} is none of {', '.join(RESULTS)}")
    plain = {name: words.get(name, "").strip()[:300] for name in ("who", "verb", "object", "door")}
    return Search(**plain, result=result, since_ns=_time(words, "since"), until_ns=_time(words, "until"))


def _time(words: Mapping[str, str], name: str) -> int:
    text = words.get(name, "").strip()
    if not text:
        return 0
    try:
        moment = datetime.fromisoformat(text)
        return int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()) * 10**9
    except (ValueError, OverflowError):
        raise InvalidArgument(f"{name} {text[:40]!r} is no time: write 2026-11-30 or 2026-11-30T18:00Z") from None
