"""Who may what: roles, tokens, certificates, nobody; and that a stranger cannot tell what is there from what is not."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from controlpanel.accounts.models import Token
from controlpanel.audit.models import REFUSED, Record
from controlpanel.base import database
from controlpanel.registry import app, services, tokens
from controlpanel.registry.models import PUBLIC, Repository
from controlpanel.registry.tokens import Claims
from controlpanel.tenants import access
from controlpanel.tenants.models import Membership
from tests.controlpanel.conftest import People
from tests.controlpanel.registry.conftest import client_of
from tests.support import oci
from tests.support.oci import Answer, Client, digest_of

ABSENT = digest_of(b"nobody has this")


def api_token(people: People, role: str, verbs: tuple[str, ...] = (), tenant: Any = None) -> str:
    token, secret = Token.make(tenant=tenant or people.acme, role=role, verbs=list(verbs), name="ci")
    token.save()
    return secret


def make_public(name: str) -> None:
    Repository.everywhere.filter(name=name).update(visibility=PUBLIC)


def requests(name: str, digest: str, manifest: str) -> Iterator[tuple[str, str, bytes | None]]:
    """Every endpoint that names a repository, from the router's own table."""
    words = {"digest": digest, "reference": manifest, "key": "0" * 32}
    for route in app.ROUTES:
        if "name" not in route.pattern.groupindex:
            continue
        path = route.pattern.pattern.replace("(?P<name>.+)", name).replace("/?", "/")
        for word, value in words.items():
            start, found, rest = path.partition(f"(?P<{word}>")
            path = start + value + rest.partition(")")[2] if found else path
        for method in route.handlers:
            yield method, path, b"{}" if method in ("PUT", "PATCH", "POST") else None


def said(answer: Answer, *names: str) -> tuple[Any, ...]:
    """All that a client sees of it, the names that it asked by left out."""
    text = answer.body.decode() + json.dumps(sorted((key, value) for key, value in answer.headers.items() if key != "date"))
    for name in names:
        text = text.replace(name, "NAME")
    return answer.status, text


@pytest.mark.parametrize("by_token", [False, True])
def test_a_stranger_sees_nothing_that_is_there(alice: Client, host: str, by_token: bool) -> None:
    manifest, _document = alice.push_image("acme/web", "v1")
    digest = digest_of(b"layer of acme/web")
    charlie = client_of(host, "charlie", by_token=by_token)
    there = list(requests("acme/web", digest, manifest))
    assert len(there) >= 14
    for absent in ("acme/not", "none/web"):
        for (method, path, body), (_method, other, _body) in zip(there, requests(absent, digest, manifest), strict=True):
            real, never = charlie(method, path, body), charlie(method, other, body)
            assert real.status in (404, 200), (method, path, real)
            if real.status == 200:
                assert real.json["manifests"] == []  # referrers are never 404
            assert said(real, "acme/web") == said(never, absent), (method, path)
    assert alice("GET", "/v2/acme/web/manifests/v1").status == 200


def test_nobody_is_shown_the_way_and_nothing_else(alice: Client, host: str) -> None:
    manifest, _document = alice.push_image("acme/web", "v1")
    nobody = Client(host)
    for method, path, body in requests("acme/web", digest_of(b"layer of acme/web"), manifest):
        answer = nobody(method, path, body)
        assert answer.status == 401 and answer.headers["www-authenticate"].startswith(f'Bearer realm="http://{host}/v2/token",'), path
    challenge = nobody("GET", "/v2/acme/web/manifests/v1").headers["www-authenticate"]
    assert challenge.endswith('service="slipway-registry",scope="repository:acme/web:pull"')
    assert nobody("GET", "/v2/").status == 401 and nobody("GET", "/v2/_catalog").status == 401
    assert 'scope="registry:catalog:*"' in nobody("GET", "/v2/_catalog").headers["www-authenticate"]


