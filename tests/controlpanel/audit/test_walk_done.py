"""Every address that changes something leaves a record when it is used as it is meant to: Docker's and REST's, out of their own routers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from itertools import count
from typing import Any, Final

import pytest
import pytest_asyncio
from django.conf import settings
from django.test import AsyncClient

from controlpanel.accounts.models import User
from controlpanel.api import document
from controlpanel.asgi import application
from controlpanel.audit import chain
from controlpanel.audit.models import Record
from controlpanel.base import database
from controlpanel.builds.models import Build
from controlpanel.registry import rules
from controlpanel.tenants import credentials, groups, invitations
from controlpanel.tenants.actor import Role
from tests.controlpanel import agent
from tests.controlpanel.audit.stage import INDEX_DIGEST, TAR, Stage, host_that_does_all
from tests.controlpanel.audit.test_walk import _CHANGES_NOTHING, _SAFE, _docker_routes
from tests.controlpanel.conftest import ingest, say_who, until
from tests.controlpanel.dockerapi.conftest import Api
from tests.support.tls import Keys

pytestmark = pytest.mark.usefixtures("web", "image")

_ROOT: Final = 0


@pytest_asyncio.fixture
async def stage(people: Any, host: Any) -> AsyncIterator[Stage]:
    host_that_does_all(host)
    alice = await database.read(people.actor, people.alice)
    async with agent.speaking(settings.SLIPWAY_RUN, settings.SLIPWAY_DATA):
        yield Stage(alice, host, count(1))


async def _count() -> int:
    return await database.read(Record.objects.count)


Ask = Callable[[str, Any], Awaitable[tuple[int, bytes]]]  # path and query, body → status and answer
Act = Callable[[Stage, Ask], Awaitable[tuple[int, bytes]]]


def _with(prepare: str, path: str, body: Any = None) -> Act:
    """``prepare``: methods of Stage; {container}, {network}, … in ``path`` and in the body's texts are what they made."""

    async def act(stage: Stage, ask: Ask) -> tuple[int, bytes]:
        for name in prepare.split():
            await getattr(stage, name)()
        words = {name: getattr(stage, name) for name in ("container", "network", "volume", "group")}
        filled = (
            {key: value.format(**words) if isinstance(value, str) else value for key, value in body.items()}
            if isinstance(body, dict)
            else body
        )
        before.append(await _count())
        return await ask(path.format(**words), filled)

    return act


before: list[int] = []  # records, just before the act itself: what prepared it left some, too


async def _stop(stage: Stage, ask: Ask, path: str, body: Any) -> tuple[int, bytes]:
    """A stop ends when the exit is told."""
    await stage.running()
    before.append(await _count())
    stopping = asyncio.ensure_future(ask(path.format(container=stage.container), body))
    asked = len(stage.host.verbs())
    await until(lambda: "container.stop" in stage.host.verbs()[asked:] or stopping.done())
    await ingest(stage.host.exited(stage.id))
    return await stopping


