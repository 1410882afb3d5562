"""The private Redis as ``up`` configures it: a user per role, and queues that outlive it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from workers.platform import parts, prepare
from workers.platform.places import Places
from workers.resp import Address, Redis, RedisError

pytestmark = [pytest.mark.guest, pytest.mark.requires("root")]


class Server:
    def __init__(self, places: Places) -> None:
        self.places = places
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        part = next(part for part in parts.supervised(self.places, Path("/")) if part.name == "redis")
        assert part.identity is not None
        self.process = subprocess.Popen(
            part.argv, cwd=part.folder, env=part.environment, stdout=subprocess.DEVNULL,
            user=part.identity.uid, group=part.identity.gid, extra_groups=part.identity.groups,
        )  # fmt: skip
        deadline = time.monotonic() + 30
        while True:
            try:
                self.user("admin").execute(("PING",))
                return
            except (OSError, RedisError):
                assert time.monotonic() < deadline and self.process.poll() is None
                time.sleep(0.02)

    def stop(self, with_signal: signal.Signals = signal.SIGTERM) -> None:
        assert self.process is not None
        self.process.send_signal(with_signal)
        self.process.wait(20)

    def user(self, name: str) -> Redis:
        return Redis(Address.parse(self.places.redis_url(name)))


@pytest.fixture
def redis(open_folder: Path) -> Iterator[Server]:
    places = Places.from_environment({"SLIPWAY_DATA": str(open_folder / "data"), "SLIPWAY_RUN": str(open_folder / "run")})
    places.app.mkdir(parents=True)
    prepare.ensure_user(places)
    prepare.make_folders(places)
    prepare.make_keys(places)
    prepare.write_redis_configuration(places)
    server = Server(places)
    server.start()
    yield server
    server.stop()


def test_nobody_comes_in_without_a_name(redis: Server) -> None:
    anonymous = Redis(Address(path=str(redis.places.redis_socket)))
    with pytest.raises(RedisError, match="NOAUTH"):
        anonymous.execute(("PING",))
    for password in ("", "default"):
        with pytest.raises(RedisError):
            Redis(Address(path=str(redis.places.redis_socket), user="default", password=password or "x")).execute(("PING",))


def test_the_host_reaches_queues_and_answers_only(redis: Server) -> None:
    host = redis.user("host")
    host.execute(("LPUSH", "panel", "event"), ("LPUSH", "reply.abc", "{}"), ("LPUSH", "host.local", "task"), ("PUBLISH", "events", "x"))
    redis.user("panel").execute(("SET", "slipway.channels:secret", "of a browser"))
    for command in (("GET", "slipway.channels:secret"), ("KEYS", "*"), ("FLUSHALL",), ("CONFIG", "GET", "*"), ("ACL", "LIST")):
        with pytest.raises(RedisError, match="NOPERM"):
            host.execute(command)


def test_the_panel_does_not_administer(redis: Server) -> None:
    for command in (("CONFIG", "GET", "*"), ("ACL", "LIST"), ("SHUTDOWN",)):
        with pytest.raises(RedisError, match="NOPERM"):
            redis.user("panel").execute(command)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_what_was_queued_is_there_after_a_restart(redis: Server, end: signal.Signals) -> None:
    """Also what came in a transaction: Redis replays its file as the user "default", whose rights decide."""
    host = redis.user("host")
    host.execute(("LPUSH", "host.local", "plain"), ("MULTI",), ("LPUSH", "host.local", "in a transaction"), ("EXEC",))
    time.sleep(1.1)  # appendfsync everysec
    redis.stop(end)
    redis.start()
    assert redis.user("admin").execute(("LRANGE", "host.local", 0, -1)) == [[b"in a transaction", b"plain"]]


def test_strangers_do_not_reach_the_socket(redis: Server) -> None:
    code = f"import socket; socket.socket(socket.AF_UNIX).connect({str(redis.places.redis_socket)!r})"
    done = subprocess.run(
        ["/usr/bin/python3", "-c", code], user=65534, group=65534, extra_groups=[], capture_output=True, text=True, check=False
    )
    assert "PermissionError" in done.stderr
    assert os.stat(redis.places.etc / "users.acl").st_mode & 0o007 == 0
