"""The cases of cli.py: those that carry the whole answer are asked of our platform alone, all of them where a reference engine runs."""

from __future__ import annotations

import io
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance import cli
from tests.conformance.case import Case, masked
from tests.conformance.conftest import NEEDS
from tests.conformance.endpoint import Endpoint, Outcome
from tests.support.platform import Platform

# Where reference.sh puts it, unless told otherwise
REFERENCE = Path(os.environ.get("SLIPWAY_REFERENCE", "/tmp/slipway-reference/docker.sock"))
_BUSYBOX = pytest.mark.skipif(shutil.which("busybox") is None, reason="the package busybox-static is missing")
pytestmark = [*NEEDS, _BUSYBOX]

KNOWN = cli.all_cases()
WHOLE = [case for case in KNOWN if case.out is not None and case.code is not None]


@pytest.fixture(scope="module")
def host(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    tenant = platform.tenant("conformance")
    platform.manage("tenant", "policy", tenant, "--allow", "capabilities")  # as dockerd has it
    end = Endpoint(f"unix://{platform.socket(tenant)}", tmp_path_factory.mktemp("host"))
    yield end
    end.clean()


@pytest.mark.parametrize("case", WHOLE, ids=lambda case: case.name)
def test_says_what_dockerd_says(host: Endpoint, case: Case) -> None:
    assert cli.unexpected(case, host.run(case)) == []


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(str(path)) == 0


@pytest.mark.long
@pytest.mark.timeout(7200, func_only=True)
@pytest.mark.skipif(not _answers(REFERENCE), reason=f"no engine answers at {REFERENCE}: tests/conformance/reference.sh up")
def test_every_difference_from_dockerd_has_its_reason(host: Endpoint, tmp_path: Path) -> None:
    told = io.StringIO()
    reasons = cli.explanations(frozenset(case.name for case in KNOWN))
    verdicts = cli.compare(KNOWN, host, Endpoint(f"unix://{REFERENCE}", tmp_path), reasons, told)
    assert [verdict.case.name for verdict in verdicts if verdict.kind in (cli.UNEXPLAINED, cli.STALE)] == [], told.getvalue()


def test_every_reason_is_for_a_case_that_is_there() -> None:
    assert all(each.reason and each.cases for each in cli.explanations(frozenset(case.name for case in KNOWN)))


def test_an_explained_difference_hides_no_other() -> None:
    case = Case("run x", "docker run x")
    reasons = [cli.Explanation(frozenset({"run x"}), "why", "not for tenants")]
    theirs = Outcome(code=0)
    assert cli.judge(case, Outcome(err="not for tenants\n", code=125), theirs, reasons).kind == cli.EXPLAINED
    assert cli.judge(case, Outcome(err="broken pipe\n", code=1), theirs, reasons).kind == cli.UNEXPLAINED
    assert cli.judge(case, theirs, theirs, reasons).kind == cli.STALE
    assert cli.judge(case, Outcome(broken="no"), Outcome(broken="no"), []).kind == cli.UNEXPLAINED


def test_what_differs_between_two_runs_is_masked() -> None:
    case = Case("x", "x", masks=("size",), unordered=True)
    text = f"{'a' * 64}  7B\n2026-01-01T10:00:00.123Z Up 5 seconds 10.0.0.7\n\x1b[6n02:42:ac:11:00:02\r\n"
    assert masked(text, case) == "<id>  <size>\n<mac>\n<time> Up <ago> <ip>\n"
