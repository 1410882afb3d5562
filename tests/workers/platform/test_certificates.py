"""The server's certificate: for whom, readable by whom, and when another one is made."""

from __future__ import annotations

import datetime
import socket
import ssl
from pathlib import Path

import pytest
from cryptography import x509

from workers import authority
from workers.authority import Authority
from workers.platform import certificates, checks, parts
from workers.platform.places import Places
from workers.platform.say import Refusal

pytestmark = [pytest.mark.guest, pytest.mark.requires("root")]

NOW = datetime.datetime(2026, 12, 1, tzinfo=datetime.UTC)
NOBODY = 65534


@pytest.fixture(autouse=True)
def panel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "gid", lambda: NOBODY)  # the group slipway, where there is none


def places(folder: Path, tls: str = "127.0.0.1:2376", **variables: str) -> Places:
    return Places.from_environment({"SLIPWAY_DATA": str(folder), "SLIPWAY_TLS": tls, **variables})


def shown(folder: Path) -> x509.Certificate:
    return authority.load_certificate((folder / "etc/tls/server.pem").read_bytes())


def test_keys_are_roots_and_the_panels_the_rest_is_everybodys(tmp_path: Path) -> None:
    assert certificates.make(places(tmp_path), now=NOW)
    found = {path.name: (path.stat().st_mode & 0o777, path.stat().st_gid) for path in (tmp_path / "etc/tls").iterdir()}
    assert found.pop("looked")
    assert found == {
        "ca.key": (0o600, 0),
        "ca.pem": (0o644, 0),
        "server.key": (0o640, NOBODY),
        "server.pem": (0o644, 0),
        "names": (0o644, 0),
    }


def test_it_is_made_once_and_anew_when_a_third_of_its_life_is_left(tmp_path: Path) -> None:
    certificates.make(places(tmp_path), now=NOW)
    first, ca = shown(tmp_path), (tmp_path / "etc/tls/ca.pem").read_bytes()
    assert not certificates.make(places(tmp_path), now=NOW + datetime.timedelta(days=59))
    assert shown(tmp_path) == first
    assert certificates.make(places(tmp_path), now=NOW + datetime.timedelta(days=61))
    assert shown(tmp_path) != first and (tmp_path / "etc/tls/ca.pem").read_bytes() == ca


@pytest.mark.parametrize("lost", ["server.pem", "server.key", "names", "ca.pem", "ca.key"])
def test_what_was_lost_is_made_again_and_fits(tmp_path: Path, lost: str) -> None:
    certificates.make(places(tmp_path), now=NOW)
    folder = tmp_path / "etc/tls"
    (folder / lost).unlink()
    certificates.make(places(tmp_path), now=NOW)
    own = Authority(authority.load_certificate((folder / "ca.pem").read_bytes()), authority.load_key((folder / "ca.key").read_bytes()))
    assert own.has_signed(shown(tmp_path)) and own.certificate.public_key() == own.key.public_key()
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(folder / "server.pem", folder / "server.key")
    assert (folder / "names").read_text().startswith("127.0.0.1\n")


def test_an_authority_that_ends_signs_itself_anew_and_clients_go_on(tmp_path: Path) -> None:
    certificates.make(places(tmp_path), now=NOW)
    old = authority.load_certificate((tmp_path / "etc/tls/ca.pem").read_bytes())
    certificates.make(places(tmp_path), now=NOW + datetime.timedelta(days=certificates.AUTHORITY_DAYS - 900))
    new = authority.load_certificate((tmp_path / "etc/tls/ca.pem").read_bytes())
    assert new.not_valid_after_utc > old.not_valid_after_utc and new.public_key() == old.public_key()
    shown(tmp_path).verify_directly_issued_by(old)  # what an exported context trusts


def test_names_are_the_bound_address_or_the_machines_and_the_operators(tmp_path: Path) -> None:
    assert certificates.host_names(places(tmp_path, "192.0.2.7:2376"))[0] == "192.0.2.7"
    names = certificates.host_names(
        places(tmp_path, ":2376", SLIPWAY_ALLOWED_HOSTS="panel.example.org,*.example.net,.example.com,[fd00::9]")
    )
    assert names[:2] == ["panel.example.org", "fd00::9"]
    assert {socket.gethostname(), "localhost", "127.0.0.1", "::1"} <= set(names) and len(names) == len(set(names))
    assert not any("*" in name or name.startswith(".") for name in names)


def test_other_names_make_another_certificate(tmp_path: Path) -> None:
    certificates.make(places(tmp_path), now=NOW)
    assert certificates.make(places(tmp_path, SLIPWAY_ALLOWED_HOSTS="panel.example.org"), now=NOW)
    alternatives = shown(tmp_path).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "panel.example.org" in alternatives.get_values_for_type(x509.DNSName)


@pytest.mark.parametrize(
    ("given", "address"),
    [("", ""), ("off", ""), ("0", ""), ("on", ":2376"), ("1", ":2376"), (":2376", ":2376"), ("127.0.0.1:9", "127.0.0.1:9")],
)
def test_words_of_the_setting(tmp_path: Path, given: str, address: str) -> None:
    assert places(tmp_path, given).tls == places(tmp_path, given).own()["SLIPWAY_TLS"] == address


def test_a_proxy_is_the_only_way_in(tmp_path: Path) -> None:
    checks.require_one_way_in(places(tmp_path, SLIPWAY_PROXY="false"))
    checks.require_one_way_in(places(tmp_path, "", SLIPWAY_PROXY="true"))
    with pytest.raises(Refusal, match="SLIPWAY_TLS and SLIPWAY_PROXY exclude each other"):
        checks.require_one_way_in(places(tmp_path, SLIPWAY_PROXY="true"))


def test_an_address_that_is_none_is_refused_by_the_variables_name(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="SLIPWAY_TLS=everywhere: say host:port"):
        certificates.make(places(tmp_path, "everywhere"))
