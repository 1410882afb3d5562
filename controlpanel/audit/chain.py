"""Proving that nobody changed the audit log, nor cut off its end.

A hash chain shows a change, a gap and a record put in between, wherever it was made. It cannot show that its newest records are
missing, nor that somebody who may write the database wrote the whole chain anew. Both show against *anchors*: heads that were
told to a witness who cannot be told otherwise later (hosts.witness; the host's root keeps them).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from django.db.models import Max, QuerySet

from controlpanel.audit.models import GENESIS, Record

_CHUNK: Final = 5000


@dataclass(frozen=True, slots=True)
class Anchor:
    """What the newest record of a chain was at some time."""

    time_s: int
    number: int
    hash: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """``broken``: the first number that is not as it was, 0 of a whole chain; ``why`` in words."""

    records: int
    head: str
    broken: int = 0
    why: str = ""


def verify(tenant_number: int, anchors: Sequence[Anchor] = ()) -> Verdict:
    """Every record of the chain, and each anchor. Some microseconds a record."""
    previous, number = GENESIS, 0
    told = {anchor.number: anchor for anchor in anchors}
    for row in _rows(tenant_number):
        number += 1
        if row.number != number:
            return Verdict(number - 1, previous, number, f"there is no record {number}: {row.number} follows on {number - 1}")
        if row.hash != row.digest(previous):
            return Verdict(number - 1, previous, number, "it says other words, or follows another record, than when it was written")
        if number in told and told[number].hash != row.hash:
            return Verdict(number, row.hash, number, "the witness was told another hash: the chain was written anew")
        previous = row.hash
    if told and max(told) > number:
        return Verdict(number, previous, number + 1, f"the witness was told of {max(told)} records: the end is cut off")
    return Verdict(number, previous)


def first_broken(tenant_number: int) -> int | None:
    """The number of the first record that does not follow from the one before, or None when the chain is whole."""
    return verify(tenant_number).broken or None


def heads(records: QuerySet[Record]) -> dict[int, tuple[int, str]]:
    """Chain → number and hash of the newest of ``records`` in it."""
    newest = dict(records.values_list("tenant_number").annotate(newest=Max("number")).order_by())
    found = {}
    for chain, number in newest.items():
        found[chain] = (number, Record.objects.values_list("hash", flat=True).get(tenant_number=chain, number=number))
    return found


def chains() -> list[int]:
    """The numbers of all of them."""
    return list(Record.objects.values_list("tenant_number", flat=True).distinct().order_by("tenant_number"))


def _rows(tenant_number: int) -> Iterator[Record]:
    """In pieces by number: a reader that holds one statement open for all of them would keep SQLite's log from being cut."""
    after = 0
    while rows := list(Record.objects.filter(tenant_number=tenant_number, number__gt=after).order_by("number")[:_CHUNK]):
        yield from rows
        after = rows[-1].number
