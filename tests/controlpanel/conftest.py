"""The panel's tests: real database, real Redis; alice owns a tenant, bob is in it, charlie is a stranger.

``host`` speaks workers.contract on the real queue, so that the panel is tested where no container can run; flows test the
whole with real hosts.
"""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import redis
from django.conf import settings

from engine import errors
from tests.support.tls import Keys


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """A private Redis where settings expect it; its address."""
    path = settings.SLIPWAY_RUN / "redis.sock"
    path.parent.mkdir(parents=True, exist_ok=True)
    words = ["--port", "0", "--unixsocket", str(path), "--save", "", "--appendonly", "no"]
    server = subprocess.Popen(["redis-server", *words], cwd=path.parent, stdout=subprocess.DEVNULL)
    try:
        client = redis.Redis(unix_socket_path=str(path))
        for _ in range(500):
            try:
                client.ping()
                break
            except redis.RedisError:
                time.sleep(0.01)
        client.close()
        yield settings.REDIS_URL
    finally:
        server.terminate()
        server.wait()
        Path(path).unlink(missing_ok=True)


@dataclass
class People:
    alice: Any  # owner of acme
    bob: Any  # developer in acme
    victor: Any  # viewer of acme
    charlie: Any  # owner of umbrella, a stranger to acme
    operator: Any
    acme: Any
    umbrella: Any

    def actor(self, user: Any, tenant: Any = None) -> Any:
        """As the panel makes one; NotFound for strangers."""
        from controlpanel.tenants import access

        return access.member(user, (tenant or self.acme).name)


