"""Registries that lie, send nonsense, or are none: what is said, and that nothing is kept of it."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from engine.errors import EngineError, InvalidArgument, NotFound, RateLimited, Unavailable, Unsupported
from tests.engine.images.archives import digest, file, folder, tar
from tests.engine.registries.conftest import Host, layer
from tests.engine.registries.toy import DOCKER, INDEX, OCI, Handler, Toy

pytestmark = pytest.mark.requires("root")


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
