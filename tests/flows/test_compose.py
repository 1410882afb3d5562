"""A project as people have it: networks, names, volumes, health, ports, profiles, scale; brought up and taken down by docker compose."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support import machine
from tests.support.platform import Platform

pytestmark = pytest.mark.requires("root", "overlay", "userns", "cgroup", "nft", "docker", "compose")

TENANT = "composers"
PROJECT = """
version: "3.8"
services:
  store:
    image: busybox
    stop_signal: SIGKILL
    command: ["sh", "-c", "touch /data/log; while true; do nc -l -p 6379 -e sh -c 'echo PONG; cat >>/data/log'; done"]
    networks: [back]
    volumes: ["data:/data"]
    healthcheck: {test: ["CMD-SHELL", "test -f /data/log"], interval: 1s, timeout: 5s, retries: 30}
  web:
    image: busybox
    stop_signal: SIGKILL
    command: ["sh", "-c", "mkdir /www; echo hello from web >/www/index.html; exec httpd -f -p 80 -h /www"]
    networks: {front: {ipv6_address: "fd00:90::80"}, back: {aliases: [site]}}
    ports: ["PORT:80"]
    depends_on: {store: {condition: service_healthy}}
  worker:
    image: busybox
    stop_signal: SIGKILL
    command: ["sh", "-c", "while true; do wget -qO- http://site/; echo ping | nc -w 2 store 6379; sleep 1; done"]
    networks: [back]
    depends_on: [web]
  tool:
    image: busybox
    stop_signal: SIGKILL
    command: ["sh", "-c", "echo tool ran"]
    profiles: [tools]
networks:
  # not in 10.233.0.0/16: another worker's platform has networks there, and what lies around a foreign one is kept free
  front: {enable_ipv6: true, ipam: {config: [{subnet: 192.168.213.0/24}, {subnet: "fd00:90::/64"}]}}
  back: {internal: true}
volumes:
  data: {}
"""
Compose = Callable[..., str]


@pytest.fixture
def port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as sock:
        return int(sock.getsockname()[1])


@pytest.fixture
def compose(platform: Platform, tmp_path: Path, port: int) -> Iterator[Compose]:
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "docker-compose.yml").write_text(PROJECT.replace("PORT", str(port)))
    environment = {**os.environ, "DOCKER_HOST": f"unix://{platform.socket(platform.tenant(TENANT))}"}

    def run(*words: str) -> str:
        done = subprocess.run(
            [*machine.compose(), *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    yield run
    run("down", "-v", "--remove-orphans")


def listed(platform: Platform, *words: str) -> list[str]:
    return platform.docker(*words, tenant=TENANT).stdout.split()


def test_a_project_comes_up_works_and_goes(platform: Platform, compose: Compose, port: int) -> None:
    compose("up", "-d")
    shown = json.loads(platform.docker("inspect", *listed(platform, "ps", "-q"), tenant=TENANT).stdout)
    services = {each["Config"]["Labels"]["com.docker.compose.service"]: each for each in shown}
    assert set(services) == {"store", "web", "worker"} and services["store"]["State"]["Health"]["Status"] == "healthy"
    assert services["web"]["State"]["StartedAt"] > services["store"]["State"]["StartedAt"], "it waited for the store's health"
    assert set(services["web"]["NetworkSettings"]["Networks"]) == {"shop_front", "shop_back"}
    assert services["web"]["NetworkSettings"]["Networks"]["shop_front"]["GlobalIPv6Address"] == "fd00:90::80"
    for address in ("127.0.0.1", "[::1]"):
        assert urllib.request.urlopen(f"http://{address}:{port}/", timeout=20).read() == b"hello from web\n"

    deadline = time.monotonic() + 30 * machine.slowness()
    while not ("hello from web" in (said := compose("logs", "worker")) and "PONG" in said):
        assert time.monotonic() < deadline, said
        time.sleep(0.2)
    assert "ping" in compose("exec", "-T", "store", "cat", "/data/log")
    assert "tool ran" in compose("--profile", "tools", "run", "--rm", "tool")

    assert "ecreat" not in compose("up", "-d").replace("Created", ""), "nothing has changed, so nothing is made anew"
    compose("up", "-d", "--scale", "worker=3")
    assert len(listed(platform, "ps", "-q", "--filter", "label=com.docker.compose.service=worker")) == 3
    answers = compose("exec", "-T", "web", "nslookup", "worker")
    assert answers.count("Address") >= 4, "a service is all its containers"

    compose("down")
    assert listed(platform, "ps", "-aq") == [] and listed(platform, "volume", "ls", "-q") == ["shop_data"]
    assert set(listed(platform, "network", "ls", "--format", "{{.Name}}")) == {"bridge", "none"}
    compose("up", "-d")
    assert "ping" in compose("exec", "-T", "store", "cat", "/data/log"), "the volume has kept it"
    compose("down", "-v")
    assert listed(platform, "volume", "ls", "-q") == []
