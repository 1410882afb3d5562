from __future__ import annotations

import asyncio
import json
import os
import socket
import time

import pytest

from engine import errors
from tests.workers.agent.conftest import TENANT, Host, frames, listens, until

pytestmark = pytest.mark.requires("root", "overlay", "cgroup", "userns")


@pytest.mark.guest
async def test_attach_before_start_sees_all_of_it_and_feeds_it(host: Host) -> None:
    container = host.create("sh", "-c", "cat; echo err >&2", open_stdin=True, stdin_once=True)
    async with host.stream("attach", container, stdin=True) as (ok, reader, writer):
        assert ok == {"tty": False}
        writer.write(b"x\n")
        writer.write_eof()
        await asyncio.to_thread(host.start, container)
        assert frames(await reader.read()) == [(1, b"x\n"), (2, b"err\n")]


async def test_attach_while_it_runs_begins_now_and_with_logs_begins_at_the_beginning(host: Host) -> None:
    container = host.run("sh", "-c", "echo before; cat", open_stdin=True, stdin_once=True)
    folder = host.config.container(container) / "log"
    await asyncio.to_thread(until, lambda: any(path.stat().st_size for path in folder.glob("*.data")))
    async with (
        host.stream("attach", container, stdin=True) as (_ok, now, writer),
        host.stream("attach", container, logs=True) as (_ok2, all_of_it, _writer),
    ):
        writer.write(b"after\n")
        writer.write_eof()
        assert frames(await now.read()) == [(1, b"after\n")]
        assert frames(await all_of_it.read()) == [(1, b"before\nafter\n")]


async def test_streams_that_were_not_asked_for_stay_away(host: Host) -> None:
    container = host.create("sh", "-c", "echo out; echo err >&2")
    async with host.stream("attach", container, stdout=False) as (_ok, reader, _writer):
        await asyncio.to_thread(host.start, container)
        assert frames(await reader.read()) == [(2, b"err\n")]


async def test_the_second_run_is_another_attachment(host: Host) -> None:
    container = host.run("echo", "hi")
    host.engine.wait(container, timeout_s=20)
    async with host.stream("attach", container) as (_ok, reader, _writer):
        await asyncio.to_thread(host.start, container)
        assert frames(await reader.read()) == [(1, b"hi\n")]


async def test_a_start_that_fails_ends_the_attachment(host: Host) -> None:
    container = host.create("no-such-command")
    async with host.stream("attach", container) as (_ok, reader, _writer):
        with pytest.raises(errors.EngineError):
            await asyncio.to_thread(host.start, container)
        assert await reader.read() == b""


async def test_a_removed_container_ends_the_attachment(host: Host) -> None:
    container = host.create("true")
    async with host.stream("attach", container) as (_ok, reader, _writer):
        host.engine.remove(TENANT, container)
        assert await reader.read() == b""


async def test_input_that_ends_stays_open_for_the_next_unless_once(host: Host) -> None:
    container = host.run("cat", open_stdin=True)
    async with host.stream("attach", container, stdin=True) as (_ok, reader, writer):
        writer.write(b"one\n")
        assert frames(await reader.readexactly(12)) == [(1, b"one\n")]
        writer.write_eof()
        assert await reader.read() == b""  # as dockerd ends it
    async with host.stream("attach", container, stdin=True) as (_ok, reader, writer):
        writer.write(b"two\n")
        assert frames(await reader.readexactly(12)) == [(1, b"two\n")]


async def test_much_input_waits_for_a_container_that_reads_slowly(host: Host) -> None:
    """More than a pipe and the sockets hold; and nobody else waits meanwhile."""
    container = host.run("sh", "-c", "sleep 1; wc -c", open_stdin=True, stdin_once=True)
    async with host.stream("attach", container, stdin=True) as (_ok, reader, writer):
        writer.write(b"x" * (20 << 20))
        quick = host.run("echo", "quick")
        began = time.monotonic()
        async with host.stream("logs", quick, follow=True) as (_ok2, other, _writer):
            assert frames(await other.read()) == [(1, b"quick\n")]
        assert time.monotonic() - began < 1
        await writer.drain()
        writer.write_eof()
        assert frames(await reader.read()) == [(1, f"{20 << 20}\n".encode())]


