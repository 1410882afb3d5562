from __future__ import annotations

import asyncio
import json
import re
import socket
import time

import pytest

from engine import errors
from tests.workers.agent.conftest import TENANT, Host, frames, until

pytestmark = pytest.mark.requires("root", "overlay", "cgroup", "userns")


@pytest.fixture
def ended(host: Host) -> str:
    container = host.run("sh", "-c", "echo one; echo two >&2; echo three; exit 3")
    host.engine.wait(container, timeout_s=30)
    return container


async def test_the_whole_log_of_one_that_has_ended(host: Host, ended: str) -> None:
    async with host.stream("logs", ended) as (ok, reader, _writer):
        assert ok == {"tty": False}
        received = frames(await reader.read())
    assert [b"".join(data for stream, data in received if stream == wanted) for wanted in (1, 2)] == [b"one\nthree\n", b"two\n"]


async def test_following_one_that_has_ended_ends(host: Host, ended: str) -> None:
    async with host.stream("logs", ended, follow=True, stderr=False) as (_ok, reader, _writer):
        assert frames(await reader.read()) == [(1, b"one\nthree\n")]


async def test_tail_timestamps_and_until(host: Host, ended: str) -> None:
    async with host.stream("logs", ended, tail=1, stderr=False, timestamps=True) as (_ok, reader, _writer):
        ((_stream, line),) = frames(await reader.read())
        assert re.fullmatch(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z three\n", line)
    async with host.stream("logs", ended, until_ns=1) as (_ok, reader, _writer):
        assert await reader.read() == b""


async def test_following_stops_at_until(host: Host) -> None:
    container = host.run("sh", "-c", "echo hi; sleep 60")
    began = time.monotonic()
    async with host.stream("logs", container, follow=True, until_ns=time.time_ns() + 10**9) as (_ok, reader, _writer):
        assert frames(await reader.read()) == [(1, b"hi\n")]
    assert time.monotonic() - began < 5


async def test_what_is_printed_reaches_a_follower_at_once(host: Host) -> None:
    container = host.run("cat", open_stdin=True)
    async with host.stream("logs", container, follow=True) as (_ok, out, _w), host.stream("attach", container, stdin=True) as (_o, _r, up):
        delays = []
        for number in range(20):
            began = time.monotonic()
            up.write(b"%d\n" % number)
            await out.readuntil(b"%d\n" % number)
            delays.append(time.monotonic() - began)
        assert sorted(delays)[10] < 0.1


async def test_a_log_of_many_megabytes_is_whole(host: Host) -> None:
    container = host.run("sh", "-c", "dd if=/dev/zero bs=1048576 count=40 2>/dev/null")
    async with host.stream("logs", container, follow=True) as (_ok, reader, _writer):
        received = frames(await reader.read())
    assert [(stream, len(data)) for stream, data in received] == [(1, 40 << 20)]


async def test_following_a_container_that_is_not_started_waits_for_it(host: Host) -> None:
    container = host.create("echo", "hi")
    async with host.stream("logs", container, follow=True) as (_ok, reader, _writer):
        await asyncio.to_thread(host.start, container)
        assert frames(await reader.read()) == [(1, b"hi\n")]


async def test_a_client_that_does_not_read_stops_nobody_and_is_noticed_when_it_goes(host: Host) -> None:
    container = host.run("sh", "-c", "dd if=/dev/zero bs=1048576 count=20 2>/dev/null")
    with socket.socket(socket.AF_UNIX) as idle:
        idle.connect(str(host.config.agent_socket))
        idle.sendall(b'{"v":1,"op":"logs","tenant":"%s","id":"%s","follow":true}\n' % (TENANT.encode(), container.encode()))
        assert (await asyncio.to_thread(host.engine.wait, container, timeout_s=30)).exit_code == 0


async def test_logs_of_others_are_not_found(host: Host, ended: str) -> None:
    with pytest.raises(errors.NotFound):
        async with host.stream("logs", ended, tenant="other"):
            pass


async def test_stats_come_at_their_pace_and_end_with_the_container(host: Host) -> None:
    container = host.run("sleep", "60")
    async with host.stream("stats", container, interval_s=0.2, count=3) as (_ok, reader, _writer):
        lines = (await reader.read()).splitlines()
        assert len(lines) == 3
        assert json.loads(lines[0])["pids_stats"]["current"] >= 1
    async with host.stream("stats", container, interval_s=0.1) as (_ok, reader, _writer):
        await reader.readline()
        host.engine.kill(TENANT, container, 9)
        await reader.read()
    await asyncio.to_thread(until, lambda: host.engine.state(TENANT, container).exit_code == 137)
