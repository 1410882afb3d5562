"""What a host remembers of audit chains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from workers import witness

A, B, C = "a" * 64, "b" * 64, "c" * 64
HOUR = 3600


def test_an_hour_has_one_line_and_the_next_another(tmp_path: Path) -> None:
    for number, hash, now in ((1, A, HOUR), (2, B, HOUR + 60), (2, B, HOUR + 120), (3, C, 2 * HOUR)):
        assert witness.note(tmp_path, 7, number, hash, now_s=now)
    assert witness.read(tmp_path, 7) == [(HOUR + 60, 2, B), (2 * HOUR, 3, C)]
    assert (tmp_path / "7").stat().st_size == 2 * witness.LINE
    assert witness.chains(tmp_path) == [7] and witness.read(tmp_path, 8) == []


def test_what_was_told_cannot_be_told_otherwise(tmp_path: Path) -> None:
    assert witness.note(tmp_path, 0, 5, A, now_s=HOUR)
    assert not witness.note(tmp_path, 0, 4, B, now_s=HOUR)
    assert not witness.note(tmp_path, 0, 5, B, now_s=5 * HOUR)
    assert witness.read(tmp_path, 0) == [(HOUR, 5, A)]


def test_a_line_that_a_power_loss_left_empty_counts_as_none(tmp_path: Path) -> None:
    witness.note(tmp_path, 1, 1, A, now_s=HOUR)
    with (tmp_path / "1").open("ab") as file:
        file.write(bytes(witness.LINE) + b"half a li")
    assert witness.note(tmp_path, 1, 2, B, now_s=2 * HOUR)
    assert witness.read(tmp_path, 1) == [(HOUR, 1, A), (2 * HOUR, 2, B)]


@pytest.mark.parametrize(
    "head", [("../x", 1, A), (-1, 1, A), (1, 0, A), (1, True, A), (1, 1, "x" * 64), (1, 1, A + "\n"), (1, 1, None), (1, 2**63, A)]
)
def test_what_is_no_head_is_refused(tmp_path: Path, head: tuple[Any, Any, Any]) -> None:
    assert not witness.note(tmp_path, *head, now_s=HOUR)
    assert list(tmp_path.iterdir()) == []
