"""The processes that build: who has done one does its tenant's next, and nobody else's."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from engine.files.desk import Desk
from engine.kernel import cgroups
from engine.model.build import BuildRequest
from engine.model.codec import to_json
from tests.engine.builds import building
from tests.engine.builds.building import TENANT, Bench

pytestmark = pytest.mark.requires("root", "overlay", "userns", "cgroup")

STEPS = "FROM busybox\nRUN echo made >/made\n"


class Yard:
    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.desk = Desk(bench.engine.config, module="engine.builds.yard")

    def builders(self, tenant: str) -> list[int]:
        return cgroups.pids(self._cgroup(tenant))

    def waiting(self, tenant: str, count: int) -> list[int]:
        """Once there are so many."""
        deadline = time.monotonic() + 10
        while len(found := self.builders(tenant)) != count:
            assert time.monotonic() < deadline, found
            time.sleep(0.01)
        return found

    def build(self, dockerfile: str, tenant: str = TENANT) -> list[dict[str, Any]]:
        request = BuildRequest(id=secrets.token_hex(16), tenant=tenant)
        memory = os.memfd_create("question")
        os.write(memory, json.dumps({"request": to_json(request)}).encode())
        client, its = socket.socketpair()
        with client:
            with its:
                job = {"op": "build", "cgroup": self._cgroup(tenant)}
                report = self.desk.hand_over(job, {"client": its.fileno(), "question": memory})
            os.close(memory)
            client.sendall(building.context(dockerfile, {}).getvalue())
            client.shutdown(socket.SHUT_WR)
            with client.makefile("rb") as said, report:
                lines = [json.loads(line) for line in said]
                assert report.recv(1) == b""
        time.sleep(0.2)  # it says that it is free behind its report
        return lines

    def _cgroup(self, tenant: str) -> str:
        self._bench.engine.ensure_tenant(tenant)
        return self._bench.engine.files.work_cgroup(tenant)


@pytest.fixture
def yard() -> Iterator[Yard]:
    with building.bench() as bench:
        made = Yard(bench)
        yield made
        made.desk.close()
        assert made.waiting(TENANT, 0) == []


@pytest.mark.guest
def test_who_has_built_builds_its_tenants_next(yard: Yard) -> None:
    assert "built" in yard.build(STEPS)[-1]
    first = yard.waiting(TENANT, 1)
    again = yard.build(STEPS)
    assert "built" in again[-1] and any("Using cache" in line.get("stream", "") for line in again)
    assert yard.waiting(TENANT, 1) == first

    assert "error" in yard.build("FROM no-such\n", "other")[-1] and "built" in yard.build("FROM scratch\nLABEL a=b\n", "other")[-1]
    assert yard.waiting("other", 1) != first == yard.waiting(TENANT, 1)


def test_one_that_was_killed_while_it_waited(yard: Yard) -> None:
    yard.build(STEPS)
    (killed,) = yard.waiting(TENANT, 1)
    os.kill(killed, signal.SIGKILL)
    yard.waiting(TENANT, 0)
    assert "built" in yard.build(STEPS)[-1]
    assert yard.waiting(TENANT, 1) != [killed]


def test_one_that_failed_does_not_stay(yard: Yard) -> None:
    yard.build(STEPS)
    assert yard.build("FROM busybox\nRUN false\n")[-1]["error"].endswith("returned a non-zero code: 1")
    yard.waiting(TENANT, 0)
    assert "built" in yard.build(STEPS)[-1]


def test_its_descriptors_do_not_grow(yard: Yard) -> None:
    counts = []
    for _ in range(5):
        yard.build(STEPS)
        (pid,) = yard.waiting(TENANT, 1)
        counts.append(len(os.listdir(f"/proc/{pid}/fd")))
    assert counts[1] == counts[-1]
