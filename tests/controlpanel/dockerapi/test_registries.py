"""Docker's ways to write credentials, and the registries that ``docker login`` means."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from controlpanel.dockerapi.exchange import Exchange
from controlpanel.dockerapi.registries import from_header
from controlpanel.images import pulling
from controlpanel.images.pulling import Credentials

GIVEN = {"username": "me?>", "password": "sécret", "serveraddress": "registry.lan", "email": ""}


def exchange(header: bytes) -> Exchange:
    scope = {"method": "POST", "path": "/", "headers": [(b"x-registry-auth", header)] if header else []}
    return Exchange(scope, None, None)  # type: ignore[arg-type]  # nothing is received or sent


@pytest.mark.parametrize("encode", [base64.urlsafe_b64encode, base64.b64encode, lambda data: base64.urlsafe_b64encode(data).rstrip(b"=")])
def test_credentials_in_any_base64(encode: Callable[[bytes], bytes]) -> None:
    for padding in ("", "1", "12"):
        found = from_header(exchange(encode(json.dumps({**GIVEN, "email": padding}).encode())))
        assert found == Credentials(username="me?>", password="sécret")


def test_a_user_and_password_in_one() -> None:
    both = base64.b64encode(b"me:se:cret").decode()
    assert from_header(exchange(base64.b64encode(json.dumps({"auth": both}).encode()))) == Credentials(username="me", password="se:cret")


@pytest.mark.parametrize("header", [b"", b"!", b"bm9uc2Vu", base64.b64encode(b"[]"), base64.b64encode(b'{"auth": "!"}'), b"A" * 100_000])
def test_what_can_not_be_read_is_nobodys(header: bytes) -> None:
    assert from_header(exchange(header)) == pulling.NOBODY


def test_credentials_are_not_shown() -> None:
    assert "secret" not in repr(Credentials(username="me", password="secret"))


@pytest.mark.parametrize(
    ("server", "domain"),
    [
        ("", "docker.io"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("registry.lan:5000", "registry.lan:5000"),
        ("http://registry.lan:5000/v2/", "registry.lan:5000"),
        ("127.0.0.1:5000", "127.0.0.1:5000"),
    ],
)
def test_the_registry_of_a_login(server: str, domain: Any) -> None:
    assert pulling.domain_of(server) == domain
