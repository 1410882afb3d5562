"""The operator's proxy: what goes by it, and what does not."""

from __future__ import annotations

import base64
import ssl
from pathlib import Path

import pytest

from engine.config import RegistryConfig
from engine.errors import PermissionDenied, Unavailable
from engine.registries.wayout import WaysOut
from tests.engine.registries import certificates, forward, toy
from tests.engine.registries.conftest import Host, layer

NAME = "registry.invalid"  # RFC 2606: nobody but the proxy knows it


def test_by_connect_to_a_name_that_only_the_proxy_knows(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority, certificate, key = certificates.make(tmp_path / "tls", f"DNS:{NAME}")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    folder = host.config.registry_certificates / NAME
    folder.mkdir(parents=True)
    (folder / "ca.crt").write_bytes(authority.read_bytes())
    wanted = f"Basic {base64.b64encode(b'us:s3 cret').decode()}"
    with toy.running(tls=context) as there, forward.running(there.host, wanted) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://us:s3%20cret@{proxy.host}")
        image_id = host.load([layer(100_000), layer(10)], f"{NAME}/app:1")
        host.push(f"{NAME}/app:1")
        assert host.pull(f"{NAME}/app:1", "bob")[-1]["images"] == [image_id]
        assert set(proxy.asked) == {f"CONNECT {NAME}:443 HTTP/1.1"}
        assert not any("Proxy-Authorization" in heard for heard in there.heard), "the proxy's password is the proxy's"
        monkeypatch.setenv("HTTPS_PROXY", proxy.host)
        with pytest.raises(Unavailable, match=r"proxyconnect tcp: the proxy at 127\.0\.0\.1:.* refuses: 407 Proxy Authentication Required"):
            host.pull(f"{NAME}/app:1", "bob")


def test_without_tls(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_INSECURE_REGISTRIES", f"{NAME}:5000")
    with toy.running() as there, forward.running(there.host) as proxy:
        monkeypatch.setenv("http_proxy", proxy.host)
        digest = there.image("app", "1", [layer(1000)])
        assert host.pull(f"{NAME}:5000/app:1")[-1]["digest"] == digest
        assert f"GET http://{NAME}:5000/v2/app/manifests/1 HTTP/1.1" in proxy.asked
        assert {heard["Host"] for heard in there.heard} == {f"{NAME}:5000"}


def test_it_leads_nowhere_that_one_may_not_go(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    with toy.running() as there, forward.running(there.host) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.host)
        monkeypatch.setenv("HTTP_PROXY", proxy.host)
        monkeypatch.setenv("SLIPWAY_REGISTRIES_ALLOWED", "")
        for name in ("169.254.169.254/app:1", f"{there.host}/app:1"):
            with pytest.raises(PermissionDenied, match="is not reachable from this platform"):
                host.pull(name)
        assert not proxy.asked and not there.log


def test_one_that_is_away_and_one_of_another_kind(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    with forward.running("127.0.0.1:1") as proxy:
        gone = proxy.host
    monkeypatch.setenv("HTTPS_PROXY", gone)
    with pytest.raises(Unavailable, match=f"dial tcp {gone}: connect: connection refused"):
        host.pull(f"{NAME}/app:1")
    monkeypatch.setenv("HTTPS_PROXY", "socks5://us:secret@127.0.0.1:1080")
    with pytest.raises(Unavailable, match=r"settings of registries are wrong: the proxy 127\.0\.0\.1 is not http://HOST:PORT") as raised:
        host.pull(f"{NAME}/app:1")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("spared", "host", "is_spared"),
    [
        ("example.org", "example.org", True), ("example.org", "a.b.example.org", True), ("example.org", "anexample.org", False),
        (".example.org", "a.example.org", True), (".example.org", "example.org", False), ("*.example.org", "a.example.org", True),
        ("example.org:443", "example.org", True), ("example.org:5000", "example.org", False), ("*", "anything.test", True),
        ("10.0.0.0/8", "10.1.2.3", True), ("10.0.0.0/8", "11.1.2.3", False), ("10.0.0.0/8", "ten.test", False),
        ("192.0.2.1", "192.0.2.1", True), ("192.0.2.1:443", "192.0.2.1", True), ("192.0.2.1:80", "192.0.2.1", False),
        ("2.1", "192.0.2.1", False), ("fd00::/8", "fd00::1", True), ("fd00::1", "fd00:0::1", True), ("[fd00::1]:443", "fd00::1", True),
        ("", "localhost", True), ("", "127.9.9.9", True), ("", "::1", True), ("", "192.0.2.1", False), ("a.test, b.test", "b.test", True),
    ],
)  # fmt: skip
def test_where_it_does_not_lead(spared: str, host: str, is_spared: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "proxy.test:3128")
    monkeypatch.setenv("NO_PROXY", spared)
    ways = WaysOut(RegistryConfig.from_environment())
    assert (ways.to("https", host, 443) is None) is is_spared
    assert ways.to("http", host, 80) is None, "of the other scheme's proxy nobody said a word"
