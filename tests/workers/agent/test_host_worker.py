"""The real host worker on a real engine: acts of the contract, and a worker that is killed amid them."""

from __future__ import annotations

import asyncio
import secrets
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from controlpanel.hosts.dispatch import Dispatcher
from engine import errors
from engine.model.codec import from_json, to_json
from engine.model.container import ContainerSpec
from engine.model.resources import Resources
from tests.workers.agent.conftest import TENANT, Host, until
from tests.workers.conftest import RedisServer, WorkerProcess
from workers import contract
from workers.resp import Address

pytestmark = pytest.mark.requires("root", "overlay", "cgroup", "userns")


@dataclass
class Panel:
    """What the panel would ask."""

    dispatcher: Dispatcher
    host: Host
    worker: WorkerProcess

    async def call(self, task: str, key: str = "", **payload: Any) -> dict[str, Any]:
        return await self.dispatcher.call("host.test", task, payload, key=key, operation=str(uuid.uuid4()), timeout_s=60)

    def spec(self, *args: str, **words: Any) -> ContainerSpec:
        container_id = secrets.token_hex(32)
        return ContainerSpec(
            id=container_id, tenant=TENANT, name=f"w{container_id[:8]}", image_id=self.host.image_id, image="busybox", args=args,
            env=("PATH=/bin",), network_mode="none", **words,
        )  # fmt: skip

    async def run(self, *args: str, **words: Any) -> str:
        spec = self.spec(*args, **words)
        await self.call(contract.CREATE_CONTAINER, spec.id, spec=to_json(spec))
        await self.call(contract.START_CONTAINER, spec.id, tenant=TENANT, id=spec.id)
        return spec.id


@pytest.fixture
async def panel(host: Host, agent_redis: RedisServer) -> AsyncIterator[Panel]:
    worker = WorkerProcess(["-m", "workers.host_worker"], host.agent.environment, host.config.data / "worker.log")
    worker.start()
    dispatcher = Dispatcher(Address.parse(agent_redis.url))
    panel = Panel(dispatcher, host, worker)
    await panel.call(contract.PING)
    yield panel
    await dispatcher.close()
    await asyncio.to_thread(worker.stop)


@pytest.mark.guest
async def test_the_life_of_a_container(panel: Panel) -> None:
    container = await panel.run("sh", "-c", "trap 'exit 5' TERM; while true; do sleep 0.05; done")
    words = {"tenant": TENANT, "id": container}
    assert panel.host.engine.state(TENANT, container).pid
    await panel.call(contract.RENAME_CONTAINER, **words, name="other")
    assert panel.host.engine.spec(TENANT, container).name == "other"
    with pytest.raises(errors.FailedPrecondition, match="container is running"):
        await panel.call(contract.REMOVE_CONTAINER, **words, force=False)
    stopped = await panel.call(contract.STOP_CONTAINER, **words, signal="TERM", timeout_s=10)
    assert stopped["state"]["status"] in ("running", "exited")
    assert (await asyncio.to_thread(panel.host.engine.wait, container, timeout_s=20)).exit_code == 5
    with pytest.raises(errors.FailedPrecondition, match="is not running"):
        await panel.call(contract.KILL_CONTAINER, **words, signal=9)
    await panel.call(contract.REMOVE_CONTAINER, **words)
    with pytest.raises(errors.NotFound):
        panel.host.engine.state(TENANT, container)


async def test_a_stop_that_is_ignored_ends_in_a_kill(panel: Panel) -> None:
    container = await panel.run("sh", "-c", "trap '' TERM; while true; do sleep 0.05; done")
    await panel.call(contract.STOP_CONTAINER, tenant=TENANT, id=container, signal="", timeout_s=1)
    panel.worker.kill()  # and its timer
    assert (await asyncio.to_thread(panel.host.engine.wait, container, timeout_s=20)).exit_code == 137


async def test_a_start_that_fails_says_why_and_is_told(panel: Panel) -> None:
    spec = panel.spec("no-such-command")
    await panel.call(contract.CREATE_CONTAINER, spec=to_json(spec))
    with pytest.raises(errors.EngineError, match="no-such-command") as caught:
        await panel.call(contract.START_CONTAINER, tenant=TENANT, id=spec.id)
    assert caught.value.detail["exit_code"] == 127
    state = panel.host.engine.state(TENANT, spec.id)
    assert (state.status, state.exit_code, state.seq) == ("created", 127, 2)