def test_a_digest_proves_nothing(alice: Client, host: str) -> None:
    """Not by a guess, not by a mount, not by a manifest that names it."""
    charlie = client_of(host, "charlie")
    config, layer = b'{"secret": 1}', b"a layer of acme's"
    for data in (config, layer):
        alice.push_blob("acme/web", data)
    charlie.push_image("umbrella/own", "v1")
    for name in ("umbrella/own", "umbrella/other"):
        assert charlie("HEAD", f"/v2/{name}/blobs/{digest_of(layer)}").status == 404
    mounted = charlie("POST", "/v2/umbrella/own/blobs/uploads/", mount=digest_of(layer), **{"from": "acme/web"})
    never = charlie("POST", "/v2/umbrella/own/blobs/uploads/", mount=ABSENT, **{"from": "acme/not"})
    assert mounted.status == never.status == 202 and mounted.headers.keys() == never.headers.keys()
    put = charlie("PUT", "/v2/umbrella/own/manifests/x", json.dumps(oci.image(config, [layer])).encode(), {"Content-Type": oci.IMAGE})
    assert put.status == 400 and put.code == "MANIFEST_BLOB_UNKNOWN"
    assert charlie("HEAD", f"/v2/umbrella/own/blobs/{digest_of(layer)}").status == 404


def test_blobs_of_two_tenants_are_kept_once_and_go_with_the_last(alice: Client, host: str, storage: Any) -> None:
    charlie = client_of(host, "charlie")
    digest = alice.push_blob("acme/web", b"shared")
    charlie.push_blob("umbrella/web", b"shared")
    assert len(list((storage / "blobs").rglob(f"{digest[7:]}.*"))) == 1 and not list((storage / "uploads").iterdir())
    assert alice("DELETE", f"/v2/acme/web/blobs/{digest}").status == 202
    assert alice("GET", f"/v2/acme/web/blobs/{digest}").status == 404
    assert charlie("GET", f"/v2/umbrella/web/blobs/{digest}").body == b"shared"
    assert charlie("DELETE", f"/v2/umbrella/web/blobs/{digest}").status == 202
    assert not list((storage / "blobs").rglob("*.*"))


def test_roles(alice: Client, host: str) -> None:
    digest, document = alice.push_image("acme/web", "v1")
    victor, bob = client_of(host, "victor"), client_of(host, "bob")
    assert victor("GET", "/v2/acme/web/manifests/v1").status == 200
    for method, path in (
        ("POST", "/v2/acme/web/blobs/uploads/"),
        ("DELETE", f"/v2/acme/web/manifests/{digest}"),
        ("PUT", "/v2/acme/web/manifests/v2"),
    ):
        refused = victor(method, path, json.dumps(document).encode(), {"Content-Type": oci.IMAGE})
        assert refused.status == 403 and refused.code == "DENIED" and "rule registry." in refused.json["errors"][0]["message"]
    last = Record.objects.for_tenant(Membership.everywhere.get(user__username="victor").tenant_id).first()
    assert last is not None and (last.result, last.verb, last.door, last.actor) == (REFUSED, "registry.push", "registry", "victor")
    assert bob("DELETE", f"/v2/acme/web/manifests/{digest}").status == 202


def test_what_is_public_everybody_pulls_and_nobody_else_pushes(alice: Client, host: str) -> None:
    digest, document = alice.push_image("acme/web", "v1")
    alice.push_image("acme/private", "v1")
    make_public("acme/web")
    layer = document["layers"][0]["digest"]
    nobody, by_token, charlie = Client(host), Client(host, by_token=True), client_of(host, "charlie")
    for client in (nobody, by_token, charlie, client_of(host, "charlie", by_token=True)):
        assert client("GET", "/v2/acme/web/manifests/v1").headers["docker-content-digest"] == digest
        assert client("GET", f"/v2/acme/web/blobs/{layer}").status == 200
        assert client("GET", "/v2/acme/web/tags/list").json["tags"] == ["v1"]
        assert client("POST", "/v2/acme/web/blobs/uploads/").status in (401, 404)
        assert client("DELETE", f"/v2/acme/web/manifests/{digest}").status in (401, 404)
        assert client("GET", "/v2/acme/private/manifests/v1").status in (401, 404)
    mounted = charlie("POST", "/v2/umbrella/web/blobs/uploads/", mount=layer, **{"from": "acme/web"})
    assert mounted.status == 201 and charlie("GET", f"/v2/umbrella/web/blobs/{layer}").status == 200


