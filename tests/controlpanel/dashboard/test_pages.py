"""Every page for alice (owner), bob (developer), victor (viewer) and charlie (a stranger)."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

import pytest
from django.db import connection
from django.test import AsyncClient
from django.test.utils import CaptureQueriesContext

from controlpanel.base import database
from controlpanel.containers import services
from controlpanel.hosts import presence
from controlpanel.images import services as images
from controlpanel.tenants import services as tenants
from controlpanel.tenants.actor import Role
from controlpanel.volumes import services as volumes
from engine.errors import FailedPrecondition, InvalidArgument
from tests.controlpanel.conftest import ingest, say_who, until

pytestmark = pytest.mark.usefixtures("web", "image")
PAGES = ["", "containers/", "images/", "networks/", "networks/view/bridge", "operations/", "settings/", "settings/members"]
_ELSEWHERE = {
    "granted": ({"type": "none", "o": "bind", "device": "/srv/data"}, "on the host, in /srv/data"),
    "quick": ({"type": "tmpfs", "device": "tmpfs"}, "in memory, as long as a container runs with it"),
    "shared": (
        {"type": "nfs", "device": ":/srv/a", "o": "addr=nas"},
        "on an NFS server, nas:/srv/a; here only in containers that run with it",
    ),
}
REFUSED = ["networks/new", "networks/prune", "networks/remove", "networks/connect", "networks/disconnect", "containers/web/ports"]
REFUSED += ["containers/run", "images/remove", "settings/tokens", "settings/certificates", "settings/members/add"]
REFUSED += ["settings/members/remove", "settings/invitations"]
REFUSED += [f"containers/web/{verb}" for verb in ("start", "stop", "kill", "remove", "pause", "unpause", "update", "rename", "commit")]
TABS = ["containers/web/", "containers/web/logs", "containers/web/stats", "containers/web/inspect"]
TABS += ["containers/web/processes", "containers/web/limits", "containers/web/network"]


async def visit(people: Any, user: str) -> AsyncClient:
    browser = AsyncClient()
    await browser.aforce_login(getattr(people, user))
    await say_who(browser, getattr(people, user))
    return browser


async def make(people: Any, name: str = "web", **words: Any) -> str:
    alice = await database.read(people.actor, people.alice)
    made = await services.create_container(alice, {"Image": "busybox", "Cmd": ["echo", "<b>&"], **words}, name=name)
    return made.id


async def text(browser: AsyncClient, path: str) -> str:
    answer = await browser.get(f"/t/acme/{path}")
    assert answer.status_code == 200, (path, answer.status_code)
    return str(answer.content.decode())


@pytest.mark.parametrize("path", PAGES + TABS + ["containers/run", "containers/web/files", "images/registry"])
async def test_owner_sees_each_page_and_a_stranger_none(people: Any, host: Any, path: str) -> None:
    await make(people)
    page = await text(await visit(people, "alice"), path)
    assert "<script>" not in page and "style=" not in page and " onclick" not in page  # the policy would block them
    answer = await (await visit(people, "charlie")).get(f"/t/acme/{path}")
    assert answer.status_code == 404
    assert "busybox" not in answer.content.decode()
    answer = await AsyncClient().get(f"/t/acme/{path}")
    assert answer.status_code == 302 and answer["Location"].startswith("/accounts/login/?next=%2Ft%2Facme%2F")


async def test_a_viewer_is_offered_nothing_and_refused_all_the_same(people: Any, host: Any) -> None:
    await make(people)
    victor = await visit(people, "victor")
    for path in (*PAGES, *TABS):
        page = await text(victor, path)
        assert "/rename" not in page and "/commit" not in page and "/files" not in page, path
        assert "/start" not in page and "/remove" not in page and "containers/run" not in page, path
    settings = await text(victor, "settings/members")
    assert (
        "alice" in settings and "invitations" not in settings and "/settings/tokens" not in settings and "container.create" not in settings
    )  # members; no audit
    for path in REFUSED:
        answer = await victor.post(f"/t/acme/{path}", {"image": "busybox"})
        assert answer.status_code == 403, path
        assert "of role viewer" in answer.content.decode()


async def test_files_of_a_container_are_for_those_who_may_read_them(people: Any, host: Any) -> None:
    await make(people)
    assert (await (await visit(people, "victor")).get("/t/acme/containers/web/files")).status_code == 403
    page = await text(await visit(people, "bob"), "containers/web/files")
    assert "docker cp web:/PATH ." in page and 'data-url="/api/v1/tenants/acme/containers/web/files"' in page


async def test_a_new_name_leads_to_the_page_of_that_name(people: Any, host: Any) -> None:
    await make(people)
    bob = await visit(people, "bob")
    answer = await bob.post("/t/acme/containers/web/rename", {"name": "shop", "then": "leave"}, headers={"hx-request": "true"})
    assert (answer.status_code, answer["HX-Redirect"]) == (200, "/t/acme/containers/shop/")
    refused = await bob.post("/t/acme/containers/shop/rename", {"name": "a b"}, headers={"hx-request": "true"})
    assert refused.status_code == 400 and "HX-Redirect" not in refused and "Invalid container name" in refused.content.decode()


async def test_a_container_is_run_from_the_form_started_stopped_and_removed(people: Any, host: Any) -> None:
    bob = await visit(people, "bob")
    form = {
        "image": "busybox",
        "name": "web",
        "command": "sh -c 'echo hi'",
        "env": "A=b c\nD=",
        "network": "none",
        "memory": "64m",
        "cpus": "0.5",
    }
    answer = await bob.post("/t/acme/containers/run", form)
    assert (answer.status_code, answer["Location"]) == (302, "/t/acme/containers/web/logs")
    spec = next(payload["spec"] for task, payload in host.asked if task.endswith("create"))
    assert spec["args"] == ["sh", "-c", "echo hi"] and spec["env"] == ["A=b c", "D=", "PATH=/bin"] and spec["network_mode"] == "none"
    assert "running" in await text(bob, "containers/")

    stopping = asyncio.ensure_future(bob.post("/t/acme/containers/web/stop", headers={"hx-request": "true"}))
    await until(lambda: "container.stop" in host.verbs())
    assert "stopping…" in await text(bob, "containers/web/")
    await ingest(host.exited(spec["id"], 137))
    toast = (await stopping).content.decode()
    assert 'role="status"' in toast and "web has stopped" in toast
    page = await text(bob, "")
    assert "exited (137)" in page and "killed (SIGKILL)" in page and "Needs attention" in page

    answer = await bob.post("/t/acme/containers/web/remove", {"then": "leave"}, headers={"hx-request": "true"})
    assert answer["HX-Redirect"] == "/t/acme/containers/"
    assert "Containers that you run appear here." in await text(bob, "containers/")


async def test_a_refusal_is_a_toast_that_stays_with_the_hosts_words(people: Any, host: Any) -> None:
    await make(people)
    host.refuse["slipway.container.start"] = FailedPrecondition("the <wheels> came off")
    answer = await (await visit(people, "bob")).post("/t/acme/containers/web/start", headers={"hx-request": "true"})
    assert answer.status_code == 409
    assert 'role="alert"' in answer.content.decode() and "the &lt;wheels&gt; came off" in answer.content.decode()
    plain = await (bob := await visit(people, "bob")).post("/t/acme/containers/web/start")
    assert plain.status_code == 302
    assert "the &lt;wheels&gt; came off" in await text(bob, "containers/web/")


async def test_networks_and_ports_on_their_pages(people: Any, host: Any) -> None:
    await make(people)
    bob = await visit(people, "bob")
    answer = await bob.post("/t/acme/networks/new", {"name": "back", "subnet": "10.200.0.7/24"})
    page = answer.content.decode()
    assert answer.status_code == 400 and "it should be 10.200.0.0/24" in page and 'value="10.200.0.7/24"' in page
    answer = await bob.post("/t/acme/networks/new", {"name": "back", "subnet": "10.200.0.0/24", "isolated": "on"})
    assert (answer.status_code, answer["Location"]) == (302, "/t/acme/networks/view/back")
    asked = next(payload["spec"] for task, payload in host.asked if task == "slipway.network.create")
    assert (asked["pool"]["subnet"], asked["icc"]) == ("10.200.0.0/24", False)
    words = {"network": "back", "container": "web", "aliases": "db", "back": "network"}
    answer = await bob.post("/t/acme/networks/connect", words)
    assert (answer.status_code, answer["Location"]) == (302, "/t/acme/networks/view/back")
    assert "does not run" in await text(bob, "networks/view/back") and "db" in await text(bob, "containers/web/network")
    answer = await bob.post("/t/acme/containers/web/ports", {"ports": "8080:80\n127.0.0.1::81/udp"})
    assert (answer.status_code, answer["Location"]) == (302, "/t/acme/containers/web/network")
    assert "8080" in await text(bob, "containers/web/network")
    answer = await bob.post("/t/acme/containers/web/ports", {"ports": "many"})
    assert answer.status_code == 400 and "many" in answer.content.decode()
    await bob.post("/t/acme/networks/disconnect", {"network": "back", "container": "web", "back": "container"})
    await bob.post("/t/acme/networks/remove", {"network": "back"})
    assert "networks/view/back" not in await text(bob, "networks/")


async def test_a_network_without_ipv4_on_its_pages(people: Any, host: Any) -> None:
    bob = await visit(people, "bob")
    words = {"name": "six", "ipv6_only": "on", "ipv6_subnet": "fd00:6::/64"}
    answer = await bob.post("/t/acme/networks/new", words)
    assert answer.status_code == 400 and answer.content.decode().count("IPv6 is not switched on.") == 2
    answer = await bob.post("/t/acme/networks/new", {**words, "ipv6": "on"})
    assert (answer.status_code, answer["Location"]) == (302, "/t/acme/networks/view/six")
    asked = next(payload["spec"] for task, payload in host.asked if task == "slipway.network.create")
    assert (asked["pool"], asked["ipv6_pool"]["subnet"]) == (None, "fd00:6::/64")
    for path in ("networks/", "networks/view/six", "networks/prune"):
        assert "fd00:6::/64" in await text(bob, path), path


async def test_a_refused_form_keeps_what_was_typed(people: Any, host: Any) -> None:
    bob = await visit(people, "bob")
    answer = await bob.post("/t/acme/containers/run", {"image": "nope", "command": "echo 'a  b'", "network": "bridge"})
    page = answer.content.decode()
    assert answer.status_code == 404 and "No such image: nope:latest" in page and "echo &#x27;a  b&#x27;" in page
    answer = await bob.post(
        "/t/acme/containers/run", {"image": "busybox", "command": "echo 'a", "memory": "much", "env": "X", "network": "bridge"}
    )
    page = answer.content.decode()
    assert answer.status_code == 400
    for words in ("A quote is not closed.", "Write a size like", "is not NAME=value"):
        assert words in page


async def test_a_container_made_but_not_started_is_not_made_twice(people: Any, host: Any) -> None:
    bob = await visit(people, "bob")
    host.refuse["slipway.container.start"] = InvalidArgument('exec: "nope": executable file not found in $PATH', exit_code=127)
    answer = await bob.post("/t/acme/containers/run", {"image": "busybox", "name": "web", "command": "nope", "network": "bridge"})
    assert (answer.status_code, answer["Location"]) == (302, "/t/acme/containers/web/")
    page = await text(bob, "containers/web/")
    assert "not started" in page and "command not found" in page and "executable file not found in $PATH" in page


async def test_filter_sort_and_page_are_in_the_url(people: Any, host: Any) -> None:
    for name in ("beta", "alpha", "gamma"):
        await make(people, name)
    bob = await visit(people, "bob")
    names = re.findall(r'data-name="(\w+)"', await text(bob, "containers/?sort=name"))
    assert names == ["alpha", "beta", "gamma"]
    assert re.findall(r'data-name="(\w+)"', await text(bob, "containers/?sort=-name&q=busybox+ta")) == ["beta"]
    page = await text(bob, "containers/?q=nothing")
    assert "No container matches “nothing”" in page and "Clear filter" in page
    assert re.findall(r'data-name="(\w+)"', await text(bob, "containers/?page=99&sort=wrong")) == ["gamma", "alpha", "beta"]


async def test_while_the_host_is_silent_nobody_says_running(people: Any, host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    container_id = await make(people)
    bob = await visit(people, "bob")
    await bob.post("/t/acme/containers/web/start")
    monkeypatch.setattr(presence, "GRACE_S", 0.0)
    presence.lost("local")
    try:
        page = await text(bob, f"containers/{container_id[:12]}/")
        assert "unknown" in page and "its host does not answer" in page
    finally:
        presence.back("local")
    assert "unknown" not in await text(bob, "containers/")


async def test_a_context_is_downloaded_from_the_settings_page_and_its_certificate_revoked(people: Any, keys: Any) -> None:
    alice = await visit(people, "alice")
    answer = await alice.post(
        "/t/acme/settings/certificates", {"name": "laptop", "role": "developer", "verbs": "container.view, image.*", "expires": "7d"}
    )
    assert answer.status_code == 201 and answer["Content-Disposition"] == 'attachment; filename="acme.dockercontext"'
    assert b"BEGIN PRIVATE KEY" in answer.content
    page = await text(alice, "settings/")
    assert "laptop" in page and "container.view, image.build" in page and "BEGIN" not in page
    refused = await alice.post("/t/acme/settings/certificates", {"role": "viewer", "verbs": "container.start"})
    assert refused.status_code == 400 and "role viewer may not do container.start" in refused.content.decode()
    number = re.search(r"certificates/(\d+)/revoke", page)
    assert number
    assert (await (await visit(people, "bob")).post(f"/t/acme/settings/certificates/{number[1]}/revoke")).status_code == 403
    await alice.post(f"/t/acme/settings/certificates/{number[1]}/revoke")
    page = await text(alice, "settings/")
    assert "The certificate no longer works." in page and "laptop" not in page


async def test_tokens_and_members_on_the_settings_page(people: Any) -> None:
    alice = await visit(people, "alice")
    answer = await alice.post("/t/acme/settings/tokens", {"name": "ci", "role": "developer", "expires": "30d"})
    secret = re.search(r"slw_[\w-]{40,}", answer.content.decode())
    assert answer.status_code == 200 and secret
    page = await text(alice, "settings/")
    assert secret[0] not in page and "ci" in page
    number = re.search(r"tokens/(\d+)/revoke", page)
    assert number
    await alice.post(f"/t/acme/settings/tokens/{number[1]}/revoke")
    assert "The token no longer works." in await text(alice, "settings/")
    await alice.post("/t/acme/settings/members/add", {"user": "charlie", "role": "viewer"})
    assert (await (await visit(people, "charlie")).get("/t/acme/")).status_code == 200
    await alice.post("/t/acme/settings/members/remove", {"user": "charlie"})
    assert (await (await visit(people, "charlie")).get("/t/acme/")).status_code == 404
    await alice.post("/t/acme/settings/members/remove", {"user": "alice"})
    assert "alice is the last owner of acme" in await text(alice, "settings/members")


async def test_only_own_names_of_an_image_are_offered_for_removal(people: Any, host: Any) -> None:
    bob = await visit(people, "bob")
    page = await text(bob, "images/")
    assert "busybox:latest" in page and "public" in page and "images/remove" not in page
    await images.tag(await database.read(people.actor, people.bob), "busybox", "aaa/web:1")
    page = await text(bob, "images/")
    assert 'name="image" value="aaa/web:1"' in page and "docker rmi aaa/web:1" in page
    assert "busybox:latest" in page and 'value="busybox' not in page
    answer = await bob.post("/t/acme/images/remove", {"image": "aaa/web:1"})
    assert (answer.status_code, answer["Location"]) == (302, "/t/acme/images/")
    assert host.asked[-1] == ("slipway.image.remove", {"tenant": "acme", "force": False, "no_prune": False, "ref": "aaa/web:1"})


async def test_home_leads_to_the_tenant_last_seen(people: Any, host: Any) -> None:
    await database.run(tenants.add_member, await database.read(people.actor, people.charlie, people.umbrella), people.alice, Role.VIEWER)
    alice = await visit(people, "alice")
    assert (await alice.get("/"))["Location"] == "/t/acme/"
    await alice.get("/t/umbrella/")
    assert (await alice.get("/"))["Location"] == "/t/umbrella/"
    operator = await visit(people, "operator")
    assert "You are not a member of a tenant yet" in (await operator.get("/")).content.decode()


async def test_chinese_is_spoken_by_cookie_and_account(people: Any, host: Any) -> None:
    alice = await visit(people, "alice")
    alice.cookies["slipway_language"] = "zh-hans"
    page = await text(alice, "containers/")
    assert '<html lang="zh-hans"' in page and "运行容器" in page
    del alice.cookies["slipway_language"]
    assert '<html lang="en"' in await text(alice, "containers/")
    answer = await alice.get("/t/acme/", headers={"accept-language": "zh-CN,zh;q=0.9"})
    assert '<html lang="zh-hans"' in answer.content.decode()
    answer = await alice.post("/accounts/language/", {"language": "zh-hans", "next": "/t/acme/images/"})
    assert answer["Location"] == "/t/acme/images/"
    assert '<html lang="zh-hans"' in await text(await visit(people, "alice"), "")  # another browser of hers
    answer = await alice.post("/accounts/language/", {"language": "en", "next": "https://elsewhere.example/"})
    assert answer["Location"] == "/"


@pytest.mark.parametrize("path", ["", "containers/", "operations/"])
async def test_fifty_containers_cost_no_more_queries_than_one(people: Any, host: Any, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = await visit(people, "alice")
    reads: list[str] = []
    read = database.read

    async def counted(function: Any, /, *args: Any, **kwargs: Any) -> Any:
        def inside() -> Any:
            with CaptureQueriesContext(connection) as queries:
                answer = function(*args, **kwargs)
            reads.extend(query["sql"] for query in queries.captured_queries)
            return answer

        return await read(inside)

    async def cost() -> int:
        await text(browser, path)  # what is kept in memory is there
        reads.clear()
        await text(browser, path)
        return len(reads)

    await make(people, "one")
    monkeypatch.setattr(database, "read", counted)
    before = await cost()
    for number in range(50):
        await make(people, f"box{number}")
    assert await cost() <= before + 1, reads  # who asks is looked up again each second
    began = time.perf_counter()
    await text(browser, path)
    assert time.perf_counter() - began < 0.5  # a tenth of it on a quiet machine; see the bench for figures


async def test_a_volume_without_files_of_its_own_says_where_they_are(people: Any, host: Any) -> None:
    """And offers nothing that would be refused."""
    host.on["create"] = lambda payload: {"volume": {**payload["volume"], "created_ns": time.time_ns()}}
    alice = await database.read(people.actor, people.alice)
    browser = await visit(people, "alice")
    offers = ("Take a snapshot", "Download as a tar", "A copy under another name", "Holds")
    for name, (options, sentence) in _ELSEWHERE.items():
        await volumes.create(alice, name, options=options)
        page = await text(browser, f"volumes/view/{name}")
        assert sentence in page and "New name" in page and not [offer for offer in offers if offer in page]
