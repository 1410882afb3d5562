"""Query words, as a real dockerd reads them."""

from __future__ import annotations

import pytest

from controlpanel.dockerapi import words
from engine.errors import InvalidArgument


@pytest.mark.parametrize(
    ("text", "value"),
    [("", False), ("0", False), ("no", False), ("False", False), ("none", False), ("1", True), ("true", True), ("yes", True), ("x", True)],
)
def test_boolean_is_true_unless_it_says_no(text: str, value: bool) -> None:
    assert words.boolean(text) is value


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("", 0),
        ("0", 0),
        ("12", 12_000_000_000),
        ("12.5", 12_500_000_000),
        ("1136073600.000000001", 1_136_073_600_000_000_001),
        ("2026-01-02T03:04:05Z", 1_767_323_045_000_000_000),
        ("2026-01-02T03:04:05.5+01:00", 1_767_319_445_500_000_000),
    ],
)
def test_times_are_unix_or_rfc3339(text: str, ns: int) -> None:
    assert words.time_ns(text) == ns


def test_wrong_time_is_the_clients_mistake() -> None:
    with pytest.raises(InvalidArgument, match="invalid syntax"):
        words.time_ns("yesterday")


def test_filters_come_in_two_spellings() -> None:
    assert words.filters('{"name": ["a", "b"]}', ["name"]) == {"name": ["a", "b"]}
    assert words.filters('{"name": {"a": true, "b": false}}', ["name"]) == {"name": ["a"]}
    assert words.filters("", ["name"]) == {}


@pytest.mark.parametrize("text", ["x", "[]", '{"name": 5}', '{"name": [5]}', "5"])
def test_filter_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid filter"):
        words.filters(text, ["name"])


def test_unknown_filter_is_named() -> None:
    with pytest.raises(InvalidArgument, match=r"^invalid filter 'bogus'$"):
        words.filters('{"bogus": ["x"]}', ["name"])


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0001-01-01T00:00:00Z"),
        (1_000_000_000, "1970-01-01T00:00:01Z"),
        (1_767_323_045_120_000_000, "2026-01-02T03:04:05.12Z"),
        (1_767_323_045_000_000_009, "2026-01-02T03:04:05.000000009Z"),
    ],
)
def test_times_are_printed_as_go_prints_them(ns: int, text: str) -> None:
    assert words.rfc3339(ns) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (3599, "59 minutes"),
        (121, "2 minutes"),
        (3600 * 47, "47 hours"),
        (3600 * 24 * 13, "13 days"),
        (3600 * 24 * 30, "4 weeks"),
        (3600 * 24 * 90, "3 months"),
        (3600 * 24 * 365 * 3, "3 years"),
    ],
)
def test_durations_read_as_docker_ps_shows_them(seconds: float, text: str) -> None:
    assert words.human_duration(seconds) == text
