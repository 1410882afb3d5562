"""What one tenant's reads cost beside 10 tenants and beside 1,000: ``python -m tests.bench.tenants``; on PostgreSQL when one is installed.

For each list, inspect and page: statements, and processor time (all threads, p50, ms) warm and with nothing kept in memory; then how many
times that is what it takes with 10 tenants. The limit is 1.3. Counts hold beside other work, processor time nearly; ratios want quiet.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from tests.support import postgres, scratch

TENANTS: Final = (10, 1000)
TIMES: Final = 15
LIMIT: Final = 1.3
EACH: Final = {
    "containers": 10,
    "networks": 3,
    "volumes": 5,
    "images": 2,
    "events": 30,
    "records": 30,
    "operations": 20,
    "builds": 5,
    "tokens": 3,
    "invitations": 3,
}
_IMAGE: Final = "sha256:" + "ab" * 32
_DAY_NS: Final = 86_400 * 10**9
Cost = dict[str, float]  # statements, warm, cold


# -- rows ------------------------------------------------------------------------------------------------


def fill(first: int, count: int, each: dict[str, int] = EACH) -> None:
    """Tenants t<first> … with an owner of the same name, in bulk; ``each`` is how many of what."""
    from controlpanel.accounts.models import User
    from controlpanel.hosts.models import Host
    from controlpanel.images.models import Image, Tag
    from controlpanel.tenants.models import Membership, Project, Tenant

    host = Host.here()
    if not Image.everywhere.filter(tenant=None).exists():
        public = Image.everywhere.create(
            image_id=_IMAGE, config={"config": {"Cmd": ["sh"]}, "os": "linux", "architecture": "amd64"}, size_bytes=1
        )
        Tag.everywhere.create(image=public, ref="busybox:latest")
    names = [f"t{number}" for number in range(first, first + count)]
    tenants = Tenant.objects.bulk_create([Tenant(name=name) for name in names])
    users = User.objects.bulk_create([User(username=name, password="!") for name in names])
    Membership.everywhere.bulk_create(
        [Membership(tenant=tenant, user=user, role="owner") for tenant, user in zip(tenants, users, strict=True)]
    )
    projects = Project.everywhere.bulk_create([Project(tenant=tenant, name="web") for tenant in tenants])
    for tenant, project in zip(tenants, projects, strict=True):
        _fill_one(tenant, project, host, each)


def _fill_one(tenant: Any, project: Any, host: Any, each: dict[str, int]) -> None:
    from django.utils import timezone

    from controlpanel.accounts.models import Token
    from controlpanel.audit.models import Record
    from controlpanel.builds.models import Build
    from controlpanel.events.models import Event
    from controlpanel.hosts.models import Operation
    from controlpanel.images.models import Image, Tag
    from controlpanel.metrics.models import ContainerTraffic, TenantTraffic
    from controlpanel.networks.models import Network
    from controlpanel.tenants.models import Invitation
    from controlpanel.volumes.models import Volume

    key, now = f"{tenant.pk:024x}", time.time_ns()
    containers = [_container(tenant, project, host, f"{key}{number:040x}", f"c{number}") for number in range(each["containers"])]
    type(containers[0]).everywhere.bulk_create(containers)
    month = time.strftime("%Y-%m", time.gmtime())
    TenantTraffic.everywhere.create(tenant=tenant, month=month, book="b", into_bytes=1)
    ContainerTraffic.everywhere.bulk_create(
        [ContainerTraffic(tenant=tenant, container=row.engine_id, month=month, book="b", into_bytes=1) for row in containers]
    )
    Network.everywhere.bulk_create(
        [
            Network(
                tenant=tenant,
                host=host,
                project=project,
                network_id=f"{key}{number:040x}",
                name=f"n{number}",
                state=Network.READY,
                created_ns=now,
                pool={"subnet": "10.200.0.0/24", "gateway": "10.200.0.1"},
            )
            for number in range(each["networks"])
        ]
    )
    Volume.everywhere.bulk_create(
        [Volume(tenant=tenant, project=project, name=f"v{number}", driver="local", created_ns=now) for number in range(each["volumes"])]
    )
    images = [
        Image(tenant=tenant, image_id=f"sha256:{key}{number:040x}", config={"config": {}}, size_bytes=1, created="2026-01-01T00:00:00Z")
        for number in range(each["images"])
    ]
    Tag.everywhere.bulk_create(
        [Tag(tenant=tenant, image=row, ref=f"app{n}:1") for n, row in enumerate(Image.everywhere.bulk_create(images))]
    )
    Event.everywhere.bulk_create(
        [
            Event(tenant=tenant, time_ns=now - number * 10**9, type="container", action="start", actor_id=key)
            for number in range(each["events"])
        ]
    )
    Record.objects.bulk_create(
        [
            Record(
                tenant_number=tenant.pk,
                number=n + 1,
                time_ns=now,
                actor="root",
                door="cli",
                verb="container.create",
                object="c0",
                hash="0" * 64,
            )
            for n in range(each["records"])
        ]
    )
    Operation.everywhere.bulk_create(
        [
            Operation(
                tenant=tenant,
                host=host,
                verb="container.start",
                object="c0",
                actor="root",
                door="cli",
                task="x",
                key=key,
                payload={},
                state=Operation.DONE,
            )
            for _ in range(each["operations"])
        ]
    )
    Build.everywhere.bulk_create(
        [
            Build(
                tenant=tenant,
                build_id=f"{key}{number:08x}",
                actor="root",
                door="cli",
                state=Build.DONE,
                began_ns=now - _DAY_NS,
                ended_ns=now,
            )
            for number in range(each["builds"])
        ]
    )
    Token.objects.bulk_create([Token.make(tenant=tenant, role="viewer", name=f"k{number}")[0] for number in range(each["tokens"])])
    over = timezone.now() + timedelta(days=1)
    Invitation.everywhere.bulk_create(
        [Invitation(tenant=tenant, role="viewer", digest=f"{key}{number:040x}", expires_at=over) for number in range(each["invitations"])]
    )


def _container(tenant: Any, project: Any, host: Any, digits: str, name: str) -> Any:
    from controlpanel.containers import rows
    from engine.model.container import ContainerSpec

    spec = ContainerSpec(id=digits, tenant=tenant.name, name=name, image_id=_IMAGE, image="busybox", args=("true",))
    row = rows.new(tenant, host, spec, config={}, host_config={}, network_names={}, project_id=project.pk, created_at_ns=time.time_ns())
    row.docker_config = {"Env": ["X=" + "y" * 1000]}  # a row of usual length
    row.state, row.host_seq, row.version = {"id": digits}, 0, 1
    return row


# -- reads -----------------------------------------------------------------------------------------------


def reads(tenant: str) -> list[str]:
    """Addresses of all lists, inspects and pages of a tenant that its host is not asked for. Docker's begin with its version."""
    docker = ["containers/json?all=1", "containers/json?all=1&filters={%22label%22:[%22a%22]}", "containers/c1/json", "images/json",
    "images/app0:1/json",
              "images/app0:1/history", "networks", "networks/n1", "volumes", "volumes/v1", "info", "events?since=1&until=2"]  # fmt: skip
    rest = ["", "/members", "/quota", "/projects", "/projects/web", "/tokens", "/certificates", "/invitations", "/containers",
    "/containers?project=web",
            "/containers/c1", "/containers/c1/inspect", "/images", "/images/app0:1", "/networks", "/networks/n1", "/networks/n1/rules",
            "/volumes", "/builds", "/traffic", "/containers/c1/traffic", "/containers/c1/ports", "/audit", "/audit?object=c0"]  # fmt: skip
    pages = ["", "containers/", "containers/c1/", "containers/c1/inspect", "containers/c1/limits", "containers/c1/network",
    "containers/run", "images/",
             "images/view/app0:1", "networks/", "networks/view/n1", "networks/new", "volumes/", "builds/", "operations/", "audit/",
             "settings/",
             "settings/members"]  # fmt: skip
    return [
        *(f"/v1.51/{path}" for path in docker),
        "/api/v1/tenants",
        *(f"/api/v1/tenants/{tenant}{path}" for path in rest),
        *(f"/t/{tenant}/{path}" for path in pages),
    ]


