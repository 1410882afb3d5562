"""The application called in process, over rows in a real database. What needs a host is in tests/conformance."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from controlpanel.base import database, live
from controlpanel.containers import projection as containers
from controlpanel.containers.models import Container
from controlpanel.dockerapi.app import application
from controlpanel.hosts import queries as hosts
from controlpanel.hosts.models import Host
from controlpanel.images import projection as images
from controlpanel.images.models import Image, Tag
from controlpanel.networks import projection as networks
from controlpanel.tenants import access
from controlpanel.tenants.models import Tenant
from engine.model import codec
from engine.model.container import ContainerSpec, ContainerState, Status

BUSYBOX = "sha256:" + "e7924ab6" * 8


@dataclass
class Answer:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        return str(self.json["message"])


class Api:
    """Asks as root on a tenant's socket, unless told otherwise."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()

    def __call__(self, method: str, target: str, *, body: Any = None, tenant: str = "demo", uid: int | None = 0, **headers: str) -> Answer:
        return self.runner.run(self._ask(method, target, body, tenant, uid, headers))

    def within(self, seconds: float, method: str, target: str, body: bytes) -> Answer | None:
        """None when the client hung up before there was an answer."""

        async def ask() -> Answer | None:
            try:
                async with asyncio.timeout(seconds):
                    return await self._ask(method, target, body, "demo", 0, {})
            except TimeoutError:
                return None

        return self.runner.run(ask())

    async def _ask(self, method: str, target: str, body: Any, tenant: str, uid: int | None, headers: dict[str, str]) -> Answer:
        path, _, query = target.partition("?")
        data = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else b""
        if body is not None:
            headers = {"content_type": "application/json", **headers}
        caller = (
            {"listener": f"tenant-{tenant}", "peer": {"pid": 1, "uid": uid, "gid": 0}}
            if uid is not None
            else {"listener": "http", "peer": None}
        )
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
            "client": ("127.0.0.1", 4711),
            "extensions": {"http.hijack": {**caller, "certificate": None}},
        }
        answer, sent = Answer(), [False]

        async def receive() -> dict[str, Any]:
            if sent[0]:
                await asyncio.sleep(60)
            sent[0] = True
            return {"type": "http.request", "body": data, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            else:
                answer.body += message.get("body", b"")

        await application(scope, receive, send)
        return answer

    def with_live_feed(self, method: str, target: str) -> Answer:
        """The same while the web process' hub runs, which the events stream listens to."""

        async def both() -> Answer:
            await live.start()
            try:
                return await self._ask(method, target, None, "demo", 0, {})
            finally:
                await live.stop()

        return self.runner.run(both())


@pytest.fixture
def api(transactional_db: None) -> Iterator[Api]:
    """With tenants demo and other, and a public busybox image."""
    _forget()
    for name in ("demo", "other"):
        Tenant.objects.create(name=name)
    config = {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"], "Env": ["PATH=/bin"]}, "rootfs": {"type": "layers"},
              "history": [{"created": "2025-01-01T00:00:00Z", "created_by": "tests"}]}  # fmt: skip
    row = Image.everywhere.create(
        image_id=BUSYBOX,
        config=config,
        diff_ids=["sha256:" + "ab" * 32],
        chain_ids=["cd" * 32],
        size_bytes=1984230,
        created="2025-01-01T00:00:00Z",
    )
    Tag.everywhere.create(image=row, ref="busybox:latest")
    asked = Api()
    with asked.runner:
        yield asked
    database.close_all()
    _forget()


def _forget() -> None:
    containers.clear()
    images.clear()
    networks.clear()
    hosts.forget_caches()
    access._known.clear()


def put_container(name: str, *, tenant: str = "demo", status: Status = Status.RUNNING, **spec: Any) -> str:
    """A row as the host's answers leave it; its id. ``age_s``: how long ago it was made and started."""
    age_s, exit_code = spec.pop("age_s", 5), spec.pop("exit_code", 3)
    now = time.time_ns() - int(age_s * 1e9)
    owner = Tenant.objects.get(name=tenant)
    container_id = spec.pop("id", None) or f"{Container.everywhere.count() + 1:02x}" * 32
    words = {"args": ("sleep", "3000"), "image": "busybox", "image_id": BUSYBOX, **spec}
    wanted = ContainerSpec(id=container_id, tenant=tenant, name=name, **words)
    ran = status is not Status.CREATED
    state = ContainerState(
        id=container_id,
        status=status,
        seq={Status.CREATED: 0, Status.RUNNING: 1}.get(status, 2),
        run=int(ran),
        pid=4711 if status is Status.RUNNING else 0,
        exit_code=exit_code if status is Status.EXITED else 0,
        started_at_ns=now if ran else 0,
        finished_at_ns=now if status is Status.EXITED else 0,
        ip_address="10.128.0.2" if status is Status.RUNNING else "",
        prefix_len=20,
        gateway="10.128.0.1",
        mac_address="02:42:0a:80:00:02",
    )
    Container.everywhere.create(
        tenant=owner,
        host=Host.here(),
        engine_id=container_id,
        name=name,
        image_id=wanted.image_id,
        image=wanted.image,
        spec=codec.to_json(wanted),
        docker_config={"Image": wanted.image, "Cmd": list(wanted.args), "Env": ["PATH=/bin"], "Labels": wanted.labels},
        docker_host_config={},
        status=status.value,
        state=codec.to_json(state),
        host_seq=state.seq,
        version=1,
        created_at_ns=now,
    )
    containers.clear()
    return container_id
