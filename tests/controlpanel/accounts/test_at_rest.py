"""Who has a dump of the database has none of the secrets that people gave us: all are given here, and then looked for."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any

import pytest
from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import connection, models
from django.test import AsyncClient

from controlpanel.accounts.seal import seal
from controlpanel.base import database
from controlpanel.tenants import credentials, invitations
from controlpanel.tenants.actor import Role
from tests.controlpanel import agent
from tests.controlpanel.accounts.test_second_factor import set_up
from tests.controlpanel.conftest import say_who

PASSWORD = "alice-has-a-password"


def dump() -> str:
    """All rows as text; bytes in hex. What sessions hold, which is packed in their rows, is there unpacked, too."""
    rows = [str(session.get_decoded()) for session in Session.objects.all()]
    if connection.vendor == "sqlite":
        return "\n".join([*rows, *connection.connection.iterdump()])
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT t::text FROM "{table}" t')
            rows += [row[0] for row in cursor.fetchall()]
    return "\n".join(rows)


def found_in(text: str, secret: str) -> bool:
    """As it is, or as whoever reads it could turn it back."""
    if secret.isdecimal():  # short ones are part of many a number
        return re.search(rf"(?<!\d){secret}(?!\d)", text) is not None
    data = secret.encode()
    spellings = [
        secret,
        secret[: len(secret) // 2 + 4],
        data.hex(),
        base64.b64encode(data).decode().rstrip("="),
        base64.b32encode(data).decode().rstrip("="),
    ]
    return any(each.lower() in text.lower() for each in spellings)


def test_the_search_finds_what_is_there() -> None:
    assert found_in(f"x {base64.b64encode(b'a secret of mine').decode()} y", "a secret of mine")
    assert not found_in(hashlib.sha256(b"a secret of mine").hexdigest(), "a secret of mine")


@pytest.mark.usefixtures("redis_server")
def test_passwords_second_factors_tokens_links_and_keys(people: Any, keys: Any) -> None:
    _browser, totp, codes = set_up("alice")
    alice = people.actor(people.alice)
    _row, token = credentials.create_token(alice, role=Role.VIEWER)
    _row, link = invitations.invite(alice, role=Role.VIEWER, lifetime=invitations.LONGEST)
    _row, signed = credentials.create_certificate(alice, role=Role.VIEWER)
    authority = (settings.PANEL_DIR / "clients.key").read_text()
    secrets = [
        PASSWORD,
        totp,
        *codes,
        token,
        link,
        _middle(signed.key.decode()),
        _middle(authority),
        settings.SECRET_KEY,
        settings.SEAL_KEY,
    ]
    text = dump()
    assert people.alice.username in text and seal("x") != "x"
    assert [secret for secret in secrets if found_in(text, secret)] == []


def _middle(pem: str) -> str:
    return "".join(pem.splitlines()[1:-1])


async def test_credentials_of_registries_and_secrets_of_builds(people: Any, web: None, host: Any) -> None:
    """The agent has nothing to tell, so each fails: after everything that is written before it is asked."""
    browser = AsyncClient()
    await browser.aforce_login(people.alice)
    await say_who(browser, people.alice)
    secrets = {
        "password": "registry-has-a-password",
        "argument": "argument-of-a-build",
        "secret": "secret-of-a-build",
        "address": "token-in-an-address",
    }
    where = "/api/v1/tenants/acme/"
    async with agent.speaking(settings.SLIPWAY_RUN, settings.SLIPWAY_DATA):
        await _ask_all(browser, where, secrets)
    text = await database.read(dump)
    assert "image.pull" in text and "127.0.0.9:1/a/b" in text, "what was asked is on the record"
    assert [name for name, secret in secrets.items() if found_in(text, secret)] == []


async def _ask_all(browser: AsyncClient, where: str, secrets: dict[str, str]) -> None:
    for path in ("image-pull", "image-push", "image-there"):
        asked = {"ref": "127.0.0.9:1/a/b", "username": "u", "password": secrets["password"]}
        answer = await browser.post(where + path, asked, content_type="application/json")
        if answer.streaming:  # the host is asked while it is read
            async for _part in answer:
                pass
    asked = {"text": "FROM busybox", "args": {"A": secrets["argument"]}, "secrets": {"s": secrets["secret"]}}
    await browser.post(where + "builds", asked, content_type="application/json")
    asked = {"address": f"https://u:{secrets['address']}@127.0.0.9:1/a.git", "args": {}}
    await browser.post(where + "builds", asked, content_type="application/json")


# Fields whose names sound like secrets, and what is in them instead
_KNOWN = {
    "accounts.User.password": "PBKDF2",
    "accounts.Token.digest": "SHA-256",
    "accounts.Token.prefix": "the first 12 characters, to know it by: 48 of 256 bits",
    "accounts.Certificate.digest": "SHA-256 of what is no secret",
    "tenants.Invitation.digest": "SHA-256",
    "mfa.Authenticator.data": "sealed (accounts.second_factor)",
    "sessions.Session.session_key": "the key of an open session: docs/security.md says what that means",
    "usersessions.UserSession.session_key": "the same",
    "hosts.Operation.key": "order of messages",
    "registry.Blob.digest": "of what everybody who may pull it has",
    "registry.Manifest.digest": "the same",
    "registry.Move.digest": "the same",
    "registry.Upload.key": "a name of an upload, worth nothing without its owner's credential",
    "account.EmailConfirmation.key": "never made: mail and sign-up are left out",
    "execs.Exec.detach_keys": "keys of a keyboard",
    "tenants.Tenant.tokens_max": "a number",
}


def test_no_other_field_sounds_like_a_secret() -> None:
    """A new one is sealed or hashed, and then written down above."""
    from django.apps import apps

    words = ("password", "secret", "token", "digest", "key", "credential", "seed", "prefix", "private")
    told = {
        f"{model._meta.app_label}.{model.__name__}.{field.name}"
        for model in apps.get_models()
        for field in model._meta.get_fields()
        if isinstance(field, models.Field) and not field.is_relation and any(word in field.name for word in words)
    }
    assert told <= _KNOWN.keys(), told - _KNOWN.keys()
