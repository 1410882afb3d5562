"""Challenges, addresses, documents: pure."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as fuzz
from hypothesis import strategies as st

from engine.config import RegistryConfig
from engine.errors import EngineError, PermissionDenied
from engine.registries import settings
from engine.registries.challenge import Challenge, parse
from engine.registries.connection import place_of
from engine.registries.faults import of_response
from engine.registries.manifests import OCI_INDEX, OCI_MANIFEST, Document
from engine.registries.reach import Reach


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ('Basic realm="here"', [Challenge("basic", {"realm": "here"})]),
        (
            'Bearer realm="https://auth/token",service="reg",scope="repository:a/b:pull,push"',
            [Challenge("bearer", {"realm": "https://auth/token", "service": "reg", "scope": "repository:a/b:pull,push"})],
        ),
        ('Basic realm="a", Bearer realm=b', [Challenge("basic", {"realm": "a"}), Challenge("bearer", {"realm": "b"})]),
        (r'Basic realm="say \"hi\""', [Challenge("basic", {"realm": 'say "hi"'})]),
        ("Negotiate", [Challenge("negotiate", {})]),
        ("", []),
        ('"', []),
    ],
)
def test_a_challenge_is_read(header: str, found: list[Challenge]) -> None:
    assert parse([header]) == found


@fuzz(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.text(), max_size=3))
def test_any_challenge_ends(headers: list[str]) -> None:
    parse(headers)


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "127.8.8.8", "::1", "0.0.0.0", "::", "169.254.169.254", "fe80::1", "fe80::1%eth0", "224.0.0.1", "255.255.255.255",
     "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::", "100.100.100.200", "fd00:ec2::254",
     "10.130.0.1", "10.128.16.5", "fd20:ce::254", "fd00:7:0:1::2"],
)  # fmt: skip
def test_out_of_reach(address: str) -> None:
    reach = Reach(closed=("10.128.0.0/14", "fd00:7::/48"), own=("10.128.32.0/20", "fd00:7::/64"))
    with pytest.raises(PermissionDenied, match="is not reachable from this platform"):
        reach.check("registry.example", 443, address)


@pytest.mark.parametrize(
    "address", ["203.0.113.7", "10.0.0.7", "192.168.77.8", "172.16.99.9", "fd12::1", "2001:4860::1", "10.128.33.9", "fd00:7::2"]
)
def test_within_reach(address: str) -> None:
    Reach(closed=("10.128.0.0/14", "fd00:7::/48"), own=("10.128.32.0/20", "fd00:7::/64")).check("registry.example", 443, address)


def test_the_operator_allows_by_name_and_network() -> None:
    reach = Reach(allowed=("registry.lan:5000", "127.0.0.1:5000", "10.128.0.0/24", "[::1]:5000"))
    reach.check("Registry.lan", 5000, "127.0.0.1")
    reach.check("127.0.0.1", 5000, "127.0.0.1")
    reach.check("anything", 80, "10.128.0.9")
    reach.check("::1", 5000, "::1")
    with pytest.raises(PermissionDenied):
        reach.check("registry.lan", 6379, "127.0.0.1")
    with pytest.raises(PermissionDenied):
        reach.check("127.0.0.1", 6379, "127.0.0.1")
    reach.check("localhost", 5000, "127.0.0.1")


@pytest.mark.parametrize("word", ["0.0.0.0:8000", "[::]:8000"])
def test_a_port_of_this_machine_under_every_address(word: str) -> None:
    reach = Reach(allowed=(word,))
    for address in ("127.0.0.1", "127.0.0.9", "::1"):
        reach.check("panel", 8000, address)
        with pytest.raises(PermissionDenied):
            reach.check("panel", 8001, address)
    with pytest.raises(PermissionDenied):
        reach.check("panel", 8000, "169.254.169.254")


def test_endpoints_in_their_order() -> None:
    config = RegistryConfig(mirrors=("https://mirror.invalid:5000",), insecure=("old.invalid:5000", "10.9.0.0/16"))
    assert [each.url for each in settings.endpoints(config, "docker.io", mirrors=True)] == [
        "https://mirror.invalid:5000", f"https://{settings.DEFAULT_HOST}"
    ]  # fmt: skip
    assert [each.url for each in settings.endpoints(config, "docker.io", mirrors=False)] == [f"https://{settings.DEFAULT_HOST}"]
    both = settings.endpoints(config, "old.invalid:5000", mirrors=True)
    assert [(each.url, each.verify) for each in both] == [("https://old.invalid:5000", False), ("http://old.invalid:5000", False)]
    assert len(settings.endpoints(config, "10.9.1.1", mirrors=True)) == 2 and len(settings.endpoints(config, "10.8.1.1", mirrors=True)) == 1
    assert len(settings.endpoints(config, "127.0.0.1:1", mirrors=True)) == 2


@pytest.mark.parametrize(
    "url", ["ftp://x/", "http:///x", "http://x:99999999/", "file:///etc/passwd", "http://x/\r\nHost: y", "//x", "http://[::1"]
)
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(EngineError):
        place_of(url)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
_members = st.sampled_from(["schemaVersion", "mediaType", "config", "layers", "manifests", "digest", "size", "platform", "annotations"])


_values = _json | st.dictionaries(_members, _json, max_size=4) | st.lists(st.dictionaries(_members, _json), max_size=2)


@fuzz(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(_members, _values))
def test_any_document_is_read_or_refused(members: dict[str, Any]) -> None:
    for media_type in (OCI_MANIFEST, OCI_INDEX, ""):
        with contextlib.suppress(EngineError):
            document = Document.read(media_type, json.dumps({"schemaVersion": 2, **members}).encode())
            if document.is_index:
                document.children()
            else:
                document.config()
                document.layers()


@fuzz(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(300, 599), st.binary(max_size=200) | _json.map(lambda value: json.dumps(value).encode()))
def test_any_refusal_becomes_a_sentence(status: int, body: bytes) -> None:
    assert of_response(status, "", body).message
