"""The panel's side of a stream: controlpanel.hosts.streams against the real agent."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.conf import settings

from controlpanel.hosts import streams
from controlpanel.hosts.streams import open_stream
from engine import errors
from tests.workers.agent.conftest import TENANT, Host, frames

pytestmark = pytest.mark.requires("root", "overlay", "cgroup", "userns")


@pytest.fixture
def panel(host: Host, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(settings, "SLIPWAY_DATA", host.config.data)
    monkeypatch.setattr(settings, "SLIPWAY_RUN", host.config.run)
    streams._key.cache_clear()
    return host


async def test_a_stream_opens_with_the_agents_words(panel: Host) -> None:
    container = panel.run("echo", "hi")
    ok, reader, writer = await open_stream("logs", TENANT, container, follow=True)
    assert ok == {"tty": False}
    assert frames(await reader.read()) == [(1, b"hi\n")]
    writer.close()


async def test_what_the_agent_refuses_is_raised(panel: Host) -> None:
    with pytest.raises(errors.NotFound, match="No such container"):
        await open_stream("logs", TENANT, "ab" * 32)


async def test_without_an_agent_it_is_said_who_is_missing(panel: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(settings, "SLIPWAY_RUN", tmp_path)
    with pytest.raises(errors.Unavailable, match="agent does not answer"):
        await open_stream("logs", TENANT, "ab" * 32)
