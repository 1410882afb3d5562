"""What the commands for tokens and certificates share."""

from __future__ import annotations

import json
from argparse import ArgumentParser, _ActionsContainer
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from controlpanel.accounts.models import Certificate, Token
from controlpanel.accounts.services import user_named
from engine.errors import InvalidArgument, NotFound


def add_options(parser: ArgumentParser, whose: _ActionsContainer | None = None) -> None:
    (whose or parser).add_argument("--user", metavar="USER", help="a member's: it never gives more than the member has")
    parser.add_argument("--role", help="one of the tenant's (role list); the member's, or developer, when left out")
    parser.add_argument("--project", default="", metavar="NAME", help="in this project alone")
    parser.add_argument(
        "--verbs",
        default="",
        metavar="container.view,container.logs",
        help="these alone, of what the role may; container.* is all of a kind",
    )


def words(options: dict[str, Any]) -> dict[str, Any]:
    """For credentials.create_…"""
    return {
        "role": options["role"],
        "project": options["project"],
        "verbs": [word.strip() for word in options["verbs"].split(",") if word.strip()],
        "user": user_named(options["user"]) if options["user"] else None,
    }


def number(rows: Sequence[Token | Certificate], asked: str, noun: str) -> int:
    """Of the one that is meant, by its number or its beginning."""
    found = [row.pk for row in rows if str(row.pk) == asked] or [
        row.pk for row in rows if asked and row.prefix.startswith(asked.rstrip("…"))
    ]
    if len(found) > 1:
        raise InvalidArgument(f"{asked!r} is the beginning of {len(found)} {noun}s: say more of it")
    if not found:
        raise NotFound(f"No such {noun}: {asked}")
    return found[0]


def listed(rows: Sequence[Token | Certificate], *, as_json: bool) -> str:
    if as_json:
        return json.dumps([_fields(row) for row in rows])
    lines = [("NUMBER", "BEGINS", "ROLE", "USER", "ENDS", "LAST USED", "VERBS", "NAME")]
    for row in rows:
        whose = row.user.username if row.user else "–"
        used = f"{_day(row.last_used_at)} {row.last_used_from}".strip() if row.last_used_at else "never"
        ends = "never" if row.expires_at is None else f"{_day(row.expires_at)}{' (over)' if row.is_expired else ''}"
        lines.append(
            (
                str(row.pk),
                row.prefix,
                f"{row.role} at {row.project}" if row.project else row.role,
                whose,
                ends,
                used,
                " ".join(row.verbs) or "all",
                row.name,
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join("  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip() for line in lines)


def _fields(row: Token | Certificate) -> dict[str, Any]:
    moments = {name: _iso(getattr(row, name)) for name in ("created_at", "expires_at", "last_used_at")}
    names = ("prefix", "role", "project", "verbs", "name", "last_used_from")
    return {"id": row.pk, **{name: getattr(row, name) for name in names}, "user": row.user.username if row.user else None, **moments}


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"