async def test_images_are_tagged_and_removed(panel: Panel) -> None:
    await panel.call(contract.TAG_IMAGE, tenant=TENANT, image_id=panel.host.image_id, ref="mine:3")
    assert panel.host.engine.images.refs(TENANT) == {"mine:3": panel.host.image_id}
    done = await panel.call(contract.REMOVE_IMAGE, tenant=TENANT, ref="mine:3", force=False)
    assert "mine:3" in done["untagged"]
    with pytest.raises(errors.NotFound, match="No such image"):
        await panel.call(contract.REMOVE_IMAGE, tenant=TENANT, ref="mine:3", force=False)


async def test_payloads_of_the_wrong_shape_are_an_error_and_the_worker_goes_on(panel: Panel) -> None:
    for payload in ({}, {"spec": 7}, {"spec": {"id": "../x"}}):
        with pytest.raises(errors.EngineError):
            await panel.call(contract.CREATE_CONTAINER, **payload)
    await panel.call(contract.PING)


async def test_a_worker_killed_amid_creates_and_starts_does_each_once(panel: Panel) -> None:
    """Each container prints its one run; a second would be seen in its log."""

    async def one(number: int) -> str:
        await asyncio.sleep(number * 0.03)
        return await panel.run("echo", f"run of {number}")

    runs = [asyncio.ensure_future(one(number)) for number in range(60)]
    for _ in range(3):
        await asyncio.sleep(0.7)
        panel.worker.kill()
        panel.worker.start()
    containers = await asyncio.gather(*runs)
    engine = panel.host.engine
    for number, container in enumerate(containers):
        state = await asyncio.to_thread(engine.wait, container, timeout_s=20)
        assert (state.run, state.exit_code) == (1, 0)
        async with panel.host.stream("logs", container) as (_ok, reader, _writer):
            assert (await reader.read())[8:] == f"run of {number}\n".encode()
    assert len(engine.list(TENANT)) == 60


async def test_a_restarted_worker_tidies_up(panel: Panel) -> None:
    leftover = panel.host.config.trash / "leftover"
    leftover.mkdir()
    panel.worker.kill()
    panel.worker.start()
    await asyncio.to_thread(until, lambda: not leftover.exists())


async def test_an_answer_of_before_a_power_cut_tells_what_is_left(panel: Panel) -> None:
    """The journal may be whole where the container's own files are not."""
    spec = panel.spec("sleep", "60")
    operations = {"create": str(uuid.uuid4()), "start": str(uuid.uuid4())}

    async def ask() -> list[dict[str, Any]]:
        words = {"create": {"spec": to_json(spec)}, "start": {"tenant": TENANT, "id": spec.id}}
        return [
            await panel.dispatcher.call("host.test", task, words[verb], key=spec.id, operation=operations[verb], timeout_s=60)
            for verb, task in (("create", contract.CREATE_CONTAINER), ("start", contract.START_CONTAINER))
        ]

    assert [answer["state"]["seq"] for answer in await ask()] == [0, 1]
    panel.host.engine.kill(TENANT, spec.id, 9)
    await asyncio.to_thread(panel.host.engine.wait, spec.id, timeout_s=20)
    folder = panel.host.config.container(spec.id)
    for name in ("start.json", "exit.json", "config.json"):
        (folder / name).write_text("")
    assert [answer["state"]["seq"] for answer in await ask()] == [0, 0]
    started = await panel.call(contract.START_CONTAINER, spec.id, tenant=TENANT, id=spec.id)
    assert started["state"]["status"] == "running", "its config is made anew"
    panel.host.engine.remove(TENANT, spec.id, force=True)
    with pytest.raises(errors.NotFound):
        await ask()


async def test_only_what_a_panel_made_is_told_to_one_that_lost_it(panel: Panel) -> None:
    spec = panel.spec("true", shown={"tenant": 7, "config": {"Cmd": ["true"]}, "host_config": {"Memory": 0}, "created_at_ns": 5})
    await panel.call(contract.CREATE_CONTAINER, spec.id, spec=to_json(spec))
    more = {"resources": to_json(Resources(memory_bytes=64 << 20)), "restart": None, "host_config": {"Memory": 64 << 20}}
    await panel.call(contract.UPDATE_CONTAINER, spec.id, tenant=TENANT, id=spec.id, **more)
    async with panel.host.stream("spec", spec.id) as (ok, _reader, _writer):
        told = from_json(ContainerSpec, ok["spec"])
        assert (told.name, told.resources.memory_bytes, ok["state"]["status"]) == (spec.name, 64 << 20, "created")
        assert told.shown == {**spec.shown, "host_config": {"Memory": 64 << 20}}
    others = panel.host.create("true")
    for container_id, tenant in ((others, TENANT), (spec.id, "umbrella")):
        with pytest.raises(errors.NotFound):
            async with panel.host.stream("spec", container_id, tenant=tenant):
                pass
