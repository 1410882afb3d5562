"""Every address that changes something, found in the routers themselves: whoever may not use it is in the log, and whoever does, too.

A new address without a line in the tables below fails here.
"""

from __future__ import annotations

import re
from typing import Any, Final

import pytest
from django.test import AsyncClient
from django.urls import URLPattern, URLResolver, get_resolver

from controlpanel.api import document
from controlpanel.audit.models import REFUSED, Record
from controlpanel.base import database
from controlpanel.dockerapi import absent, router
from controlpanel.tenants import refusals
from tests.controlpanel.dockerapi.conftest import Api

pytestmark = pytest.mark.usefixtures("web", "image", "container")

_SAFE: Final = ("GET", "HEAD")
_VICTOR: Final = 1003  # his unix user
_NAMES: Final = {"tenant": "acme", "token_id": "1", "certificate_id": "1", "number": "1"}
_QUERY: Final = "name=zz&h=1&w=1&path=/&repo=x&tag=y&container=web&fromImage=busybox&stdin=1&stream=1&id=x"

_CHANGES_NOTHING: Final = {
    "POST /containers/{id}/wait": "waits",
    "POST /session": "says how to build without it",
    "POST /grpc": "the same",
    "POST /api/v1/tenants/{tenant}/containers/{name}/wait": "waits",
    "POST /api/v1/tenants/{tenant}/image-there": "asks a registry about an image",
    "POST /accounts/language/": "the reader's own language",
}
_TAKES_NO_VERB: Final = ("POST /api/v1/tenants/{tenant}/certificates/renew",)  # whoever has one keeps it: test_walk_done.py


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "BURST", 10_000)
    monkeypatch.setattr(refusals, "_allowances", {})


async def _newest() -> Record | None:
    return await database.read(lambda: Record.objects.order_by("-pk").first())


async def _must_be_refused(route: str, ask: Any, expected: tuple[int, ...] = (403,)) -> str:
    """What is wrong with it, or ""."""
    before = await _newest()
    status = await ask()
    after = await _newest()
    if status not in expected:
        return f"{route}: a viewer gets {status}"
    if after is None or (before is not None and after.pk == before.pk):
        return f"{route}: refused without a record"
    if after.result != REFUSED or after.actor != "victor" or not after.verb or not after.detail.get("rule"):
        return f"{route}: the record says {after.actor} {after.verb} {after.result!r} {after.detail}"
    return ""


def _docker_routes() -> list[tuple[str, str]]:
    left_out = {path for _methods, path, _handler in absent.TABLE}  # each says that there is no such thing here
    rows = [(methods, path) for methods, path, _handler in router._TABLE if path not in left_out]
    return [(method, path) for methods, path in rows for method in methods.split(",") if method not in _SAFE]


async def test_docker_refuses_on_the_record(people: Any) -> None:
    people.victor.uid = _VICTOR
    await people.victor.asave()
    api, wrong = Api(), []
    for method, path in _docker_routes():
        if f"{method} {path}" in _CHANGES_NOTHING:
            continue
        where = path.replace("{id}", "web").replace("{name}", "busybox")

        async def ask(method: str = method, where: str = where) -> int:
            body = None if where.endswith("/start") else {"Image": "busybox", "Container": "web"}
            return (await api._ask(method, f"{where}?{_QUERY}", body, "acme", _VICTOR, {})).status

        wrong.append(await _must_be_refused(f"{method} {path}", ask))
    assert not any(wrong), "\n".join(filter(None, wrong))


def _example(schema: dict[str, Any], schemas: dict[str, Any]) -> Any:
    """The least that a schema takes."""
    if "$ref" in schema:
        return _example(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    if "examples" in schema:
        return schema["examples"][0]
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        return _example(schema["anyOf"][0], schemas)
    if schema.get("minItems"):
        return [_example(schema["items"], schemas)]
    kinds = {"string": "x", "integer": 1, "number": 1.0, "boolean": False, "array": []}
    if schema.get("type") in kinds:
        return kinds[schema["type"]]
    return {name: _example(schema["properties"][name], schemas) for name in schema.get("required", ())}


async def test_rest_refuses_on_the_record(people: Any) -> None:
    victor, made, wrong = AsyncClient(), document(), []
    await victor.aforce_login(people.victor)
    schemas = made["components"]["schemas"]
    for path, verbs in made["paths"].items():
        for method, operation in verbs.items():
            route = f"{method.upper()} {path}"
            if method.upper() in _SAFE or route in _CHANGES_NOTHING or route in _TAKES_NO_VERB:
                continue
            where = re.sub(r"\{(\w+)\}", lambda found: _NAMES.get(found[1], "web"), path)
            needed = [item["name"] for item in operation.get("parameters", []) if item["in"] == "query" and item.get("required")]
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})

            async def ask(method: str = method, where: str = where, needed: list[str] = needed, body: Any = body) -> int:
                query = "&".join(f"{name}=x" for name in needed)
                words = _example(body, schemas) if body else {}
                answer = await getattr(victor, method)(f"{where}?{query}", words, content_type="application/json")
                return int(answer.status_code)

            wrong.append(await _must_be_refused(route, ask))
    assert not any(wrong), "\n".join(filter(None, wrong))


