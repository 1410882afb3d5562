"""The measurements. Each takes one sample of one engine; the caller lets engines take turns.

A sample is {row: value or values}; the unit is the row's last word, and units in MORE_IS_BETTER are rates. The work is
checked as well as timed: a wrong exit code or a lost line is an error, not a figure.
"""

from __future__ import annotations

import io
import itertools
import os
import shutil
import statistics
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from tests.bench import image_rows, network_rows
from tests.bench.client import BenchError, Engine, available_mib, dechunk, drain, payload
from tests.bench.memory import cpu_s, pss_mib

MORE_IS_BETTER = ("MB/s", "per-s")
Sample = dict[str, float | list[float]]

LINES, LINE = 1_000_000, "0123456789" * 6 + "abc"  # 64 bytes with its newline
WRITER = ["sh", "-c", f"yes {LINE} | head -n {LINES}"]
BURST, WIDTH = 50, 8
TIMES = 10
COPIED = 50_000_000  # bytes
CROWD, SETTLE_S, IDLE_S = 1000, 5, 20


@dataclass(frozen=True, slots=True)
class Row:
    """``samples`` turns are counted after ``warmup`` that are not. ``long``: only when it is named, or all are asked for."""

    name: str
    take: Callable[[Engine, Callable[[], set[int]]], Sample]
    samples: int
    warmup: int = 1
    long: bool = False


def _ms(since: float) -> float:
    return (time.perf_counter() - since) * 1000


def _run(network: str) -> Callable[[Engine, Callable[[], set[int]]], Sample]:
    def take(engine: Engine, _roots: Callable[[], set[int]]) -> Sample:
        marks = [time.perf_counter()]
        container = engine.create(["true"], network)
        marks.append(time.perf_counter())
        engine.start(container)
        marks.append(time.perf_counter())
        code = engine.wait(container)
        marks.append(time.perf_counter())
        engine.remove(container)
        marks.append(time.perf_counter())
        if code != 0:
            raise BenchError(f"{engine.name}: true exited with {code}")
        steps = [(after - before) * 1000 for before, after in itertools.pairwise(marks)]
        names = (f"run-{network}: {step} ms" for step in ("create", "start", "wait", "remove"))
        return {f"run-{network} ms": sum(steps), **dict(zip(names, steps, strict=True))}

    return take


def _volume(engine: Engine, _roots: Callable[[], set[int]]) -> Sample:
    """Made and removed, and a container that mounts one that is there."""
    since = time.perf_counter()
    engine.json("POST", "/volumes/create", {"Name": "bench-made"})
    engine.call("DELETE", "/volumes/bench-made")
    sample: Sample = {"volume: create+remove ms": _ms(since)}
    engine.json("POST", "/volumes/create", {"Name": "bench-there"})
    since = time.perf_counter()
    container = engine.create(["true"], HostConfig={"NetworkMode": "none", "Binds": ["bench-there:/there"]})
    engine.start(container)
    engine.wait(container)
    engine.remove(container)
    sample["volume: run -v ms"] = _ms(since)
    engine.call("DELETE", "/volumes/bench-there")
    return sample


def _cli_run(engine: Engine, _roots: Callable[[], set[int]]) -> Sample:
    docker = shutil.which("docker")
    if not docker:
        raise BenchError("no docker CLI on PATH")
    with tempfile.TemporaryDirectory() as config:
        since = time.perf_counter()
        subprocess.run(
            [docker, "--config", config, "-H", engine.url, "run", "--rm", "busybox", "true"],
            check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=60,
        )  # fmt: skip
        return {"cli-run (docker run --rm) ms": _ms(since)}


def _start(engine: Engine, _roots: Callable[[], set[int]]) -> Sample:
    container = engine.create(["sleep", "1d"], "bridge")
    since = time.perf_counter()
    engine.start(container)
    took = _ms(since)
    engine.remove(container, force=True)
    return {"start (sleep, bridge) ms": took}


def _crowd(engine: Engine, roots: Callable[[], set[int]]) -> Sample:
    """Fifty at once: rates, what they cost, and reads while they are there."""
    idle, free = pss_mib(roots()), available_mib()

    def up(_number: int) -> str:
        container = engine.create(["sleep", "1d"], "bridge")
        engine.start(container)
        return container

    def down(container: str) -> None:
        engine.call("POST", f"/containers/{container}/kill")
        engine.remove(container, force=True)

    with ThreadPoolExecutor(WIDTH) as pool:
        since = time.perf_counter()
        made = list(pool.map(up, range(BURST)))
        up_s = time.perf_counter() - since
        time.sleep(1)
        sample: Sample = {
            "burst create+start per-s": BURST / up_s,
            "memory: engine PSS idle MiB": idle,
            "memory: engine PSS added per container MiB": (pss_mib(roots()) - idle) / BURST,
            "memory: machine memory per container MiB": (free - available_mib()) / BURST,
        }
        lists, inspects = [], []
        for _ in range(20):
            since = time.perf_counter()
            listed = engine.json("GET", "/containers/json", all="1")
            lists.append(_ms(since))
            if sum(item["State"] == "running" for item in listed) < BURST:
                raise BenchError(f"{engine.name}: lists {len(listed)} containers")
        for container in made[:20]:
            since = time.perf_counter()
            engine.json("GET", f"/containers/{container}/json")
            inspects.append(_ms(since))
        since = time.perf_counter()
        list(pool.map(down, made))
        sample["burst kill+remove per-s"] = BURST / (time.perf_counter() - since)
    return {**sample, f"list with {BURST} ms": lists, "inspect ms": inspects}


