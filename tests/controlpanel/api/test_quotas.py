"""Quotas by REST and on pages: use against limit, projects, who may change what."""

from __future__ import annotations

import time
from typing import Any

import pytest

from controlpanel.base import database
from controlpanel.builds.models import DAY_NS, Build, seconds_today
from controlpanel.images import charged
from controlpanel.images.models import Image
from controlpanel.tenants import services
from controlpanel.tenants.actor import command_line
from engine.errors import QuotaExceeded
from tests.controlpanel.api.test_rest import JSON, T, client, code_of, create

pytestmark = pytest.mark.usefixtures("web", "image")
SHOP = {"com.docker.compose.project": "shop"}


async def limit(people: Any, **limits: int) -> None:
    await database.run(lambda: services.change_limits(command_line(), people.acme, **limits))


async def test_use_and_limit_of_every_resource(people: Any, host: Any) -> None:
    await limit(people, containers_max=1)
    victor = await client(people, "victor")
    await create(await client(people, "alice"), name="web", memory="64m", start=True)
    found = {each["resource"]: each for each in (await victor.get(f"{T}/quota")).json()}
    assert found["containers"] == {"resource": "containers", "unit": "", "limit": 1, "used": 1, "state": "full"}
    assert (found["memory"]["used"], found["memory"]["unit"]) == (64 << 20, "bytes")
    assert found["logs"]["used"] is None  # no host tells
    assert len(found) == 16
    page = (await victor.get("/t/acme/settings/")).content.decode()
    assert "used up" in page and "Memory promised" in page
    overview = (await victor.get("/t/acme/")).content.decode()
    assert '<meter class="meter" min="0" low="0" high="0" optimum="0" max="1" value="1" aria-label="Containers">' in overview


async def test_projects_are_listed_filtered_and_limited(people: Any, host: Any) -> None:
    alice, bob = await client(people, "alice"), await client(people, "bob")
    await create(bob, name="web", labels=SHOP)
    await create(bob, name="other")
    assert [each["name"] for each in (await bob.get(f"{T}/projects")).json()] == ["shop"]
    assert [(each["name"], each["project"]) for each in (await bob.get(f"{T}/containers?project=shop")).json()] == [("web", "shop")]
    page = (await bob.get("/t/acme/containers/?project=shop")).content.decode()
    assert 'data-id="' in page or ">web<" in page
    assert ">other<" not in page and "<option selected>shop</option>" in page
    assert code_of(await bob.put(f"{T}/projects/shop/quota", {"containers_max": 1}, content_type=JSON)) == (403, "permission_denied")
    changed = await alice.put(f"{T}/projects/shop/quota", {"containers_max": 1}, content_type=JSON)
    assert (changed.status_code, changed.json()["containers_max"]) == (200, 1)
    refused = await create(bob, labels=SHOP)
    assert refused.json()["error"]["detail"] == {"rule": "quota.containers", "limit": 1, "used": 1, "asked": 1}
    detail = (await bob.get(f"{T}/projects/shop")).json()
    assert {each["resource"]: each["state"] for each in detail["use"]}["containers"] == "full"
    assert code_of(await (await client(people, "charlie")).get(f"{T}/projects/shop")) == (404, "not_found")
    assert code_of(await bob.get(f"{T}/projects/none")) == (404, "not_found")
    for words in ({"memory_bytes": 1 << 63}, {"volumes_max": 1 << 31}):
        assert code_of(await alice.put(f"{T}/projects/shop/quota", words, content_type=JSON)) == (400, "invalid_argument")
    gone = await alice.put(f"{T}/projects/empty/quota", {"containers_max": 0}, content_type=JSON)
    assert gone.status_code == 204


async def test_layers_of_a_tenants_images_count_once_and_those_of_everybody_not(people: Any, image: Any) -> None:
    chains, sizes = ["cd" * 32, "aa" * 32, "bb" * 32], [2_000_000, 300, 50]

    def make() -> None:
        for number, count in ((1, 2), (2, 3)):
            Image.everywhere.create(
                tenant=people.acme,
                image_id=f"sha256:{number:064x}",
                config={},
                chain_ids=chains[:count],
                layer_bytes=sizes[:count],
                size_bytes=sum(sizes[:count]),
            )

    await database.run(make)
    assert await database.read(charged.image_bytes, people.acme.pk) == 350
    await limit(people, image_bytes=351)
    await database.run(charged.check_room, people.acme)
    await limit(people, image_bytes=350)
    with pytest.raises(QuotaExceeded, match="images is limited to 350 bytes, 350 are in use"):
        await database.run(charged.check_room, people.acme)


async def test_builds_take_minutes_of_the_day_they_run_in(people: Any) -> None:
    now = time.time_ns()
    midnight, minute = now - now % DAY_NS, 60 * 1_000_000_000

    def make(number: int, began: int, ended: int) -> None:
        state = Build.DONE if ended else Build.RUNNING
        Build.everywhere.create(
            tenant=people.acme, build_id=f"{number:032x}", actor="x", door="x", state=state, began_ns=began, ended_ns=ended
        )

    await database.run(make, 1, midnight - 10 * minute, midnight - 5 * minute)  # yesterday's
    await database.run(make, 2, midnight - 10 * minute, midnight + minute)  # a minute of today
    before = await database.read(seconds_today, people.acme.pk)
    await database.run(make, 3, now - minute, 0)
    assert before == 60
    assert 118 <= await database.read(seconds_today, people.acme.pk) <= 125 or now - midnight < minute
