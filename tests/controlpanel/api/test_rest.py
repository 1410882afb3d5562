"""REST for alice (owner), bob (developer), victor (viewer) and charlie (a stranger); real rows, a host that speaks the contract."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from django.test import AsyncClient

from controlpanel.base import database
from controlpanel.tenants import credentials
from controlpanel.tenants.actor import Role
from engine.errors import FailedPrecondition
from tests.controlpanel.conftest import ingest, say_who, until

pytestmark = pytest.mark.usefixtures("web", "image")
T = "/api/v1/tenants/acme"
JSON = "application/json"


async def client(people: Any, user: str, *, csrf: bool = False) -> AsyncClient:
    made = AsyncClient(enforce_csrf_checks=csrf)
    await made.aforce_login(getattr(people, user))
    await say_who(made, getattr(people, user))
    return made


async def bearer(people: Any, role: Role = Role.DEVELOPER) -> dict[str, str]:
    alice = await database.read(people.actor, people.alice)
    _token, secret = await database.run(credentials.create_token, alice, role=role)
    return {"authorization": f"Bearer {secret}"}


def code_of(answer: Any) -> tuple[int, str]:
    body = answer.json()
    assert set(body) == {"error"} and set(body["error"]) == {"code", "message", "detail"}, body
    return answer.status_code, body["error"]["code"]


async def create(api: AsyncClient, **words: Any) -> Any:
    return await api.post(f"{T}/containers", {"image": "busybox", "command": ["echo", "hi"], **words}, content_type=JSON)


async def test_a_container_from_create_to_remove(people: Any, host: Any) -> None:
    alice = await client(people, "alice")
    made = await create(alice, name="web", env={"A": "b c"}, memory="64m", cpus=0.5, labels={"x": "y"}, start=True)
    assert made.status_code == 201, made.content
    body = made.json()
    assert (body["name"], body["status"], body["memory_bytes"], body["nano_cpus"]) == ("web", "running", 64 << 20, 500_000_000)
    assert body["labels"] == {"x": "y"} and body["warnings"] == [] and body["started_at"].startswith("20")
    spec = next(payload["spec"] for task, payload in host.asked if task.endswith("create"))
    assert "A=b c" in spec["env"] and spec["args"] == ["echo", "hi"]

    listed = (await alice.get(f"{T}/containers")).json()
    assert [item["name"] for item in listed] == ["web"]
    assert (await alice.get(f"{T}/containers?status=exited")).json() == []
    assert (await alice.get(f"{T}/containers/{body['id'][:12]}")).json()["id"] == body["id"]

    stopping = asyncio.ensure_future(alice.post(f"{T}/containers/web/stop", {"timeout_s": 1}, content_type=JSON))
    await until(lambda: "container.stop" in host.verbs())
    await ingest(host.exited(body["id"], 143))
    stopped = (await stopping).json()
    assert (stopped["status"], stopped["exit_code"], stopped["finished_at"] is not None) == ("exited", 143, True)

    assert (await alice.delete(f"{T}/containers/web")).status_code == 204
    assert code_of(await alice.get(f"{T}/containers/web")) == (404, "not_found")


async def test_a_bearer_token_acts_in_its_tenant_and_role_only(people: Any, host: Any) -> None:
    api = AsyncClient()
    developer, viewer = await bearer(people), await bearer(people, Role.VIEWER)
    assert [item["name"] for item in (await api.get("/api/v1/tenants", headers=developer)).json()] == ["acme"]
    made = await api.post(f"{T}/containers", {"image": "busybox"}, content_type=JSON, headers=developer)
    assert made.status_code == 201  # no CSRF token: no cookie came with it
    assert code_of(await api.post(f"{T}/containers", {"image": "busybox"}, content_type=JSON, headers=viewer)) == (403, "permission_denied")
    assert code_of(await api.get("/api/v1/tenants/umbrella/containers", headers=developer)) == (404, "not_found")
    assert code_of(await api.get(f"{T}/containers", headers={"authorization": "Bearer slw_wrong"})) == (401, "unauthenticated")
    refused = await api.get(f"{T}/containers")
    assert code_of(refused) == (401, "unauthenticated") and refused.headers["WWW-Authenticate"] == "Bearer"


async def test_half_a_character_in_a_name_gets_an_answer(people: Any, host: Any) -> None:
    """JSON can write a lone surrogate, UTF-8 can not."""
    alice = AsyncClient()
    await alice.aforce_login(people.alice)
    answer = await alice.post(f"{T}/networks/x/connect", rb'{"container": "\ud800"}', content_type=JSON)
    assert answer.status_code == 404 and answer.json()["error"]["message"] == r"No such container: \ud800"


async def test_a_wrong_token_is_refused_though_a_good_cookie_comes_with_it(people: Any) -> None:
    alice = await client(people, "alice")
    assert code_of(await alice.get(f"{T}/containers", headers={"authorization": "Bearer slw_x"})) == (401, "unauthenticated")
    assert code_of(await alice.get(f"{T}/containers", headers={"authorization": "Basic YTpi"})) == (401, "unauthenticated")


async def test_a_cookie_needs_the_csrf_token_to_change_something(people: Any, host: Any) -> None:
    alice = await client(people, "alice", csrf=True)
    assert (await alice.get(f"{T}/containers")).status_code == 200
    refused = await create(alice)
    assert code_of(refused) == (403, "permission_denied") and refused.json()["error"]["detail"] == {"rule": "csrf"}
    await alice.get("/accounts/logout/")  # any page with a form sets the cookie
    page = await alice.get("/t/acme/settings/")
    token = page.cookies["csrftoken"].value
    body = {"image": "busybox", "command": ["true"]}
    assert (await alice.post(f"{T}/containers", body, content_type=JSON, headers={"x-csrftoken": token})).status_code == 201


STRANGE = [
    ("get", ""), ("get", "/members"), ("get", "/tokens"), ("get", "/containers"), ("get", "/containers/web"),
    ("get", "/containers/web/logs"), ("get", "/images"), ("get", "/images/busybox"), ("delete", "/images/busybox"),
    ("delete", "/containers/web"), ("post", "/containers/web/start"), ("post", "/containers/web/stop"), ("post", "/containers/web/kill"),
    ("delete", "/tokens/1"), ("delete", "/members/alice"), ("get", "/events"), ("get", "/containers/web/inspect"),
    ("get", "/containers/web/attach"), ("get", "/containers/web/files/content?path=/a"), ("get", "/execs/1"),
    ("put", "/containers/web/files?path=/"), ("put", "/containers/web/files/content?path=/a"), ("put", "/image-archive"),
    ("get", "/image-archive?image=busybox"), ("put", "/image-rootfs"), ("get", "/image-prune"), ("post", "/image-prune"),
]  # fmt: skip


@pytest.mark.parametrize(("verb", "path"), STRANGE)
async def test_a_stranger_finds_nothing(people: Any, host: Any, verb: str, path: str) -> None:
    await create(await client(people, "alice"), name="web")
    charlie = await client(people, "charlie")
    answer = await charlie.generic(verb.upper(), T + path)
    assert code_of(answer) == (404, "not_found")
    assert answer.json()["error"]["message"] == "No such tenant: acme"


async def test_a_viewer_sees_everything_and_changes_nothing(people: Any, host: Any) -> None:
    await create(await client(people, "bob"), name="web")
    victor = await client(people, "victor")
    for path in ("", "/members", "/containers", "/containers/web", "/images", "/images/busybox:latest"):
        assert (await victor.get(T + path)).status_code == 200, path
    for verb, path in (("delete", "/containers/web"), ("post", "/containers/web/start"), ("delete", "/images/busybox"), ("get", "/tokens")):
        answer = await victor.generic(verb.upper(), T + path)
        assert code_of(answer) == (403, "permission_denied"), path
        assert "of role viewer" in answer.json()["error"]["message"]


async def test_what_is_wrong_with_a_body_is_said_by_field(people: Any, host: Any) -> None:
    bob = await client(people, "bob")
    answer = await create(bob, nmae="typo", cpus="many")
    assert code_of(answer) == (400, "invalid_argument")
    fields = {item["field"] for item in answer.json()["error"]["detail"]["fields"]}
    assert fields == {"nmae", "cpus"}
    assert code_of(await bob.post(f"{T}/containers", "{", content_type=JSON)) == (400, "invalid_argument")
    assert code_of(await bob.get(f"{T}/containers/web/logs?tail=x")) == (400, "invalid_argument")
    assert code_of(await create(bob, memory="-1")) == (400, "invalid_argument")
    assert code_of(await create(bob, memory=-5)) == (400, "invalid_argument")
    assert code_of(await create(bob, name="a b")) == (400, "invalid_argument")
    missing = await create(bob, image="nope")
    assert code_of(missing) == (404, "not_found") and missing.json()["error"]["message"] == "No such image: nope:latest"
    assert "container.create" not in host.verbs()


async def test_a_name_in_use_is_409_and_a_refusal_of_the_host_keeps_its_words(people: Any, host: Any) -> None:
    bob = await client(people, "bob")
    await create(bob, name="web")
    assert code_of(await create(bob, name="web")) == (409, "already_exists")
    host.refuse["slipway.container.start"] = FailedPrecondition("the wheels came off", wheels=4)
    answer = await bob.post(f"{T}/containers/web/start")
    assert code_of(answer) == (409, "failed_precondition")
    assert answer.json()["error"] == {"code": "failed_precondition", "message": "the wheels came off", "detail": {"wheels": 4}}
    assert code_of(await bob.post(f"{T}/containers/web/kill", {"signal": "SIGNOTHING"}, content_type=JSON)) == (400, "invalid_argument")


async def test_a_create_takes_every_option_and_a_rename_is_recorded(people: Any, host: Any) -> None:
    from controlpanel.audit.models import Record

    bob = await client(people, "bob")
    made = await create(bob, name="web", user="7", cap_drop=["ALL"], ulimits=[{"name": "nofile", "soft": 5}], health={"shell": "true"})
    assert made.status_code == 201, made.content
    spec = next(payload["spec"] for task, payload in host.asked if task.endswith("create"))
    assert spec["cap_drop"] == ["ALL"] and spec["ulimits"] == [{"name": "nofile", "soft": 5, "hard": 5}] and spec["user"] == "7"
    shown = (await bob.get(f"{T}/containers/web/inspect")).json()
    assert shown["HostConfig"]["CapDrop"] == ["ALL"] and shown["Config"]["Healthcheck"]["Test"] == ["CMD-SHELL", "true"]
    renamed = await bob.post(f"{T}/containers/web/rename", {"name": "shop"}, content_type=JSON)
    assert (renamed.status_code, renamed.json()["name"]) == (200, "shop")
    assert code_of(await bob.get(f"{T}/containers/web")) == (404, "not_found")
    verbs = await database.read(lambda: list(Record.objects.for_tenant(people.acme.pk).values_list("verb", flat=True)))
    assert "container.rename" in verbs


async def test_tokens_are_made_shown_once_and_revoked(people: Any) -> None:
    alice = await client(people, "alice")
    made = (await alice.post(f"{T}/tokens", {"name": "ci", "role": "developer", "expires": "30d"}, content_type=JSON)).json()
    assert made["secret"].startswith("slw_") and made["expires_at"]
    listed = (await alice.get(f"{T}/tokens")).json()
    assert [(item["name"], item["role"], "secret" in item) for item in listed] == [("ci", "developer", False)]
    api, headers = AsyncClient(), {"authorization": f"Bearer {made['secret']}"}
    assert (await api.get(T, headers=headers)).status_code == 200
    assert (await alice.delete(f"{T}/tokens/{made['id']}")).status_code == 204
    assert code_of(await api.get(T, headers=headers)) == (401, "unauthenticated")
    assert code_of(await alice.delete(f"{T}/tokens/{made['id']}")) == (404, "not_found")
    assert code_of(await alice.post(f"{T}/tokens", {"expires": "soon"}, content_type=JSON)) == (400, "invalid_argument")


async def test_members_are_added_changed_and_removed(people: Any) -> None:
    alice, charlie = await client(people, "alice"), await client(people, "charlie")
    assert (await alice.put(f"{T}/members/charlie", {"role": "viewer"}, content_type=JSON)).json()["role"] == "viewer"
    assert (await charlie.get(f"{T}/containers")).status_code == 200
    assert (await alice.delete(f"{T}/members/charlie")).status_code == 204
    assert code_of(await charlie.get(f"{T}/containers")) == (404, "not_found")
    assert code_of(await alice.delete(f"{T}/members/alice")) == (409, "failed_precondition")  # the last owner
    assert code_of(await alice.put(f"{T}/members/nobody", {"role": "viewer"}, content_type=JSON)) == (404, "not_found")


async def test_images_are_named_and_unnamed(people: Any, host: Any) -> None:
    bob = await client(people, "bob")
    made = await bob.post(f"{T}/images", {"image": "busybox", "ref": "team/box:2"}, content_type=JSON)
    assert made.status_code == 201 and "team/box:2" in made.json()["refs"]
    assert (await bob.get(f"{T}/images/team/box:2")).json()["id"] == made.json()["id"]
    host.on["slipway.image.remove"] = lambda payload: {"untagged": ["team/box:2"], "deleted": []}
    host.silent.clear()
    assert code_of(await bob.delete(f"{T}/images/busybox:latest"))[0] in (403, 409)  # public, or the host's refusal


async def test_an_image_tells_its_history_and_what_a_prune_would_take(people: Any, host: Any, image: Any) -> None:
    bob, victor = await client(people, "bob"), await client(people, "victor")
    told = (await bob.get(f"{T}/images/busybox")).json()
    assert told["config"]["config"]["Cmd"] == ["sh"] and len(told["history"]) == 1 and told["shared_bytes"] == 0
    await bob.post(f"{T}/images", {"image": "busybox", "ref": "team/box:2"}, content_type=JSON)
    assert (await bob.get(f"{T}/image-prune")).json() == {"images": [], "bytes": 0}
    [unused] = (await bob.get(f"{T}/image-prune?all=1")).json()["images"]
    assert unused["refs"] == ["team/box:2"]
    gone = {"untagged": {"team/box:2": unused["id"]}, "deleted": [], "images": [unused["id"]], "bytes": 7}
    host.on["prune"] = lambda _payload: gone
    assert code_of(await victor.post(f"{T}/image-prune", {}, content_type=JSON)) == (403, "permission_denied")
    done = await bob.post(f"{T}/image-prune", {"all": True}, content_type=JSON)
    assert done.json() == {"untagged": ["team/box:2"], "deleted": [], "bytes": 7}
    assert host.asked[-1][1] == {"tenant": "acme", "images": [unused["id"]], "all": True}
    assert (await bob.get(f"{T}/images/busybox")).json()["refs"] == ["busybox:latest"]


async def test_wrong_verbs_and_addresses_are_refused_in_the_same_shape(people: Any) -> None:
    alice = await client(people, "alice")
    wrong = await alice.patch(f"{T}/containers")
    assert wrong.status_code == 405 and code_of(wrong)[1] == "unsupported" and "POST" in wrong.headers["Allow"]
    assert code_of(await alice.get("/api/v1/nothing")) == (404, "not_found")


async def test_where_nothing_is_any_verb_is_told_so(people: Any) -> None:
    """Not 403: CSRF is no matter where nothing changes. And the page of that says what it is, in its title, too."""
    checked = AsyncClient(enforce_csrf_checks=True, headers=await bearer(people))
    for verb in ("get", "post", "put", "patch", "delete"):
        answer = await getattr(checked, verb)("/api/v1/containers")
        assert code_of(answer) == (404, "not_found")
    page = (await checked.get("/nowhere")).content.decode()
    assert "<title>404 · Slipway</title>" in page and "Nothing here</h1>" in page


async def test_the_document_names_every_endpoint_and_the_page_shows_them(people: Any) -> None:
    api = AsyncClient()
    document = (await api.get("/api/v1/openapi.json")).json()
    assert document["openapi"].startswith("3.")
    assert {"get", "post"} == set(document["paths"]["/api/v1/tenants/{tenant}/containers"])
    schemes = {word["type"] for word in document["components"]["securitySchemes"].values()}
    assert schemes == {"http", "mutualTLS", "apiKey"}
    for path, verbs in document["paths"].items():
        for operation in verbs.values():
            assert operation["responses"]["default"]["content"][JSON]["schema"] == {"$ref": "#/components/schemas/Refusal"}, path
    asked = document["components"]["schemas"]["ContainerIn"]["properties"]
    assert asked["memory"]["examples"] == ["256m"] and all("description" in asked[name] for name in ("cpus", "shm_size", "stop_timeout_s"))
    page = (await api.get("/api/v1/docs")).content.decode()
    assert "health.start_period_s" in page and "ulimits[].soft" in page
    for path in document["paths"]:
        assert path in page
    assert "<script src=" in page and "<script>" not in page and "style=" not in page


async def test_networks_and_ports(people: Any, host: Any) -> None:
    alice, victor = await client(people, "alice"), await client(people, "victor")
    await create(alice, name="web", ports=["8080:80"], start=True)
    asked = {"name": "back", "subnet": "10.200.0.0/24", "reserved": {"router": "10.200.0.2"}, "mtu": 1400, "labels": {"a": "b"}}
    made = await alice.post(f"{T}/networks", asked, content_type=JSON)
    assert made.status_code == 201 and made.json() | asked == made.json() and made.json()["gateway"] == ""
    assert code_of(await alice.post(f"{T}/networks", asked, content_type=JSON)) == (409, "already_exists")
    assert code_of(await victor.post(f"{T}/networks", asked, content_type=JSON)) == (403, "permission_denied")
    assert [item["name"] for item in (await victor.get(f"{T}/networks")).json()] == ["back", "bridge", "none"]
    joined = await alice.post(f"{T}/networks/back/connect", {"container": "web", "aliases": ["db"]}, content_type=JSON)
    assert [(item["network"], item["aliases"]) for item in joined.json()["networks"]] == [("bridge", []), ("back", ["db"])]
    members = (await victor.get(f"{T}/networks/{made.json()['id'][:12]}")).json()["members"]
    assert [(item["container"], item["aliases"]) for item in members] == [("web", ["db"])]
    assert code_of(await alice.delete(f"{T}/networks/back")) == (403, "permission_denied")
    assert (await alice.post(f"{T}/networks/back/disconnect", {"container": "web"}, content_type=JSON)).status_code == 200
    changed = await alice.put(f"{T}/containers/web/ports", {"ports": ["9090:80", "81/udp"]}, content_type=JSON)
    assert [(item["container_port"], item["protocol"], item["host_port"]) for item in changed.json()] == [
        (80, "tcp", 9090),
        (81, "udp", 32768),
    ]
    assert (
        (await victor.get(f"{T}/containers/web/ports")).json()
        == changed.json()
        == (await victor.get(f"{T}/containers/web")).json()["ports"]
    )
    assert code_of(await alice.put(f"{T}/containers/web/ports", {"ports": ["x"]}, content_type=JSON)) == (400, "invalid_argument")
    assert (await alice.post(f"{T}/network-prune", {"dry_run": True}, content_type=JSON)).json() == {"networks": ["back"]}
    assert (await alice.delete(f"{T}/networks/back")).status_code == 204
    assert code_of(await (await client(people, "charlie")).get(f"{T}/networks")) == (404, "not_found")