def _starts(engine: Engine, _roots: Callable[[], set[int]]) -> Sample:
    """Fifty that were made before, each in the default network."""
    made = [engine.create(["sleep", "1d"], "bridge") for _ in range(BURST)]
    with ThreadPoolExecutor(WIDTH) as pool:
        since = time.perf_counter()
        list(pool.map(engine.start, made))
        rate = BURST / (time.perf_counter() - since)
        list(pool.map(lambda container: engine.remove(container, force=True), made))
    return {f"{BURST} starts at once (bridge) per-s": rate}


def _check_lines(engine: Engine, text: bytes) -> None:
    if len(text) != LINES * 64 or text.count(LINE.encode() + b"\n") != LINES:
        raise BenchError(f"{engine.name}: {len(text)} bytes of {LINES * 64}: lines were lost")


def _logs(engine: Engine, _roots: Callable[[], set[int]]) -> Sample:
    container = engine.create(WRITER)
    engine.start(container)
    since = time.perf_counter()
    engine.wait(container)
    written = time.perf_counter() - since
    since = time.perf_counter()
    body = drain(*engine.stream("GET", f"/containers/{container}/logs", stdout="1"))
    took = time.perf_counter() - since
    _check_lines(engine, payload(dechunk(bytes(body))))
    engine.remove(container)
    return {"logs: a million 64-byte lines s": written, "logs: read back MB/s": LINES * 64 / 1e6 / took}


def _attach(engine: Engine, _roots: Callable[[], set[int]]) -> Sample:
    """The lines are made before and come from one ``cat``: ``yes | head`` writes 150 MB/s, and that would be measured."""
    container = engine.create(["sh", "-c", f"yes {LINE} | head -n {LINES} > /lines; echo ready; read go; cat /lines"], OpenStdin=True)
    words = {"stream": "1", "stdin": "1", "stdout": "1", "stderr": "1"}
    sock, got = engine.stream("POST", f"/containers/{container}/attach", hijack=True, **words)
    engine.start(container)
    while b"ready\n" not in got:
        got += sock.recv(65536)
    since = time.perf_counter()
    sock.sendall(b"\n")
    body = drain(sock)
    took = time.perf_counter() - since
    engine.wait(container)
    engine.remove(container)
    _check_lines(engine, payload(bytes(body)))
    return {"attach MB/s": LINES * 64 / 1e6 / took}


@contextmanager
def _running(engine: Engine, *command: str) -> Iterator[str]:
    container = engine.create(list(command or ("sleep", "1d")))
    engine.start(container)
    try:
        yield container
    finally:
        engine.remove(container, force=True)


def _times(act: Callable[[], object]) -> list[float]:
    """Of acts that are short beside the making of what they act on: TIMES of them a sample, in ms."""
    found = []
    for _ in range(TIMES):
        since = time.perf_counter()
        act()
        found.append(_ms(since))
    return found


def _exec(engine: Engine, _roots: Callable[[], set[int]]) -> Sample:
    def act() -> None:
        words = {"Cmd": ["true"], "AttachStdout": True, "AttachStderr": True}
        made = engine.json("POST", f"/containers/{container}/exec", words)["Id"]
        drain(*engine.stream("POST", f"/exec/{made}/start", hijack=True, body={"Detach": False, "Tty": False}))
        code = engine.json("GET", f"/exec/{made}/json")["ExitCode"]
        if code != 0:
            raise BenchError(f"{engine.name}: exec of true: exit code {code}")

    with _running(engine) as container:
        return {"exec (create, start, end, exit code) ms": _times(act)}


def _live(engine: Engine, _roots: Callable[[], set[int]]) -> Sample:
    def stats() -> None:
        if engine.json("GET", f"/containers/{container}/stats", stream="0", **{"one-shot": "1"})["pids_stats"]["current"] != 1:
            raise BenchError(f"{engine.name}: stats do not count one process")

    def pause() -> None:
        engine.call("POST", f"/containers/{container}/pause")
        engine.call("POST", f"/containers/{container}/unpause")

    with _running(engine) as container:
        return {"stats one-shot ms": _times(stats), "pause+unpause ms": _times(pause)}


