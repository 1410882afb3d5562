"""The stock docker client and docker-py against a whole platform. Each test finds and leaves no containers."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import machine
from tests.support.platform import Platform

NEEDS = [pytest.mark.requires("root", "overlay", "userns", "cgroup", "nft", "docker"), pytest.mark.timeout(120, func_only=True)]


class Docker:
    """``docker`` of one tenant. Calling it runs a command to its end."""

    def __init__(self, platform: Platform, tenant: str) -> None:
        self.platform = platform
        self.tenant = tenant
        self.address = f"unix://{platform.socket(tenant)}"

    def __call__(self, *words: str, check: bool = True, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return self.platform.docker(*words, tenant=self.tenant, check=check, stdin=stdin)

    def out(self, *words: str, stdin: str | None = None) -> str:
        return self(*words, stdin=stdin).stdout.strip()

    def start(self, *words: str, **options: Any) -> subprocess.Popen[bytes]:
        """In the background: the caller ends it."""
        environment = {**os.environ, "DOCKER_HOST": self.address}
        return subprocess.Popen(["docker", *words], env=environment, **options)

    def clean(self) -> None:
        names = self.out("ps", "-aq").split()
        if names:
            self("rm", "-f", *names)


class Terminal:
    """A pseudo terminal with docker at its other end."""

    def __init__(self, docker: Docker, *words: str, rows: int = 40, columns: int = 100) -> None:
        self.master, slave = pty.openpty()
        self.resize(rows, columns)
        self.process = docker.start(*words, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
        os.close(slave)
        self.seen = b""
        self.is_over = False

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def until(self, text: str, within_s: float = 20) -> str:
        """Everything shown up to and with ``text``."""
        deadline = time.monotonic() + within_s * machine.slowness()
        while text.encode() not in self.seen:
            assert self.look(max(0, deadline - time.monotonic())), f"waited for {text!r}, saw {self.seen!r}"
            if self.is_over:
                break
        shown, _, self.seen = self.seen.partition(text.encode())
        return (shown + text.encode()).decode(errors="replace")

    def look(self, within_s: float) -> bool:
        """Reads what is shown; False when nothing came."""
        ready, _, _ = select.select([self.master], [], [], within_s)
        if ready:
            try:
                self.seen += os.read(self.master, 65536)
            except OSError:
                self.is_over = True
        return bool(ready)

    def close(self) -> int:
        code = self.process.wait(20 * machine.slowness())
        os.close(self.master)
        return code


@pytest.fixture
def docker(platform: Platform) -> Iterator[Docker]:
    client = Docker(platform, platform.tenant("stock"))  # not demo: its container is others' to watch
    client.clean()
    yield client
    client.clean()


@pytest.fixture
def other(platform: Platform) -> Iterator[Docker]:
    """Another tenant."""
    client = Docker(platform, platform.tenant("other"))
    client.clean()
    yield client
    client.clean()


@pytest.fixture
def terminal(docker: Docker) -> Iterator[Any]:
    opened: list[Terminal] = []

    def open_terminal(*words: str, **size: int) -> Terminal:
        opened.append(Terminal(docker, *words, **size))
        return opened[-1]

    yield open_terminal
    for each in opened:
        if each.process.poll() is None:
            each.process.kill()
            each.process.wait()
        with contextlib.suppress(OSError):
            os.close(each.master)
