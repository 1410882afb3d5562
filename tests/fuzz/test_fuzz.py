"""A few hundred requests of a fixed seed with every change; as many as REQUESTS says with ``pytest -m long tests/fuzz``."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

from tests.fuzz import damage, ground, mutation
from tests.fuzz.run import TENANT, Report, fuzz
from tests.fuzz.wire import Answer, Door, Shot, request
from tests.support.platform import Platform

needs_a_machine = pytest.mark.requires("root", "overlay", "userns", "cgroup", "nft", "docker")
REQUESTS, SEED = int(os.environ.get("REQUESTS", "20000")), int(os.environ.get("SEED", "1"))


def _fuzzed(platform: Platform, requests: int, *kinds: str) -> Report:
    unix = Door(f"unix://{platform.socket(TENANT)}")
    with ground.tenant(platform):
        return fuzz(
            platform, ground.sources(platform, kinds, seed=SEED, unix=unix, http=Door(platform.url), each=2), requests=requests, seed=SEED
        )


@needs_a_machine
@pytest.mark.parametrize(("kind", "requests"), [("docker", 400), ("rest", 200), ("pages", 200)])
def test_wrong_requests_get_an_answer_and_leave_nothing(platform: Platform, kind: str, requests: int) -> None:
    report = _fuzzed(platform, requests, kind)
    assert report.is_well, report.text()
    assert report.asked[kind] == requests
    assert sum(count for status, count in report.answers[kind].items() if 200 <= status < 400) > requests / 20, (
        "nothing else is behind the first refusal"
    )


@pytest.mark.long
@pytest.mark.timeout(7200)
@needs_a_machine
def test_many_wrong_requests_at_once(platform: Platform, tmp_path: Path) -> None:
    report = _fuzzed(platform, REQUESTS, *ground.KINDS)
    report.keep(tmp_path)
    assert report.is_well, report.text()


def test_the_same_seed_makes_the_same_requests() -> None:
    def made(seed: int) -> list[Any]:
        chance = random.Random(seed)
        tree = {"Image": "busybox", "HostConfig": {"Memory": 4, "Binds": ["a:/b"]}}
        return [mutation.encoded(mutation.mutated(tree, chance), chance) for _ in range(200)]

    assert made(1) == made(1) != made(2)
    assert len(set(made(1))) > 100


def test_each_damage_can_be_done_to_any_request() -> None:
    whole = request("POST", "/x", b'{"a": 1}', door=Door("unix:///x"))
    for name, damaged in damage.ALL.items():
        assert damaged(whole, random.Random(1)) != whole, name


def test_what_a_finding_is() -> None:
    report, shot = Report(1), Shot("GET /x", b"GET /x HTTP/1.1\r\n\r\n")
    for answer in (Answer(404, b"", 0.1), Answer(501, b"", 0.1)):
        report.note("docker", shot, answer)
    report.note("docker", Shot("GET /x (cut)", b"GE", is_cut=True), Answer(0, b"", 0.1))
    assert report.is_well
    for answer in (
        Answer(0, b"", 0.1),
        Answer(500, b"", 0.1),
        Answer(0, b"", 30.0, timed_out=True),
        Answer(200, b"... Traceback (most recent call last)", 0.1),
    ):
        report.note("docker", shot, answer)
    assert [finding.what for finding in report.findings] == [
        "the connection ended without an answer",
        "500",
        "no answer within 30 s",
        "200, and tells of a fault of ours",
    ]
    assert "| docker | 7 |" in report.text()
