"""Launches made ahead: the same containers as all others, sooner; and what is never started leaves nothing."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from engine import errors
from engine.kernel import cgroups
from engine.model.container import LogPolicy
from engine.runtime import client
from engine.runtime.ready import PATIENCE

from .launching import Host, host, until

pytestmark = [pytest.mark.guest, pytest.mark.requires("root", "overlay", "userns", "cgroup", kernel="5.19")]

# What it is to the kernel, with what differs between any two containers cut out
PROBE = """
grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp|NSpid|NSsid|Umask)' /proc/self/status
cut -d ' ' -f 4- /proc/self/mountinfo; cat /proc/self/limits /proc/self/oom_score_adj /proc/self/cgroup /proc/self/uid_map
ls /proc/self/fd; ls -l /dev | cut -c 1-11; ls /proc/1/task; env; pwd; readlink /proc/1/exe
cat /etc/hosts /proc/sys/net/ipv4/ip_unprivileged_port_start; ls /sys/class/net
"""


@pytest.fixture(scope="module")
def engine() -> Iterator[Host]:
    with host() as running:
        yield running


def prepare(engine: Host, words: dict[str, Any]) -> str:
    """Returns its cgroup once it waits there."""
    client.prepare(engine.config, log=LogPolicy(), **words)
    until(lambda: client.is_ready(engine.config, words["id"]))
    cgroup = str(words["config"]["linux"]["cgroupsPath"])
    until(lambda: len(cgroups.pids(cgroup)) == 1)
    return cgroup


@contextmanager
def ended(engine: Host, words: dict[str, Any]) -> Iterator[None]:
    try:
        yield
    finally:
        try:
            engine.keeper.signal(words["id"], signal.SIGKILL)
        except errors.NotFound:
            pass
        engine.wait(words["id"])
        cgroups.remove(words["config"]["linux"]["cgroupsPath"])


@pytest.mark.parametrize("options", [{}, {"user": "bob", "read_only_rootfs": True}, {"tty": True}])
def test_one_made_ahead_is_as_any_other(engine: Host, options: dict[str, Any]) -> None:
    def seen(*, ahead: bool) -> str:
        words = engine.words("sh", "-c", PROBE, hostname="probe", **options)
        waiting = cgroups.pids(prepare(engine, words)) if ahead else []
        with client.launch(engine.config, **words) as launched, ended(engine, words):
            launched.start()
            assert engine.wait(words["id"]) == 0
            assert not ahead or waiting == [launched.pid]
            return re.sub(r"[0-9a-f]{64}|lowerdir=\S+|\b0:\d+\b", "", engine.output(words["id"]))

    assert seen(ahead=True) == seen(ahead=False)


def test_other_words_begin_anew(engine: Host) -> None:
    words = engine.words("sh", "-c", "ulimit -n")
    (waiting,) = cgroups.pids(prepare(engine, words))
    words["config"]["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 99, "hard": 99}]
    with client.launch(engine.config, **words) as launched, ended(engine, words):
        launched.start()
        assert launched.pid != waiting
        assert (engine.wait(words["id"]), engine.output(words["id"])) == (0, "99\n")


def test_a_command_that_is_not_there_is_told_at_the_start(engine: Host) -> None:
    words = engine.words("nonsense")
    client.prepare(engine.config, log=LogPolicy(), **words)
    with (
        pytest.raises(errors.InvalidArgument, match="executable file not found") as refused,
        client.launch(engine.config, **words) as launched,
    ):
        launched.start()
    assert refused.value.detail["exit_code"] == 127
    engine.assert_nothing_left(words["id"], words["config"]["linux"]["cgroupsPath"])


def test_a_discarded_one_leaves_nothing_and_the_container_starts_all_the_same(engine: Host) -> None:
    words = engine.words("true")
    cgroup = prepare(engine, words)
    client.discard(engine.config, words["id"])
    engine.assert_nothing_left(words["id"], cgroup)
    client.discard(engine.config, words["id"])
    with client.launch(engine.config, **words) as launched, ended(engine, words):
        launched.start()
        assert engine.wait(words["id"]) == 0


def test_who_is_not_started_soon_ends(engine: Host) -> None:
    words = engine.words("true")
    cgroup = prepare(engine, words)
    until(lambda: not cgroups.exists(cgroup))
    engine.assert_nothing_left(words["id"], cgroup)


def test_a_killed_launcher_takes_them_along(engine: Host) -> None:
    words = engine.words("true")
    cgroup = prepare(engine, words)
    os.kill(engine.part("launcher"), signal.SIGKILL)
    until(lambda: not cgroups.pids(cgroup))
    assert not client.is_ready(engine.config, words["id"])
    with client.launch(engine.config, **words) as launched, ended(engine, words):
        launched.start()
        assert engine.wait(words["id"]) == 0


def test_who_creates_without_starting_gets_none(engine: Host) -> None:
    made = []
    for _ in range(PATIENCE + 3):
        words = engine.words("true")
        client.prepare(engine.config, log=LogPolicy(), **words)
        made.append(client.is_ready(engine.config, words["id"]))
        client.discard(engine.config, words["id"])
        engine.assert_nothing_left(words["id"], words["config"]["linux"]["cgroupsPath"])
    assert made.count(False) >= 2
    words = engine.words("true")
    with client.launch(engine.config, **words) as launched, ended(engine, words):
        launched.start()
        assert engine.wait(words["id"]) == 0
