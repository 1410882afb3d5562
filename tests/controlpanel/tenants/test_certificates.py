"""Clients' certificates: made, shown on a real TLS port, followed, renewed, revoked; and the file that docker imports."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import io
import json
import ssl
import tarfile
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from controlpanel.accounts.models import Certificate
from controlpanel.base import database
from controlpanel.server import listeners, tls
from controlpanel.server.serve import PanelServer, configuration
from controlpanel.tenants import access, authority, credentials, services
from controlpanel.tenants.actor import Door, Role, command_line
from engine.errors import FailedPrecondition, InvalidArgument, PermissionDenied, Unauthenticated
from tests.controlpanel.tenants.test_under_way import application
from tests.support.tls import Keys

pytestmark = pytest.mark.usefixtures("web")


async def certificate(people: Any, user: str = "", **words: Any) -> tuple[Certificate, authority.Signed]:
    actor = await database.read(lambda: command_line(people.acme))
    words |= {"user": getattr(people, user)} if user else {}
    made: tuple[Certificate, authority.Signed] = await database.run(lambda: credentials.create_certificate(actor, **words))
    return made


async def test_it_acts_as_its_member_and_never_gives_more_than_the_member_has_now(people: Any, keys: Keys) -> None:
    await database.run(lambda: services.add_member(command_line(people.acme), people.bob, Role.ADMIN))
    row, _signed = await certificate(people, "bob")
    actor = await access.actor_for_certificate(row.digest, address="10.0.0.9")
    assert (actor.tenant, actor.role, actor.user, actor.door) == (people.acme, Role.ADMIN, people.bob, Door.TLS)
    assert actor.label == f"bob (certificate {row.digest[:12]}…)"
    for role in (Role.VIEWER, Role.OWNER):
        await database.run(lambda role=role: services.add_member(command_line(people.acme), people.bob, role))
        expected = Role.VIEWER if role is Role.VIEWER else Role.ADMIN  # what it was made for
        assert (await access.actor_for_certificate(row.digest)).role is expected
    await database.run(lambda: services.remove_member(command_line(people.acme), people.bob))
    with pytest.raises(Unauthenticated, match="this certificate was revoked"):
        await access.actor_for_certificate(row.digest)


async def test_wrong_wishes_are_refused_in_words(people: Any, keys: Keys, settings: Any) -> None:
    for words, error, said in (
        ({"user": "charlie"}, InvalidArgument, r"charlie is no member of acme: \./manage\.py member add acme charlie makes one"),
        ({"user": "victor", "role": Role.ADMIN}, InvalidArgument, "victor is viewer of acme: a key of role admin would give no more"),
        ({"lifetime": timedelta(days=91)}, InvalidArgument, "90 days at most"),
        ({"verbs": ["container.fly"]}, InvalidArgument, "there is no verb 'container.fly'"),
        ({"role": Role.VIEWER, "verbs": ["container.start"]}, InvalidArgument, "role viewer may not do container.start"),
    ):
        with pytest.raises(error, match=said):
            await certificate(people, **words)
    for host in ("elsewhere.example", "127.0.0.1:port", "a b", "//", "[::1"):
        with pytest.raises(
            FailedPrecondition, match=r"the server's certificate is not for .*, but for 127\.0\.0\.1, localhost: the operator"
        ):
            await certificate(people, host=host)
    (keys.folder / "clients.pem").unlink()
    with pytest.raises(FailedPrecondition, match="SLIPWAY_TLS=:2376"):
        await certificate(people)
    assert not await database.read(Certificate.objects.exists)


async def test_a_key_makes_no_key_that_can_more_or_lasts_longer(people: Any, keys: Keys) -> None:
    alice = await database.read(people.actor, people.alice)

    async def token(**words: Any) -> Any:
        _row, secret = await database.run(lambda: credentials.create_token(alice, role=Role.OWNER, **words))
        return await access.actor_for_token(secret)

    narrow = await token(verbs=["certificate.*", "token.*"])
    assert narrow.verbs == {f"{kind}.{verb}" for kind in ("token", "certificate") for verb in ("view", "create", "revoke")}
    short = await token(lifetime=timedelta(hours=1))
    for actor, words, rule in (
        (narrow, {}, "credential.verbs"),
        (narrow, {"verbs": ["container.view", "image.view"]}, "credential.verbs"),
        (short, {"lifetime": timedelta(hours=2)}, "credential.expires"),
    ):
        for make in (credentials.create_token, credentials.create_certificate):
            with pytest.raises(PermissionDenied) as caught:
                await database.run(lambda make=make, actor=actor, words=words: make(actor, **words))
            assert caught.value.detail["rule"] == rule
    row, _secret = await database.run(lambda: credentials.create_token(narrow, role=Role.OWNER, verbs=["token.view"]))
    assert row.verbs == ["token.view"]


@pytest.mark.parametrize(
    ("host", "endpoint"),
    [("", "127.0.0.1:2376"), ("a.example", "a.example:2376"), ("a.example:99", "a.example:99"), ("fd00::1", "[fd00::1]:2376"),
     ("[fd00::1]:99", "[fd00::1]:99")],
)  # fmt: skip
async def test_the_context_is_what_docker_imports(people: Any, keys: Keys, host: str, endpoint: str) -> None:
    (keys.folder / "names").write_text("127.0.0.1\na.Example\nfd00::1\n")
    row, signed = await certificate(people, name="ci", host=host)
    packed = authority.docker_context("acme", signed, description=row.description)
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        files = {name: tar.extractfile(name).read() for name in tar.getnames()}  # type: ignore[union-attr]
    meta = json.loads(files.pop("meta.json"))
    assert meta["Name"] == "acme" and meta["Endpoints"] == {"docker": {"Host": f"tcp://{endpoint}", "SkipTLSVerify": False}}
    assert meta["Metadata"]["Description"].startswith("Slipway: tenant acme, ci as developer, until 20")
    ca = (keys.folder / "ca.pem").read_bytes()
    assert files == {"tls/docker/ca.pem": ca, "tls/docker/cert.pem": signed.certificate, "tls/docker/key.pem": signed.key}


class Client:
    """HTTPS with a client's certificate, or none."""

    def __init__(self, keys: Keys, port: int, signed: authority.Signed | None) -> None:
        self._port, self._context = port, keys.nobody()
        if signed is not None:
            (keys.folder / "mine.pem").write_bytes(signed.key + signed.certificate)
            self._context.load_cert_chain(keys.folder / "mine.pem")

    async def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
        return await asyncio.to_thread(self._ask, method, path, body, headers)

    def _ask(self, method: str, path: str, body: Any, headers: dict[str, str]) -> tuple[int, bytes]:
        connection = http.client.HTTPSConnection("127.0.0.1", self._port, context=self._context, timeout=20)
        try:
            words = {"Content-Type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
            connection.request(method, path, json.dumps(body) if body is not None else None, words)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@contextlib.asynccontextmanager
async def serving(keys: Keys) -> AsyncIterator[int]:
    server = PanelServer(configuration(application))
    sock = listeners.open_http("127.0.0.1:0")
    files = tls.Files(keys.folder / "server.pem", keys.folder / "server.key", keys.folder / "clients.pem")
    async with server.running():
        await server.add_listener("tls", sock, tls=tls.context_of(files))
        yield sock.getsockname()[1]


async def test_by_docker_api_and_rest_over_tls(people: Any, keys: Keys) -> None:
    row, signed = await certificate(people, "alice", verbs=["container.view", "certificate.*"])
    async with serving(keys) as port:
        ask = Client(keys, port, signed)
        assert (await ask("GET", "/v1.44/containers/json"))[0] == 200
        status, said = await ask("POST", "/v1.44/containers/prune")
        assert status == 403 and b"denied: rule container.prune of certificate " in said
        assert (await ask("GET", "/api/v1/tenants/umbrella/containers"))[0] == 404
        status, said = await ask("GET", "/api/v1/tenants/acme/certificates")
        assert status == 200 and [item["prefix"] for item in json.loads(said)] == [row.prefix]
        for header in ({"Origin": "https://evil.example"}, {"Sec_Fetch_Site": "cross-site"}):  # a browser's
            assert (await ask("GET", "/v1.44/containers/json", **header))[0] == 401
            assert (await ask("GET", "/api/v1/tenants/acme/certificates", **header))[0] == 401
        assert (await Client(keys, port, None)("GET", "/v1.44/containers/json"))[0] == 401

        status, file = await ask("POST", "/api/v1/tenants/acme/certificates/renew")
        with tarfile.open(fileobj=io.BytesIO(file)) as tar:
            assert status == 201 and tar.getnames()[0] == "meta.json"
        new = await database.read(lambda: Certificate.objects.exclude(pk=row.pk).get())
        assert (new.role, new.verbs, new.user_id, new.name) == (row.role, row.verbs, people.alice.pk, row.name)
        assert abs(new.expires_at - timezone.now() - credentials.CERTIFICATE_LIFETIME) < timedelta(minutes=1)

        assert (await ask("DELETE", f"/api/v1/tenants/acme/certificates/{row.pk}"))[0] == 204
        status, said = await ask("GET", "/v1.44/containers/json")
        assert status == 401 and b"this certificate was revoked" in said
        assert (await ask("POST", "/api/v1/tenants/acme/certificates/renew"))[0] == 401


async def test_one_that_has_ended_is_told_so_in_words(people: Any, keys: Keys) -> None:
    row, signed = await certificate(people, lifetime=timedelta(days=1))
    row.expires_at = timezone.now() - timedelta(seconds=1)
    await database.run(row.save)
    async with serving(keys) as port:
        status, said = await Client(keys, port, signed)("GET", "/v1.44/containers/json")
        assert status == 401 and b"this certificate ended at 20" in said and b"context export" in said


async def test_only_who_comes_with_a_certificate_renews_one(people: Any, keys: Keys) -> None:
    alice = await database.read(people.actor, people.alice)
    with pytest.raises(FailedPrecondition, match="TLS port"):
        await database.run(credentials.renew_certificate, alice)


def test_keys_are_the_panels_alone(keys: Keys) -> None:
    assert (keys.folder / "clients.key").stat().st_mode & 0o777 == 0o600
    before = (keys.folder / "clients.pem").read_bytes()
    authority.make()
    assert (keys.folder / "clients.pem").read_bytes() == before
    assert ssl.PEM_cert_to_DER_cert(before.decode())
