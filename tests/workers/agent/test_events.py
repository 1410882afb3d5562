from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from engine import disk
from engine.engine import Engine
from tests.workers.agent.conftest import TENANT, Host, listens, until
from tests.workers.conftest import RedisServer

pytestmark = pytest.mark.requires("root", "overlay", "cgroup", "userns")


async def inventory(reader: asyncio.StreamReader) -> list[dict[str, Any]]:
    found = []
    while (line := json.loads(await reader.readline())) != {"inventory": "done"}:
        found.append(line)
    return found


async def wait_for(reader: asyncio.StreamReader, kind: str, object_id: str) -> dict[str, Any]:
    while True:
        event: dict[str, Any] = json.loads(await reader.readline())
        if "beat" not in event and event["kind"] == kind and event["object_id"] == object_id:
            return event


def durable(redis: RedisServer) -> list[dict[str, Any]]:
    from base64 import b64decode

    (messages,) = redis.client().execute(("LRANGE", "panel", 0, -1))
    bodies = [json.loads(b64decode(json.loads(message)["body"])) for message in reversed(messages)]
    return [event for body in bodies for event in body[1]["events"]]


@pytest.mark.guest
async def test_first_everything_that_is_there(host: Host) -> None:
    created, running, ended = host.create("true"), host.run("sleep", "60"), host.run("sh", "-c", "exit 4")
    host.engine.wait(ended, timeout_s=30)
    async with host.stream("events", tenant="") as (_ok, reader, _writer):
        found = {event["object_id"]: event for event in await inventory(reader)}
    assert found[created]["kind"] == "container.created"
    assert found[running]["kind"] == "container.started"
    assert found[running]["state"]["pid"] > 0
    assert (found[ended]["kind"], found[ended]["state"]["exit_code"], found[ended]["seq"]) == ("container.exited", 4, 2)
    image = found[host.image_id]
    assert (image["kind"], image["tenant"], image["state"]["refs"]) == ("image.added", "public", ["busybox:latest"])
    async with host.stream("events", tenant="", since_seq={ended: 2, running: 0}) as (_ok, reader, _writer):
        again = {event["object_id"] for event in await inventory(reader)}
    assert ended not in again
    assert running in again


async def test_then_what_happens(host: Host) -> None:
    async with host.stream("events", tenant="") as (_ok, reader, _writer):
        await inventory(reader)
        container = host.run("sleep", "60")
        started = await wait_for(reader, "container.started", container)
        assert (started["tenant"], started["seq"], started["host"]) == (TENANT, 1, "test")
        assert started["state"]["pid"] == host.engine.state(TENANT, container).pid
        host.engine.kill(TENANT, container, 9)
        ended = await wait_for(reader, "container.exited", container)
        assert (ended["seq"], ended["state"]["exit_code"]) == (2, 137)
        host.engine.remove(TENANT, container)
        await wait_for(reader, "container.removed", container)
        never_started = host.create("true")
        host.engine.remove(TENANT, never_started)
        assert (await wait_for(reader, "container.removed", never_started))["tenant"] == TENANT


