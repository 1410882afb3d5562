"""Of a project's member, every address that the routers have answers about another project's things exactly as about none.

The addresses are found in the routers themselves, so a new one is walked, too.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any, Final

import pytest
from django.test import AsyncClient
from django.urls import get_resolver

from controlpanel.api import document
from controlpanel.base import database
from controlpanel.builds.models import Build
from controlpanel.containers import projection
from controlpanel.containers.models import Container
from controlpanel.dockerapi import absent, router
from controlpanel.events import log
from controlpanel.execs.models import Exec
from controlpanel.hosts.models import Host as HostRow
from controlpanel.networks.models import Network
from controlpanel.tenants import access, groups, refusals
from controlpanel.tenants.actor import command_line
from controlpanel.tenants.permissions import LABEL, require
from controlpanel.volumes.models import Volume
from engine.errors import NotFound, PermissionDenied
from tests.controlpanel.audit.test_walk import _NAMES, _example, _pages
from tests.controlpanel.dockerapi.conftest import Answer, Api

pytestmark = pytest.mark.usefixtures("web", "image")

THEIRS, NOBODYS, MINE = "zorse", "quagg", "mytub"  # of one length, and in no page of ours
_UID: Final = 1007
_ASKED_FIRST: Final = "/containers/{id}/attach/ws"  # for a handshake, whatever it is about
_SAME_IN_BOTH: Final = re.compile(r"[0-9a-f]{32,}|[0-9]{10,}")


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "BURST", 100_000)
    monkeypatch.setattr(refusals, "_allowances", {})


def _put(people: Any, image: Any, name: str, project: str, digit: str) -> str:
    """A container, a network, a volume, an exec and a build of that name, in that project; the container's id."""
    number, labels = digit * 64, {LABEL: project}
    spec = {"id": number, "tenant": "acme", "name": name, "image_id": image.image_id, "image": "busybox", "args": ["sh"], "labels": labels}
    pk = groups.projects.number_for(people.acme.pk, project)
    Container.everywhere.create(
        tenant=people.acme,
        host=HostRow.here(),
        engine_id=number,
        name=name,
        image_id=image.image_id,
        image="busybox",
        spec=spec,
        docker_config={"Image": "busybox", "Labels": labels},
        state={"id": number},
        host_seq=0,
        version=1,
        project_id=pk,
        created_at_ns=time.time_ns(),
    )
    Volume.everywhere.create(tenant=people.acme, name=name, labels=labels, project_id=pk, created_ns=time.time_ns())
    Network.everywhere.create(
        tenant=people.acme,
        host=HostRow.here(),
        network_id=number,
        name=name,
        labels=labels,
        project_id=pk,
        state=Network.READY,
        created_ns=time.time_ns(),
        asked_pool={},
        pool={},
        rules={},
    )
    exec_spec = {"id": name, "args": ["sh"]}
    Exec.everywhere.create(tenant=people.acme, exec_id=name, container=number, spec=exec_spec, created_at_ns=time.time_ns())
    Build.everywhere.create(tenant=people.acme, build_id=digit * 32, client_id=name, project=project, tags=[name], began_ns=time.time_ns())
    log.write(people.acme.pk, "container", "start", number, {"name": name}, project=project)
    log.write(people.acme.pk, "volume", "create", name, {}, project=project)
    return number


@pytest.fixture
def bob(people: Any, image: Any) -> Any:
    """May all that there is in project mine, and nothing elsewhere; project theirs has a thing of every kind."""
    people.acme.memberships.filter(user=people.bob).update(role="")
    people.bob.uid = _UID
    people.bob.save()
    groups.grant(command_line(people.acme), "admin", user="bob", project="mine")
    _put(people, image, THEIRS, "theirs", "a")
    _put(people, image, MINE, "mine", "b")
    return people.bob


def _without(name: str, text: bytes) -> str:
    return _SAME_IN_BOTH.sub("#", text.decode(errors="replace").replace(name, "NAME"))


