from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.engine.networks.machine import Box, Instance, own_host
from workers.agent import walls

pytestmark = pytest.mark.requires("root", "nft")


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[Instance]:
    with own_host(), ExitStack() as stack:
        yield Instance(tmp_path / "one", stack)


@pytest.fixture
def alice(instance: Instance) -> Box:
    """Made before the test's event loop runs: pyroute2, which makes the bridge, brings its own."""
    return instance.box("alice")


@pytest.fixture
def bob(instance: Instance) -> Box:
    return instance.box("bob")


def nft(words: str) -> str:
    return subprocess.run(["nft", words], capture_output=True, text=True, check=True).stdout


def until(text: str, command: str, *, count: int = 1) -> None:
    """Wait until what nft lists has the text that often."""
    deadline = time.monotonic() + 5
    while nft(command).count(text) != count:
        assert time.monotonic() < deadline, nft(command)
        time.sleep(0.05)


async def test_a_flushed_ruleset_is_built_again_at_once(instance: Instance, alice: Box, bob: Box) -> None:
    nft("flush ruleset")
    guard = asyncio.create_task(walls.guard(instance.networks))
    try:
        await asyncio.to_thread(until, f"slipway_{instance.id}", "list tables", count=2)  # what happened before it came
        nft("flush ruleset")
        await asyncio.to_thread(until, f"slipway_{instance.id}", "list tables", count=2)
        with bob.listen(80):
            assert alice.is_kept_from(bob.endpoint.ip_address, 80)
    finally:
        guard.cancel()
        await asyncio.gather(guard, return_exceptions=True)


async def test_a_firewall_that_starts_later_lets_our_containers_through(instance: Instance, alice: Box) -> None:
    guard = asyncio.create_task(walls.guard(instance.networks))
    try:
        await asyncio.sleep(0.2)
        nft("add table inet ufw; add chain inet ufw forward { type filter hook forward priority filter; policy drop; }")
        await asyncio.to_thread(until, f'"{instance.id}b*"', "list table inet ufw", count=2)
    finally:
        guard.cancel()
        await asyncio.gather(guard, return_exceptions=True)
