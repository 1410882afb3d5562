"""The stock docker client through a tenant's three doors: unix socket, a context with a certificate over TLS, a bearer token; and how fast
each is shut behind whose key was taken away."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support import scratch
from tests.support.platform import Platform

pytestmark = pytest.mark.requires("root", "overlay", "userns", "cgroup", "nft", "docker")

DOORS = ("socket", "tls", "bearer")
UID = 61234  # a unix user whom the machine need not know
SPEAK = 'i=0; while :; do i=$((i+1)); echo "line $i"; sleep 0.1; done'
IN_TIME_S = 1.0


class Client:
    """docker with a configuration of its own."""

    def __init__(self, folder: Path, *, user: int | None = None, headers: dict[str, str] | None = None, **variables: str) -> None:
        folder.mkdir(mode=0o755)
        (folder / "config.json").write_text(json.dumps({"HttpHeaders": headers or {}}))
        kept = {name: value for name, value in os.environ.items() if not name.startswith("DOCKER_")}
        self._environment, self._user = {**kept, "DOCKER_CONFIG": str(folder), **variables}, user
        self._program = program = str(shutil.which("docker"))
        if user is not None:  # the one beside the tests may lie where only root gets to
            self._program = shutil.copy(program, folder)

    def __call__(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [self._program, *words]
        return subprocess.run(
            command, env=self._environment, user=self._user, input=stdin, capture_output=True, text=True, timeout=120, check=False
        )

    def ok(self, *words: str, stdin: str = "") -> str:
        done = self(*words, stdin=stdin)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    def opened(self, *words: str) -> subprocess.Popen[str]:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.Popen([self._program, *words], env=self._environment, user=self._user, text=True, **pipes)  # type: ignore[call-overload,no-any-return]


@pytest.fixture
def folder() -> Iterator[Path]:
    with scratch.open_folder() as made:
        yield made


def by_socket(platform: Platform, folder: Path, tenant: str, *, user: int | None = None) -> Client:
    return Client(folder / f"{tenant}-socket", DOCKER_HOST=f"unix://{platform.socket(tenant)}", user=user)


def by_certificate(platform: Platform, folder: Path, tenant: str, *words: str) -> Client:
    file = folder / f"{tenant}.dockercontext"
    platform.manage("context", "export", tenant, "-o", str(file), *words)
    assert file.stat().st_mode & 0o777 == 0o600
    client = Client(folder / f"{tenant}-tls", DOCKER_CONTEXT="there")
    client.ok("--context", "default", "context", "import", "there", str(file))
    return client


def by_token(platform: Platform, folder: Path, tenant: str) -> Client:
    secret = platform.manage("token", "create", "--tenant", tenant).stdout.strip()
    return Client(folder / f"{tenant}-bearer", DOCKER_HOST=f"tcp://{platform.http}", headers={"Authorization": f"Bearer {secret}"})


def walk(client: Client, name: str) -> set[str]:
    """run, logs -f, exec, rm. The names that were seen on the way."""
    client.ok("run", "-d", "--name", name, "busybox", "sh", "-c", SPEAK)
    with client.opened("logs", "-f", name) as following:
        assert following.stdout is not None
        assert [next(following.stdout) for _ in range(5)] == [f"line {number}\n" for number in range(1, 6)]
        said = "half a connection ends here, and the other half goes on\n" * 2000
        assert client.ok("exec", "-i", name, "sh", "-c", "sleep 0.2; cat", stdin=said) == said
        assert client("exec", name, "sh", "-c", "exit 3").returncode == 3
        seen = set(client.ok("ps", "--format", "{{.Names}}").split())
        client.ok("rm", "-f", name)
        assert following.wait(timeout=20) == 0
        following.stdout.read()
    return seen


def test_two_tenants_do_the_same_through_all_three_doors_at_once(platform: Platform, folder: Path) -> None:
    tenants = [platform.tenant(name) for name in ("left", "right")]
    makers = {"socket": by_socket, "tls": by_certificate, "bearer": by_token}
    clients = {(tenant, door): makers[door](platform, folder, tenant) for tenant in tenants for door in DOORS}
    with ThreadPoolExecutor(len(clients)) as pool:
        walks = {key: pool.submit(walk, client, f"{key[0]}-{key[1]}") for key, client in clients.items()}
    for (tenant, door), walked in walks.items():
        seen = walked.result()
        assert f"{tenant}-{door}" in seen and all(name.startswith(f"{tenant}-") for name in seen)


def shut(platform: Platform, folder: Path, door: str) -> tuple[Client, tuple[str, ...], str]:
    """A client, the command that shuts it out, and what it is told from then on."""
    if door == "tls":
        client = by_certificate(platform, folder, "left", "--robot", "ci", "--expires", "1h")
        (row,) = [row for row in json.loads(platform.manage("context", "list", "left", "--json").stdout) if row["name"] == "ci"]
        return client, ("context", "revoke", "left", row["prefix"]), "this certificate was revoked"
    if door == "bearer":
        client = by_token(platform, folder, "left")
        newest = json.loads(platform.manage("token", "list", "--tenant", "left", "--json").stdout)[0]
        return client, ("token", "revoke", "--tenant", "left", str(newest["id"])), "this token is unknown or expired"
    platform.manage("user", "create", "lee", "--uid", str(UID))
    platform.manage("member", "add", "left", "lee", "--role", "developer")
    return by_socket(platform, folder, "left", user=UID), ("user", "disable", "lee"), f"unix user {UID} is not linked"


@pytest.mark.parametrize("door", DOORS)
def test_who_is_shut_out_is_out_within_a_second_streams_included(platform: Platform, folder: Path, door: str) -> None:
    platform.tenant("left")
    client, command, told = shut(platform, folder, door)
    platform.docker("run", "-d", "--name", "heard", "busybox", "sh", "-c", SPEAK, tenant="left")
    streams: list[subprocess.Popen[str]] = []
    try:
        streams += [client.opened(*words) for words in (
            ("events",), ("logs", "-f", "heard"), ("attach", "--no-stdin", "heard"), ("exec", "-i", "heard", "cat"), ("wait", "heard"),
        )]  # fmt: skip
        time.sleep(1.0)
        assert [stream.poll() for stream in streams] == [None] * len(streams)
        platform.manage(*command)
        began = time.monotonic()
        for stream in streams:
            stream.wait(timeout=max(0.0, began + IN_TIME_S - time.monotonic()))
        refused = client("ps")
        assert refused.returncode == 1 and told in refused.stderr
        assert platform.docker("exec", "heard", "true", tenant="left").returncode == 0  # others go on
    finally:
        for stream in streams:
            stream.kill()
            stream.communicate()
        platform.docker("rm", "-f", "heard", tenant="left")