_DOCKER: Final[dict[str, Act]] = {
    "POST /auth": _with("", "/auth", {"username": "u", "password": "p", "serveraddress": "registry.example"}),
    "POST /containers/create": _with("", "/containers/create?name=made", {"Image": "busybox"}),
    "POST /containers/{id}/attach": _with("running", "/containers/{container}/attach?stream=1&stdin=1"),
    "POST /containers/{id}/start": _with("stopped", "/containers/{container}/start"),
    "POST /containers/{id}/stop": lambda stage, ask: _stop(stage, ask, "/containers/{container}/stop", None),
    "POST /containers/{id}/restart": _with("stopped", "/containers/{container}/restart"),
    "POST /containers/{id}/kill": _with("running", "/containers/{container}/kill?signal=HUP"),
    "POST /containers/{id}/pause": _with("running", "/containers/{container}/pause"),
    "POST /containers/{id}/update": _with("stopped", "/containers/{container}/update", {"PidsLimit": 50}),
    "POST /containers/{id}/rename": _with("stopped", "/containers/{container}/rename?name=renamed"),
    "DELETE /containers/{id}": _with("stopped", "/containers/{container}"),
    "POST /containers/prune": _with("stopped", "/containers/prune"),
    "POST /containers/{id}/exec": _with("running", "/containers/{container}/exec", {"Cmd": ["sh"]}),
    "PUT /containers/{id}/archive": _with("stopped", "/containers/{container}/archive?path=/", TAR),
    "POST /commit": _with("stopped", "/commit?container={container}&repo=x", {}),
    "POST /build": _with("", "/build?t=app:1", TAR),
    "POST /build/prune": _with("", "/build/prune"),
    "POST /images/load": _with("", "/images/load", TAR),
    "POST /images/create": _with("", "/images/create?fromImage=app&tag=1"),
    "POST /images/prune": _with("loaded", '/images/prune?filters={{"dangling":["false"]}}'),
    "POST /images/{name}/tag": _with("", "/images/busybox/tag?repo=mine&tag=1"),
    "POST /images/{name}/push": _with("", "/images/app/push?tag=1"),
    "DELETE /images/{name}": _with("loaded", "/images/app:1"),
    "POST /volumes/create": _with("", "/volumes/create", {"Name": "made"}),
    "POST /volumes/prune": _with("filled", '/volumes/prune?filters={{"all":["true"]}}'),
    "DELETE /volumes/{id}": _with("filled", "/volumes/{volume}"),
    "POST /networks/create": _with("", "/networks/create", {"Name": "made", "Driver": "bridge"}),
    "POST /networks/{id}/connect": _with("stopped networked", "/networks/{network}/connect", {"Container": "{container}"}),
    "POST /networks/prune": _with("networked", "/networks/prune"),
    "DELETE /networks/{id}": _with("networked", "/networks/{network}"),
}


async def _unpause(stage: Stage, ask: Ask, path: str) -> tuple[int, bytes]:
    await stage.running()
    await ask(path.replace("unpause", "pause").format(container=stage.container), None)
    before.append(await _count())
    return await ask(path.format(container=stage.container), None)


async def _exec_start(stage: Stage, ask: Ask) -> tuple[int, bytes]:
    number = await stage.exec()
    before.append(await _count())
    return await ask(f"/exec/{number}/start", {"Detach": True})


async def _cancel(stage: Stage, ask: Ask, path: str) -> tuple[int, bytes]:
    build = await database.read(lambda: Build.everywhere.order_by("-began_ns").first())
    before.append(await _count())
    return await ask(path.format(build=build.build_id if build else "none"), None)


async def _disconnect(stage: Stage, ask: Ask, path: str, name: str) -> tuple[int, bytes]:
    await stage.stopped()
    await stage.networked()
    body = {name: stage.container}
    await ask(path.replace("disconnect", "connect").format(network=stage.network), body)
    before.append(await _count())
    return await ask(path.format(network=stage.network), body)


_DOCKER.update(
    {
        "POST /containers/{id}/unpause": lambda stage, ask: _unpause(stage, ask, "/containers/{container}/unpause"),
        "POST /exec/{id}/start": _exec_start,
        "POST /build/cancel": lambda stage, ask: _cancel(stage, ask, "/build/cancel?id={build}"),
        "POST /networks/{id}/disconnect": lambda stage, ask: _disconnect(stage, ask, "/networks/{network}/disconnect", "Container"),
    }
)
_A_TERMINALS_SIZE: Final = ("POST /containers/{id}/resize", "POST /exec/{id}/resize")
_TAR_ROUTES: Final = ("/build", "/images/load", "/containers/{id}/archive")


async def _left_a_record(route: str, act: Act, stage: Stage, ask: Ask) -> str:
    before.clear()
    status, said = await act(stage, ask)
    if status >= 400 and not route.endswith("/attach"):
        return f"{route}: {status} {said[:200]!r}"
    return "" if await _count() > before[0] else f"{route}: no record"