def forget() -> None:
    """What this process keeps in memory of rows."""
    from controlpanel.containers import projection as containers
    from controlpanel.hosts import queries
    from controlpanel.images import projection as images
    from controlpanel.networks import projection as networks
    from controlpanel.tenants import access
    from controlpanel.volumes import projection as volumes

    for kept in (containers, images, networks, volumes):
        kept.clear()
    queries.forget_caches()
    access._known.clear()


@contextmanager
def counted() -> Iterator[list[str]]:
    """Every statement of every thread, as long as it goes through Django's cursors."""
    from django.db.backends.utils import CursorWrapper

    said: list[str] = []
    executes = {name: getattr(CursorWrapper, name) for name in ("execute", "executemany")}

    def counting(execute: Callable[..., Any]) -> Callable[..., Any]:
        def run(cursor: Any, sql: str, params: Any = None) -> Any:
            said.append(sql)
            return execute(cursor, sql, params)

        return run

    for name, execute in executes.items():
        setattr(CursorWrapper, name, counting(execute))
    try:
        yield said
    finally:
        for name, execute in executes.items():
            setattr(CursorWrapper, name, execute)


@dataclass
class Asker:
    """The owner of a tenant, at the application in this process: on its socket for Docker, else logged in."""

    tenant: str
    browser: Any

    @classmethod
    async def of(cls, tenant: str) -> Asker:
        from django.test import AsyncClient

        from controlpanel.accounts.models import User

        browser = AsyncClient()
        await browser.aforce_login(await User.objects.aget(username=tenant))
        return cls(tenant, browser)

    async def ask(self, target: str) -> bytes:
        if target.startswith("/v1."):
            return await self._docker(target)
        answer = await self.browser.get(target)
        assert answer.status_code == 200, (target, answer.status_code, answer.content[:300])
        return bytes(answer.content)

    async def _docker(self, target: str) -> bytes:
        from controlpanel.dockerapi.app import application

        path, _, query = target.partition("?")
        caller = {"listener": f"tenant-{self.tenant}", "peer": {"pid": 1, "uid": 0, "gid": 0}, "certificate": None}
        scope = {"type": "http", "method": "GET", "path": path, "query_string": query.encode(), "headers": [], "client": ("127.0.0.1", 1),
                 "extensions": {"http.hijack": caller}}  # fmt: skip
        status, data = 0, b""

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            nonlocal status, data
            status, data = message.get("status", status), data + message.get("body", b"")

        await application(scope, receive, send)
        assert status == 200, (target, status, data[:300])
        return data


