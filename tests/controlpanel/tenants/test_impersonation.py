"""An operator acts as a member: announced, bounded, recorded; and nobody else does."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from django.test import AsyncClient
from django.utils import timezone

from controlpanel.audit.models import Record
from controlpanel.base import database
from controlpanel.tenants import impersonation
from controlpanel.tenants.models import Impersonation

pytestmark = pytest.mark.usefixtures("web", "image")
FORM = {"member": "bob", "minutes": "15", "reason": "ticket 4711"}
API = "/api/v1/tenants/acme"
JSON = "application/json"


async def browser(people: Any, name: str) -> AsyncClient:
    made = AsyncClient()
    answer = await made.post("/accounts/login/", {"login": name, "password": f"{name}-has-a-password"})
    assert answer.status_code == 302, answer.content
    return made


async def visiting(people: Any, **words: str) -> AsyncClient:
    operator = await browser(people, "operator")
    answer = await operator.post("/platform/visit/acme", {**FORM, **words})
    assert answer.status_code == 302 and answer["Location"] == "/t/acme/", answer.content
    return operator


async def told(people: Any) -> list[tuple[str, str, str]]:
    rows = await database.read(lambda: list(Record.objects.for_tenant(people.acme.pk).reverse()))
    return [(row.actor, row.verb, row.object) for row in rows]


async def test_a_visit_is_announced_and_each_act_has_both_names(people: Any, host: Any) -> None:
    operator = await browser(people, "operator")
    assert (await operator.get("/t/acme/")).status_code == 404
    operator = await visiting(people)
    page = (await operator.get("/t/acme/")).content.decode()
    assert 'class="visit"' in page and "<strong>bob</strong>" in page
    made = await operator.post(f"{API}/networks", {"name": "n"}, content_type=JSON)
    assert made.status_code == 201, made.content
    assert (await operator.post("/platform/visit/end")).status_code == 302
    assert (await operator.get("/t/acme/")).status_code == 404
    assert await told(people) == [
        ("operator", "impersonation.start", "bob"),
        ("operator as bob", "network.create", "n"),
        ("operator", "impersonation.end", "bob"),
    ]
    start = await database.read(lambda: Record.objects.get(verb="impersonation.start"))
    assert start.detail["reason"] == "ticket 4711" and start.detail["until"]


async def test_a_browser_left_open_visits_nobody(people: Any) -> None:
    operator = await browser(people, "operator")
    session = await operator.asession()
    [record] = await session.aget("account_authentication_methods")
    await session.aset("account_authentication_methods", [{**record, "at": time.time() - 601}])
    await session.asave()
    answer = await operator.post("/platform/visit/acme", FORM)
    assert answer.status_code == 302 and answer["Location"].startswith("/accounts/reauthenticate/"), answer.content
    assert await told(people) == []


async def test_the_members_role_holds_and_nothing_that_would_outlast_the_visit(people: Any, host: Any) -> None:
    viewing = await visiting(people, member="victor")
    assert (await viewing.post(f"{API}/networks", {"name": "n"}, content_type=JSON)).status_code == 403
    owning = await visiting(people, member="alice")
    for method, path, words in (
        ("post", f"{API}/tokens", {"name": "back door"}),
        ("put", f"{API}/members/operator", {"role": "owner"}),
        ("delete", f"{API}/members/bob", None),
    ):
        answer = await getattr(owning, method)(path, words, content_type=JSON) if words else await getattr(owning, method)(path)
        assert answer.status_code == 403 and answer.json()["error"]["detail"] == {"rule": "impersonation"}, path
    assert "/settings/tokens" not in (await owning.get("/t/acme/settings/")).content.decode()
    assert ("operator as alice", "token.create", f"{API}/tokens") in await told(people)  # the refusal
    assert (await owning.get("/t/umbrella/")).status_code == 404


async def test_it_ends_by_itself_by_a_logout_and_with_its_conditions(people: Any) -> None:
    operator = await visiting(people)
    await Impersonation.everywhere.aupdate(ends_at=timezone.now() - timedelta(seconds=1))
    assert (await operator.get("/t/acme/")).status_code == 404
    assert await database.read(impersonation.expire) == 1 and await database.read(impersonation.expire) == 0
    assert (await told(people))[-1] == ("slipway", "impersonation.end", "bob")

    operator = await visiting(people)
    await operator.post("/accounts/logout/")
    assert (await told(people))[-1] == ("operator", "impersonation.end", "bob")
    assert not await Impersonation.everywhere.filter(ended_at=None).aexists()

    operator = await visiting(people)
    people.operator.is_superuser = False
    await people.operator.asave()
    assert (await operator.get("/t/acme/")).status_code == 404


async def test_a_second_visit_ends_the_first(people: Any) -> None:
    operator = await visiting(people)
    await operator.post("/platform/visit/umbrella", {**FORM, "member": "charlie"})
    assert (await operator.get("/t/acme/")).status_code == 404
    assert (await operator.get("/t/umbrella/")).status_code == 200
    assert (await told(people))[-1] == ("operator", "impersonation.end", "bob")


@pytest.mark.parametrize("who", ["alice", "bob", "charlie"])
async def test_nobody_but_an_operator_visits(people: Any, who: str) -> None:
    somebody = await browser(people, who)
    for answer in (await somebody.get("/platform/visit/acme"), await somebody.post("/platform/visit/acme", FORM)):
        assert answer.status_code == 403
    row = await Impersonation.everywhere.acreate(
        operator=people.operator, tenant=people.acme, member=people.alice, ends_at=timezone.now() + timedelta(minutes=5)
    )
    session = await somebody.asession()
    await session.aset(impersonation.SESSION_KEY, row.pk)  # and a forged session does not help
    await session.asave()
    page = await somebody.get("/t/acme/settings/")
    assert page.status_code == (404 if who == "charlie" else 200) and b'class="visit"' not in page.content


_WRONG = [{"reason": " "}, {"minutes": "61"}, {"minutes": "x"}, {"member": "charlie"}, {"member": "operator"}, {"member": "x"}]


@pytest.mark.parametrize("words", _WRONG)
async def test_what_makes_no_visit_is_told_in_the_form(people: Any, words: dict[str, str]) -> None:
    operator = await browser(people, "operator")
    answer = await operator.post("/platform/visit/acme", {**FORM, **words})
    assert answer.status_code in (400, 404) and b"alert-danger" in answer.content
    assert not await Impersonation.everywhere.aexists() and await told(people) == []