async def test_what_docker_does_is_on_record(people: Any, stage: Stage) -> None:
    api, wrong = Api(), []

    async def ask(target: str, body: Any) -> tuple[int, bytes]:
        method, path = current
        kind = {"content_type": "application/x-tar"} if body is TAR else {}
        if path.endswith("/push"):
            kind["x_registry_auth"] = "e30="
        answer = await api._ask(method, target, body, "acme", _ROOT, kind)
        return answer.status, answer.body

    for current in _docker_routes():
        route = " ".join(current)
        if route in _CHANGES_NOTHING or route in _A_TERMINALS_SIZE:
            continue
        wrong.append(await _left_a_record(route, _DOCKER[route], stage, ask) if route in _DOCKER else f"{route}: how is it used?")
    assert not any(wrong), "\n".join(filter(None, wrong))
    assert await database.read(chain.first_broken, people.acme.pk) is None


_C: Final = "/containers/{container}"
_REST: Final[dict[str, Act]] = {
    "POST /containers": _with("", "/containers", {"image": "busybox", "name": "made"}),
    "POST /containers/{name}/start": _with("stopped", f"{_C}/start", {}),
    "POST /containers/{name}/stop": lambda stage, ask: _stop(stage, ask, f"{_C}/stop", {}),
    "POST /containers/{name}/kill": _with("running", f"{_C}/kill", {"signal": "HUP"}),
    "POST /containers/{name}/restart": _with("stopped", f"{_C}/restart", {}),
    "POST /containers/{name}/rename": _with("stopped", f"{_C}/rename", {"name": "renamed"}),
    "POST /containers/{name}/pause": _with("running", f"{_C}/pause", {}),
    "POST /containers/{name}/unpause": lambda stage, ask: _unpause(stage, ask, f"{_C}/unpause"),
    "POST /containers/{name}/update": _with("stopped", f"{_C}/update", {"pids_limit": 50}),
    "POST /containers/{name}/exec": _with("running", f"{_C}/exec", {"command": ["sh"], "detach": True}),
    "POST /containers/{name}/commit": _with("stopped", f"{_C}/commit", {"ref": "x:1"}),
    "PUT /containers/{name}/files": _with("stopped", f"{_C}/files?path=/", TAR),
    "PUT /containers/{name}/files/content": _with("stopped", f"{_C}/files/content?path=/x", b"x"),
    "PUT /containers/{name}/ports": _with("stopped", f"{_C}/ports", {"ports": []}),
    "PUT /containers/{name}/rules": _with("stopped", f"{_C}/rules", {}),
    "PUT /containers/{name}/bandwidth": _with("stopped", f"{_C}/bandwidth", {}),
    "DELETE /containers/{name}": _with("stopped", _C),
    "POST /container-prune": _with("stopped", "/container-prune", {}),
    "POST /networks": _with("", "/networks", {"name": "made"}),
    "POST /networks/{network}/connect": _with("stopped networked", "/networks/{network}/connect", {"container": "{container}"}),
    "POST /networks/{network}/disconnect": lambda stage, ask: _disconnect(stage, ask, "/networks/{network}/disconnect", "container"),
    "PUT /networks/{network}/rules": _with("networked", "/networks/{network}/rules", {}),
    "DELETE /networks/{network}": _with("networked", "/networks/{network}"),
    "POST /network-prune": _with("networked", "/network-prune", {}),
    "POST /volumes": _with("", "/volumes", {"name": "made"}),
    "DELETE /volumes/{name}": _with("filled", "/volumes/{volume}"),
    "POST /volume-prune": _with("filled", "/volume-prune", {"all": True}),
    "POST /volumes/{name}/rename": _with("filled", "/volumes/{volume}/rename", {"name": "renamed"}),
    "POST /volumes/{name}/clone": _with("filled", "/volumes/{volume}/clone", {"name": "cloned"}),
    "POST /volumes/{name}/resize": _with("filled", "/volumes/{volume}/resize", {"size": "128m"}),
    "POST /volumes/{name}/snapshots": _with("filled", "/volumes/{volume}/snapshots", {"name": "one"}),
    "POST /volumes/{name}/snapshots/{snapshot}/restore": _with("filled", "/volumes/{volume}/snapshots/one/restore", {}),
    "DELETE /volumes/{name}/snapshots/{snapshot}": _with("filled", "/volumes/{volume}/snapshots/one"),
    "PUT /volumes/{name}/files": _with("filled", "/volumes/{volume}/files?path=/", TAR),
    "PUT /volumes/{name}/files/content": _with("filled", "/volumes/{volume}/files/content?path=/x", b"x"),
    "DELETE /volumes/{name}/files": _with("filled", "/volumes/{volume}/files?path=/x"),
    "PUT /image-archive": _with("", "/image-archive", TAR),
    "PUT /image-rootfs": _with("", "/image-rootfs?ref=app:1", TAR),
    "POST /images": _with("", "/images", {"image": "busybox", "ref": "mine:2"}),
    "DELETE /images/{name}": _with("loaded", "/images/app:1"),
    "POST /image-prune": _with("loaded", "/image-prune", {"all": True}),
    "POST /image-pull": _with("", "/image-pull", {"ref": "app:1"}),
    "POST /image-push": _with("", "/image-push", {"ref": "app:1"}),
    "PATCH /repositories/{name}": _with("pushed", "/repositories/acme/web", {"visibility": "public"}),
    "PATCH /tags/{ref}": _with("tagged", "/tags/acme/web:1", {"pinned": True}),
    "POST /copies": _with("tagged", "/copies", {"source": "acme/web:1", "target": "acme/prod/web:1"}),
    "POST /registry/trash/restore": _with("discarded", "/registry/trash/restore", {"repository": "acme/web", "digest": INDEX_DIGEST}),
    "DELETE /registry/trash": _with("discarded", "/registry/trash"),
    "POST /registry/rules": _with("", "/registry/rules", {"kind": "keep", "repositories": "**", "last": 3}),
    "DELETE /registry/rules/{number}": lambda stage, ask: _unrule(stage, ask),
    "POST /registry/retention": _with("discarded_by_rule", "/registry/retention", {}),
    "POST /builds": _with("", "/builds", {"text": "FROM busybox", "refs": ["app:1"]}),
    "PUT /builds": _with("", "/builds", TAR),
    "POST /builds/{build_id}/cancel": lambda stage, ask: _cancel(stage, ask, "/builds/{build}/cancel"),
    "DELETE /build-cache": _with("", "/build-cache"),
    "PUT /members/{user}": _with("", "/members/charlie", {"role": "viewer"}),
    "DELETE /members/{user}": _with("", "/members/charlie"),
    "PUT /projects/{project}/quota": _with("", "/projects/web/quota", {"pids": 50}),
    "POST /tokens": _with("", "/tokens", {"name": "t", "role": "viewer"}),
    "POST /certificates": _with("", "/certificates", {"name": "c", "role": "viewer"}),
    "POST /invitations": _with("", "/invitations", {"name": "Dora", "role": "viewer"}),
    "POST /roles": _with("", "/roles", {"name": "keeper", "verbs": ["container.view"]}),
    "PUT /roles/{role}": _with("", "/roles/keeper", {"verbs": ["container.view", "container.restart"]}),
    "DELETE /roles/{role}": _with("", "/roles/keeper"),
    "POST /groups": _with("", "/groups", {"name": "night"}),
    "DELETE /groups/{group}": _with("gathered", "/groups/{group}"),
    "PUT /groups/{group}/members/{user}": _with("gathered", "/groups/{group}/members/bob"),
    "DELETE /groups/{group}/members/{user}": _with("gathered", "/groups/{group}/members/alice"),
    "POST /grants": _with("", "/grants", {"role": "viewer", "user": "bob", "project": "web"}),
}


