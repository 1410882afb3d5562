"""Pushing: what goes, what need not go, and connections that break."""

from __future__ import annotations

import gzip
import json
import socket
import time
from typing import Any

import pytest

from engine.errors import InvalidArgument, NotFound, PermissionDenied, Unauthenticated
from engine.registries import upload
from engine.registries.auth import Credentials
from engine.registries.desk import finish
from engine.runtime import protocol
from tests.engine.images.archives import digest
from tests.engine.registries.conftest import Host, layer, statuses
from tests.engine.registries.toy import DOCKER, Handler, Toy

pytestmark = pytest.mark.requires("root")


def test_a_push_says_what_docker_says(host: Host, toy: Toy) -> None:
    layers = [layer(300_000), layer(1000)]
    image_id = host.load(layers, f"{toy.host}/team/app:1")
    lines = host.push(f"{toy.host}/team/app:1")
    short = [digest(each)[7:19] for each in layers]
    said = statuses(lines)
    assert said[:3] == [f"The push refers to repository [{toy.host}/team/app]", f"{short[0]}: Preparing", f"{short[1]}: Preparing"]
    assert {f"{each}: Pushed" for each in short} < set(said) and f"{short[0]}: Pushing" in said
    media_type, data = toy.manifests["team/app", "1"]
    assert said[-1] == f"1: digest: {digest(data)} size: {len(data)}"
    assert lines[-2] == {"progressDetail": {}, "aux": {"Tag": "1", "Digest": digest(data), "Size": len(data)}}
    assert media_type == DOCKER and json.loads(data)["config"]["digest"] == image_id
    assert [gzip.decompress(toy.blobs[each["digest"]]) for each in json.loads(data)["layers"]] == layers
    assert host.store.refs("alice")[f"{toy.host}/team/app@{digest(data)}"] == image_id
    again = statuses(host.push(f"{toy.host}/team/app:1"))
    assert {f"{each}: Layer already exists" for each in short} < set(again) and again[-1] == said[-1]


def test_what_was_pulled_goes_out_as_it_came(host: Host, toy: Toy) -> None:
    layers = [layer(1000), layer(2000)]
    top = toy.image("from", "1", layers, [gzip.compress(layers[0], 9), layers[1]])
    host.pull(f"{toy.host}/from:1")
    host.store.tag("alice", f"{toy.host}/from:1", f"{toy.host}/to:2")
    lines = host.push(f"{toy.host}/to:2")
    assert lines[-1]["digest"] == top and toy.manifests["to", "2"] == toy.manifests["from", "1"]


def test_a_layer_is_mounted_from_where_it_was_pulled(host: Host, toy: Toy) -> None:
    data = layer(1000)
    toy.image("team/base", "1", [data])
    host.pull(f"{toy.host}/team/base:1")
    host.store.tag("alice", f"{toy.host}/team/base:1", f"{toy.host}/team/app:1")

    def not_seen_here(handler: Handler) -> bool:
        """Blobs are of repositories: not here, though the registry has them elsewhere."""
        if handler.command == "HEAD" and handler.path.startswith("/v2/team/app/blobs/"):
            handler.refuse(404, "BLOB_UNKNOWN")
            return True
        return False

    toy.spoil = not_seen_here
    said = statuses(host.push(f"{toy.host}/team/app:1"))
    assert f"{digest(data)[7:19]}: Mounted from team/base" in said
    assert toy.asked("PATCH") == 0 and toy.asked("from=team/base") == 1


def test_a_layer_that_was_compressed_once_is_mounted_without_being_read(host: Host, toy: Toy) -> None:
    data = layer(200_000)
    host.load([data], f"{toy.host}/one:1")
    host.push(f"{toy.host}/one:1")
    host.store.tag("alice", f"{toy.host}/one:1", f"{toy.host}/two:1")

    def not_seen_here(handler: Handler) -> bool:
        if handler.command == "HEAD" and handler.path.startswith("/v2/two/blobs/"):
            handler.refuse(404, "BLOB_UNKNOWN")
            return True
        return False

    toy.spoil = not_seen_here
    assert f"{digest(data)[7:19]}: Mounted from one" in statuses(host.push(f"{toy.host}/two:1"))


def test_an_upload_that_breaks_goes_on_where_the_registry_is(host: Host, toy: Toy) -> None:
    data = layer(3 << 20)
    host.load([data], f"{toy.host}/app:1")
    broken: list[str] = []

    def cut_first(handler: Handler) -> bool:
        if handler.command != "PATCH" or broken:
            return False
        broken.append(handler.path)
        session = handler.path.rpartition("/")[2]
        toy.uploads[session] += handler.rfile.read(1 << 20)
        handler.cut()
        return True

    toy.spoil = cut_first
    assert host.push(f"{toy.host}/app:1")[-1]["images"]
    chunks = [headers["Content-Range"] for headers in toy.heard if "Content-Range" in headers]
    assert chunks[0].startswith("0-") and chunks[1].startswith(f"{1 << 20}-")
    assert toy.asked("POST") == 2  # of the layer and of the config


def test_an_upload_whose_session_is_forgotten_begins_again(host: Host, toy: Toy) -> None:
    host.load([layer(300_000)], f"{toy.host}/app:1")
    forgotten: list[str] = []

    def forget(handler: Handler) -> bool:
        if handler.command == "PATCH" and not forgotten:
            forgotten.append(handler.path)
            toy.uploads.clear()
        return False

    toy.spoil = forget
    assert host.push(f"{toy.host}/app:1")[-1]["images"]