@pytest.fixture
def people(transactional_db: None, redis_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[People]:
    from controlpanel.accounts.models import User
    from controlpanel.base import database
    from controlpanel.containers import projection as containers
    from controlpanel.hosts import queries
    from controlpanel.images import projection as images
    from controlpanel.networks import projection as networks
    from controlpanel.tenants import access
    from controlpanel.tenants.models import Membership, Tenant
    from controlpanel.volumes import projection as volumes

    def forget() -> None:
        containers.clear()
        images.clear()
        networks.clear()
        volumes.clear()
        queries.forget_caches()
        access._revoked({}, None)

    forget()
    monkeypatch.setattr(settings, "PASSWORD_HASHERS", ["django.contrib.auth.hashers.MD5PasswordHasher"])  # half a second less each
    users = {name: User.objects.create_user(name, password=f"{name}-has-a-password") for name in ("alice", "bob", "victor", "charlie")}
    operator = User.objects.create_user("operator", password="operator-has-a-password", is_superuser=True)
    acme, umbrella = Tenant.objects.create(name="acme"), Tenant.objects.create(name="umbrella")
    for user, tenant, role in (
        ("alice", acme, "owner"),
        ("bob", acme, "developer"),
        ("victor", acme, "viewer"),
        ("charlie", umbrella, "owner"),
    ):
        Membership.everywhere.create(user=users[user], tenant=tenant, role=role)
    yield People(**users, operator=operator, acme=acme, umbrella=umbrella)
    forget()
    database.close_all()


class Host:
    """Takes tasks off queue host.local in a thread, answers as a host does, remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.refuse: dict[str, errors.EngineError] = {}  # task → what it answers
        self.silent: set[str] = set()  # tasks that get no answer
        self.on: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {}  # verb → what it answers instead
        self.states: dict[str, dict[str, Any]] = {}
        self._redis = redis.Redis.from_url(settings.REDIS_URL)
        self._ending = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Host:
        self._redis.flushdb()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending = True
        self._thread.join()
        self._redis.close()

    def _run(self) -> None:
        while not self._ending:
            found = self._redis.brpop([f"host.{settings.SLIPWAY_HOST}"], timeout=0.05)
            if found is None:
                continue
            message = json.loads(found[1])
            task = message["headers"]["task"]
            _args, kwargs, _embed = json.loads(base64.b64decode(message["body"]))
            payload = kwargs["payload"]
            self.asked.append((task, payload))
            if task in self.silent:
                continue
            if task in self.refuse:
                answer: dict[str, Any] = {"error": self.refuse[task].to_json()}
            else:
                answer = {"ok": self._do(task.rpartition(".")[2], payload)}
            self._redis.lpush(kwargs["reply_to"], json.dumps({"operation": kwargs["operation"], **answer}))

    def _do(self, verb: str, payload: dict[str, Any]) -> dict[str, Any]:
        if verb in self.on:
            return self.on[verb](payload)
        if verb == "ensure":
            return {"host": {"name": payload["tenant"], "number": 1, "uid_start": 1 << 20, "subnet": "10.128.0.0/20"}}
        if verb == "create" and "pool" in payload["spec"]:
            pool = payload["spec"]["pool"]
            return {
                "spec": {
                    **payload["spec"],
                    "pool": pool if pool is None or pool["subnet"] else {"subnet": "10.200.0.0/24", "gateway": "10.200.0.1"},
                }
            }
        if verb in ("connect", "disconnect", "publish"):
            return {"state": self._rewired(verb, payload)}
        if verb == "create":
            spec = payload["spec"]
            endpoints = [{"spec": endpoint} for endpoint in spec.get("networks") or ()]
            if spec.get("network_mode") == "bridge":
                endpoints.insert(0, {"spec": {"network_id": ""}})
            self.states[spec["id"]] = {"id": spec["id"], "status": "created", "seq": 0, "run": 0, "pid": 0, "endpoints": endpoints}
            return {"state": self.states[payload["spec"]["id"]]}
        if verb == "start":
            run = self.states[payload["id"]]["run"] + 1
            started = {"status": "running", "run": run, "seq": 2 * run - 1, "pid": 4711, "started_at_ns": time.time_ns()}
            self.states[payload["id"]] = {"id": payload["id"], "endpoints": self.states[payload["id"]].get("endpoints"), **started}
            return {"state": self.states[payload["id"]]}
        if verb in ("limit", "shape"):
            return {"state": self.states[payload["id"]]} if payload["id"] in self.states else {"spec": {}}
        if verb == "stop":
            return {"state": self.states[payload["id"]]}
        return {}

    def _rewired(self, verb: str, payload: dict[str, Any]) -> dict[str, Any]:
        """The state with another endpoint, one less, or other ports."""
        state = {**self.states[payload["id"]]}
        state["change"] = state.get("change", 0) + 1
        endpoints = list(state.get("endpoints") or ())
        if verb == "connect":
            address = f"10.200.0.{len(endpoints) + 2}" if state["pid"] else ""
            endpoints.append({"spec": payload["endpoint"], "ip_address": address, "prefix_len": 24, "mac_address": "02:42:0a:c8:00:02"})
        elif verb == "disconnect":
            endpoints = [each for each in endpoints if each["spec"].get("network_id", "") != payload["network"]]
        else:
            state["ports"] = [{**port, "host_port": port.get("host_port") or 32768} for port in payload["ports"]]
        self.states[payload["id"]] = state = {**state, "endpoints": endpoints}
        return state

    def exited(self, container_id: str, exit_code: int = 0) -> dict[str, Any]:
        """The state after the exit of what runs."""
        state = self.states[container_id]
        state = {**state, "status": "exited", "seq": 2 * state["run"], "pid": 0, "exit_code": exit_code, "finished_at_ns": time.time_ns()}
        self.states[container_id] = state
        return state

    def verbs(self) -> list[str]:
        return [task.removeprefix("slipway.") for task, _payload in self.asked]


@pytest.fixture
def host(redis_server: str) -> Iterator[Host]:
    with Host() as running:
        yield running


@pytest_asyncio.fixture
async def web(people: People, redis_server: str) -> AsyncIterator[None]:
    """The live feed and the door down, as in a web process."""
    from controlpanel.base import live
    from controlpanel.events import autoremove
    from controlpanel.hosts import dispatch

    await live.start()
    yield
    await autoremove.stop()
    await live.stop()
    await dispatch.close()


@pytest.fixture
def image(people: People) -> Any:
    """A public busybox."""
    from controlpanel.images.models import Image, Tag

    row = Image.everywhere.create(
        tenant=None,
        image_id="sha256:" + "ab" * 32,
        config={"config": {"Cmd": ["sh"], "Env": ["PATH=/bin"]}, "os": "linux", "architecture": "amd64"},
        chain_ids=["cd" * 32],
        diff_ids=["sha256:" + "cd" * 32],
        size_bytes=2_000_000,
        created="2026-01-01T00:00:00Z",
    )
    Tag.everywhere.create(tenant=None, image=row, ref="busybox:latest")
    return row


@pytest.fixture
def keys(tmp_path: Path, settings: Any) -> Keys:
    """What ``up`` makes, in a folder of the test's."""
    settings.PANEL_DIR = settings.TLS_FOLDER = tmp_path
    settings.TLS_PORT = 2376
    from controlpanel.tenants import authority

    made = Keys(tmp_path)
    (tmp_path / "clients.pem").unlink()
    (tmp_path / "names").write_text("127.0.0.1\nlocalhost\n")
    authority.make()
    return made


async def ingest(data: dict[str, Any], *, tenant: str = "acme") -> None:
    """What the agent's stream would bring: the exit (or start) of ``data``, a ContainerState."""
    from controlpanel.base import database
    from controlpanel.events import ingest as events

    kind = "container.exited" if data["seq"] % 2 == 0 else "container.started"
    event = {"kind": kind, "tenant": tenant, "object_id": data["id"], "seq": data["seq"], "time_ns": time.time_ns(), "state": data}
    await database.run(events.apply, event)


async def say_who(browser: Any, user: Any) -> None:
    """As if ``user`` had just given the password in this browser, which is logged in."""
    session = await browser.asession()
    await session.aset("account_authentication_methods", [{"method": "password", "at": time.time()}])
    await session.aset("account_authentication_methods_user", str(user.pk))
    await session.asave()


async def until(condition: Callable[[], bool], *, within_s: float = 5.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.005)


@pytest.fixture
def container(people: People, image: Any) -> Any:
    """A row of acme's: "web", created and answered."""
    from controlpanel.containers.models import Container
    from controlpanel.hosts.models import Host as HostRow

    return Container.everywhere.create(
        tenant=people.acme,
        host=HostRow.here(),
        engine_id="fe" * 32,
        name="web",
        image_id=image.image_id,
        image="busybox",
        spec={"id": "fe" * 32, "tenant": "acme", "name": "web", "image_id": image.image_id, "image": "busybox", "args": ["sh"]},
        state={"id": "fe" * 32},
        host_seq=0,
        version=1,
        created_at_ns=time.time_ns(),
    )
