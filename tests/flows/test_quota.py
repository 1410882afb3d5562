"""Quotas and the end of a tenant, on a whole platform with the stock client."""

from __future__ import annotations

import http.client
import json
import re
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.platform import Platform

pytestmark = [pytest.mark.requires("root", "overlay", "userns", "cgroup", "nft", "docker"), pytest.mark.timeout(300)]
TENANT = "measured"


@pytest.fixture
def tenant(platform: Platform) -> Iterator[str]:
    platform.tenant(TENANT)
    yield TENANT
    platform.manage("tenant", "delete", TENANT, "--now", check=False)


class _Socket(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("docker", timeout=120)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(120)
        self.sock.connect(self._path)


def _create(path: Path, number: int) -> tuple[int, str]:
    connection = _Socket(path)
    try:
        body = json.dumps({"Image": "busybox", "Cmd": ["true"]})
        connection.request("POST", f"/v1.50/containers/create?name=c{number}", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read()).get("message", "")
    finally:
        connection.close()


def test_of_200_creates_at_once_a_quota_of_100_admits_100(platform: Platform, tenant: str) -> None:
    platform.manage("tenant", "quota", tenant, "--containers", "100")
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda number: _create(platform.socket(tenant), number), range(200)))
    assert Counter(status for status, _message in answers) == {201: 100, 403: 100}
    assert all("containers is limited to 100" in message for status, message in answers if status == 403)
    assert len(platform.docker("ps", "-aq", tenant=tenant).stdout.split()) == 100
    assert re.search(r"^containers +100 +100 +full$", platform.manage("tenant", "quota", tenant).stdout, re.MULTILINE)


def test_with_a_quota_of_disk_a_plain_run_has_a_layer_of_its_part(platform: Platform, tenant: str) -> None:
    platform.manage("tenant", "quota", tenant, "--disk", "1g")
    write = "dd if=/dev/zero of=/big bs=1M count=64 2>/dev/null || echo full"
    assert platform.docker("run", "--name", "one", "busybox", "sh", "-c", write, tenant=tenant).stdout == "full\n"
    platform.docker("volume", "create", "data", tenant=tenant)
    size = platform.docker("volume", "inspect", "-f", "{{.Options.size}}", "data", tenant=tenant).stdout
    assert size.strip() == str(32 << 20)
    refused = platform.docker("run", "--rm", "--storage-opt", "size=990m", "busybox", "true", tenant=tenant, check=False)
    assert "disk is limited to 1073741824 bytes, 67108864 are in use and 1038090240 more were asked" in refused.stderr


def test_a_tenant_is_marked_restored_and_gone_without_a_trace(platform: Platform, tenant: str) -> None:
    docker = platform.docker
    labels = ["--label", "com.docker.compose.project=shop"]
    docker("network", "create", *labels, "shop_net", tenant=tenant)
    docker(
        "run",
        "-d",
        "--name",
        "web",
        *labels,
        "--network",
        "shop_net",
        "-v",
        "data:/data",
        "-p",
        "0:80",
        "busybox",
        "sleep",
        "1d",
        tenant=tenant,
    )
    assert re.search(r"^shop +1 +0 +1 ", platform.manage("project", "list", tenant).stdout, re.MULTILINE)
    platform.manage("tenant", "delete", tenant)
    _until(lambda: not platform.socket(tenant).exists())
    assert docker("ps", tenant=tenant, check=False).returncode != 0
    platform.manage("tenant", "restore", tenant)
    _until(lambda: platform.socket(tenant).exists())
    _until(lambda: docker("ps", "--format", "{{.Names}}", tenant=tenant).stdout == "web\n")
    said = platform.manage("tenant", "delete", tenant, "--now").stdout
    counts = {line.rsplit(None, 2)[0].strip(): line.split()[-2:] for line in said.splitlines() if line[-1:].isdigit()}
    assert {kind for kind, (_removed, left) in counts.items() if left != "0"} == set()
    found = ("rows: containers", "rows: networks", "host local: networks", "host local: records", "host local: cgroups")
    assert {kind for kind in (*found, "host local: links", "host local: rules") if int(counts[kind][0]) < 1} == set()
    assert said.rstrip().endswith(f"nothing is left of tenant {tenant}")


def _until(condition: Callable[[], bool], within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)
