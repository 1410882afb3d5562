"""Traffic by month: told twice it is counted once, and everybody sees their own."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.test import AsyncClient

from controlpanel.base import database
from controlpanel.events import ingest
from controlpanel.metrics import traffic
from controlpanel.metrics.models import ContainerTraffic
from controlpanel.metrics.traffic import Month
from engine.model.codec import to_json
from engine.model.event import Event, EventKind
from engine.model.traffic import Counts, Traffic, month_of

THIS = month_of(time.time())
pytestmark = pytest.mark.usefixtures("web")


def counts(number: int) -> Counts:
    return Counts(into_bytes=1000 * number, into_packets=number, out_bytes=10 * number, out_packets=number)


async def tell(month: str = THIS, book: str = "one", *, time_ns: int = 0, containers: dict[str, int], **tenants: int) -> bool:
    """As the panel's worker is told it."""
    sums = Traffic(
        book=book,
        month=month,
        tenants={name: counts(number) for name, number in tenants.items()},
        containers={name: counts(number) for name, number in containers.items()},
    )
    kind, moment = EventKind.TRAFFIC_COUNTED, time_ns or time.time_ns()
    return await database.run(
        ingest.apply, to_json(Event(kind=kind, tenant="", object_id=book, seq=0, time_ns=moment, state=to_json(sums)))
    )


async def test_sums_are_told_again_and_again_and_by_another_book(people: Any, container: Any) -> None:
    web = container.engine_id
    alice = await database.read(people.actor, people.alice)
    charlie = await database.read(people.actor, people.charlie, people.umbrella)
    assert await tell(containers={web: 2, "aa" * 32: 1}, acme=3, umbrella=9, nobody=1)
    assert not await tell(containers={web: 2, "aa" * 32: 1}, acme=3, umbrella=9)
    assert await tell(containers={web: 5}, acme=7)
    assert not await tell(containers={web: 4}, acme=6)
    assert await tell("2026-01", containers={web: 1}, acme=1)
    assert await tell(book="two", containers={web: 1}, acme=1)
    assert not await tell(time_ns=1, containers={}, acme=50)  # of another tenant that had the name
    assert await database.read(traffic.of_tenant, alice) == [Month(THIS, counts(8)), Month("2026-01", counts(1))]
    assert await database.read(traffic.of_container, alice, web) == [Month(THIS, counts(6)), Month("2026-01", counts(1))]
    assert await database.read(traffic.of_tenant, charlie) == [Month(THIS, counts(9))]
    assert await database.read(traffic.of_container, charlie, web) == [Month(THIS, Counts())]
    await database.run(traffic.tidy)
    assert await database.read(ContainerTraffic.everywhere.count) == 3
    await database.run(container.delete)
    await database.run(traffic.tidy)
    assert not await database.read(ContainerTraffic.everywhere.exists)
    assert await database.read(traffic.of_tenant, alice) == [Month(THIS, counts(8)), Month("2026-01", counts(1))]


async def test_pages_and_rest_show_it_to_members(people: Any, container: Any) -> None:
    await tell(containers={container.engine_id: 2}, acme=3)
    people.acme.bandwidth_in = 12_500_000
    await people.acme.asave()
    browser, stranger = AsyncClient(), AsyncClient()
    await browser.aforce_login(people.victor)
    await stranger.aforce_login(people.charlie)
    for path, number in (("containers/web/stats", 2), ("", 3)):
        page = (await browser.get(f"/t/acme/{path}")).content.decode()
        assert f">{THIS} <" in page and f'<td class="num hide-small">{number}</td>' in page
    assert "At most 12500kB a second come in." in page and "go out" not in page
    for path, number in (("containers/web/traffic", 2), ("traffic", 3)):
        answer = await browser.get(f"/api/v1/tenants/acme/{path}")
        assert answer.json() == [{"month": THIS, **to_json(counts(number))}]
        assert (await stranger.get(f"/api/v1/tenants/acme/{path}")).status_code == 404
