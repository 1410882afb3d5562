"""exec through the agent: streams, terminals, ends, and who dies in between."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from engine import errors, executions
from engine.kernel import cgroups
from engine.runtime.kept_execs import ENDED_KEPT
from tests.workers.agent.conftest import TENANT, Host, frames, listens, until

pytestmark = pytest.mark.requires("root", "overlay", "cgroup", "userns")


def asked(*args: str, **words: Any) -> dict[str, Any]:
    return {"id": secrets.token_hex(32), "args": list(args), **words}


async def run(host: Host, container: str, *args: str, stdin: bytes | None = None, **words: Any) -> tuple[int, list[tuple[int, bytes]]]:
    """Exit code and frames of one exec, a stream's own in one: which of the two is read first is nobody's to promise."""
    spec = asked(*args, stdin=stdin is not None, **words)
    async with host.stream("exec", container, exec=spec) as (_ok, reader, writer):
        if stdin is not None:
            writer.write(stdin)
            writer.write_eof()
        streams: dict[int, bytes] = {}
        for number, data in frames(await reader.read()):
            streams[number] = streams.get(number, b"") + data
    async with host.stream("exec_state", container, exec=spec["id"]) as (ok, _reader, _writer):
        assert ok["state"]["running"] is False
        return ok["state"]["exit_code"], sorted(streams.items())


@pytest.mark.guest
async def test_both_streams_come_framed_input_has_an_end_and_the_exit_code_is_known_when_the_stream_ends(host: Host) -> None:
    container = host.run("sleep", "600")
    assert await run(host, container, "sh", "-c", "echo out; cat; echo err >&2; exit 42", stdin=b"in\n") == (
        42,
        [(1, b"out\nin\n"), (2, b"err\n")],
    )
    assert await run(host, container, "sh", "-c", "echo $A $B; pwd; id -u", env=["A=1", "B=x y"], cwd="/tmp", user="65534") == (
        0,
        [(1, b"1 x y\n/tmp\n65534\n")],
    )
    assert await run(host, container, "cat", stdin=b"z" * 3_000_000) == (0, [(1, b"z" * 3_000_000)])


async def test_input_that_nobody_reads_costs_no_output(host: Host) -> None:
    container = host.run("sleep", "600")
    async with host.stream("exec", container, exec=asked("echo", "done", stdin=True)) as (_ok, reader, writer):
        assert frames(await reader.read()) == [(1, b"done\n")]
        for _ in range(3):
            writer.write(bytes(1 << 20))
            await writer.drain()


@pytest.mark.guest
async def test_a_terminal_is_the_containers_own_and_has_the_size_that_was_asked_for_and_changes(host: Host) -> None:
    container = host.run("sleep", "600")
    spec = asked("sh", "-c", "tty; stty size; read x; stty size; exit 3", tty=True, stdin=True, console_size=[30, 100])
    async with host.stream("exec", container, exec=spec) as (ok, reader, writer):
        assert ok["tty"] is True
        assert await reader.readuntil(b"30 100\r\n") == b"/dev/pts/0\r\n30 100\r\n"
        async with host.stream("exec_resize", container, exec=spec["id"], rows=40, columns=120):
            pass
        writer.write(b"\r")
        assert await reader.read() == b"\r\n40 120\r\n"
    assert executions.state(host.engine, TENANT, container, spec["id"]).exit_code == 3


async def test_a_command_that_cannot_be_executed_says_so_as_dockerd_does_and_leaves_nothing(host: Host) -> None:
    container = host.run("sleep", "600")
    sentence = "OCI runtime exec failed: exec failed: unable to start container process: "
    for words, code, text in (
        (asked("nope"), 127, sentence + 'exec: "nope": executable file not found in $PATH'),
        (asked("/etc"), 126, sentence + 'exec: "/etc": permission denied'),
        (asked("pwd", cwd="/nope"), 127, sentence + 'chdir to cwd ("/nope") set in config.json failed: no such file or directory'),
        (asked("id", user="nobody-here"), None, "unable to find user nobody-here: no matching entries in passwd file"),
    ):
        with pytest.raises(errors.InvalidArgument) as refused:
            async with host.stream("exec", container, exec=words):
                pass
        assert (refused.value.message, refused.value.detail.get("exit_code")) == (text, code)
        with pytest.raises(errors.NotFound):
            executions.state(host.engine, TENANT, container, words["id"])
    with pytest.raises(errors.NotFound):
        async with host.stream("exec", container, tenant="others", exec=asked("true")):
            pass
    with pytest.raises(errors.FailedPrecondition, match="is not running"):
        async with host.stream("exec", host.create("true"), exec=asked("true")):
            pass
    for words in (asked(), asked("true", cwd="tmp"), {**asked("true"), "id": "../x"}, {**asked("true"), "args": 7}, {"id": 1}):
        with pytest.raises(errors.InvalidArgument):
            async with host.stream("exec", container, exec=words):
                pass


async def test_a_user_is_looked_up_in_the_containers_own_files(host: Host) -> None:
    script = "echo alice:x:70:70::/: > /etc/passwd; echo staff:x:50: > /etc/group; touch /done; exec sleep 600"
    container = host.run("sh", "-c", script)
    while (await run(host, container, "cat", "/done"))[0]:
        pass
    for known in ("alice", "alice:staff", "0:staff", "4242", "4242:4243"):
        async with host.stream("user", container, user=known) as (ok, _reader, _writer):
            assert ok == {}
    for unknown, sentence in (
        ("bob", "unable to find user bob: no matching entries in passwd file"),
        ("alice:dancers", "unable to find group dancers: no matching entries in group file"),
        ("4294967296", "uids and gids must be in range 0-2147483647"),
    ):
        with pytest.raises(errors.InvalidArgument) as refused:
            async with host.stream("user", container, user=unknown):
                pass
        assert refused.value.message == sentence
    with pytest.raises(errors.NotFound):
        async with host.stream("user", container, tenant="others", user="alice"):
            pass


async def test_what_it_left_running_does_not_hold_its_stream_open(host: Host) -> None:
    container = host.run("sleep", "600")
    assert await run(host, container, "sh", "-c", "sleep 300 & echo gone") == (0, [(1, b"gone\n")])


async def test_a_client_that_leaves_or_detaches_leaves_it_running_and_its_output_is_dropped(host: Host) -> None:
    container = host.run("sleep", "600")
    script = "busybox head -c 5000000 /dev/zero; cat /nothing 2>/dev/null; read x; exit 9"
    left = asked("sh", "-c", script, stdin=True)
    async with host.stream("exec", container, exec=left) as (_ok, reader, _writer):
        await reader.readexactly(8)
    detached = asked("sh", "-c", "stty -echo; echo ready; " + "busybox head -c 500000 /dev/zero; exit 8", tty=True, stdin=True)
    async with host.stream("exec", container, exec=detached) as (_ok, reader, writer):
        await reader.readuntil(b"ready")
        writer.write(b"\x10\x11")
        await reader.read()
    for spec, code in ((left, 9), (detached, 8)):
        await asyncio.to_thread(until, lambda spec=spec: not executions.state(host.engine, TENANT, container, spec["id"]).running)
        assert executions.state(host.engine, TENANT, container, spec["id"]).exit_code == code or spec is left


async def test_a_detached_one_writes_nowhere(host: Host) -> None:
    container = host.run("sleep", "600")
    spec = asked("sh", "-c", "echo x; readlink /proc/$$/fd/2 > /tmp/out; exit 4", stdout=False, stderr=False)
    async with host.stream("exec", container, exec=spec, detach=True) as (_ok, reader, _writer):
        assert await reader.read() == b""
    await asyncio.to_thread(until, lambda: not executions.state(host.engine, TENANT, container, spec["id"]).running)
    assert executions.state(host.engine, TENANT, container, spec["id"]).exit_code == 4
    assert await run(host, container, "cat", "/tmp/out") == (0, [(1, b"/dev/null\n")])


async def test_panels_hear_of_its_end(host: Host) -> None:
    container = host.run("sleep", "600")
    async with host.stream("events") as (_ok, reader, _writer):
        while b'"inventory"' not in await reader.readline():
            pass
        await run(host, container, "sh", "-c", "exit 5")
        while (event := json.loads(await reader.readline()))["kind"] != "exec.exited":
            pass
        assert (event["tenant"], event["state"]["container_id"], event["state"]["exit_code"]) == (TENANT, container, 5)
    async with host.stream("events") as (_ok, reader, _writer):  # a panel that was away reads it in the inventory
        told = []
        while b'"inventory"' not in (line := await reader.readline()):
            told.append(json.loads(line))
    assert [item["state"]["exit_code"] for item in told if item["kind"] == "exec.exited"] == [5]


@pytest.mark.guest
def test_a_probe_gives_exit_code_and_output_and_is_killed_when_it_takes_too_long(host: Host) -> None:
    container = host.run("sleep", "600")
    words: dict[str, Any] = {"timeout_s": 30, "output_limit": 4096}
    assert executions.run(host.engine, TENANT, container, ["sh", "-c", "echo a; echo b >&2; exit 3"], **words) == (3, b"a\nb\n")
    code, output = executions.run(host.engine, TENANT, container, ["busybox", "head", "-c", "3000000", "/dev/zero"], **words)
    assert (code, len(output)) == (0, 4096)
    with pytest.raises(errors.Unavailable, match=r"did not end within 0\.2 s"):
        executions.run(host.engine, TENANT, container, ["sleep", "300"], timeout_s=0.2, output_limit=10)
    assert list(host.config.container(container).glob("execs/*")) == []
    assert len(cgroups.pids(host.engine.cgroup(host.engine.spec(TENANT, container)))) == 1


# -- who dies --------------------------------------------------------------------------------------


def part(host: Host, name: str) -> int:
    return int(host.engine.keeper.parts()[name]["pid"])


def kill_part(host: Host, name: str) -> None:
    """kill -9, and the next one is there. What the keeper tells may be of a moment ago: who was being replaced is asked for again."""
    before = 0

    def killed() -> bool:
        nonlocal before
        with contextlib.suppress(ProcessLookupError, errors.Unavailable):
            before = part(host, name)
            if before:
                os.kill(before, signal.SIGKILL)
            return bool(before)
        return False

    def back() -> bool:
        try:
            return part(host, name) not in (0, before) and host.engine.keeper.answers()
        except errors.Unavailable:
            return False

    until(killed)
    until(back)


@pytest.mark.guest
async def test_a_killed_keeper_loses_no_exit_code(host: Host) -> None:
    container = host.run("sleep", "600")
    during, while_away = asked("sh", "-c", "read x; exit 6", stdin=True), asked("sh", "-c", "read x; exit 7", stdin=True)
    async with (
        host.stream("exec", container, exec=during) as (_ok, reader, writer),
        host.stream("exec", container, exec=while_away) as (_ok2, reader2, writer2),
    ):
        os.kill(part(host, "keeper"), signal.SIGKILL)
        writer2.write(b"\n")  # ends while nobody is the keeper, or just after
        await asyncio.to_thread(until, lambda: answers(host))
        writer.write(b"\n")
        assert (await reader.read(), await reader2.read()) == (b"", b"")
    codes = [executions.state(host.engine, TENANT, container, spec["id"]).exit_code for spec in (during, while_away)]
    assert codes == [6, 7]


def answers(host: Host) -> bool:
    return host.engine.keeper.answers()


async def test_a_killed_foster_and_a_killed_launcher_change_nothing(host: Host) -> None:
    container = host.run("sleep", "600")
    spec = asked("sh", "-c", "read x; exit 6", stdin=True)
    async with host.stream("exec", container, exec=spec) as (_ok, reader, writer):
        await asyncio.to_thread(kill_part, host, "foster")
        await asyncio.to_thread(kill_part, host, "launcher")
        assert (await run(host, container, "sh", "-c", "exit 2"))[0] == 2
        writer.write(b"\n")
        assert await reader.read() == b""
    assert executions.state(host.engine, TENANT, container, spec["id"]).exit_code == 6


@pytest.mark.parametrize("name", ["launcher", "keeper", "agent"])
async def test_a_part_killed_amid_a_storm_leaves_nothing_behind(host: Host, name: str) -> None:
    container = host.run("sleep", "600")

    async def one() -> None:
        try:
            await run(host, container, "true")
        except (errors.EngineError, OSError, ValueError, AssertionError):
            pass  # its part was killed

    storm = [asyncio.ensure_future(one()) for _ in range(60)]
    await asyncio.sleep(0)
    await storm[0]
    if name == "agent":
        await asyncio.to_thread(host.agent.kill)
        await asyncio.to_thread(host.agent.start)
        await asyncio.to_thread(until, lambda: listens(host.config))
    else:
        os.kill(part(host, name), signal.SIGKILL)
    await asyncio.gather(*storm)
    await asyncio.to_thread(until, lambda: answers(host))
    await nothing_left(host, container)
    assert await eventually(lambda: run(host, container, "echo", "well")) == (0, [(1, b"well\n")])


async def eventually(ask: Callable[[], Awaitable[Any]]) -> Any:
    while True:
        try:
            return await ask()
        except (errors.Unavailable, OSError, ValueError):
            await asyncio.sleep(0.05)


async def nothing_left(host: Host, container: str) -> None:
    """One process in the container, no record of one that is believed to run, no descriptor that stays."""
    cgroup = host.engine.cgroup(host.engine.spec(TENANT, container))
    await asyncio.to_thread(until, lambda: len(cgroups.pids(cgroup)) == 1)
    records = [json.loads(path.read_bytes()) for path in host.config.container(container).glob("execs/*.json")]
    assert [record for record in records if "exit_code" not in record] == []
    assert len(records) <= ENDED_KEPT


async def test_a_storm_of_500_leaves_nothing_behind(host: Host) -> None:
    container = host.run("sleep", "600")
    await run(host, container, "true")
    parts = {name: part(host, name) for name in ("keeper", "launcher")}
    before = {name: fds(pid) for name, pid in parts.items()}
    gate = asyncio.Semaphore(64)

    async def one() -> int:
        async with gate:
            spec = asked("sh", "-c", "exit 3")
            async with host.stream("exec", container, exec=spec) as (_ok, reader, _writer):
                await reader.read()
            return 0

    await asyncio.gather(*(one() for _ in range(500)))
    await nothing_left(host, container)
    # fewer is fine: what earlier tests left to be drained may go meanwhile
    await asyncio.to_thread(until, lambda: all(fds(pid) <= before[name] for name, pid in parts.items()))
    assert len(list(host.config.container(container).glob("execs/*.json"))) == ENDED_KEPT


def fds(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