async def permission_us(tenant: str) -> float:
    """What "who is it, and may they" adds to a Docker request, in µs of processor time: the mean. The answer is kept for a second."""
    from controlpanel.dockerapi import door
    from controlpanel.tenants import permissions

    caller = {"listener": f"tenant-{tenant}", "peer": {"pid": 1, "uid": 0, "gid": 0}, "certificate": None}
    scope = {"extensions": {"http.hijack": caller}, "headers": [], "path": "/containers/json"}
    began, count = time.process_time(), 0
    while time.process_time() - began < 3.0:
        permissions.require(await door.admit(scope), "container.view")
        count += 1
    return (time.process_time() - began) / count * 1e6


async def cost_of(asker: Asker, target: str, times: int = TIMES) -> Cost:
    async def p50_ms(cold: bool) -> float:
        took = []
        for _ in range(times):
            if cold:
                forget()
            began = time.process_time()
            await asker.ask(target)
            took.append((time.process_time() - began) * 1e3)
        return statistics.median(took)

    await asker.ask(target)
    forget()
    with counted() as said:
        await asker.ask(target)
    return {"statements": len(said), "warm": await p50_ms(False), "cold": await p50_ms(True)}


# -- the measurement -------------------------------------------------------------------------------------


def main() -> int:
    worst = 0.0
    with scratch.open_folder() as folder:
        worst = _compared("sqlite", f"sqlite:///{folder}/{{tenants}}.sqlite3", folder)
        if postgres.programs() is not None:
            with postgres.running(folder) as url:
                worst = max(worst, _compared("postgresql", url, folder))
    print(f"\nworst: {worst:.2f}, the limit is {LIMIT}")
    return int(worst > LIMIT)


def _compared(name: str, url: str, folder: Path) -> float:
    few, many = (_measure_in_a_process(url.format(tenants=tenants), folder, tenants) for tenants in TENANTS)
    print(f"\n| {name}: address | statements | warm, ms | cold, ms | with 10 tenants | times |\n|---|---|---|---|---|---|")
    worst = 0.0
    for target, cost in many.items():
        before = few[target]
        times = max(cost["warm"] / before["warm"], cost["cold"] / before["cold"])
        worst = max(worst, times)
        counts = f"{cost['statements']:.0f}" + ("" if cost["statements"] == before["statements"] else f" ({before['statements']:.0f})")
        print(
            f"| {target} | {counts} | {cost['warm']:.2f} | {cost['cold']:.2f} | {before['warm']:.2f}, {before['cold']:.2f} | {times:.2f} |"
        )
    return worst


def _measure_in_a_process(url: str, folder: Path, tenants: int) -> dict[str, Cost]:
    places = {"DATABASE_URL": url, "SLIPWAY_DATA": str(folder / "data"), "SLIPWAY_RUN": str(folder / "run")}
    command = [sys.executable, "-m", "tests.bench.tenants", str(tenants)]
    done = subprocess.run(command, env={**os.environ, **places}, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _measure(count: int) -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "controlpanel.settings"
    import django

    django.setup()
    from django.core.management import call_command

    from controlpanel.tenants.models import Tenant

    call_command("migrate", verbosity=0)
    there = Tenant.objects.count()
    fill(there, count - there)
    tenant = f"t{count // 2}"
    print(json.dumps(asyncio.run(_costs(tenant, count))))


async def _costs(tenant: str, count: int) -> dict[str, Cost]:
    async with _web():
        asker = await Asker.of(tenant)
        print(f"{count} tenants: the permission check takes {await permission_us(tenant):.1f} µs", file=sys.stderr)
        return {target.replace(f"/{tenant}", "/…"): await cost_of(asker, target) for target in reads(tenant)}


@asynccontextmanager
async def _web() -> AsyncIterator[None]:
    """The live feed, as in a web process: with a Redis of its own."""
    from django.conf import settings

    from controlpanel.base import live

    path = settings.SLIPWAY_RUN / "redis.sock"
    path.parent.mkdir(parents=True, exist_ok=True)
    command = ["redis-server", "--port", "0", "--unixsocket", str(path), "--save", "", "--appendonly", "no"]
    server = await asyncio.create_subprocess_exec(*command, cwd=path.parent, stdout=subprocess.DEVNULL)
    try:
        await live.start()  # which tries until there is one
        yield
        await live.stop()
    finally:
        server.terminate()
        await server.wait()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        _measure(int(sys.argv[1]))
    else:
        sys.exit(main())
