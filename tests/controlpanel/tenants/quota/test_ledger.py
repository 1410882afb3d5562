"""The ledger: what is admitted, what counts from when to when, what is said; by containers, networks and volumes as users make them."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from django.db import connection

from controlpanel.audit.models import Record
from controlpanel.base import database
from controlpanel.containers import publishing, services, updating
from controlpanel.containers.models import Container
from controlpanel.events import log
from controlpanel.hosts.models import Operation
from controlpanel.networks import services as networks
from controlpanel.tenants import credentials, projects
from controlpanel.tenants import services as tenants
from controlpanel.tenants.actor import Role, command_line
from controlpanel.tenants.models import Project
from controlpanel.tenants.quota import ledger
from controlpanel.tenants.quota.resources import BY_NAME, RESOURCES, Use
from controlpanel.volumes import copies
from controlpanel.volumes import services as volumes
from engine.errors import FailedPrecondition, InvalidArgument, PermissionDenied, QuotaExceeded
from tests.controlpanel.conftest import ingest, until

pytestmark = pytest.mark.usefixtures("web", "image")

BODY = {"Image": "busybox", "Cmd": ["true"]}
MIB = 1 << 20


async def alice(people: Any) -> Any:
    return await database.read(people.actor, people.alice)


async def limit(people: Any, **limits: int) -> None:
    await database.run(lambda: tenants.change_limits(command_line(), people.acme, **limits))


def used(people: Any) -> dict[str, int | None]:
    people.acme.refresh_from_db()
    return {use.resource.name: use.used for use in ledger.use_of_tenant(people.acme)}


async def in_use(people: Any, *names: str) -> list[int | None]:
    found = await database.read(used, people)
    return [found[name] for name in names]


def of(project: str) -> dict[str, Any]:
    return {**BODY, "Labels": {"com.docker.compose.project": project}}


async def test_a_refusal_names_resource_limit_used_and_asked(people: Any, host: Any) -> None:
    await limit(people, containers_max=1)
    who = await alice(people)
    await services.create_container(who, BODY, name="one")
    with pytest.raises(QuotaExceeded) as caught:
        await services.create_container(who, BODY, name="two")
    assert caught.value.message == "quota of tenant acme: containers is limited to 1, 1 are in use and 1 more was asked"
    assert caught.value.detail == {"rule": "quota.containers", "limit": 1, "used": 1, "asked": 1}
    await services.remove_container(who, "one")
    await services.create_container(who, BODY, name="two")


async def test_of_many_at_once_as_many_as_there_is_room_for(people: Any, host: Any) -> None:
    await limit(people, containers_max=20)
    who = await alice(people)
    done = await asyncio.gather(*(services.create_container(who, BODY) for _ in range(40)), return_exceptions=True)
    assert [type(each).__name__ for each in done].count("Created") == 20
    assert sum(isinstance(each, QuotaExceeded) for each in done) == 20
    assert await in_use(people, "containers") == [20]


async def test_two_starts_at_once_do_not_share_the_same_room(people: Any, host: Any) -> None:
    """The host has answered neither when the second is admitted."""
    await limit(people, memory_bytes=100 * MIB)
    who = await alice(people)
    for name in ("one", "two"):
        await services.create_container(who, {**BODY, "HostConfig": {"Memory": 60 * MIB}}, name=name)
    done = await asyncio.gather(*(services.start_container(who, name) for name in ("one", "two")), return_exceptions=True)
    assert sorted(type(each).__name__ for each in done) == ["QuotaExceeded", "bool"]
    row = await database.read(Container.everywhere.get, desired="running")
    assert await in_use(people, "memory", "swap") == [60 * MIB, 60 * MIB]
    await ingest(host.exited(row.engine_id))
    assert await in_use(people, "memory", "swap") == [0, 0]


async def test_what_a_container_takes_is_what_it_declares(people: Any, host: Any) -> None:
    who = await alice(people)
    host_config = {
        "Memory": 64 * MIB, "MemorySwap": 96 * MIB, "CpuQuota": 50_000, "PidsLimit": 7, "StorageOpt": {"size": "32m"},
        "PortBindings": {"80/tcp": [{"HostPort": "18080"}, {"HostPort": "18081"}]},
    }  # fmt: skip
    made = await services.create_container(who, {**BODY, "HostConfig": host_config}, name="web")
    names = ("memory", "swap", "cpu", "pids", "ports", "disk", "containers")
    assert await in_use(people, *names) == [0, 0, 0, 0, 0, 32 * MIB, 1]
    await services.start_container(who, "web")
    assert await in_use(people, *names) == [64 * MIB, 32 * MIB, 500_000_000, 7, 2, 32 * MIB, 1]
    await updating.update_container(who, "web", {"PidsLimit": 9, "StorageOpt": {"size": "48m"}})
    assert await in_use(people, "pids", "disk") == [9, 48 * MIB]
    await publishing.publish_ports(who, "web", {"80/tcp": [{"HostPort": "18080"}]})
    assert await in_use(people, "ports") == [1]
    await services.remove_container(who, made.id, force=True)
    assert await in_use(people, *names) == [0] * 7


async def test_growth_is_refused_and_less_is_always_fine(people: Any, host: Any) -> None:
    who = await alice(people)
    await services.create_container(who, {**BODY, "HostConfig": {"Memory": 64 * MIB, "PidsLimit": 10}}, name="web")
    await services.start_container(who, "web")
    await limit(people, memory_bytes=32 * MIB, pids=5, ports_max=1)  # below what is in use: nothing ends
    use = {each.resource.name: each.state for each in await database.read(ledger.use_of_tenant, people.acme)}
    assert (use["memory"], use["pids"], use["containers"]) == ("over", "over", "")
    await updating.update_container(who, "web", {"PidsLimit": 4})
    with pytest.raises(QuotaExceeded, match="pids is limited to 5 processes, 0 are in use and 6 more were asked"):
        await updating.update_container(who, "web", {"PidsLimit": 6})
    await services.create_container(who, {**BODY, "HostConfig": {"PidsLimit": 2}}, name="other")
    with pytest.raises(QuotaExceeded, match="pids is limited to 5 processes, 4 are in use and 2 more were asked"):
        await services.start_container(who, "other")
    with pytest.raises(QuotaExceeded, match="ports is limited to 1, 0 are in use and 2 more"):
        await publishing.publish_ports(who, "web", {"80/tcp": [{"HostPort": "18080"}, {"HostPort": "18081"}]})
    assert await in_use(people, "ports", "pids") == [0, 4]


async def test_a_volume_counts_while_the_host_is_asked_and_no_longer_when_it_refuses(people: Any, host: Any) -> None:
    await limit(people, volumes_max=1)
    who = await alice(people)
    host.silent.add("slipway.volume.create")
    waiting = asyncio.ensure_future(volumes.create(who, "data"))
    await until(lambda: bool(host.asked) and host.asked[-1][0] == "slipway.volume.create")
    assert await in_use(people, "volumes") == [1]
    with pytest.raises(QuotaExceeded, match="volumes is limited to 1, 1 are in use"):
        await volumes.create(who, "more")
    with pytest.raises(QuotaExceeded, match="volumes is limited to 1, 1 are in use"):
        await services.create_container(who, {**BODY, "HostConfig": {"Binds": ["named:/data"]}})
    waiting.cancel()
    operation = await database.read(Operation.everywhere.get, task="slipway.volume.create")
    await database.run(services.operations.settle, operation, {"error": InvalidArgument("no").to_json()})
    assert await in_use(people, "volumes") == [0]


async def test_with_a_quota_of_disk_everything_has_a_size(people: Any, host: Any) -> None:
    await limit(people, disk_bytes=1024 * MIB)
    who = await alice(people)
    host.on["create"] = lambda payload: (
        {"volume": {**payload["volume"], "created_ns": time.time_ns()}} if "volume" in payload else created(payload)
    )
    await services.create_container(who, {**BODY, "HostConfig": {"Binds": ["data:/data"]}}, name="web")
    spec = host.asked[-1][1]["spec"]
    assert (spec["layer_size_bytes"], spec["layer_size_is_part"]) == (32 * MIB, True)
    assert spec["mounts"][0]["options"] == {"size": str(32 * MIB)}
    await services.create_container(who, {**BODY, "HostConfig": {"ReadonlyRootfs": True}}, name="readonly")
    assert host.asked[-1][1]["spec"]["layer_size_bytes"] == 0
    await volumes.create(who, "large", options={"size": "930m"})
    assert await in_use(people, "disk") == [994 * MIB]
    await volumes.create(who, "rest")
    assert host.asked[-1][1]["volume"]["options"] == {"size": str(30 * MIB)}  # less than a part: what is left
    with pytest.raises(QuotaExceeded, match=r"1073741824 bytes, 1073741824 are in use and 33554432 more .* without a size of its own"):
        await services.create_container(who, BODY)
    with pytest.raises(QuotaExceeded, match="disk is limited"):
        await copies.resize(who, "rest", "31m")
    await limit(people, disk_bytes=0)
    await services.create_container(who, BODY)
    assert host.asked[-1][1]["spec"]["layer_size_bytes"] == 0


def created(payload: dict[str, Any]) -> dict[str, Any]:
    spec = payload["spec"]
    made = [
        {"tenant": spec["tenant"], "name": mount["source"], "options": mount["options"], "created_ns": time.time_ns()}
        for mount in spec["mounts"]
    ]
    return {"state": {"id": spec["id"], "status": "created", "seq": 0, "run": 0, "pid": 0}, "volumes": made}


async def test_a_copy_of_a_volume_is_as_large_as_it(people: Any, host: Any) -> None:
    who = await alice(people)
    host.on["create"] = lambda payload: {"volume": {**payload["volume"], "created_ns": time.time_ns()}}
    await volumes.create(who, "plain")
    await volumes.create(who, "sized", options={"size": "20m"})
    await limit(people, disk_bytes=30 * MIB)
    with pytest.raises(QuotaExceeded, match="disk is limited to 31457280 bytes, 20971520 are in use and 20971520 more"):
        await copies.clone(who, "sized", "again")
    with pytest.raises(QuotaExceeded, match="made without a size"):
        await copies.clone(who, "plain", "again")


async def test_a_project_is_made_by_its_first_object_and_goes_with_the_last(people: Any, host: Any) -> None:
    who = await alice(people)
    await limit(people, projects_max=1)
    await services.create_container(who, of("shop"), name="web")
    await networks.create_network(who, {"Name": "shop_default", "Labels": {"com.docker.compose.project": "shop"}})
    assert await in_use(people, "projects") == [1]
    with pytest.raises(QuotaExceeded, match="projects is limited to 1, 1 are in use and 1 more was asked"):
        await services.create_container(who, of("other"))
    await services.create_container(who, of("no name for compose"), name="plain")  # a label like any other
    await services.remove_container(who, "web")
    assert await in_use(people, "projects") == [1]
    await networks.remove_network(who, "shop_default")
    assert await in_use(people, "projects") == [0]


async def test_a_create_that_is_refused_leaves_no_project(people: Any, host: Any) -> None:
    await limit(people, containers_max=1)
    who = await alice(people)
    await services.create_container(who, BODY)
    with pytest.raises(QuotaExceeded, match="containers"):
        await services.create_container(who, of("shop"))
    host.refuse["slipway.container.create"] = InvalidArgument("no")
    await limit(people, containers_max=2)
    with pytest.raises(InvalidArgument):
        await services.create_container(who, of("shop"))
    assert await in_use(people, "projects", "containers") == [0, 1]


async def test_a_projects_quota_is_within_the_tenants(people: Any, host: Any) -> None:
    who = await alice(people)
    await limit(people, containers_max=3, memory_bytes=100 * MIB)
    with pytest.raises(FailedPrecondition, match=r"containers of a project may not be more .* limited to 3, asked was 4"):
        await database.run(lambda: projects.change_quota(who, "shop", containers_max=4))
    await database.run(lambda: projects.change_quota(who, "shop", containers_max=2, memory_bytes=50 * MIB))
    limited = {"HostConfig": {"Memory": 20 * MIB}}
    for name in ("one", "two"):
        await services.create_container(who, {**of("shop"), **limited}, name=name)
    with pytest.raises(QuotaExceeded, match="quota of project shop of tenant acme: containers is limited to 2, 2 are in use"):
        await services.create_container(who, {**of("shop"), **limited})
    await services.create_container(who, BODY)
    with pytest.raises(QuotaExceeded, match="quota of tenant acme: containers is limited to 3, 3 are in use"):
        await services.create_container(who, BODY)
    await limit(people, containers_max=1)
    with pytest.raises(QuotaExceeded, match="quota of project shop"):
        await services.create_container(who, {**of("shop"), **limited})
    for name in ("one", "two"):
        await services.remove_container(who, name)
    assert await in_use(people, "projects") == [1]  # somebody gave it a quota
    await database.run(lambda: projects.change_quota(who, "shop", containers_max=0, memory_bytes=0))
    assert not await database.read(Project.everywhere.exists)
    assert await database.read(lambda: Record.objects.filter(verb="project.quota").count()) == 2


async def test_in_a_project_with_a_quota_of_memory_each_container_declares_its_own(people: Any, host: Any) -> None:
    who = await alice(people)
    await database.run(lambda: projects.change_quota(who, "shop", memory_bytes=50 * MIB))
    with pytest.raises(QuotaExceeded, match=r"each of its containers needs a limit of its own: give this one --memory \(mem_limit\)"):
        await services.create_container(who, of("shop"))
    assert await in_use(people, "containers") == [0]


async def test_developers_see_projects_and_change_none(people: Any, host: Any) -> None:
    bob = await database.read(people.actor, people.bob)
    with pytest.raises(PermissionDenied, match=r"^denied: rule project\.quota of role developer"):
        await database.run(lambda: projects.change_quota(bob, "shop", containers_max=1))
    await services.create_container(bob, of("shop"))
    assert [each.name for each in await database.read(projects.projects, bob)] == ["shop"]
    charlie = await database.read(people.actor, people.charlie, people.umbrella)
    assert await database.read(projects.projects, charlie) == []


async def test_past_80_percent_an_event_is_told_once(people: Any, host: Any) -> None:
    await limit(people, containers_max=5)
    who = await alice(people)
    for _ in range(5):
        await services.create_container(who, BODY)
    told = [event for event in await database.read(log.read, people.acme.pk) if event.type == "quota"]
    assert [(event.action, event.actor_id) for event in told] == [("warning", "containers")]
    assert told[0].attributes == {"name": "acme", "project": "", "limit": "5", "used": "4"}


async def test_members_and_tokens_are_limited(people: Any, host: Any) -> None:
    await limit(people, members_max=3, tokens_max=1)
    who = await alice(people)
    with pytest.raises(QuotaExceeded, match="members is limited to 3, 3 are in use"):
        await database.run(tenants.add_member, who, people.charlie, Role.VIEWER)
    await database.run(tenants.add_member, who, people.bob, Role.VIEWER)  # no more members than before
    await database.run(lambda: credentials.create_token(who, role=Role.VIEWER))
    with pytest.raises(QuotaExceeded, match="tokens is limited to 1, 1 are in use"):
        await database.run(lambda: credentials.create_token(who, role=Role.VIEWER))


def test_a_use_has_a_state() -> None:
    resource = BY_NAME["pids"]
    states = [Use(resource, 10, count).state for count in (0, 7, 8, 9, 10, 11)]
    assert states == ["", "", "warning", "warning", "full", "over"]
    assert Use(resource, 0, 5).state == Use(resource, 5, None).state == ""


def test_a_tenants_figures_are_read_from_indexes(people: Any) -> None:
    """Of 10,000 rows of others none is looked at: no SCAN of a table, in the one statement for everything."""
    names = tuple(resource.name for resource in RESOURCES if resource.name in ledger._sources)
    for owner in ("tenant_id", "project_id"):
        wanted = tuple(name for name in names if owner == "tenant_id" or BY_NAME[name].of_project)
        statement, times = ledger._statement(owner, wanted)
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN QUERY PLAN {statement}", [1] * times)
            plan = [row[3] for row in cursor.fetchall()]
        looks = [line for line in plan if line.startswith(("SCAN", "SEARCH"))]
        # that index holds none but operations under way that reserve something
        scans = [line for line in looks if line.startswith("SCAN") and line != "SCAN CONSTANT ROW"]
        assert [line for line in scans if "operations_reserving" not in line] == []
        assert all("COVERING INDEX" in line for line in looks if "containers_container" in line), plan
