"""Pulling: what comes, what is told, what is believed, and what is left when it fails."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import zstandard

from engine import ceilings
from engine.errors import EngineError, InvalidArgument, NotFound, PermissionDenied, Unavailable
from engine.model.network import NetworkSpec, Pool
from engine.model.platform import host_architecture
from engine.registries.auth import NOBODY, Credentials
from tests.engine.images.archives import digest, image_config
from tests.engine.registries import toy as toys
from tests.engine.registries.conftest import Host, layer, statuses
from tests.engine.registries.toy import INDEX, OCI, Handler, Toy

pytestmark = pytest.mark.requires("root")


def short(name: str) -> str:
    return name[7:19]


def test_a_pull_says_what_docker_says(host: Host, toy: Toy) -> None:
    layers = [layer(2 << 20), layer(1000)]
    packed = [gzip.compress(layers[0]), zstandard.compress(layers[1])]
    top = toy.image("team/app", "1", layers, packed)
    lines = host.pull(f"{toy.host}/team/app:1")
    first, second = (short(digest(each)) for each in packed)
    said = statuses(lines)
    assert said[:3] == ["1: Pulling from team/app", f"{first}: Pulling fs layer", f"{second}: Pulling fs layer"]
    assert said[-2:] == [f"Digest: {top}", f"Status: Downloaded newer image for {toy.host}/team/app:1"]
    for each in (first, second):
        steps = [line.partition(": ")[2] for line in said if line.startswith(each)]
        assert steps == ["Pulling fs layer", "Downloading", "Verifying Checksum", "Download complete", "Extracting", "Pull complete"]
    assert said.index(f"{first}: Pull complete") < said.index(f"{second}: Pull complete")  # the base first
    figures = [line["progressDetail"] for line in lines if line.get("id") == first and line["status"] == "Downloading"]
    assert figures[-1] == {"current": len(packed[0]), "total": len(packed[0])}
    image_id = lines[-1]["images"][0]
    assert host.store.refs("alice") == {f"{toy.host}/team/app:1": image_id, f"{toy.host}/team/app@{top}": image_id}
    again = statuses(host.pull(f"{toy.host}/team/app:1"))
    assert again == ["1: Pulling from team/app", f"Digest: {top}", f"Status: Image is up to date for {toy.host}/team/app:1"]


def test_a_layer_of_an_image_of_ones_own_exists_already(host: Host, toy: Toy) -> None:
    base, upper = layer(5000), layer(4000)
    host.load([base], "base:1")
    toy.image("app", "1", [base, upper])
    said = statuses(host.pull(f"{toy.host}/app:1"))
    assert f"{short(digest(base))}: Already exists" in said
    assert digest(base) not in toy.sent and toy.sent[digest(upper)] > 0


def test_a_layer_of_another_tenant_is_fetched_all_the_same(host: Host, toy: Toy) -> None:
    base = layer(5000)
    toy.image("app", "1", [base])
    host.pull(f"{toy.host}/app:1")
    assert host.pull(f"{toy.host}/app:1", "bob")[-1]["images"]
    assert toy.asked(f"GET /v2/app/blobs/{digest(base)}") == 2
    assert len(list(host.config.layers.iterdir())) == 1


def test_whoever_only_names_a_layer_does_not_get_it(host: Host, toy: Toy) -> None:
    secret = layer(5000)
    host.load([secret], "secret:1")
    toy.image("guess", "1", [secret])
    del toy.blobs[digest(secret)]
    with pytest.raises(NotFound):
        host.pull(f"{toy.host}/guess:1", "bob")
    assert host.store.list("bob") == []


def test_an_index_gives_this_hosts_platform_or_the_asked_one(host: Host, toy: Toy) -> None:
    layers = {name: layer(100, name) for name in ("mine", "other")}
    children = []
    for architecture, name in ((host_architecture(), "mine"), ("s390x", "other")):
        data = json.loads(image_config([layers[name]])) | {"architecture": architecture}
        config = toy.descriptor(json.dumps(data).encode(), "application/vnd.oci.image.config.v1+json")
        packed = toy.descriptor(layers[name], "application/vnd.oci.image.layer.v1.tar")
        document = {"schemaVersion": 2, "config": config, "layers": [packed]}
        of = toy.manifest("app", "", document)
        size = len(toy.manifests["app", of][1])
        children.append({"mediaType": OCI, "digest": of, "size": size, "platform": {"os": "linux", "architecture": architecture}})
    note = {"vnd.docker.reference.type": "attestation-manifest"}
    attestation = {"mediaType": OCI, "digest": digest(b"a"), "size": 1, "annotations": note}
    inner = toy.manifest("app", "", {"schemaVersion": 2, "manifests": children}, INDEX)
    size = len(toy.manifests["app", inner][1])
    outer = {"schemaVersion": 2, "manifests": [attestation, {"mediaType": INDEX, "digest": inner, "size": size}]}
    top = toy.manifest("app", "1", outer, INDEX)
    lines = host.pull(f"{toy.host}/app:1")
    assert lines[-1]["digest"] == top and digest(layers["mine"]) in toy.sent and digest(layers["other"]) not in toy.sent
    other = host.pull(f"{toy.host}/app:1", platform="linux/s390x")[-1]["images"][0]
    assert host.store.get(other).config["architecture"] == "s390x"
    with pytest.raises(NotFound, match="no matching manifest for linux/riscv64 in the manifest list entries"):
        host.pull(f"{toy.host}/app:1", platform="linux/riscv64")
    assert host.pull(f"{toy.host}/app@{top}")[0] == {"status": "Pulling from app", "id": top}
    shown = host.registries.inspect("alice", f"{toy.host}/app:1")
    assert shown["Descriptor"]["digest"] == top


def test_sha512_is_a_digest_too(host: Host, toy: Toy) -> None:
    data = layer(3000)
    document = {
        "schemaVersion": 2,
        "config": toy.descriptor(image_config([data]), "application/vnd.oci.image.config.v1+json", "sha512"),
        "layers": [toy.descriptor(gzip.compress(data), "application/vnd.oci.image.layer.v1.tar+gzip", "sha512")],
    }
    toy.manifest("app", "1", document)
    assert host.pull(f"{toy.host}/app:1")[-1]["images"]
    name = document["layers"][0]["digest"]
    toy.blobs[name] = gzip.compress(layer(3000))[: len(toy.blobs[name])].ljust(len(toy.blobs[name]), b"\0")
    with pytest.raises(InvalidArgument, match=f"filesystem layer verification failed for digest {name}"):
        host.pull(f"{toy.host}/app:1", "bob")


def test_all_tags(host: Host, toy: Toy) -> None:
    for tag in ("1", "2"):
        toy.image("app", tag, [layer(100, tag)])
    lines = host.pull(f"{toy.host}/app", every_tag=True)
    assert sum("images" in line for line in lines) == 2
    assert {name for name in host.store.refs("alice") if "@" not in name} == {f"{toy.host}/app:1", f"{toy.host}/app:2"}


# -- connections that break ----------------------------------------------------------------------------


def cut_after(part: float, times: int, toy: Toy) -> Callable[[Handler], bool]:
    """Blobs end in their middle, so often; also what is left of them then."""
    left = times

    def spoil(handler: Handler) -> bool:
        nonlocal left
        name = handler.path.rpartition("/")[2]
        if handler.command != "GET" or "/blobs/" not in handler.path or not left or len(toy.blobs.get(name, b"")) < 10_000:
            return False
        left -= 1
        data = toy.blobs[name]
        start = int(handler.headers.get("Range", "bytes=0-")[6:-1])
        rest = data[start:]
        sent = rest[: int(len(rest) * part)]
        toy.sent[name] = toy.sent.get(name, 0) + len(sent)
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(rest)))
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        handler.end_headers()
        handler.wfile.write(sent)
        handler.cut()
        return True

    return spoil


def test_a_download_that_breaks_goes_on_where_it_was(host: Host, toy: Toy) -> None:
    data = layer(3 << 20)
    toy.image("app", "1", [data])
    toy.spoil = cut_after(0.5, 3, toy)
    lines = host.pull(f"{toy.host}/app:1")
    assert lines[-1]["images"] and toy.asked(f"/blobs/{digest(data)} bytes=") == 3
    assert toy.sent[digest(data)] == len(data)  # not a byte twice
    assert any(line.get("status", "").startswith("Retrying in 1 second") for line in lines)


def test_a_registry_without_ranges_is_read_from_the_beginning(host: Host, toy: Toy) -> None:
    data = layer(1 << 20)
    toy.image("app", "1", [data])
    toy.accept_ranges = False
    toy.spoil = cut_after(0.5, 1, toy)
    assert host.pull(f"{toy.host}/app:1")[-1]["images"]
    assert toy.sent[digest(data)] == len(data) + len(data) // 2


def test_a_download_that_brings_nothing_is_given_up(host: Host, toy: Toy) -> None:
    data = layer(1 << 20)
    toy.image("app", "1", [data])
    toy.spoil = cut_after(0.0, 100, toy)
    with pytest.raises(Unavailable, match="unexpected EOF"):
        host.pull(f"{toy.host}/app:1")
    assert toy.asked(f"GET /v2/app/blobs/{digest(data)}") == 5
    assert host.leftovers() == []


def test_a_registry_that_stalls_counts_as_broken(host: Host, toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_REGISTRY_SILENCE", "3")
    data = layer(1 << 20)
    toy.image("app", "1", [data])
    stalled = threading.Event()

    def spoil(handler: Handler) -> bool:
        if "/blobs/" not in handler.path or stalled.is_set() or digest(data) not in handler.path:
            return False
        stalled.set()
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[:100_000])
        handler.wfile.flush()
        time.sleep(8)
        handler.cut()
        return True

    toy.spoil = spoil
    assert host.pull(f"{toy.host}/app:1")[-1]["images"]
    assert toy.asked("bytes=100000-") == 1


# -- walls ---------------------------------------------------------------------------------------------


def test_this_machine_is_out_of_reach_unless_it_is_allowed(host: Host, toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    toy.image("app", "1", [layer(100)])
    monkeypatch.setenv("SLIPWAY_REGISTRIES_ALLOWED", "")
    with pytest.raises(PermissionDenied, match=r"127\.0\.0\.1 is this machine itself"):
        host.pull(f"{toy.host}/app:1")
    assert toy.log == []
    monkeypatch.setenv("SLIPWAY_REGISTRIES_ALLOWED", toy.host)
    assert host.pull(f"{toy.host}/app:1")[-1]["images"]


def test_networks_of_other_tenants_are_out_of_reach(host: Host) -> None:
    pools = {"pool": Pool(subnet="10.233.60.0/24"), "ipv6_pool": Pool(subnet="fd00:60::/64")}
    host.networks.create(NetworkSpec(id="ab" * 32, tenant="alice", name="net", **pools))
    for address in ("10.233.60.7", "fd00:60::7"):
        host.registries._reach("alice").check(address, 5000, address)
        with pytest.raises(PermissionDenied, match="in a network of other tenants"):
            host.registries._reach("bob").check(address, 5000, address)


def test_a_redirect_does_not_lead_behind_the_wall(host: Host, toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_REGISTRIES_ALLOWED", toy.host)
    toy.image("app", "1", [layer(100)])
    with toys.running() as hidden:
        hidden.blobs = toy.blobs

        def spoil(handler: Handler) -> bool:
            if "/blobs/" not in handler.path:
                return False
            handler.answer(307, Location=f"{hidden.url}{handler.path}")
            return True

        toy.spoil = spoil
        with pytest.raises(PermissionDenied, match="this machine itself"):
            host.pull(f"{toy.host}/app:1")
        assert hidden.log == []


def test_credentials_do_not_follow_a_redirect(host: Host, toy: Toy) -> None:
    toy.password = "me:secret"
    toy.image("app", "1", [layer(100)])
    with toys.running() as elsewhere:
        elsewhere.blobs = toy.blobs

        def spoil(handler: Handler) -> bool:
            if "/blobs/" not in handler.path:
                return False
            handler.answer(307, Location=f"{elsewhere.url}{handler.path}?signature=1")
            return True

        toy.spoil = spoil
        assert host.pull(f"{toy.host}/app:1", credentials=Credentials("me", "secret"))[-1]["images"]
        assert elsewhere.heard and not any("Authorization" in headers for headers in elsewhere.heard)
        assert any("Authorization" in headers for headers in toy.heard)


def test_a_mirror_is_asked_first_and_hears_no_credentials(host: Host, toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_REGISTRY_MIRRORS", toy.url)
    top = toy.image("library/box", "latest", [layer(100)])
    lines = host.pull("box", credentials=Credentials("me", "secret"))
    assert lines[0] == {"status": "Pulling from library/box", "id": "latest"}
    assert set(host.store.refs("alice")) == {"box:latest", f"box@{top}"}
    assert toy.heard and not any("Authorization" in headers for headers in toy.heard)


# -- several at once, and those who go -------------------------------------------------------------------


def test_two_pulls_of_the_same_layer_fetch_it_once(host: Host, toy: Toy) -> None:
    base, one, two = layer(4 << 20), layer(100, "one"), layer(100, "two")
    toy.image("one", "1", [base, one])
    toy.image("two", "1", [base, two])
    gate = threading.Event()

    def slowly(handler: Handler) -> bool:
        if digest(base) in handler.path:
            gate.wait(100)
        elif digest(two) in handler.path:
            gate.set()  # both pulls are under way now
        return False

    toy.spoil = slowly
    results: list[Any] = []
    threads = [threading.Thread(target=lambda name=name: results.append(host.pull(f"{toy.host}/{name}:1"))) for name in ("one", "two")]
    for thread in threads:
        thread.start()
        time.sleep(0.3)
    for thread in threads:
        thread.join(100)
    assert len(results) == 2 and all(lines[-1]["images"] for lines in results)
    assert toy.asked(f"GET /v2/one/blobs/{digest(base)}") + toy.asked(f"GET /v2/two/blobs/{digest(base)}") == 1
    for name in ("one", "two"):
        record = host.store.resolve("alice", f"{toy.host}/{name}:1")
        assert all(map(host.store.content.has, host.store.records.layers(record.id[7:])))


def test_who_follows_a_pull_that_is_cancelled_goes_on_alone(host: Host, toy: Toy) -> None:
    base = layer(8 << 20)
    toy.image("app", "1", [base])
    begun, gate = threading.Event(), threading.Event()

    def slowly(handler: Handler) -> bool:
        if digest(base) not in handler.path or gate.is_set():
            return False
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(base)))
        handler.end_headers()
        handler.wfile.write(base[: 1 << 20])
        handler.wfile.flush()
        begun.set()
        gate.wait(100)
        handler.cut()
        return True

    toy.spoil = slowly
    leader = host.registries.pull("alice", f"{toy.host}/app:1")
    outcome: list[Any] = []

    def lead() -> None:
        try:
            outcome.append(list(leader))
        except EngineError as error:
            outcome.append(error)

    first = threading.Thread(target=lead)
    first.start()
    assert begun.wait(100)
    followed: list[Any] = []
    second = threading.Thread(target=lambda: followed.append(host.pull(f"{toy.host}/app:1")))
    second.start()
    time.sleep(0.5)
    leader.cancel()
    first.join(60)
    gate.set()
    second.join(100)
    assert isinstance(outcome[0], Unavailable) and "cancelled" in outcome[0].message
    assert followed and followed[0][-1]["images"]


def test_a_cancelled_pull_leaves_nothing(host: Host, toy: Toy) -> None:
    toy.image("app", "1", [layer(1000), layer(8 << 20)])
    pull = host.registries.pull("alice", f"{toy.host}/app:1")
    toy.spoil = cut_after(0.3, 1000, toy)
    with pytest.raises(Unavailable, match="the pull was cancelled"):
        for line in pull:
            if line.get("status", "").startswith("Retrying"):
                pull.cancel()
    assert host.leftovers() == []


def test_a_killed_courier_is_started_again(host: Host, toy: Toy) -> None:
    toy.image("app", "1", [layer(1000)])
    host.pull(f"{toy.host}/app:1")
    courier = host.registries._desk._helper._process
    assert courier is not None
    courier.kill()
    courier.wait()
    assert host.pull(f"{toy.host}/app:1", "bob")[-1]["images"]


def test_registries_that_a_tenant_may_not_speak_to_are_not_asked(host: Host, toy: Toy) -> None:
    """By the panel's policy, which the host was told, and by root's ceiling, whatever the panel says."""
    toy.image("app", "1", [layer(100)])
    name, elsewhere = f"{toy.host}/app:1", ("elsewhere:5000",)
    attempts = (
        lambda: host.pull(name),
        lambda: host.registries.push("alice", name),
        lambda: host.registries.inspect("alice", name),
        lambda: host.registries.login("alice", toy.host, NOBODY),
    )
    host.tenants.ensure("alice", registries=elsewhere)
    for attempt in attempts:
        with pytest.raises(PermissionDenied, match=f"registry {toy.host} is not allowed in tenant alice: rule policy.registries"):
            attempt()
    host.tenants.ensure("alice", registries=(toy.host,))
    ceilings.change(host.config, "alice", registries="elsewhere:5000")
    for attempt in attempts:
        with pytest.raises(PermissionDenied, match=r"rule ceiling.registries \(root .* --tenant alice ceiling --registries"):
            attempt()
    assert toy.log == []
    ceilings.change(host.config, "alice", registries=f"elsewhere:5000,{toy.host.upper()}")
    assert host.pull(name)[-1]["images"]
