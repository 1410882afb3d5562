"""Builds whose asker goes: they go on, are told from their beginning to whoever comes, and end when they are told to."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

import pytest

from engine import errors
from engine.model.build import BuildRequest
from engine.model.codec import to_json
from tests.engine.builds.building import context
from tests.workers.agent.conftest import TENANT, Host, until

pytestmark = pytest.mark.requires("root", "overlay", "cgroup", "userns")

SLOW = "FROM busybox\nRUN echo begun; while [ ! -e /dev/shm/never ]; do sleep 0.05; done\n"
QUICK = "FROM busybox\nRUN echo made >/made\n"


class Asked:
    """One build by its id."""

    def __init__(self, host: Host) -> None:
        self.host, self.id = host, secrets.token_hex(16)
        self.file: Path = host.config.builds / "said" / TENANT / self.id

    @property
    def words(self) -> dict[str, Any]:
        return {"request": to_json(BuildRequest(id=self.id, tenant=TENANT, network="none")), "detached": True}

    async def leave(self, dockerfile: str, until_said: str) -> None:
        """Begun, and its client gone when it has said so much."""
        async with self.host.stream("build", self.id, **self.words) as (_ok, reader, writer):
            writer.write(context(dockerfile, {}).getvalue())
            writer.write_eof()
            while until_said not in (line := (await reader.readline()).decode()):
                assert line

    async def follow(self) -> list[dict[str, Any]]:
        async with self.host.stream("build_follow", self.id) as (_ok, reader, _writer):
            return [json.loads(line) for line in (await reader.read()).splitlines()]

    async def say(self, op: str, tenant: str = TENANT) -> None:
        async with self.host.stream(op, self.id, tenant=tenant):
            pass


async def test_it_goes_on_and_is_told_from_its_beginning(host: Host) -> None:
    asked = Asked(host)
    await asked.leave(QUICK, "Step 1/2")
    lines = await asked.follow()
    assert lines[0]["stream"].startswith("Step 1/2")
    assert lines[-1]["built"]["record"]["id"] in host.engine.images.refs_of.read(TENANT).images
    assert await asked.follow() == lines, "until it is forgotten"
    await asked.say("build_end")
    with pytest.raises(errors.NotFound):
        await asked.follow()


async def test_it_ends_when_it_is_told_to(host: Host) -> None:
    asked = Asked(host)
    await asked.leave(SLOW, '"stream":"begun')
    with pytest.raises(errors.NotFound):
        async with host.stream("build_follow", asked.id, tenant="other"):
            pass
    await asked.say("build_end", tenant="other")
    assert host.engine.list(TENANT), "a stranger's word ends nothing"
    async with host.stream("build_follow", asked.id) as (_ok, reader, _writer):
        await asked.say("build_end")
        assert b'"built"' not in await reader.read()
    with pytest.raises(errors.NotFound):
        await asked.follow()
    until(lambda: not host.engine.list(TENANT) and not list((host.config.builds / "running").iterdir()))


async def test_a_context_that_is_cut_takes_the_build_along(host: Host) -> None:
    asked = Asked(host)
    async with host.stream("build", asked.id, **asked.words) as (_ok, _reader, writer):
        writer.write(context(QUICK, {"large": b"x" * 100_000}).getvalue()[:50_000])
        await writer.drain()
    assert not any("built" in line for line in await asked.follow())
