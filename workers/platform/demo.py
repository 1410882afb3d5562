"""The first ``up``: a login, a tenant, a public image made on the spot, and a container whose log is worth watching.

The tenant and the container are made through the same doors as anybody's: management commands and the tenant's own Docker
socket. What was done is noted in <data>/etc/first-up.json, so that a later ``up`` makes nothing twice, nor again what
its owner removed.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from engine import disk
from workers.platform import prepare
from workers.platform.places import DEMO_TENANT, Places
from workers.platform.say import Refusal, step

ADMIN: Final = "admin"
CONTAINER: Final = "demo"
_SCRIPT: Final = 'i=0; while :; do i=$((i+1)); echo "$(date -u +%T) hello from slipway, line $i"; sleep 1; done'
_IMAGE: Final = "busybox:latest"
_SOCKET_WITHIN_S: Final = 60.0
_HEARD_WITHIN_S: Final = 60.0
_CREATED: Final[tuple[int, ...]] = (http.client.CREATED, http.client.CONFLICT)
_STARTED: Final[tuple[int, ...]] = (http.client.NO_CONTENT, http.client.NOT_MODIFIED)


@dataclass(frozen=True, slots=True)
class Login:
    user: str
    password: str


def first_login(places: Places, release: Path) -> Login | None:
    """The first user, when it was made just now."""
    if "admin" in _done(places):
        return None
    login = _make_admin(places, release)
    _note(places, "admin")
    return login


def first_container(places: Places, release: Path) -> None:
    """Noted when all is done: an interrupted first ``up`` is finished by the next."""
    if "demo" not in _done(places):
        step("making the demo tenant, its image busybox:latest and a container")
        _management(places, release, "tenant", "create", DEMO_TENANT, "--owner", ADMIN, "--exist-ok")
        _make_image(places)
        _run_container(places)
        _note(places, "demo")


def _done(places: Places) -> dict[str, Any]:
    return disk.read_json(places.etc / "first-up.json") or {}


def _note(places: Places, what: str) -> None:
    disk.write_json(places.etc / "first-up.json", {**_done(places), what: True}, sync=True)


def _make_admin(places: Places, release: Path) -> Login | None:
    """None when there is such a user: a restored database, or an ``up`` cut off just here. No password is changed unasked."""
    done = prepare.django(places, release, "user", "create", ADMIN, "--admin")
    if done.returncode == 0:
        return Login(ADMIN, done.stdout.split()[-1])
    if "exists" not in done.stderr:
        raise Refusal(f"the first user could not be made: {prepare.last_line(done.stderr)}")
    step(f"the user {ADMIN} is there already; `./manage.py user password {ADMIN}` gives a new password")
    return None


def _management(places: Places, release: Path, *words: str) -> str:
    done = prepare.django(places, release, *words)
    if done.returncode:
        raise Refusal(f"`{' '.join(words[:3])}` failed: {prepare.last_line(done.stderr)}")
    return done.stdout


def _make_image(places: Places) -> None:
    """Straight into the engine's store, as tenant ``public``: everybody has it. The panel hears of it from the host's inventory."""
    from engine.engine import Engine
    from engine.images import demo as image

    image.load(Engine(places.engine).images)


def _run_container(places: Places) -> None:
    api = _DockerSocket(places.tenant_socket(DEMO_TENANT))
    deadline = time.monotonic() + _HEARD_WITHIN_S
    while api.ask("GET", f"/images/{_IMAGE}/json")[0] != http.client.OK:
        if time.monotonic() > deadline:
            raise Refusal(f"the panel did not hear of the image {_IMAGE} from its host: see {places.log}/agent.log and web.log")
        time.sleep(0.1)
    body = {"Image": _IMAGE, "Cmd": ["sh", "-c", _SCRIPT]}
    api.must("POST", f"/containers/create?name={CONTAINER}", body, _CREATED)
    api.must("POST", f"/containers/{CONTAINER}/start", None, _STARTED)


class _DockerSocket:
    """The Docker API of one tenant. Web opens the socket when it hears of the tenant, so the first connection may wait."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def must(self, method: str, path: str, body: dict[str, Any] | None, expected: tuple[int, ...]) -> None:
        status, said = self.ask(method, path, body)
        if status not in expected:
            raise Refusal(f"the demo container: {status} {_message(said)}")

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("localhost", timeout=60)
        connection.sock = self._connect()
        try:
            headers = {"Content-Type": "application/json"} if body is not None else {}
            connection.request(method, f"/v1.44{path}", json.dumps(body) if body is not None else None, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def _connect(self) -> socket.socket:
        deadline = time.monotonic() + _SOCKET_WITHIN_S
        while True:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.connect(os.fspath(self._path))
                sock.settimeout(60)
                return sock
            except OSError as error:
                sock.close()
                if time.monotonic() > deadline:
                    raise Refusal(f"{self._path} does not open: {error.strerror}") from error
                time.sleep(0.05)


def _message(said: bytes) -> str:
    try:
        return str(json.loads(said)["message"])
    except (ValueError, KeyError, TypeError):
        return said.decode(errors="replace")[:200]
