"""pause, unpause and update in the panel: rows and sums follow the host's answer, and nothing else does."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.test import AsyncClient

from controlpanel.base import database
from controlpanel.containers import pausing, projection, services, updating
from controlpanel.containers.models import Container
from controlpanel.events.models import Event
from controlpanel.tenants.models import Tenant
from engine.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied, QuotaExceeded
from tests.controlpanel.conftest import ingest

pytestmark = pytest.mark.usefixtures("web", "image")

MIB = 1 << 20


async def running(people: Any, host: Any, **host_config: Any) -> tuple[Any, str]:
    """(alice, id) of her container, which runs."""
    alice = await database.read(people.actor, people.alice)
    made = await services.create_container(alice, {"Image": "busybox", "Cmd": ["sleep", "9"], "HostConfig": host_config}, name="web")
    await services.start_container(alice, made.id)
    return alice, made.id


async def row(container_id: str) -> Container:
    return await database.read(lambda: Container.everywhere.get(engine_id=container_id))


async def actions(container_id: str) -> list[str]:
    return await database.read(lambda: list(Event.everywhere.filter(actor_id=container_id).values_list("action", flat=True).order_by("id")))


def moves(host: Any, container_id: str, status: str, change: int) -> Any:
    """What the host answers: the same run in another state."""
    return lambda _payload: {"state": {**host.states[container_id], "status": status, "change": change}}


async def test_paused_and_awake_again(people: Any, host: Any) -> None:
    alice, container_id = await running(people, host)
    with pytest.raises(FailedPrecondition, match=f"Container {container_id} is not paused"):
        await pausing.unpause_container(alice, "web")
    host.on["pause"] = moves(host, container_id, "paused", 1)
    await pausing.pause_container(alice, "web")
    assert (await projection.container(alice, "web")).status == "paused"
    with pytest.raises(FailedPrecondition, match=f"Container {container_id} is already paused"):
        await pausing.pause_container(alice, "web")
    host.on["unpause"] = moves(host, container_id, "running", 2)
    await pausing.unpause_container(alice, "web")
    assert (await actions(container_id))[-2:] == ["pause", "unpause"]
    bob = await database.read(people.actor, people.victor)
    with pytest.raises(PermissionDenied):
        await pausing.pause_container(bob, "web")


async def test_out_of_memory_is_told_once(people: Any, host: Any) -> None:
    _alice, container_id = await running(people, host)
    state = host.states[container_id]
    await ingest({**state, "oom_killed": True, "change": 1})
    assert (await actions(container_id)).count("oom") == 1
    ended = {"status": "exited", "seq": 2, "oom_killed": True, "exit_code": 137, "finished_at_ns": time.time_ns()}
    await ingest({**state, **ended})
    told = await actions(container_id)
    assert told.count("oom") == 1 and told[-1] == "die"


async def test_the_row_follows_an_update(people: Any, host: Any) -> None:
    alice, container_id = await running(people, host, Memory=64 * MIB)
    await updating.update_container(alice, "web", {"Memory": 100 * MIB, "PidsLimit": 9, "RestartPolicy": {"Name": "always"}})
    (payload,) = [words for task, words in host.asked if task.endswith("update")]
    assert payload["resources"]["memory_bytes"] == 100 * MIB and payload["resources"]["memory_swap_bytes"] == 128 * MIB
    view = await projection.container(alice, "web")
    assert (view.spec.resources.memory_bytes, view.spec.resources.pids_limit, view.spec.restart.name) == (100 * MIB, 9, "always")
    assert view.docker_host_config["Memory"] == 100 * MIB and view.docker_host_config["RestartPolicy"] == {"Name": "always"}
    changed = await row(container_id)
    assert (changed.memory_bytes, changed.pids) == (100 * MIB, 9)
    assert (await actions(container_id))[-1] == "update"


async def test_an_update_that_the_host_refuses_changes_nothing(people: Any, host: Any) -> None:
    alice, container_id = await running(people, host, Memory=64 * MIB, PidsLimit=5)
    before = await row(container_id)
    host.refuse["slipway.container.update"] = FailedPrecondition(f"Cannot update container {container_id}: more is in use")
    with pytest.raises(FailedPrecondition, match="more is in use"):
        await updating.update_container(alice, "web", {"Memory": 100 * MIB, "PidsLimit": 9})
    after = await row(container_id)
    for column in ("memory_bytes", "pids", "nano_cpus", "spec", "docker_host_config"):
        assert getattr(after, column) == getattr(before, column), column
    assert "update" not in await actions(container_id)


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"Memory": 5}, InvalidArgument, "Minimum memory limit allowed is 6MB"),
        (
            {"Memory": 400 * MIB},
            FailedPrecondition,
            "Cannot update container .*: Memory limit should be smaller than already set memoryswap",
        ),
        ({"PidsLimit": 500}, QuotaExceeded, "quota of tenant acme: pids is limited to 100"),
        ({"Memory": 300 * MIB, "MemorySwap": -1}, QuotaExceeded, "quota of tenant acme: memory is limited"),
        ({"RestartPolicy": {"Name": "bad"}}, InvalidArgument, "unknown policy 'bad'"),
    ],
)
async def test_updates_that_are_refused_here(
    people: Any, host: Any, changes: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    alice, container_id = await running(people, host, Memory=64 * MIB)
    await database.run(lambda: Tenant.objects.filter(name="acme").update(memory_bytes=256 * MIB, pids=100))
    alice = await database.read(people.actor, people.alice)
    with pytest.raises(error, match=sentence):
        await updating.update_container(alice, "web", changes)
    assert (await row(container_id)).memory_bytes == 64 * MIB
    assert not [task for task, _words in host.asked if task.endswith("update")]


async def test_an_rm_container_gets_no_restart_policy(people: Any, host: Any) -> None:
    alice, _container_id = await running(people, host, AutoRemove=True)
    with pytest.raises(FailedPrecondition, match="Restart policy cannot be updated because AutoRemove is enabled for the container"):
        await updating.update_container(alice, "web", {"RestartPolicy": {"Name": "always"}})


async def test_a_stranger_finds_nothing_to_update(people: Any, host: Any) -> None:
    await running(people, host)
    stranger = await database.read(people.actor, people.charlie, people.umbrella)
    for act in (pausing.pause_container(stranger, "web"), updating.update_container(stranger, "web", {"CpuShares": 512})):
        with pytest.raises(NotFound, match="No such container: web"):
            await act


async def test_limits_by_rest(people: Any, host: Any) -> None:
    """A memory that is more than memory and swap together takes its swap along."""
    await running(people, host, Memory=64 * MIB, StorageOpt={"size": "10m"})
    browser = AsyncClient()
    await browser.aforce_login(people.bob)
    path = "/api/v1/tenants/acme/containers/web"
    answer = await browser.post(f"{path}/update", {"memory": "200m", "cpus": 0.25}, content_type="application/json")
    assert answer.status_code == 200, answer.content
    assert (answer.json()["memory_bytes"], answer.json()["nano_cpus"], answer.json()["warnings"]) == (200 * MIB, 250_000_000, [])
    (payload,) = [words for task, words in host.asked if task.endswith("update")]
    assert payload["resources"]["memory_swap_bytes"] == 400 * MIB
    assert (payload["layer_size_bytes"], answer.json()["layer_size_bytes"]) == (0, 10 * MIB)
    answer = await browser.post(f"{path}/update", {"layer_size": "20m"}, content_type="application/json")
    assert (host.asked[-1][1]["layer_size_bytes"], answer.json()["layer_size_bytes"]) == (20 * MIB, 20 * MIB)
    view = await projection.container(await database.read(people.actor, people.bob), "web")
    assert view.docker_host_config["StorageOpt"] == {"size": str(20 * MIB)}
    for wrong in ({"memory": 5}, {"nonsense": 5}, {"cpus": "many"}, {"layer_size": "1k"}):
        answer = await browser.post(f"{path}/update", wrong, content_type="application/json")
        assert answer.status_code in (400, 422), wrong
    await browser.aforce_login(people.victor)
    for verb in ("pause", "unpause", "update"):
        assert (await browser.post(f"{path}/{verb}", {}, content_type="application/json")).status_code == 403
