"""Allow-lists in a whole platform: by label and by REST, between two networks of a tenant that meet at a published port."""

from __future__ import annotations

import subprocess

import pytest

from tests.flows.test_rest import Rest
from tests.support.platform import Platform, free_port

pytestmark = [pytest.mark.requires("root", "overlay", "userns", "cgroup", "nft"), pytest.mark.timeout(240)]


@pytest.fixture
def address() -> str:
    """Of the host, as its default route has it."""
    words = subprocess.run(["ip", "-4", "route", "get", "198.51.100.1"], capture_output=True, text=True, check=True).stdout.split()
    return words[words.index("src") + 1]


def test_a_list_holds_at_once_and_after_a_restart(platform: Platform, address: str) -> None:
    rest, port = Rest(platform), free_port()
    docker = platform.docker
    docker("network", "create", "--label", f"io.slipway.egress=tcp {address} {port}", "back")
    docker("network", "create", "front")
    docker("run", "-d", "--name", "web", "--network", "front", "-p", f"{port}:80", "busybox", "nc", "-ll", "-p", "80", "-e", "echo", "here")
    docker("run", "-d", "--name", "client", "--network", "back", "busybox", "sleep", "600")

    def reaches() -> bool:
        asked = docker("exec", "client", "sh", "-c", f"nc -w 2 {address} {port} </dev/null", check=False)
        return asked.stdout == "here\n"

    try:
        assert rest("GET", "demo/networks/back/rules") == (200, {"egress": [f"tcp {address} {port}"], "ingress": None})
        assert reaches()
        none = {"egress": [], "ingress": None}
        assert rest("PUT", "demo/containers/client/rules", none) == (200, none)
        assert not reaches()
        docker("restart", "-t", "0", "client")
        assert not reaches()
        assert rest("GET", "demo/containers/client/rules") == (200, none)
        assert rest("PUT", "demo/containers/client/rules", {})[0] == 200
        assert reaches()
        assert rest("PUT", "demo/networks/front/rules", {"ingress": ["tcp 203.0.113.0/24 80"]})[0] == 200
        assert not reaches()
        assert rest("PUT", "demo/networks/front/rules", {"ingress": ["tcp 203.0.113.0/24", "tcp 10.0.0.0/8 80"]})[0] == 200
        assert reaches()
        status, refused = rest("PUT", "demo/networks/front/rules", {"ingress": ["tcp 203.0.113.1/24"]})
        assert status == 400 and "has host bits set" in refused["error"]["message"]
        assert rest("PUT", "demo/containers/web/bandwidth", {"into": "10mbit", "out": "2MB"}) == (
            200,
            {"into": 1_250_000, "out": 2_000_000},
        )
        assert reaches()
        docker("restart", "-t", "0", "web")
        assert rest("GET", "demo/containers/web/bandwidth")[1] == {"into": 1_250_000, "out": 2_000_000}
        assert reaches()
        assert Rest(platform, role="operator")("PUT", "demo/networks/front/rules", none)[0] == 403
    finally:
        docker("rm", "-f", "web", "client")
        docker("network", "rm", "front", "back")