def _pages(resolver: URLResolver, place: str = "/") -> list[str]:
    found: list[str] = []
    for pattern in resolver.url_patterns:
        where = place + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            found += _pages(pattern, where)
        elif isinstance(pattern, URLPattern):
            found.append(where)
    return found


# Sending a form there changes nothing: it is answered as it is looked at, or with 405.
_LOOKED_AT: Final = {
    "/", "/t/<str:tenant>/", "/t/<str:tenant>/containers/<str:name>/inspect", "/t/<str:tenant>/containers/<str:name>/stats",
    "/t/<str:tenant>/compare", "/t/<str:tenant>/containers/", "/t/<str:tenant>/containers/<str:name>/",
    "/t/<str:tenant>/containers/<str:name>/logs", "/t/<str:tenant>/containers/<str:name>/log.txt",
    "/t/<str:tenant>/containers/<str:name>/processes", "/t/<str:tenant>/containers/<str:name>/limits",
    "/t/<str:tenant>/containers/<str:name>/network", "/t/<str:tenant>/networks/", "/t/<str:tenant>/networks/view/<str:name>",
    "/t/<str:tenant>/images/", "/t/<str:tenant>/images/view/<path:name>", "/t/<str:tenant>/volumes/",
    "/t/<str:tenant>/volumes/view/<str:name>", "/t/<str:tenant>/builds/", "/t/<str:tenant>/builds/<str:build_id>",
    "/t/<str:tenant>/registry/", "/t/<str:tenant>/registry/view/<path:name>", "/t/<str:tenant>/registry/image/<path:ref>",
    "/t/<str:tenant>/registry/trash", "/t/<str:tenant>/registry/rules",
    "/t/<str:tenant>/operations/", "/t/<str:tenant>/settings/", "/t/<str:tenant>/settings/members", "/t/<str:tenant>/settings/roles",
    "/t/<str:tenant>/audit/", "/t/<str:tenant>/audit/export",
}  # fmt: skip


# Open to everybody, about oneself or by a link that one was given: tests/controlpanel/accounts, tenants/test_invitations.py.
_ONES_OWN: Final = {
    "/invitation/<str:secret>/", "/accounts/login/", "/accounts/login/code/", "/accounts/logout/", "/accounts/inactive/",
    "/accounts/password/", "/accounts/reauthenticate/", "/accounts/reauthenticate/code/", "/accounts/security/",
    "/accounts/sessions/end", "/accounts/sessions/<int:number>/end", "/accounts/two-step/", "/accounts/two-step/remove/",
    "/accounts/recovery/", "/accounts/recovery/new/", "/accounts/recovery/file/",
}  # fmt: skip


async def test_pages_refuse_on_the_record(people: Any) -> None:
    victor, wrong = AsyncClient(), []
    await victor.aforce_login(people.victor)
    pages = [page for page in _pages(get_resolver()) if not page.startswith("/api/")]
    assert set(pages) >= _LOOKED_AT | _ONES_OWN
    for page in pages:
        if page in _LOOKED_AT | _ONES_OWN or f"POST {page}" in _CHANGES_NOTHING:
            continue
        where = re.sub(r"<\w+:(\w+)>", lambda found: _NAMES.get(found[1], "web"), page)

        async def ask(where: str = where) -> int:
            return int((await victor.post(where, {})).status_code)

        wrong.append(await _must_be_refused(page, ask, (403, 302)))  # a button without script: back, and a sentence there
    assert not any(wrong), "\n".join(filter(None, wrong))