async def test_input_that_nobody_reads_costs_no_output(host: Host) -> None:
    """A client that still writes when all is said: were that write refused, asyncio would drop what the client has not read."""
    container = host.create("echo", "done", open_stdin=True, stdin_once=True)
    async with host.stream("attach", container, stdin=True) as (_ok, reader, writer):
        await asyncio.to_thread(host.start, container)
        assert frames(await reader.read()) == [(1, b"done\n")]
        for _ in range(3):
            writer.write(bytes(1 << 20))
            await writer.drain()


async def test_a_terminal_echoes_has_a_size_and_is_left_by_keys(host: Host) -> None:
    container = host.create("sh", tty=True, open_stdin=True)
    async with host.stream("resize", container, rows=33, columns=123):
        pass
    async with host.stream("attach", container, stdin=True, detach_keys="ctrl-x,x") as (ok, reader, writer):
        assert ok == {"tty": True}
        await asyncio.to_thread(host.start, container)
        writer.write(b"stty size\n")
        assert b"33 123" in await reader.readuntil(b"33 123")
        async with host.stream("resize", container, rows=44, columns=99):
            pass
        writer.write(b"stty size\n")
        await reader.readuntil(b"44 99")
        writer.write(b"\x18x")
        await reader.read()
    assert host.engine.state(TENANT, container).pid


async def test_bad_words_are_refused(host: Host) -> None:
    container = host.create("sh", tty=True)
    for words in ({"detach_keys": "nonsense"},):
        with pytest.raises(errors.InvalidArgument):
            async with host.stream("attach", container, **words):
                pass
    with pytest.raises(errors.InvalidArgument):
        async with host.stream("resize", container, rows=-1, columns=80):
            pass
    with pytest.raises(errors.NotFound):
        async with host.stream("attach", container, tenant="other"):
            pass
    with pytest.raises(errors.NotFound):
        async with host.stream("attach", "../../etc"):
            pass


async def test_many_followers_get_everything_and_a_slow_one_costs_the_others_nothing(host: Host) -> None:
    container = host.create("sh", "-c", "sleep 0.5; i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done")
    expected = b"".join(b"line %d\n" % number for number in range(2000))
    async with host.stream("attach", container) as (_ok, slow, _writer):
        streams = [host.stream("logs", container, follow=True) for _ in range(200)]
        readers = [(await stream.__aenter__())[1] for stream in streams]
        await asyncio.to_thread(host.start, container)
        outputs = await asyncio.gather(*[reader.read() for reader in readers])
        for stream in streams:
            await stream.__aexit__(None, None, None)
        assert {frames(output)[0][1] for output in outputs} == {expected}
        assert frames(await slow.read()) == [(1, expected)]


async def test_followers_that_leave_leave_nothing_behind(host: Host) -> None:
    container = host.run("sleep", "60")
    folder = f"/proc/{host.agent.pid}/fd"
    before = len(os.listdir(folder))
    for _ in range(20):
        async with host.stream("logs", container, follow=True), host.stream("attach", container):
            pass
    await asyncio.to_thread(until, lambda: len(os.listdir(folder)) <= before, within_s=5)


async def test_a_killed_agent_is_back_and_nothing_of_the_output_is_lost(host: Host) -> None:
    container = host.run("sh", "-c", "i=0; while [ $i -lt 300 ]; do echo $i; i=$((i+1)); usleep 5000; done; exit 7")
    await asyncio.sleep(0.3)
    host.agent.kill()
    host.agent.start()
    await asyncio.to_thread(until, lambda: listens(host.config))
    async with host.stream("attach", container, logs=True) as (_ok, reader, _writer):
        assert frames(await reader.read()) == [(1, b"".join(b"%d\n" % number for number in range(300)))]
    assert host.engine.wait(container).exit_code == 7


async def test_clients_that_hang_up_at_once_leave_no_end_of_the_input_open(host: Host) -> None:
    container = host.run("cat", open_stdin=True, stdin_once=True)
    open_before = len(os.listdir(f"/proc/{host.agent.pid}/fd"))
    question = json.dumps({"v": 1, "op": "attach", "tenant": TENANT, "id": container, "stdin": True}).encode() + b"\n"
    for _ in range(60):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(host.config.agent_socket))
            sock.sendall(question)
    await asyncio.to_thread(until, lambda: len(os.listdir(f"/proc/{host.agent.pid}/fd")) <= open_before + 2)
