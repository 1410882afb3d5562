"""Records for other programs: JSON lines, with all that a chain is made of, and CSV for a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from controlpanel.audit import search
from controlpanel.audit.models import Record

NAMES: Final = ("tenant", "number", "time", "actor", "door", "address", "verb", "object", "result", "about", "detail", "hash")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # and their full-width sisters
TYPES: Final = {"jsonl": "application/x-ndjson", "csv": "text/csv; charset=utf-8"}


def lines(records: Iterable[list[Record]], tenants: dict[int, str]) -> Iterator[bytes]:
    for rows in records:
        yield b"".join(orjson.dumps(shown(row, tenants), option=orjson.OPT_APPEND_NEWLINE) for row in rows)


def table(records: Iterable[list[Record]], tenants: dict[int, str]) -> Iterator[bytes]:
    """RFC 4180. A cell that a spreadsheet would take for a formula gets an apostrophe before it (OWASP, CSV injection)."""
    yield _csv([NAMES])
    for rows in records:
        yield _csv([[_cell(value) for value in shown(row, tenants).values()] for row in rows])


FORMATS: Final[dict[str, Callable[[Iterable[list[Record]], dict[int, str]], Iterator[bytes]]]] = {"jsonl": lines, "csv": table}


def shown(row: Record, tenants: dict[int, str]) -> dict[str, Any]:
    """``tenants``: number → name of those there are; one that was deleted is its number, the platform is "". Members as NAMES."""
    return {
        "tenant": tenants.get(row.tenant_number, f"#{row.tenant_number}") if row.tenant_number else "",
        "number": row.number,
        "time": datetime.fromtimestamp(row.time_ns / 1e9, UTC).isoformat(timespec="microseconds"),
        "actor": row.actor,
        "door": row.door,
        "address": row.address,
        "verb": row.verb,
        "object": row.object,
        "result": row.result or search.DONE,
        "about": row.about,
        "detail": row.detail,
        "hash": row.hash,
    }


def _cell(value: Any) -> str | int:
    if isinstance(value, int):
        return value
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return f"'{text}" if text.startswith(_FORMULA) else text


def _csv(rows: Iterable[Iterable[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()
