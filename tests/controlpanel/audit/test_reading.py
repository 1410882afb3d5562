"""The audit log read by REST and pages: search, export, and who may."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from django.test import AsyncClient

from controlpanel.audit import services as audit
from controlpanel.base import database
from controlpanel.hosts import operations, queries
from controlpanel.tenants.actor import Door, command_line

pytestmark = pytest.mark.usefixtures("web")
API = "/api/v1/tenants/acme/audit"


async def browser(people: Any, name: str) -> AsyncClient:
    made = AsyncClient()
    await made.aforce_login(getattr(people, name))
    return made


@pytest.fixture
async def log(people: Any) -> None:
    """Five records of acme, one of umbrella."""

    def write() -> None:
        alice, root = people.actor(people.alice), command_line(people.acme)
        audit.record(alice, "container.start", "web")
        audit.outcome(1, alice, "container.start", "web", OSError("no disk"))
        audit.record(root, "container.stop", "shop")
        audit.record(root, "image.pull", '=HYPERLINK("http://x")', note="@x")
        operations.begin(alice, queries.local_host(), verb="volume.create", object="data", task="x", key="x", payload={})
        audit.record(command_line(people.umbrella), "container.start", "theirs")

    await database.run(write)


async def body(answer: Any) -> bytes:
    assert answer.status_code == 200, answer.content
    return b"".join([part async for part in answer.streaming_content])


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("", [5, 4, 3, 2, 1]),
        ("who=ALI", [5, 2, 1]),
        ("verb=container.", [3, 2, 1]),
        ("verb=container.start", [2, 1]),
        ("object=hop", [3]),
        (f"door={Door.CLI}", [4, 3]),
        ("result=failed", [2]),
        ("result=done", [5, 4, 3]),
        ("since=2100-01-01", []),
        ("until=2100-01-01T00:00Z&limit=2", [5, 4]),
        ("before=3", [2, 1]),
    ],
)
async def test_a_search_finds_what_is_like_it(people: Any, log: None, query: str, numbers: list[int]) -> None:
    answer = await (await browser(people, "alice")).get(f"{API}?{query}")
    assert answer.status_code == 200, answer.content
    assert [row["number"] for row in answer.json()] == numbers


async def test_an_act_shows_what_came_of_it(people: Any, log: None) -> None:
    rows = (await (await browser(people, "alice")).get(API)).json()
    assert [row["result"] for row in rows] == ["queued", "done", "done", "failed", "failed"]
    page = (await (await browser(people, "alice")).get("/t/acme/audit/")).content.decode()
    assert "no disk" in page and "about no. 1" in page and "theirs" not in page and "=HYPERLINK(&quot;" in page


@pytest.mark.parametrize("query", ["since=yesterday", "result=perhaps", "until=99999-01-01"])
async def test_words_that_mean_nothing_are_refused(people: Any, log: None, query: str) -> None:
    alice = await browser(people, "alice")
    assert (await alice.get(f"{API}?{query}")).status_code == 400
    assert 'class="alert alert-danger"' in (await alice.get(f"/t/acme/audit/?{query}")).content.decode()


async def test_both_exports_have_all_of_it_and_no_formula(people: Any, log: None) -> None:
    alice = await browser(people, "alice")
    lines = [json.loads(line) for line in (await body(await alice.get(f"{API}/export"))).splitlines()]
    assert [row["number"] for row in lines] == [1, 2, 3, 4, 5, 6] and lines[3]["object"] == '=HYPERLINK("http://x")'
    rows = list(csv.DictReader(io.StringIO((await body(await alice.get("/t/acme/audit/export?format=csv&verb=image.pull"))).decode())))
    assert [row["object"] for row in rows] == ['\'=HYPERLINK("http://x")'] and rows[0]["tenant"] == "acme"
    assert (await alice.get(f"{API}/export?format=xls")).status_code == 400
    newest = (await alice.get(f"{API}?limit=2")).json()
    assert [row["verb"] for row in newest] == ["audit.export", "audit.export"]


async def test_admins_of_the_tenant_and_operators_read_and_nobody_else(people: Any, log: None) -> None:
    bob, charlie, operator = await browser(people, "bob"), await browser(people, "charlie"), await browser(people, "operator")
    for path in (API, f"{API}/export", "/t/acme/audit/", "/t/acme/audit/export"):
        assert (await bob.get(path)).status_code == 403, path
        assert (await charlie.get(path)).status_code == 404, path
        assert (await operator.get(path)).status_code == 404, path
    for path in ("/api/v1/audit", "/api/v1/audit/export", "/platform/audit/", "/platform/audit/export", "/platform/"):
        for stranger in (bob, charlie, await browser(people, "alice")):
            assert (await stranger.get(path)).status_code == 403, path
        assert (await operator.get(path)).status_code == 200, path
    assert {row["tenant"] for row in (await operator.get("/api/v1/audit")).json()} >= {"acme", "umbrella", ""}
    theirs = (await operator.get("/platform/audit/?tenant=umbrella&who=root")).content.decode()
    assert "theirs" in theirs and "shop" not in theirs
    assert (await operator.get("/platform/audit/?tenant=nobody")).status_code == 404
