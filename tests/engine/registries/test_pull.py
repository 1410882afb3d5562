"""Pulling: what comes, what is told, what is believed, and what is left when it fails."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import zstandard

from engine.errors import EngineError, InvalidArgument, NotFound, PermissionDenied, RateLimited, Unavailable, Unsupported
from engine.model.platform import host_architecture
from engine.registries.auth import Credentials
from tests.engine.images.archives import digest, file, folder, image_config, tar
from tests.engine.registries import toy as toys
from tests.engine.registries.conftest import Host, layer, statuses
from tests.engine.registries.toy import DOCKER, INDEX, OCI, Handler, Toy

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


# -- registries that lie -------------------------------------------------------------------------------


def _other_bytes(toy: Toy, data: bytes) -> None:
    toy.blobs[digest(data)] = layer(len(data) - 10240)[: len(data)].ljust(len(data), b"\0")


def _longer(toy: Toy, data: bytes) -> None:
    toy.blobs[digest(data)] = data + b"more"


def _shorter(toy: Toy, data: bytes) -> None:
    toy.blobs[digest(data)] = data[:-512]


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (_other_bytes, "filesystem layer verification failed for digest sha256:"),
        (_longer, "unexpected size of sha256:"),
        (_shorter, "unexpected size of sha256:"),
    ],
)
def test_other_bytes_than_the_manifest_names_are_refused(host: Host, toy: Toy, spoil: Callable[[Toy, bytes], None], sentence: str) -> None:
    data = layer(50_000)
    toy.image("app", "1", [data, layer(100)])
    spoil(toy, data)
    with pytest.raises(InvalidArgument, match=sentence):
        host.pull(f"{toy.host}/app:1")
    assert host.leftovers() == []


def test_a_layer_that_is_no_layer_of_the_config_is_refused(host: Host, toy: Toy) -> None:
    toy.image("app", "1", [layer(100)], [layer(100, "other")])
    with pytest.raises(InvalidArgument, match="invalid diffID of a layer"):
        host.pull(f"{toy.host}/app:1")
    assert host.leftovers() == []


def test_a_layer_that_wants_out_is_refused(host: Host, toy: Toy) -> None:
    toy.image("app", "1", [tar(folder("a"), file("../../../etc/evil", b"x"))])
    try:
        host.pull(f"{toy.host}/app:1")
    except InvalidArgument:
        assert host.leftovers() == []
    assert not [path for path in host.config.data.parent.rglob("evil") if "layers" not in path.parts]


def _document(**change: Any) -> Callable[[Toy], None]:
    def spoil(toy: Toy) -> None:
        media_type, data = toy.manifests["app", "1"]
        toy.manifests["app", "1"] = (media_type, json.dumps(json.loads(data) | change).encode())

    return spoil


def _bytes(data: bytes, media_type: str = OCI) -> Callable[[Toy], None]:
    def spoil(toy: Toy) -> None:
        toy.manifests["app", "1"] = (media_type, data)

    return spoil


_SELF = {"schemaVersion": 2, "manifests": [{"mediaType": INDEX, "digest": "sha256:" + "0" * 64, "size": 10}]}
MANIFESTS: dict[str, tuple[Callable[[Toy], None], type[EngineError], str]] = {
    "no JSON": (_bytes(b"<html>"), InvalidArgument, "not JSON"),
    "HTML with its type": (_bytes(b"<html>hello</html>", "text/html"), InvalidArgument, "not JSON"),
    "another type": (_document(mediaType=DOCKER), InvalidArgument, "mediaType in manifest should be"),
    "both at once": (_document(manifests=[]), InvalidArgument, "a manifest and an index at once"),
    "version 1": (_document(schemaVersion=1), InvalidArgument, "schemaVersion must be 2"),
    "schema 1": (_bytes(b"{}", "application/vnd.docker.distribution.manifest.v1+prettyjws"), Unsupported, "schema 1"),
    "no layers": (_document(layers=None), InvalidArgument, "layers must be a list"),
    "fewer layers": (_document(layers=[]), InvalidArgument, "layers from manifest don't match image configuration"),
    "a path for a digest": (
        _document(layers=[{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": "../../x", "size": 1}]),
        InvalidArgument,
        "unsupported digest algorithm",
    ),
    "a size below nothing": (
        _document(layers=[{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": "sha256:" + "0" * 64, "size": -1}]),
        InvalidArgument,
        "a wrong size",
    ),
    "no image": (
        _document(config={"mediaType": "application/vnd.cncf.helm.config.v1+json", "digest": "sha256:" + "0" * 64, "size": 1}),
        InvalidArgument,
        'encountered remote "application/vnd.cncf.helm',
    ),
    "a layer of another kind": (
        _document(layers=[{"mediaType": "application/x-music", "digest": "sha256:" + "0" * 64, "size": 1}]),
        InvalidArgument,
        "unsupported layer media type",
    ),
    "an index of what is not there": (_bytes(json.dumps(_SELF).encode(), INDEX), NotFound, "manifest unknown"),
    "too much": (_bytes(b'{"a":"' + b"x" * (5 << 20) + b'"}'), InvalidArgument, "larger than 4194304 bytes"),
    "very deep": (_bytes(b'{"a":' * 100_000), InvalidArgument, "not JSON"),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_that_is_none_is_refused(host: Host, toy: Toy, name: str) -> None:
    spoil, kind, sentence = MANIFESTS[name]
    toy.image("app", "1", [layer(100)])
    spoil(toy)
    with pytest.raises(kind, match=sentence):
        host.pull(f"{toy.host}/app:1")
    assert host.leftovers() == []


def test_an_index_that_has_itself_in_it_ends(host: Host, toy: Toy) -> None:
    """No document has its own digest in it, so it lies about what it is when asked by digest."""
    data = json.dumps(_SELF).encode()
    toy.manifests["app", "1"] = toy.manifests["app", "sha256:" + "0" * 64] = (INDEX, data)
    with pytest.raises(InvalidArgument, match="unexpected size of sha256:0000"):
        host.pull(f"{toy.host}/app:1")


def test_indexes_in_indexes_end(host: Host, toy: Toy) -> None:
    document: dict[str, Any] = {"schemaVersion": 2, "manifests": []}
    for _depth in range(6):
        name = toy.manifest("app", "1", document, INDEX)
        size = len(toy.manifests["app", name][1])
        document = {"schemaVersion": 2, "manifests": [{"mediaType": INDEX, "digest": name, "size": size}]}
    with pytest.raises(InvalidArgument, match="indexes in indexes in indexes"):
        host.pull(f"{toy.host}/app:1")


def _html(handler: Handler) -> bool:
    if "/manifests/" not in handler.path:
        return False
    handler.answer(404, b"<html><body>Welcome to our hotel's network</body></html>", Content_Type="text/html")
    return True


def _circle(handler: Handler) -> bool:
    if "/manifests/" not in handler.path:
        return False
    handler.answer(307, Location=handler.path)
    return True


def _no_http(handler: Handler) -> bool:
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n")
    handler.cut()
    return True


def _broke(handler: Handler) -> bool:
    if "/manifests/" not in handler.path:
        return False
    handler.answer(400, b"")
    return True


@pytest.mark.parametrize(
    ("spoil", "kind", "sentence"),
    [
        (_html, NotFound, "error parsing HTTP 404 response body: invalid character '<' looking for beginning of value: \"<html>"),
        (_circle, Unavailable, "stopped after 10 redirects"),
        (_no_http, Unavailable, "malformed HTTP response"),
        (_broke, Unavailable, "received unexpected HTTP status: 400 Bad Request"),
    ],
)
def test_what_is_no_registry_is_said_in_mobys_words(
    host: Host, toy: Toy, spoil: Callable[[Handler], bool], kind: type[EngineError], sentence: str
) -> None:
    toy.image("app", "1", [layer(100)])
    toy.spoil = spoil
    with pytest.raises(kind) as caught:
        host.pull(f"{toy.host}/app:1")
    assert sentence in caught.value.message
    assert host.leftovers() == []


def test_a_busy_registry_is_asked_again_when_it_says(host: Host, toy: Toy) -> None:
    toy.image("app", "1", [layer(100)])
    times: list[float] = []

    def spoil(handler: Handler) -> bool:
        if "/manifests/" not in handler.path:
            return False
        times.append(time.monotonic())
        if len(times) < 2:
            handler.refuse(429, "TOOMANYREQUESTS", "you have reached your limit", Retry_After="1")
            return True
        return False

    toy.spoil = spoil
    assert host.pull(f"{toy.host}/app:1")[-1]["images"]
    assert times[1] - times[0] >= 1


def test_a_registry_that_wants_to_be_left_alone_for_long_is(host: Host, toy: Toy) -> None:
    toy.image("app", "1", [layer(100)])

    def spoil(handler: Handler) -> bool:
        if "/manifests/" in handler.path:
            handler.refuse(429, "TOOMANYREQUESTS", "you have reached your limit", Retry_After="3600")
            return True
        return False

    toy.spoil = spoil
    with pytest.raises(RateLimited, match="toomanyrequests: you have reached your limit"):
        host.pull(f"{toy.host}/app:1")


def test_what_is_not_there(host: Host, toy: Toy) -> None:
    toy.image("app", "1", [layer(100)])
    with pytest.raises(NotFound, match=f"manifest for {toy.host}/app:2 not found: manifest unknown: manifest unknown"):
        host.pull(f"{toy.host}/app:2")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        with pytest.raises(Unavailable, match=f'Get "http://127.0.0.1:{port}/v2/": dial tcp 127.0.0.1:{port}: connect: connection refused'):
            host.pull(f"127.0.0.1:{port}/app:1")
    with pytest.raises(Unavailable, match="no such host"):
        host.pull("nowhere.invalid/app:1")


# -- walls ---------------------------------------------------------------------------------------------


def test_this_machine_is_out_of_reach_unless_it_is_allowed(host: Host, toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    toy.image("app", "1", [layer(100)])
    monkeypatch.setenv("SLIPWAY_REGISTRIES_ALLOWED", "")
    with pytest.raises(PermissionDenied, match=r"127\.0\.0\.1 is this machine itself"):
        host.pull(f"{toy.host}/app:1")
    assert toy.log == []
    monkeypatch.setenv("SLIPWAY_REGISTRIES_ALLOWED", toy.host)
    assert host.pull(f"{toy.host}/app:1")[-1]["images"]


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
    courier = host.registries._desk._courier
    assert courier is not None
    courier.kill()
    courier.wait()
    assert host.pull(f"{toy.host}/app:1", "bob")[-1]["images"]