async def test_rest_says_who_may_pull(people: People) -> None:
    from django.test import AsyncClient

    await database.run(services.to_push, await database.read(people.actor, people.alice), "acme/web")
    alice, bob, charlie = AsyncClient(), AsyncClient(), AsyncClient()
    for client, user in ((alice, people.alice), (bob, people.bob), (charlie, people.charlie)):
        await client.aforce_login(user)
    where = "/api/v1/tenants/acme/repositories"

    async def change(client: AsyncClient, name: str, visibility: str) -> int:
        answer = await client.patch(f"{where}/{name}", {"visibility": visibility}, content_type="application/json")
        return int(answer.status_code)

    assert await change(charlie, "acme/web", "public") == 404
    assert await change(bob, "acme/web", "public") == 403
    assert await change(alice, "acme/not", "public") == 404
    assert await change(alice, "acme/web", "secret") == 400
    assert await change(alice, "acme/web", "public") == 204
    listed = (await bob.get(where)).json()
    assert [(each["name"], each["visibility"], each["tags"]) for each in listed] == [("acme/web", "public", 0)]
    assert (await charlie.get(where)).status_code == 404


def test_the_catalog_is_of_ones_own(alice: Client, host: str) -> None:
    alice.push_image("acme/web", "v1")
    alice.push_blob("acme/empty", b"no manifest")
    client_of(host, "charlie").push_image("umbrella/web", "v1")
    make_public("umbrella/web")
    assert alice("GET", "/v2/_catalog").json == {"repositories": ["acme/web"]}
    assert client_of(host, "victor", by_token=True)("GET", "/v2/_catalog").json == {"repositories": ["acme/web"]}


def test_api_tokens(alice: Client, host: str, people: People) -> None:
    alice.push_image("acme/web", "v1")
    robot, puller = api_token(people, "developer"), api_token(people, "developer", ("registry.pull",))
    for client in (Client(host, ("token", robot)), Client(host, ("anything", robot), by_token=True)):
        assert client("GET", "/v2/acme/web/manifests/v1").status == 200
        client.push_image("acme/robots", "v1")
        assert client("GET", "/v2/umbrella/web/tags/list").status in (401, 404)
    assert Client(host)("GET", "/v2/acme/web/tags/list", None, {"Authorization": f"Bearer {robot}"}).status == 200
    narrow = Client(host, ("token", puller))
    assert narrow("GET", "/v2/acme/web/manifests/v1").status == 200
    assert narrow("POST", "/v2/acme/web/blobs/uploads/").code == "DENIED"
    assert Client(host, ("token", "slw_unknown"))("GET", "/v2/").status == 401


def test_wrong_passwords_are_counted_with_those_of_the_login_page(host: str, people: People) -> None:
    wrong = Client(host, ("alice", "wrong"))
    for _ in range(5):
        answer = wrong("GET", "/v2/")
        assert answer.status == 401 and "user name or the password is wrong" in answer.json["errors"][0]["message"]
    right = client_of(host, "alice")("GET", "/v2/")
    assert right.status == 401 and "too many attempts" in right.json["errors"][0]["message"]
    failed = Record.objects.filter(verb="user.login_failed")
    assert {(each.object, each.door) for each in failed} == {("alice", "registry")}


def test_a_second_factor_takes_a_token(host: str, people: People) -> None:
    from allauth.mfa.models import Authenticator

    Authenticator.objects.create(user=people.alice, type=Authenticator.Type.TOTP, data={"secret": "x"})
    answer = client_of(host, "alice")("GET", "/v2/")
    assert answer.status == 401 and "second factor" in answer.json["errors"][0]["message"]
    assert Client(host, ("alice", api_token(people, "owner")))("GET", "/v2/").status == 200