def _files(engine: Engine, _roots: Callable[[], set[int]]) -> Sample:
    """Into a running container and out again, then its changes, and an image of them."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        member = tarfile.TarInfo("big")
        member.size = COPIED
        tar.addfile(member, io.BytesIO(os.urandom(COPIED)))
    sample: Sample = {}
    with _running(engine) as container:
        since = time.perf_counter()
        engine.call("PUT", f"/containers/{container}/archive", buffer.getvalue(), path="/root")
        sample["archive in MB/s"] = COPIED / 1e6 / (time.perf_counter() - since)
        since = time.perf_counter()
        got = drain(*engine.stream("GET", f"/containers/{container}/archive", path="/root/big"))
        sample["archive out MB/s"] = COPIED / 1e6 / (time.perf_counter() - since)
        if len(got) < COPIED:
            raise BenchError(f"{engine.name}: {len(got)} bytes came out of {COPIED}")

        def changes() -> None:
            if {"Path": "/root/big", "Kind": 1} not in engine.json("GET", f"/containers/{container}/changes"):
                raise BenchError(f"{engine.name}: what was copied is no change")

        sample["changes ms"] = _times(changes)
        since = time.perf_counter()
        made = engine.json("POST", "/commit", {}, container=container, repo="bench", tag="commit", pause="0")["Id"]
        sample[f"commit of {COPIED // 1_000_000} MB ms"] = _ms(since)
    engine.call("DELETE", f"/images/{made.removeprefix('sha256:')}", force="1")
    return sample


def _thousand(engine: Engine, roots: Callable[[], set[int]]) -> Sample:
    """What a full machine costs: the time until all are up, the next one beside the first, what the engine does when nothing happens."""

    def up(_number: int = 0) -> str:
        container = engine.create(["sleep", "1d"])
        engine.start(container)
        return container

    def one() -> float:
        since = time.perf_counter()
        container = up()
        took = _ms(since)
        engine.remove(container, force=True)
        return took

    with ThreadPoolExecutor(WIDTH) as pool:
        first, idle = statistics.median(one() for _ in range(TIMES)), pss_mib(roots())
        since = time.perf_counter()
        made = list(pool.map(up, range(CROWD)))
        sample: Sample = {f"{CROWD} idle: up s": time.perf_counter() - since}
        time.sleep(SETTLE_S)
        sample[f"{CROWD} idle: engine PSS added per container MiB"] = (pss_mib(roots()) - idle) / CROWD
        before, since = cpu_s(roots()), time.perf_counter()
        time.sleep(IDLE_S)
        sample[f"{CROWD} idle: engine's CPU, % of a core"] = 100 * (cpu_s(roots()) - before) / (time.perf_counter() - since)
        sample[f"{CROWD} idle: list ms"] = _times(lambda: engine.json("GET", "/containers/json"))
        sample[f"{CROWD} idle: create+start of the next one, times the first"] = statistics.median(one() for _ in range(TIMES)) / first
        since = time.perf_counter()
        list(pool.map(lambda container: engine.remove(container, force=True), made))
        sample[f"{CROWD} idle: all removed s"] = time.perf_counter() - since
    return sample


ROWS = {
    row.name: row
    for row in (
        Row("run-none", _run("none"), samples=40, warmup=4),
        Row("run-bridge", _run("bridge"), samples=30, warmup=3),
        Row("volume", _volume, samples=30, warmup=3),
        Row("cli-run", _cli_run, samples=20, warmup=2),
        Row("start", _start, samples=20, warmup=2),
        Row("burst", _crowd, samples=3, warmup=0),
        Row("starts", _starts, samples=3),
        Row("logs", _logs, samples=3),
        Row("attach", _attach, samples=3),
        Row("exec", _exec, samples=4),
        Row("stats", _live, samples=2),
        Row("files", _files, samples=5),
        Row("load", image_rows.load, samples=5),
        Row("unpack-20k", image_rows.unpack, samples=4),
        Row("images-list-200", image_rows.listing, samples=2, warmup=0),
        Row("build", image_rows.build, samples=8),
        Row("registry", image_rows.exchange, samples=5, warmup=0),
        Row("traffic", network_rows.traffic, samples=4),
        Row("connections", network_rows.connections, samples=4),
        Row("ports", network_rows.ports, samples=4),
        Row("ports-1000", network_rows.many_ports, samples=2, warmup=0, long=True),
        Row("thousand", _thousand, samples=1, warmup=0, long=True),
    )
}
# rows of the table that come out of one measurement of fifty containers
ROWS.update(dict.fromkeys(("list", "inspect", "memory"), ROWS["burst"]))
ROWS["pause"] = ROWS["stats"]
ROWS["save"] = ROWS["load"]
ROWS.update(dict.fromkeys(("archive", "changes", "commit"), ROWS["files"]))