async def _revoke(stage: Stage, ask: Ask) -> tuple[int, bytes]:
    token, _secret = await database.run(credentials.create_token, stage.alice, role=Role.VIEWER)
    before.append(await _count())
    return await ask(f"/tokens/{token.pk}", None)


async def _revoke_certificate(stage: Stage, ask: Ask) -> tuple[int, bytes]:
    row, _signed = await database.run(credentials.create_certificate, stage.alice, role=Role.VIEWER)
    before.append(await _count())
    return await ask(f"/certificates/{row.pk}", None)


async def _renew(stage: Stage, _ask: Ask) -> tuple[int, bytes]:
    row, _signed = await database.run(credentials.create_certificate, stage.alice, role=Role.VIEWER)
    before.append(await _count())
    where = {"method": "POST", "path": "/api/v1/tenants/acme/certificates/renew", "query_string": b""}
    came = {"http.hijack": {"certificate": row.digest}}  # as the TLS port says
    answer = await AsyncClient().request(**where, headers=[(b"host", b"localhost")], extensions=came)
    return answer.status_code, answer.content


async def _unrule(stage: Stage, ask: Ask) -> tuple[int, bytes]:
    row = await database.run(lambda: rules.create(stage.alice, "keep", "**", last=1))
    before.append(await _count())
    return await ask(f"/registry/rules/{row.pk}", None)