def test_rights_end_at_once(alice: Client, host: str, people: People) -> None:
    """Also for who holds a token of the service."""
    alice.push_image("acme/web", "v1")
    bob, by_token = client_of(host, "bob"), client_of(host, "bob", by_token=True)
    assert bob("GET", "/v2/acme/web/tags/list").status == by_token("GET", "/v2/acme/web/tags/list").status == 200
    Membership.everywhere.filter(user=people.bob).delete()
    access._revoked({}, None)  # what the live feed would bring
    assert bob("GET", "/v2/acme/web/tags/list").status == by_token("GET", "/v2/acme/web/tags/list").status == 404
    refreshed = client_of(host, "victor")("GET", "/v2/token", offline_token="true").json["refresh_token"]
    assert exchange(host, refreshed).status == 200
    people.victor.set_password("another-password")
    people.victor.save()
    assert exchange(host, refreshed).status == 401


def exchange(host: str, refresh_token: str, scope: str = "") -> Answer:
    form = f"grant_type=refresh_token&service=slipway-registry&refresh_token={refresh_token}&scope={scope}"
    return Client(host)("POST", "/v2/token", form.encode(), {"Content-Type": "application/x-www-form-urlencoded"})


def test_the_token_service_gives_what_one_may_and_says_nothing_of_the_rest(alice: Client, host: str) -> None:
    alice.push_image("acme/web", "v1")

    def granted(client: Client, *scopes: str) -> dict[str, list[str]]:
        words = "&".join(f"scope={scope}" for scope in scopes)
        answer = client("GET", f"/v2/token?service=slipway-registry&{words}")
        assert answer.status == 200 and answer.json["token"] == answer.json["access_token"] and answer.json["expires_in"] >= 60
        claims = json.loads(base64.urlsafe_b64decode(answer.json["token"].split(".")[1] + "=="))
        assert claims["aud"] == "slipway-registry" and {"iss", "sub", "exp", "nbf", "iat", "jti"} <= claims.keys()
        return {each["name"]: each["actions"] for each in claims["access"]}

    both = ("repository:acme/web:pull,push", "repository:umbrella/web:pull")
    assert granted(alice, *both) == {"acme/web": ["pull", "push"]}
    assert granted(alice, "%20".join(both)) == {"acme/web": ["pull", "push"]}
    assert granted(alice, "repository:acme/new:*") == {"acme/new": ["delete", "pull", "push"]}
    assert granted(client_of(host, "victor"), *both) == {"acme/web": ["pull"]}
    assert granted(client_of(host, "charlie"), *both) == {"umbrella/web": ["pull"]}
    assert granted(Client(host), *both, "registry:catalog:*") == {}
    assert granted(alice, "registry:catalog:*", "what", "repository:UPPER:pull", "repository:acme/web:fly") == {"catalog": ["*"]}
    form = b"grant_type=password&username=bob&password=bob-has-a-password&scope=repository:acme/web:push&access_type=offline"
    answer = Client(host)("POST", "/v2/token", form)
    assert answer.status == 200 and exchange(host, answer.json["refresh_token"]).status == 200
    assert Client(host)("POST", "/v2/token", b"grant_type=magic").status == 400
    assert Client(host)("POST", "/v2/token", b"x" * 100_000).status == 413


def test_a_token_is_for_what_it_was_given_for(alice: Client, host: str) -> None:
    alice.push_image("acme/web", "v1")
    pull = alice("GET", "/v2/token", scope="repository:acme/web:pull").json["token"]
    bearer, nobody = {"Authorization": f"Bearer {pull}"}, Client(host)
    assert nobody("GET", "/v2/acme/web/tags/list", None, bearer).status == 200
    for method, path in (("POST", "/v2/acme/web/blobs/uploads/"), ("GET", "/v2/acme/other/tags/list"), ("GET", "/v2/_catalog")):
        narrow = nobody(method, path, None, bearer)
        assert narrow.status == 401 and 'error="insufficient_scope"' in narrow.headers["www-authenticate"]
    assert nobody("GET", "/v2/token", None, bearer).status == 401


