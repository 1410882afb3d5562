"""Four clients of one tenant that ask again and again, as fast as they are answered, until standard input ends. Says "ready" first.

    python -m tests.bench.storm run|exec|copy|build|ask SOCKET [CONTAINER]

A process of its own at the lowest priority, as they would sit on machines of their own: what is measured beside it is what the
platform does for them.
"""

from __future__ import annotations

import io
import os
import sys
import tarfile
import threading
from contextlib import suppress
from functools import cache
from http.client import HTTPException

from tests.bench.client import BenchError, Engine, drain

CLIENTS = 4
FILES = 100_000


def run(engine: Engine, _container: str) -> None:
    number = engine.create(["true"])
    engine.start(number)
    engine.wait(number)
    engine.remove(number)


def execute(engine: Engine, container: str) -> None:
    words = {"Cmd": ["true"], "AttachStdout": True, "AttachStderr": True}
    made = engine.json("POST", f"/containers/{container}/exec", words)["Id"]
    drain(*engine.stream("POST", f"/exec/{made}/start", hijack=True, body={"Detach": False, "Tty": False}))


def copy(engine: Engine, container: str) -> None:
    """FILES files into the container, and out of it again."""
    engine.call("PUT", f"/containers/{container}/archive", _files(), path="/")
    engine.call("GET", f"/containers/{container}/archive", path="/files")


def build(engine: Engine, _container: str) -> None:
    """Three steps, none of them from the cache."""
    engine.call("POST", "/build", _context(), nocache="1")


def ask(engine: Engine, container: str) -> None:
    engine.json("GET", "/containers/json?all=1")
    engine.json("GET", f"/containers/{container}/json")


@cache
def _context() -> bytes:
    made, text = io.BytesIO(), b"FROM busybox\nRUN seq 10000 > /a\nRUN seq 10000 > /b\n"
    with tarfile.open(fileobj=made, mode="w") as tar:
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text))
    return made.getvalue()


@cache
def _files() -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for number in range(FILES):
            tar.addfile(tarfile.TarInfo(f"files/{number}"))
    return made.getvalue()


ACTS = {"run": run, "exec": execute, "copy": copy, "build": build, "ask": ask}


def main(kind: str, path: str, container: str = "") -> None:
    os.setpriority(os.PRIO_PROCESS, 0, 19)
    with suppress(OSError), open("/proc/self/autogroup", "w") as group:  # sched(7): a session's processes have one share of the machine
        group.write("19")
    engine, act = Engine(kind, f"unix://{path}"), ACTS[kind]

    def storm() -> None:
        while True:
            with suppress(OSError, BenchError, HTTPException):
                act(engine, container)

    if act is copy:
        _files()
    print("ready", flush=True)
    for _ in range(CLIENTS):
        threading.Thread(target=storm, daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