async def _uninvite(stage: Stage, ask: Ask) -> tuple[int, bytes]:
    row, _secret = await database.run(invitations.invite, stage.alice, role=Role.VIEWER, lifetime=timedelta(days=1))
    before.append(await _count())
    return await ask(f"/invitations/{row.pk}", None)


async def _policy(_stage: Stage, _ask: Ask) -> tuple[int, bytes]:
    """Of an operator of the platform, who belongs to no tenant."""
    browser, operator = AsyncClient(), await User.objects.aget(username="operator")
    await browser.aforce_login(operator)
    await say_who(browser, operator)
    before.append(await _count())
    answer = await browser.patch("/api/v1/tenants/acme/policy", {"privileged": True}, content_type="application/json")
    return answer.status_code, answer.content


async def _ungrant(stage: Stage, ask: Ask) -> tuple[int, bytes]:
    row = await database.run(lambda: groups.grant(stage.alice, "viewer", user="bob", project="db"))
    before.append(await _count())
    return await ask(f"/grants/{row.pk}", None)


_REST["DELETE /tokens/{token_id}"] = _revoke
_REST["DELETE /certificates/{certificate_id}"] = _revoke_certificate
_REST["POST /certificates/renew"] = _renew
_REST["DELETE /invitations/{number}"] = _uninvite
_REST["DELETE /grants/{number}"] = _ungrant
_REST["PATCH /policy"] = _policy


async def _sent(target: str, body: bytes, secret: str) -> tuple[int, bytes]:
    """A body that is read while it arrives, which passes Django by."""
    path, _mark, query = target.partition("?")
    headers = [(b"host", b"localhost"), (b"authorization", f"Bearer {secret}".encode()), (b"content-length", str(len(body)).encode())]
    scope = {"type": "http", "method": "PUT", "path": path, "query_string": query.encode(), "headers": headers, "client": ("127.0.0.1", 1)}
    arriving, said = [{"type": "http.request", "body": body, "more_body": False}], []

    async def receive() -> dict[str, Any]:
        if arriving:
            return arriving.pop()
        await asyncio.sleep(60)
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        said.append(message)

    await application(scope, receive, send)
    return said[0]["status"], b"".join(message.get("body", b"") for message in said[1:])


async def test_what_rest_does_is_on_record(people: Any, stage: Stage, keys: Keys) -> None:
    browser, wrong = AsyncClient(), []
    await browser.aforce_login(people.alice)
    await say_who(browser, people.alice)
    _token, secret = await database.run(credentials.create_token, stage.alice, role=Role.OWNER)
    place = "/api/v1/tenants/{tenant}"

    async def ask(target: str, body: Any) -> tuple[int, bytes]:
        if isinstance(body, bytes):
            return await _sent(place.format(tenant="acme") + target, body, secret)
        words = {} if body is None else {"data": body}
        answer = await getattr(browser, verb)(place.format(tenant="acme") + target, content_type="application/json", **words)
        parts = answer.streaming_content if answer.streaming else None
        return answer.status_code, b"".join([part async for part in parts]) if parts else answer.content

    for path, verbs in document()["paths"].items():
        for verb in verbs:
            route = f"{verb.upper()} {path}"
            if verb.upper() in _SAFE or route in _CHANGES_NOTHING:
                continue
            known = _REST.get(route.replace(place, ""))
            wrong.append(await _left_a_record(route, known, stage, ask) if known else f"{route}: how is it used?")
    assert not any(wrong), "\n".join(filter(None, wrong))
    assert await database.read(chain.first_broken, people.acme.pk) is None
