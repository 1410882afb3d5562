"""Against Debian's docker-registry, with password and TLS, through a proxy that cuts, and beside skopeo."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.errors import PermissionDenied, Unauthenticated, Unavailable
from engine.registries.auth import Credentials
from tests.engine.images.archives import digest
from tests.engine.registries import certificates, proxy
from tests.engine.registries.conftest import Host, layer
from tests.support import registry

pytestmark = pytest.mark.requires("root", "docker_registry")

# bcrypt of "secret"
ALICE = "alice:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a"


def test_there_and_back(host: Host, tmp_path: Path) -> None:
    layers = [layer(200_000), layer(1000), layer(10)]
    with registry.running(tmp_path / "registry") as there:
        image_id = host.load(layers, f"{there.host}/team/app:1")
        sent = host.push(f"{there.host}/team/app:1")[-1]["digest"]
        lines = host.pull(f"{there.host}/team/app:1", "bob")
        assert lines[-1] == {"images": [image_id], "digest": sent, "ref": f"{there.host}/team/app:1"}
        host.store.tag("alice", f"{there.host}/team/app:1", f"{there.host}/other/app:1")
        said = [line["status"] for line in host.push(f"{there.host}/other/app:1") if "status" in line]
        assert said.count("Mounted from team/app") == 3
        assert host.registries.inspect("bob", f"{there.host}/other/app:1")["Platforms"]


def test_a_password_over_tls_of_an_authority_of_ones_own(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not on loopback, where certificates don't count."""
    address = own_address()
    monkeypatch.setenv("SLIPWAY_REGISTRIES_ALLOWED", address)
    authority, certificate, key = certificates.make(tmp_path / "tls", address)
    with registry.running(tmp_path / "registry", htpasswd=ALICE, tls=(certificate, key), address=address) as there:
        host.load([layer(100_000)], f"{there.host}/app:1")
        good, bad = Credentials("alice", "secret"), Credentials("alice", "wrong")
        with pytest.raises(Unavailable, match="tls: failed to verify certificate: x509: certificate signed by unknown authority"):
            host.push(f"{there.host}/app:1", credentials=good)
        folder = host.config.registry_certificates / there.host
        folder.mkdir(parents=True)
        shutil.copy(authority, folder / "ca.crt")
        assert host.push(f"{there.host}/app:1", credentials=good)[-1]["images"]
        assert host.pull(f"{there.host}/app:1", "bob", credentials=good)[-1]["images"]
        with pytest.raises(PermissionDenied, match="no basic auth credentials"):
            host.pull(f"{there.host}/app:1", "bob")
        with pytest.raises(PermissionDenied, match="unauthorized: authentication required"):
            host.pull(f"{there.host}/app:1", "bob", credentials=bad)
        assert host.registries.login("alice", there.host, good) == ""
        with pytest.raises(Unauthenticated):
            host.registries.login("alice", there.host, bad)


def test_without_tls_only_where_the_operator_says_so(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = own_address()
    monkeypatch.setenv("SLIPWAY_REGISTRIES_ALLOWED", address)
    with registry.running(tmp_path / "registry", address=address) as there:
        host.load([layer(1000)], f"{there.host}/app:1")
        with pytest.raises(Unavailable, match="http: server gave HTTP response to HTTPS client"):
            host.push(f"{there.host}/app:1")
        monkeypatch.setenv("SLIPWAY_INSECURE_REGISTRIES", there.host)
        assert host.push(f"{there.host}/app:1")[-1]["images"]


def own_address() -> str:
    """Of this machine, not loopback's."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.99", 9))
        except OSError:
            pytest.skip("this machine has no address but loopback's")
        return str(probe.getsockname()[0])


def test_a_proxy_that_cuts_in_the_middle(host: Host, tmp_path: Path) -> None:
    """The pull succeeds and fetches less than 60 % of the blob again."""
    data = layer(8 << 20)
    with registry.running(tmp_path / "registry") as there, proxy.running(there.host, after=4 << 20, cuts=1) as between:
        host.load([data], f"{there.host}/app:1")
        host.push(f"{there.host}/app:1")
        assert host.pull(f"{between.host}/app:1", "bob")[-1]["images"]
        assert between.cuts == 0
        assert between.passed < 1.6 * len(data)
    assert len(list(host.config.layers.iterdir())) == 1


def test_a_proxy_that_cuts_every_connection(host: Host, tmp_path: Path) -> None:
    data = layer(4 << 20)
    with registry.running(tmp_path / "registry") as there, proxy.running(there.host, after=1 << 20, cuts=1000) as between:
        host.load([data], f"{there.host}/app:1")
        host.push(f"{there.host}/app:1")
        assert host.pull(f"{between.host}/app:1", "bob")[-1]["images"]
        assert between.passed < 1.2 * len(data)


@pytest.fixture
def skopeo(tmp_path: Path) -> Callable[..., str]:
    program = registry.binary("skopeo", "skopeo")
    if program is None:
        pytest.skip("no skopeo: apt-get download skopeo")
    libraries = ":".join(_libraries())
    policy = tmp_path / "policy.json"
    policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')

    def run(*words: str) -> str:
        environment = {"PATH": os.defpath, "HOME": str(tmp_path), "LD_LIBRARY_PATH": libraries}
        command = [program, "--policy", str(policy), *words]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def _libraries() -> list[str]:
    """That skopeo wants, where they are not installed."""
    folders = [folder for package in ("libgpgme11", "libassuan0") if (folder := registry.unpacked(package))]
    return [str(path) for folder in folders for path in folder.glob("usr/lib/*")]


def test_skopeo_both_ways(host: Host, tmp_path: Path, skopeo: Callable[..., str]) -> None:
    layers = [layer(50_000), layer(1000)]
    with registry.running(tmp_path / "registry") as there:
        image_id = host.load(layers, f"{there.host}/ours:1")
        ours = host.push(f"{there.host}/ours:1")[-1]["digest"]
        layout = f"oci:{tmp_path}/layout:x"
        skopeo("copy", "--src-tls-verify=false", f"docker://{there.host}/ours:1", layout)
        skopeo("copy", "--dest-tls-verify=false", layout, f"docker://{there.host}/theirs:1")
        shown: dict[str, Any] = json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{there.host}/ours:1"))
        assert shown["Digest"] == ours and shown["Architecture"]
        lines = host.pull(f"{there.host}/theirs:1", "bob")
        record = host.store.resolve("bob", f"{there.host}/theirs:1")
        assert lines[-1]["images"] == [record.id] and list(record.diff_ids) == [digest(each) for each in layers]
        assert record.id == image_id or record.config["rootfs"] == host.store.get(image_id).config["rootfs"]


def test_a_registry_that_ends_in_the_middle(host: Host, tmp_path: Path) -> None:
    with registry.running(tmp_path / "registry") as there:
        host.load([layer(1000)], f"{there.host}/app:1")
        host.push(f"{there.host}/app:1")
        name = f"{there.host}/app:1"
    with pytest.raises(Unavailable, match="connection refused"):
        host.pull(name, "bob")
