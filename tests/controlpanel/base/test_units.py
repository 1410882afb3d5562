"""Sizes, CPUs and durations as people type them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from controlpanel.base import units
from engine.errors import InvalidArgument


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("512", 512),
        ("1k", 1024),
        ("512m", 512 << 20),
        ("1.5g", 1536 << 20),
        ("2GB", 2 << 30),
        ("2 GiB", 2 << 30),
        ("1T", 1 << 40),
    ],
)
def test_sizes(text: str, count: int) -> None:
    assert units.parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "-1", "x", "1x", "1 2", "1e9", "nan", "٣"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid size"):
        units.parse_bytes(text)


def test_cpus() -> None:
    assert units.parse_nano_cpus("1.5") == 1_500_000_000
    for text in ("-1", "many", "nan", "inf", ""):
        with pytest.raises(InvalidArgument, match="invalid number of CPUs"):
            units.parse_nano_cpus(text)


def test_durations() -> None:
    assert units.parse_lifetime("30d") == timedelta(days=30)
    assert units.parse_lifetime("90m") == timedelta(minutes=90)
    assert units.parse_lifetime("") is None
    for text in ("0d", "1", "d", "-1d", "999999999w", "1.5d"):
        with pytest.raises(InvalidArgument, match="invalid duration"):
            units.parse_lifetime(text)


def test_sizes_in_words() -> None:
    assert [units.show_bytes(count) for count in (0, 1023, 1536, 512 << 20, 3 << 40)] == ["0 B", "1023 B", "1.5 KiB", "512 MiB", "3 TiB"]