async def _docker(api: Api, method: str, path: str, name: str) -> Answer:
    where = re.sub(r"\{\w+\}", name, path)
    query = f"name={name}&h=1&w=1&path=/&repo=x&tag=y&container={name}&fromImage=busybox&stdin=1&stdout=1&stream=1&id={name}"
    body = None if where.endswith("/start") or method in ("GET", "HEAD") else {"Image": "busybox", "Container": name}
    async with asyncio.timeout(60):
        return await api._ask(method, f"{where}?{query}", body, "acme", _UID, {})


async def test_docker_answers_about_another_projects_things_as_about_none(bob: Any) -> None:
    left_out = {path for _methods, path, _handler in absent.TABLE}
    api, wrong, walked = Api(), [], 0
    for methods, path, _handler in router._TABLE:
        if path in left_out or "{" not in path:
            continue
        for method in methods.split(","):
            theirs, nobodys = [await _docker(api, method, path, name) for name in (THEIRS, NOBODYS)]
            walked += 1
            if (theirs.status, _without(THEIRS, theirs.body)) != (nobodys.status, _without(NOBODYS, nobodys.body)):
                wrong.append(f"{method} {path}: {theirs.status} {theirs.body[:200]!r}, of none {nobodys.status} {nobodys.body[:200]!r}")
            elif path.startswith(("/containers/{", "/exec/", "/networks/{")) and path != _ASKED_FIRST and theirs.status != 404:
                wrong.append(f"{method} {path}: {theirs.status} {theirs.body[:200]!r}")
    assert not wrong, "\n".join(wrong)
    assert walked > 30


async def test_rest_answers_about_another_projects_things_as_about_none(bob: Any) -> None:
    client, made, wrong, walked = AsyncClient(), document(), [], 0
    await client.aforce_login(bob)
    schemas = made["components"]["schemas"]

    async def ask(method: str, path: str, operation: Any, name: str) -> tuple[int, str]:
        where = re.sub(r"\{(\w+)\}", lambda found: _NAMES.get(found[1], name), path)
        needed = [item["name"] for item in operation.get("parameters", []) if item["in"] == "query" and item.get("required")]
        body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
        words = {"data": _example(body, schemas), "content_type": "application/json"} if body else {}
        async with asyncio.timeout(60):
            answer = await getattr(client, method)(f"{where}?{'&'.join(f'{each}=x' for each in needed)}", **words)
        return answer.status_code, _without(name, answer.content) if not answer.streaming else ""

    for path, verbs in made["paths"].items():
        if not set(re.findall(r"\{(\w+)\}", path)) - _NAMES.keys():
            continue
        for method, operation in verbs.items():
            theirs, nobodys = [await ask(method, path, operation, name) for name in (THEIRS, NOBODYS)]
            walked += 1
            if theirs != nobodys or theirs[0] < 400:
                wrong.append(f"{method.upper()} {path}: {theirs}, of none {nobodys}")
    assert not wrong, "\n".join(wrong)
    assert walked > 60


async def test_pages_answer_about_another_projects_things_as_about_none(bob: Any) -> None:
    client, wrong = AsyncClient(), []
    await client.aforce_login(bob)
    for page in _pages(get_resolver()):
        if page.startswith("/api/") or not set(re.findall(r"<\w+:(\w+)>", page)) - _NAMES.keys():
            continue
        for method in ("get", "post"):
            statuses = []
            for name in (THEIRS, NOBODYS):
                where = re.sub(r"<\w+:(\w+)>", lambda found, name=name: _NAMES.get(found[1], name), page)  # type: ignore[misc]
                async with asyncio.timeout(60):
                    statuses.append((await getattr(client, method)(where)).status_code)
            if len(set(statuses)) != 1 or statuses[0] == 200:
                wrong.append(f"{method.upper()} {page}: {statuses[0]}, of none {statuses[1]}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "path", ["/containers/json?all=1", "/networks", "/volumes", "/system/df", "/images/json", "/events?since=1&until={now}", "/info"]
)
async def test_docker_lists_the_own_project_alone(bob: Any, path: str) -> None:
    answer = await Api()._ask("GET", path.format(now=int(time.time()) + 2), None, "acme", _UID, {})
    assert answer.status == 200 and THEIRS.encode() not in answer.body and b"a" * 64 not in answer.body
    assert path in ("/images/json", "/info") or MINE.encode() in answer.body


