"""kill -9 of each part while a container writes and ends: its log is whole, its exit code known, the platform healthy again."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support import machine
from tests.support.platform import Platform

pytestmark = [pytest.mark.requires("root", "overlay", "userns", "cgroup", "docker"), pytest.mark.guest]

LINES = 100_000
# a thousand lines at a time, a pause between: the kill falls into the middle of the writing
WRITER = f"i=1; while [ $i -le {LINES} ]; do j=$((i+999)); seq $i $j; i=$((j+1)); sleep 0.02; done; exit 7"
PARTS = ("redis", "web", "panel-worker", "host-worker", "agent", "netd", "launcher", "logger", "keeper")


@pytest.mark.parametrize("part", PARTS)
def test_killed_part_loses_nothing(platform: Platform, part: str) -> None:
    name = f"writer-{part}"
    platform.docker("run", "-d", "--name", name, "busybox", "sh", "-c", WRITER)
    try:
        victim = platform.part(part)["pid"]
        time.sleep(0.3)
        os.kill(victim, signal.SIGKILL)
        platform.wait_healthy(15.0 * machine.slowness())
        assert platform.part(part)["pid"] != victim
        assert platform.docker("wait", name, timeout_s=280).stdout == "7\n"
        assert platform.docker("logs", name).stdout == "".join(f"{number}\n" for number in range(1, LINES + 1))
    finally:
        platform.docker("rm", "-f", name, check=False)


def test_what_is_removed_at_its_end_is_read_first(platform: Platform) -> None:
    """`docker run --rm`, and a logger that comes late: the container has ended before its output is in the log."""
    logger = platform.part("logger")["pid"]
    events = ["docker", "events", "--filter", "container=late", "--filter", "event=die", "--since", str(time.time())]
    environment = {**os.environ, "DOCKER_HOST": f"unix://{platform.socket('demo')}"}
    os.kill(logger, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(1) as pool, subprocess.Popen(events, env=environment, stdout=subprocess.PIPE) as told:
            run = pool.submit(platform.docker, "run", "--rm", "--name", "late", "busybox", "echo", "here")
            assert told.stdout is not None and told.stdout.readline()
            told.terminate()
            time.sleep(0.5)
            os.kill(logger, signal.SIGCONT)
            assert run.result().stdout == "here\n"
    finally:
        os.kill(logger, signal.SIGCONT)