def test_forged_tokens(alice: Client, host: str, people: People) -> None:
    alice.push_image("acme/web", "v1")
    given = alice("GET", "/v2/token", scope="repository:acme/web:pull").json["token"]
    head, payload, signature = given.split(".")
    claims = tokens.read(given)

    def encoded(words: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(words).encode()).decode().rstrip("=")

    forged = [
        f"{encoded({'alg': 'none', 'typ': 'JWT'})}.{payload}.",
        f"{encoded({'alg': 'none', 'typ': 'JWT'})}.{payload}.{signature}",
        f"{head}.{payload}.",
        f"{head}.{payload}",
        f"{head}.{payload}.{signature[:-2]}",
        f"{head}.{encoded({'aud': 'slipway-registry', 'exp': 9e9, 'nbf': 0, 'access': [], 'cred': [], 'sub': ''})}.{signature}",
        tokens.issue(claims, lifetime_s=0),
        tokens.issue(claims, now_s=9e9),
        tokens.issue(claims, audience="another-service"),
        tokens.issue(claims, audience=tokens.REFRESH),
        "..",
        "x" * 100_000,
        "é.é.é",
    ]
    for token in forged:
        answer = Client(host)("GET", "/v2/acme/web/tags/list", None, {"Authorization": f"Bearer {token}".encode().decode("latin-1")})
        assert answer.status == 401 or (token == "x" * 100_000 and answer.status in (401, 431)), token[:80]
    nobodys = tokens.issue(Claims((), "", {("repository", "acme/web"): frozenset({"pull", "push"})}))
    assert Client(host)("GET", "/v2/acme/web/tags/list", None, {"Authorization": f"Bearer {nobodys}"}).status == 401


def test_headers_that_are_none(host: str, people: People) -> None:
    for words in ("Basic", "Basic !", "Basic " + base64.b64encode(b"no colon").decode(), "Bearer", "Digest x", "Basic " + "A" * 9):
        assert Client(host)("GET", "/v2/", None, {"Authorization": words}).status == 401, words
    evil = Client(host)("GET", "/v2/", None, {"Host": 'a",realm="http://evil'})
    assert 'realm="http://127.0.0.1' in evil.headers["www-authenticate"]


def test_a_certificate(tls: Client, people: People, keys: Any) -> None:
    import ssl

    from controlpanel.tenants import credentials

    tls.push_image("acme/web", "v1")
    _row, signed = credentials.create_certificate(people.actor(people.alice), name="laptop")
    path = keys.folder / "mine.pem"
    path.write_bytes(signed.key + signed.certificate)
    context = ssl.create_default_context(cafile=str(keys.folder / "ca.pem"))
    context.load_cert_chain(path)
    assert Client(tls.host, tls=context)("GET", "/v2/acme/web/manifests/v1").status == 200
    assert Client(tls.host, tls=keys.nobody())("GET", "/v2/acme/web/manifests/v1").status == 401


def test_one_who_asks_too_often(alice: Client, settings: Any) -> None:
    settings.RATE_LIMIT = 3
    answers = [alice("GET", "/v2/") for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429]
    assert answers[3].code == "TOOMANYREQUESTS" and int(answers[3].headers["retry-after"]) > 0


def test_nothing_of_it_runs_in_a_browser(alice: Client) -> None:
    """A manifest may call itself text/html, and comes from the panel's own address."""
    alice("PUT", "/v2/acme/web/manifests/v1", b'{"<script>": 1}', {"Content-Type": "text/html"})
    got = alice("GET", "/v2/acme/web/manifests/v1")
    assert got.headers["content-type"] == "text/html" and got.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in got.headers["content-security-policy"] and "default-src 'none'" in got.headers["content-security-policy"]
