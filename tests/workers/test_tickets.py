from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import PermissionDenied, Unavailable
from workers import tickets

KEY = b"k" * 64


def test_a_ticket_is_good_for_what_it_says() -> None:
    tickets.check(KEY, tickets.sign(KEY, "attach", "acme", "1f"), "attach", "acme", "1f")


@pytest.mark.parametrize("words", [("logs", "acme", "1f"), ("attach", "other", "1f"), ("attach", "acme", "2f"), ("attach", "", "acme1f")])
def test_a_ticket_is_good_for_nothing_else(words: tuple[str, str, str]) -> None:
    with pytest.raises(PermissionDenied):
        tickets.check(KEY, tickets.sign(KEY, "attach", "acme", "1f"), *words)


def test_words_cannot_move_from_one_member_to_the_next() -> None:
    with pytest.raises(PermissionDenied):
        tickets.check(KEY, tickets.sign(KEY, "attach", "acme", "1f"), "attach", "acme1", "f")


def test_a_ticket_ends_after_a_minute() -> None:
    ticket = tickets.sign(KEY, "attach", "acme", "1f", now=1000)
    tickets.check(KEY, ticket, "attach", "acme", "1f", now=1000 + tickets.LIFETIME_S)
    with pytest.raises(PermissionDenied, match="too old"):
        tickets.check(KEY, ticket, "attach", "acme", "1f", now=1001 + tickets.LIFETIME_S)


@pytest.mark.parametrize("ticket", ["", ".", "zz.00", "ffffffff", "ffffffff.", "-1.aa", "é.é"])
def test_what_is_no_ticket_is_refused(ticket: str) -> None:
    with pytest.raises(PermissionDenied):
        tickets.check(KEY, ticket, "attach", "acme", "1f")


def test_another_key_makes_other_tickets() -> None:
    with pytest.raises(PermissionDenied):
        tickets.check(b"x" * 64, tickets.sign(KEY, "attach", "acme", "1f"), "attach", "acme", "1f")


def test_a_missing_or_short_key_is_said(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"ticket\.key"):
        tickets.read_key(tmp_path)
    (tmp_path / "panel").mkdir()
    (tmp_path / "panel" / "ticket.key").write_text("short")
    with pytest.raises(Unavailable, match="too short"):
        tickets.read_key(tmp_path)
