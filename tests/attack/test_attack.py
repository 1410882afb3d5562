"""The walls hold; each attempt is a real one; docs/security.md tells of the same."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.attack.attempt import PROMISES, listed
from tests.attack.run import all_attempts, run
from tests.support.platform import Platform

needs_a_machine = pytest.mark.requires("root", "overlay", "userns", "cgroup", "nft", "docker")


def test_each_promise_is_tried_in_several_ways() -> None:
    attempts = all_attempts()
    assert len(attempts) >= 60
    counts = Counter(each.promise for each in attempts)
    assert counts.keys() == PROMISES.keys() and min(counts.values()) >= 3
    assert all(each.what and each.wall for each in attempts)


def test_the_docs_have_each_attempt_as_it_is() -> None:
    """``python -m tests.attack --list`` prints the tables."""
    text = (Path(__file__).parents[2] / "docs" / "security.md").read_text()
    attempts = all_attempts()
    for promise in PROMISES:
        assert listed(promise, attempts) in text, f"docs/security.md: the table of ({promise}) is another"
    told = re.findall(r"^\| ([a-z0-9-]+) \|", text, re.MULTILINE)
    assert sorted(told) == sorted(["attempt"] * len(PROMISES) + [each.name for each in attempts])


@needs_a_machine
def test_the_walls_hold(platform: Platform, open_folder: Path) -> None:
    """Those that are cheap, with the walls in their places."""
    text, is_well = run(platform, open_folder, [each for each in all_attempts() if each.quick], control=False)
    assert is_well, text


@pytest.mark.long
@needs_a_machine
@pytest.mark.timeout(3600)
def test_without_its_wall_each_attempt_succeeds(platform: Platform, open_folder: Path) -> None:
    text, is_well = run(platform, open_folder, all_attempts(), control=True)
    assert is_well, text