async def test_rest_and_pages_list_the_own_project_alone(bob: Any) -> None:
    client, shown = AsyncClient(), 0
    await client.aforce_login(bob)
    plain = [path.replace("{tenant}", "acme") for path, verbs in document()["paths"].items() if "get" in verbs and path.count("{") == 1]
    pages = ["/t/acme/" + word for word in ("", "containers/", "networks/", "volumes/", "images/", "builds/", "operations/", "settings/")]
    for where in [path for path in plain if not path.endswith("/events")] + pages:
        answer = await client.get(where)
        text = answer.content if not answer.streaming else b"".join([part async for part in answer.streaming_content])
        leaked = [part for word in (THEIRS.encode(), b"a" * 32, b"theirs") for part in re.findall(b".{80}" + word + b".{40}", text, re.S)]
        assert not leaked, (where, leaked)
        assert answer.status_code in (200, 400, 403, 404, 422, 503), where
        shown += MINE.encode() in text
    assert shown >= 6


async def test_what_is_made_carries_the_projects_label_or_the_refusal_names_it(bob: Any, host: Any) -> None:
    api = Api()

    async def make(path: str, body: dict[str, Any]) -> Answer:
        return await api._ask("POST", path, body, "acme", _UID, {})

    for path, body in (
        ("/containers/create?name=new", {"Image": "busybox"}),
        ("/volumes/create", {"Name": "new"}),
        ("/networks/create", {"Name": "new", "Labels": {LABEL: "theirs"}}),
        ("/build?t=x", {}),
    ):
        refused = await make(path, body)
        assert refused.status == 403 and f"carries the label {LABEL}=mine" in refused.message, refused.body
    mine = {LABEL: "mine"}
    made = await make("/containers/create?name=new", {"Image": "busybox", "Labels": mine, "HostConfig": {"Binds": ["data:/data"]}})
    assert made.status == 201, made.body
    asked = dict(host.asked)["slipway.container.create"]["spec"]["mounts"][0]
    assert (asked["source"], asked["labels"]) == ("data", mine)
    taken = await make("/containers/create", {"Image": "busybox", "Labels": mine, "HostConfig": {"Binds": [f"{THEIRS}:/data"]}})
    assert taken.status == 409 and taken.message == f"the volume name {THEIRS} is taken: choose another one"
    name = await make(f"/containers/create?name={THEIRS}", {"Image": "busybox", "Labels": mine})
    assert name.status == 409 and "a" * 12 not in name.message


async def test_one_may_do_in_each_project_what_was_granted_there(people: Any, bob: Any) -> None:
    root = command_line(people.acme)
    await database.run(lambda: groups.grant(root, "viewer", user="bob", project="theirs"))
    api = Api()
    assert (await api._ask("GET", f"/containers/{THEIRS}/json", None, "acme", _UID, {})).status == 200
    refused = await api._ask("DELETE", f"/containers/{THEIRS}", None, "acme", _UID, {})
    assert refused.status == 403
    assert refused.message == "denied: rule container.remove of role admin (granted to bob at project mine): it holds there alone"


async def test_a_grant_that_goes_takes_the_sight_with_it(people: Any, bob: Any) -> None:
    actor = await access.actor_for_user(bob, "acme")
    require(actor, "container.view")
    assert (await projection.container(actor, MINE)).name == MINE
    root = command_line(people.acme)
    await database.run(lambda: groups.revoke(root, groups.grants(root)[0].pk))
    with pytest.raises((NotFound, PermissionDenied)):
        await projection.container(await access.actor_for_user(bob, "acme"), MINE)
