"""What may be a manifest, and what it is read to say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from controlpanel.registry import manifests
from controlpanel.registry.errors import Refused
from controlpanel.registry.manifests import DOCKER_IMAGE, DOCKER_LIST, IMAGE, INDEX
from controlpanel.registry.names import fallback_tag, is_digest, is_name, is_tag
from tests.support import oci

DIGEST = "sha256:" + "a" * 64


def read(document: Any, kind: str = IMAGE) -> manifests.Manifest:
    return manifests.read(json.dumps(document).encode(), kind)


def test_an_image() -> None:
    document = oci.image(b"config", [b"1", b"22", b"1"], annotations={"a": "b", "n": 1}, subject=oci.descriptor(b"s", IMAGE))
    found = read(document)
    assert found.blobs == {oci.digest_of(b"config"): 6, oci.digest_of(b"1"): 1, oci.digest_of(b"22"): 2}
    assert found.children == {} and found.subject == oci.digest_of(b"s")
    assert found.artifact_type == oci.CONFIG and found.annotations == {"a": "b"}
    assert read({**document, "artifactType": "x/y"}).artifact_type == "x/y"


def test_an_index() -> None:
    found = read(oci.index(oci.descriptor(b"1", IMAGE), oci.descriptor(b"2", INDEX)), INDEX)
    assert found.children == {oci.digest_of(b"1"): 1, oci.digest_of(b"2"): 1} and found.blobs == {} and found.artifact_type == ""


@pytest.mark.parametrize(("kind", "member"), [(DOCKER_IMAGE, "layers"), (DOCKER_LIST, "manifests")])
def test_dockers_own(kind: str, member: str) -> None:
    document = {"schemaVersion": 2, "mediaType": kind, "config": oci.descriptor(b"c", "x/y"), member: [oci.descriptor(b"1", "x/y")]}
    found = read(document, kind)
    assert {**found.blobs, **found.children}.keys() == {oci.digest_of(b"1"), oci.digest_of(b"c")}


def test_layers_whose_bytes_are_elsewhere() -> None:
    document = oci.image(b"c", [b"1"])
    document["layers"][0]["urls"] = ["https://example.org/1"]
    assert read(document).elsewhere == {oci.digest_of(b"1")}


def test_what_nobody_knows_is_kept_with_what_it_names_in_our_way() -> None:
    document = {"blobs": [oci.descriptor(b"1", "x/y"), {"what": 1}, 7], "layers": "no list", "manifests": [{"digest": DIGEST}]}
    found = read(document, "application/vnd.example+json; charset=utf-8")
    assert found.media_type == "application/vnd.example+json"
    assert found.blobs == {oci.digest_of(b"1"): 1} and found.children == {DIGEST: -1}


@pytest.mark.parametrize(
    "change",
    [
        {"schemaVersion": 1},
        {"schemaVersion": None},
        {"mediaType": "application/vnd.oci.image.index.v1+json"},
        {"mediaType": 7},
        {"config": None},
        {"config": []},
        {"layers": None},
        {"layers": {}},
        {"layers": [{"mediaType": oci.LAYER, "size": 1}]},
        {"layers": [{"mediaType": oci.LAYER, "size": 1, "digest": "sha256:short"}]},
        {"layers": [{"mediaType": oci.LAYER, "size": 1, "digest": DIGEST.upper()}]},
        {"layers": [{"mediaType": oci.LAYER, "size": -1, "digest": DIGEST}]},
        {"layers": [{"mediaType": oci.LAYER, "size": True, "digest": DIGEST}]},
        {"layers": [{"mediaType": oci.LAYER, "size": "1", "digest": DIGEST}]},
        {"layers": [7]},
        {"subject": 7},
        {"subject": {"digest": "x"}},
        {"layers": [{"mediaType": oci.LAYER, "size": 1, "digest": f"sha256:{number:064x}"} for number in range(10_001)]},
    ],
)
def test_what_is_no_image(change: dict[str, Any]) -> None:
    with pytest.raises(Refused) as caught:
        read({**oci.image(b"c", []), **change})
    assert caught.value.code == "MANIFEST_INVALID" and caught.value.status == 400


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"a": 1, "a": 2}', "x/y"),
        (b'{"a": {"b": 1, "b": 1}}', "x/y"),
        (b'{"a": NaN}', "x/y"),
        (b"[" * 100_000, "x/y"),
        (b'{"a":' * 50_000, "x/y"),
        (b"\xef\xbb\xbf{}", "x/y"),
        ("{}".encode("utf-16"), "x/y"),
        (b"{}", ""),
        (b"{}", "no type"),
        (b"{}", "text/html\r\nx"),
        (b"{}", "application/vnd.docker.distribution.manifest.v1+prettyjws"),
    ],
)
def test_what_is_no_manifest(body: bytes, kind: str) -> None:
    with pytest.raises(Refused) as caught:
        manifests.read(body, kind)
    assert caught.value.code == "MANIFEST_INVALID"


def test_names() -> None:
    for good in ("a/b", "acme/a.b/c__d/e---f", "0/1", "acme-1/x_y", "a/" + "b" * 253):
        assert is_name(good), good
    for bad in (
        "",
        "a",
        "a/",
        "/a",
        "a//b",
        "a/B",
        "a/.b",
        "a/b.",
        "a/..",
        "a/../b",
        "a/b___c",
        "a/b..c",
        "a/b\n",
        "a/é",
        "a/" + "b" * 254,
    ):
        assert not is_name(bad), bad
    for good in ("a", "_", "A.b-C", "x" * 128):
        assert is_tag(good), good
    for bad in ("", ".a", "-a", "a/b", "a:b", "x" * 129, "a\n", "é"):
        assert not is_tag(bad), bad
    assert is_digest(DIGEST) and is_digest("sha512:" + "0" * 128)
    for bad in (DIGEST.upper(), "sha256:" + "a" * 63, DIGEST + "\n", "sha384:" + "a" * 96, "sha256-" + "a" * 64, "sha256:" + "g" * 64):
        assert not is_digest(bad), bad
    assert fallback_tag("sha512:" + "a" * 128) == "sha512-" + "a" * 121
