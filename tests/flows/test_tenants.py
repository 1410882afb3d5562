"""Two tenants on one machine: the same names in both, and nothing of one to be seen, signalled, reached or read from the other."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.support.platform import Platform

pytestmark = [pytest.mark.requires("root", "overlay", "userns", "cgroup", "nft", "docker"), pytest.mark.guest]


@pytest.fixture(scope="module")
def two(platform: Platform) -> Iterator[Platform]:
    """Tenants left and right, each with a container ``web`` that serves a secret."""
    for tenant in ("left", "right"):
        platform.tenant(tenant)
        serve = f"echo secret-of-{tenant} > /tmp/secret; httpd -f -p 8080 -h /tmp"
        platform.docker("run", "-d", "--name", "web", "busybox", "sh", "-c", serve, tenant=tenant)
    yield platform
    for tenant in ("left", "right"):
        platform.docker("rm", "-f", "web", tenant=tenant, check=False)
        platform.manage("tenant", "delete", tenant, "--now")


def _inspect(platform: Platform, tenant: str) -> dict[str, object]:
    return dict(json.loads(platform.docker("inspect", "web", tenant=tenant).stdout)[0])


def _address(platform: Platform, tenant: str) -> str:
    return platform.docker("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "web", tenant=tenant).stdout.strip()


def test_the_same_name_in_both(two: Platform) -> None:
    assert _inspect(two, "left")["Id"] != _inspect(two, "right")["Id"]


def test_each_sees_its_own_alone(two: Platform) -> None:
    for tenant in ("left", "right"):
        assert two.docker("ps", "-a", "--format", "{{.Names}}", tenant=tenant).stdout == "web\n"


@pytest.mark.parametrize("words", [("inspect",), ("logs",), ("kill",), ("rm", "-f"), ("stop",), ("wait",), ("start",)])
def test_the_others_id_is_unknown(two: Platform, words: tuple[str, ...]) -> None:
    other = str(_inspect(two, "right")["Id"])
    done = two.docker(*words, other, tenant="left", check=False)
    assert done.returncode != 0 or words == ("rm", "-f")  # rm -f of what is not there is fine, as in Docker
    assert "No such" in done.stderr
    assert two.docker("inspect", "-f", "{{.State.Running}}", "web", tenant="right").stdout == "true\n"


def test_own_network_works_and_the_others_does_not(two: Platform) -> None:
    fetch = "printf 'GET /secret HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {} 8080 | tail -n 1"
    own, other = _address(two, "left"), _address(two, "right")
    assert two.docker("run", "--rm", "busybox", "sh", "-c", fetch.format(own), tenant="left").stdout == "secret-of-left\n"
    assert two.docker("run", "--rm", "busybox", "sh", "-c", fetch.format(other), tenant="left").stdout == ""
    assert two.docker("run", "--rm", "busybox", "ping", "-c", "1", "-W", "1", other, tenant="left", check=False).returncode != 0


def test_root_sees_its_own_processes_alone(two: Platform) -> None:
    seen = two.docker("run", "--rm", "busybox", "ps", "-o", "args", tenant="left").stdout
    assert "httpd" not in seen
    assert len(seen.splitlines()) <= 3


def test_roots_are_different_unprivileged_ids_outside(two: Platform) -> None:
    maps = {}
    for tenant in ("left", "right"):
        words = two.docker("run", "--rm", "busybox", "cat", "/proc/self/uid_map", tenant=tenant).stdout.split()
        assert words[0] == "0"
        maps[tenant] = range(int(words[1]), int(words[1]) + int(words[2]))
    assert maps["left"].start > 65535
    assert maps["left"].stop <= maps["right"].start or maps["right"].stop <= maps["left"].start


@pytest.mark.parametrize(
    "attempt",
    [
        "mknod /dev/sda b 8 0",
        "mount -t tmpfs none /mnt",
        "cat /proc/kcore | grep -q .",
        "echo 1 > /proc/sys/kernel/core_pattern",
        "echo b > /proc/sysrq-trigger",
        "nsenter -t 1 -m true",
        "chroot /proc/1/root/../../.. sh -c 'ls /var/lib'",
        "hostname other",
        "dmesg",
    ],
)
def test_root_inside_may_not(two: Platform, attempt: str) -> None:
    done = two.docker("run", "--rm", "busybox", "sh", "-c", attempt, tenant="left", check=False)
    if attempt.startswith(("nsenter", "chroot")):
        # pid 1 and / are the container's own: whatever this shows is not the host
        assert "slipway" not in done.stdout
    else:
        assert done.returncode != 0, done.stdout