async def test_a_start_that_is_recorded_late_is_told_all_the_same(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that is slow or full of work; the health checks hang on it, too."""
    write_start = host.engine.records.write_start

    def late(container_id: str, record: dict[str, Any]) -> None:
        time.sleep(1.0)
        write_start(container_id, record)

    monkeypatch.setattr(host.engine.records, "write_start", late)
    async with host.stream("events", tenant="") as (_ok, reader, _writer):
        await inventory(reader)
        container = await asyncio.to_thread(host.run, "sleep", "60")
        assert (await wait_for(reader, "container.started", container))["state"]["pid"] > 0


async def test_a_run_too_short_for_its_start_record_is_told_whole(host: Host) -> None:
    async with host.stream("events", tenant="") as (_ok, reader, _writer):
        await inventory(reader)
        for _ in range(20):
            container = host.run("true")
            event = await wait_for(reader, "container.exited", container)
            assert event["state"]["started_at_ns"] == host.engine.state(TENANT, container).started_at_ns
            assert event["state"]["finished_at_ns"] >= event["state"]["started_at_ns"] > 0


async def test_images_are_told_whoever_names_them(host: Host) -> None:
    async with host.stream("events", tenant="") as (_ok, reader, _writer):
        await inventory(reader)
        engine = Engine(host.config)
        engine.images.tag(TENANT, host.image_id, "mine:1")
        added = await wait_for(reader, "image.added", host.image_id)
        assert (added["tenant"], added["state"]["refs"], added["state"]["id"]) == (TENANT, ["mine:1"], host.image_id)
        engine.remove_image(TENANT, "mine:1")
        removed = await wait_for(reader, "image.removed", host.image_id)
        assert removed["tenant"] == TENANT


async def test_an_exit_is_settled_and_its_durable_copy_is_queued(host: Host, agent_redis: RedisServer) -> None:
    container = host.run("sh", "-c", "exit 5")
    await asyncio.to_thread(until, lambda: any(event["object_id"] == container for event in durable(agent_redis)))
    (event,) = [event for event in durable(agent_redis) if event["object_id"] == container]
    assert (event["kind"], event["state"]["exit_code"]) == ("container.exited", 5)


async def test_exits_while_redis_is_away_are_queued_when_it_is_back(host: Host, agent_redis: RedisServer) -> None:
    agent_redis.kill()
    container = host.run("sh", "-c", "exit 6")
    host.engine.wait(container, timeout_s=30)
    await asyncio.sleep(0.2)
    agent_redis.start()
    await asyncio.to_thread(until, lambda: any(event["object_id"] == container for event in durable(agent_redis)), within_s=20)


async def test_what_ended_while_no_agent_was_there_is_in_the_inventory_and_settled(host: Host) -> None:
    container = host.run("sh", "-c", "sleep 0.3; exit 9")
    host.agent.kill()
    host.engine.wait(container, timeout_s=30)
    host.agent.start()
    await asyncio.to_thread(until, lambda: listens(host.config))
    async with host.stream("events", tenant="") as (_ok, reader, _writer):
        found = {event["object_id"]: event for event in await inventory(reader)}
    assert found[container]["state"]["exit_code"] == 9


async def test_a_stop_whose_promise_was_forgotten_is_kept(host: Host) -> None:
    """The process that called ``stop`` died: its timer with it, stop.json not."""
    container = host.run("sh", "-c", "trap '' TERM; while true; do sleep 0.1; done")
    run = host.engine.state(TENANT, container).run
    host.engine.records.write_stop(container, {"run": run, "deadline_ns": time.time_ns() + 10**9})
    state = await asyncio.to_thread(host.engine.wait, container, timeout_s=20)
    assert state.exit_code == 137


async def test_the_agent_finds_a_new_keeper(host: Host) -> None:
    import os
    import signal

    container = host.run("sleep", "60")
    async with host.stream("events", tenant="") as (_ok, reader, _writer):
        await inventory(reader)
        os.kill(host.engine.keeper.parts()["keeper"]["pid"], signal.SIGKILL)
        await asyncio.to_thread(until, host.engine.keeper.answers)
        await asyncio.sleep(0.3)
        host.engine.kill(TENANT, container, 9)
        assert (await wait_for(reader, "container.exited", container))["state"]["exit_code"] == 137


async def test_a_removal_is_told_however_soon_the_trash_is_emptied(host: Host) -> None:
    async with host.stream("events", tenant="") as (_ok, reader, _writer):
        await inventory(reader)
        for _ in range(20):
            container = host.create("true")
            host.engine.remove(TENANT, container)  # empties the trash itself; the agent looks when it gets the processor
            assert (await wait_for(reader, "container.removed", container))["tenant"] == TENANT


async def test_when_the_kernel_drops_events_the_stream_ends_so_that_the_panel_asks_again(host: Host) -> None:
    """More changes than inotify(7) keeps while the agent does not read: some will never be told."""
    kept = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    thing, trash = host.config.engine / "thing", host.config.trash
    async with host.stream("events", tenant="") as (_ok, reader, _writer):
        await inventory(reader)
        os.kill(host.agent.pid, signal.SIGSTOP)
        try:
            for number in range(kept + 10):
                thing.touch()
                os.rename(thing, trash / f"thing{number % 7}")
        finally:
            os.kill(host.agent.pid, signal.SIGCONT)
        while await reader.readline():
            pass
    disk.empty_trash(host.config.trash)