def test_a_big_blob_goes_in_chunks(host: Host, toy: Toy) -> None:
    """The courier is a process of its own: its chunks are as big as ever, so the blob is bigger."""
    data = layer(upload.CHUNK + (1 << 20))
    host.load([data], f"{toy.host}/app:1")
    host.push(f"{toy.host}/app:1")
    chunks = [headers["Content-Range"] for headers in toy.heard if "Content-Range" in headers]
    assert [chunk.partition("-")[0] for chunk in chunks] == ["0", str(upload.CHUNK)]


@pytest.mark.parametrize("size", [1000, 4 * upload.CHUNK])
def test_what_turns_out_to_be_there_while_it_is_sent(host: Host, toy: Toy, size: int) -> None:
    """Its digest is known when it is compressed, and a big one is under way by then: no more of it goes, and nothing is left."""
    host.load([data := layer(size)], f"{toy.host}/app:1")
    sent = host.push(f"{toy.host}/app:1")[-1]["digest"]
    toy.log.clear()
    toy.spoil = lambda handler: handler.command == "PATCH" and bool(time.sleep(3.0))
    host.load([data], f"{toy.host}/app:1", "bob")  # who does not know where it is
    lines = host.push(f"{toy.host}/app:1", "bob")
    assert f"{digest(data)[7:19]}: Layer already exists" in statuses(lines) and lines[-1]["digest"] == sent
    assert toy.asked("PUT /v2/app/blobs") == 0 and toy.asked("DELETE /v2/app/blobs/uploads") <= (size > upload.CHUNK)


def test_a_refusal_is_heard_though_not_all_was_read_that_we_said() -> None:
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        protocol.send(ours, {"size": 1000})
        protocol.send(its, {"error": NotFound("no such place").to_json()})
        its.close()
        with pytest.raises(NotFound, match="no such place"):
            finish(ours, lambda _message: None)


def test_all_tags_of_a_repository(host: Host, toy: Toy) -> None:
    for tag in ("1", "2"):
        host.load([layer(100, tag)], f"{toy.host}/app:{tag}")
    lines = host.push(f"{toy.host}/app", every_tag=True)
    assert [line["aux"]["Tag"] for line in lines if "aux" in line] == ["1", "2"]


def test_what_can_not_be_pushed(host: Host, toy: Toy) -> None:
    host.load([layer(100)], f"{toy.host}/app:1")
    with pytest.raises(NotFound, match=f"An image does not exist locally with the tag: {toy.host}/other"):
        host.push(f"{toy.host}/other:1")
    with pytest.raises(NotFound, match=f"tag does not exist: {toy.host}/app:2"):
        host.push(f"{toy.host}/app:2")
    with pytest.raises(NotFound, match="An image does not exist locally"):
        host.push(f"{toy.host}/app:1", "bob")
    with pytest.raises(InvalidArgument, match="cannot push a digest reference"):
        host.push(f"{toy.host}/app@sha256:{'0' * 64}")


@pytest.mark.parametrize(
    ("status", "code", "kind", "sentence"),
    [
        (403, "DENIED", PermissionDenied, "denied: requested access to the resource is denied"),
        (401, "UNAUTHORIZED", PermissionDenied, "no basic auth credentials"),
    ],
)
def test_a_registry_that_says_no(host: Host, toy: Toy, status: int, code: str, kind: Any, sentence: str) -> None:
    host.load([layer(300_000)], f"{toy.host}/app:1")

    def refuse(handler: Handler) -> bool:
        if handler.command == "GET":
            return False
        handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        handler.refuse(status, code, "requested access to the resource is denied", WWW_Authenticate='Basic realm="x"')
        return True

    toy.spoil = refuse
    with pytest.raises(kind, match=sentence):
        host.push(f"{toy.host}/app:1")


def test_password_and_token(host: Host, toy: Toy) -> None:
    data = layer(1000)
    toy.password = "me:secret"
    host.load([data], f"{toy.host}/app:1")
    with pytest.raises(PermissionDenied, match="no basic auth credentials"):
        host.push(f"{toy.host}/app:1")
    with pytest.raises(PermissionDenied, match="unauthorized: authentication required"):
        host.push(f"{toy.host}/app:1", credentials=Credentials("me", "wrong"))
    assert host.push(f"{toy.host}/app:1", credentials=Credentials("me", "secret"))[-1]["images"]
    toy.token = "tok"
    with pytest.raises(PermissionDenied, match="unauthorized: incorrect username or password"):
        host.pull(f"{toy.host}/app:1", "bob", credentials=Credentials("me", "wrong"))
    assert host.pull(f"{toy.host}/app:1", "bob", credentials=Credentials("me", "secret"))[-1]["images"]
    assert toy.asked("scope=repository%3Aapp%3Apull&") or toy.asked("scope=repository%3Aapp%3Apull ")
    assert toy.asked("GET /token") == 2  # one for all requests of the pull


def test_login(host: Host, toy: Toy) -> None:
    assert host.registries.login("alice", toy.host, Credentials("me", "whatever")) == ""
    toy.password = "me:secret"
    assert host.registries.login("alice", toy.host, Credentials("me", "secret")) == ""
    with pytest.raises(Unauthenticated):
        host.registries.login("alice", toy.host, Credentials("me", "wrong"))
    toy.token = "tok"
    assert host.registries.login("alice", toy.host, Credentials("me", "secret")) == "refresh"
    with pytest.raises(Unauthenticated, match="incorrect username or password"):
        host.registries.login("alice", toy.host, Credentials("me", "wrong"))
    toy.image("app", "1", [layer(100)])
    assert host.pull(f"{toy.host}/app:1", credentials=Credentials(identity_token="refresh"))[-1]["images"]
    assert host.pull(f"{toy.host}/app:1", "bob", credentials=Credentials(registry_token="tok"))[-1]["images"]
