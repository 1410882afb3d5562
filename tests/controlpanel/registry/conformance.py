"""distribution-spec 1.1.1 as checks that any registry can be asked: its endpoint table, its error table, and the sentences around them.

A check gets a client and the name of a repository of its own, and fails by AssertionError. ``test_conformance.py`` asks ours and
Debian's docker-registry 2.8; which of them that one does not pass stands there, each with the reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Final

from tests.support import oci
from tests.support.oci import Answer, Client, digest_of

Check = Callable[[Client, str], None]
CHECKS: Final[dict[str, Check]] = {}

DATA: Final = bytes(range(256)) * 40
OCTETS: Final = {"Content-Type": "application/octet-stream"}
ABSENT: Final = digest_of(b"nobody has this")


def check(function: Check) -> Check:
    CHECKS[function.__name__] = function
    return function


def refused(answer: Answer, status: int, *codes: str) -> None:
    assert answer.status == status, answer
    assert answer.headers["content-type"].partition(";")[0] == "application/json", answer
    assert isinstance(answer.json["errors"], list) and answer.code in codes, answer


def begun(client: Client, name: str, **query: str) -> str:
    answer = client("POST", f"/v2/{name}/blobs/uploads/", **query)
    assert answer.status == 202, answer
    return answer.location


# -- pull --------------------------------------------------------------------------------------------


@check
def end_1_the_base(client: Client, name: str) -> None:
    assert client("GET", "/v2/").status == 200


@check
def end_2_a_blob(client: Client, name: str) -> None:
    digest = client.push_blob(name, DATA)
    got = client("GET", f"/v2/{name}/blobs/{digest}")
    assert got.status == 200 and got.body == DATA and got.headers["docker-content-digest"] == digest
    head = client("HEAD", f"/v2/{name}/blobs/{digest}")
    assert head.status == 200 and head.body == b"" and head.headers["content-length"] == str(len(DATA))
    assert head.headers["docker-content-digest"] == digest


@check
def end_2_of_no_bytes(client: Client, name: str) -> None:
    digest = client.push_blob(name, b"")
    got = client("GET", f"/v2/{name}/blobs/{digest}")
    assert got.status == 200 and got.body == b"" and got.headers["content-length"] == "0"


@check
def end_2_absent(client: Client, name: str) -> None:
    client.push_blob(name, DATA)
    refused(client("GET", f"/v2/{name}/blobs/{ABSENT}"), 404, "BLOB_UNKNOWN")
    head = client("HEAD", f"/v2/{name}/blobs/{ABSENT}")
    assert head.status == 404 and head.body == b""


@check
def end_2_of_a_bad_digest(client: Client, name: str) -> None:
    for digest in ("sha256:zz", "sha256:" + "A" * 64, "md5:" + "a" * 32, "sha256:" + "a" * 63):
        answer = client("GET", f"/v2/{name}/blobs/{digest}")
        assert answer.status in (400, 404), answer


@check
def end_2_a_range(client: Client, name: str) -> None:
    where = f"/v2/{name}/blobs/{client.push_blob(name, DATA)}"
    for words, part in (("0-0", DATA[:1]), ("5-99", DATA[5:100]), ("10000-", DATA[10000:]), ("-7", DATA[-7:]), ("9-99999", DATA[9:])):
        got = client("GET", where, None, {"Range": f"bytes={words}"})
        assert got.status == 206 and got.body == part, words
        start = len(DATA) - 7 if words == "-7" else int(words.partition("-")[0])
        assert got.headers["content-range"] == f"bytes {start}-{start + len(part) - 1}/{len(DATA)}"
        assert got.headers["content-length"] == str(len(part))


@check
def end_2_a_range_beyond_the_end(client: Client, name: str) -> None:
    where = f"/v2/{name}/blobs/{client.push_blob(name, DATA)}"
    got = client("GET", where, None, {"Range": f"bytes={len(DATA)}-"})
    assert got.status == 416 and got.headers["content-range"] == f"bytes */{len(DATA)}"


@check
def end_3_a_manifest(client: Client, name: str) -> None:
    digest, document = client.push_image(name, "v1")
    for reference in ("v1", digest):
        got = client("GET", f"/v2/{name}/manifests/{reference}", None, {"Accept": oci.IMAGE})
        assert got.status == 200 and got.body == json.dumps(document).encode()
        assert got.headers["content-type"] == oci.IMAGE and got.headers["docker-content-digest"] == digest
        head = client("HEAD", f"/v2/{name}/manifests/{reference}", None, {"Accept": oci.IMAGE})
        assert head.status == 200 and head.body == b"" and head.headers["content-length"] == str(len(got.body))
        assert head.headers["docker-content-digest"] == digest


@check
def end_3_absent(client: Client, name: str) -> None:
    client.push_image(name, "v1")
    for reference in ("v2", ABSENT):
        refused(client("GET", f"/v2/{name}/manifests/{reference}"), 404, "MANIFEST_UNKNOWN")
        assert client("HEAD", f"/v2/{name}/manifests/{reference}").status == 404
    assert client("GET", f"/v2/{name}/manifests/.INVALID_MANIFEST_NAME").status == 404


@check
def end_3_of_an_absent_repository(client: Client, name: str) -> None:
    refused(client("GET", f"/v2/{name}/manifests/v1"), 404, "NAME_UNKNOWN", "MANIFEST_UNKNOWN")
    refused(client("GET", f"/v2/{name}/tags/list"), 404, "NAME_UNKNOWN")


@check
def names_that_are_none(client: Client, name: str) -> None:
    tenant = name.partition("/")[0]
    for bad in (f"{tenant}/UPPER", f"{tenant}/a..b", f"{tenant}/-a", f"{tenant}/a_", f"{tenant}/a___b", f"{tenant}/" + "x" * 256):
        answer = client("GET", f"/v2/{bad}/manifests/v1")
        assert answer.status in (400, 404), (bad, answer)


@check
def nested_names(client: Client, name: str) -> None:
    deep = f"{name}/a.b/c__d/e-f--g/manifests/blobs/uploads"
    client.push_image(deep, "v1")
    assert client("GET", f"/v2/{deep}/manifests/v1").status == 200
    assert client("GET", f"/v2/{deep}/tags/list").json == {"name": deep, "tags": ["v1"]}


# -- push --------------------------------------------------------------------------------------------


@check
def end_4a_and_6_at_once(client: Client, name: str) -> None:
    digest = digest_of(DATA)
    done = client("PUT", begun(client, name), DATA, OCTETS, digest=digest)
    assert done.status == 201 and client("GET", done.location).body == DATA


@check
def end_4_sessions_are_distinct(client: Client, name: str) -> None:
    assert begun(client, name) != begun(client, name)


@check
def end_4b_in_one_request(client: Client, name: str) -> None:
    digest = digest_of(DATA)
    answer = client("POST", f"/v2/{name}/blobs/uploads/", DATA, OCTETS, digest=digest)
    assert answer.status in (201, 202), answer
    if answer.status == 202:
        assert client("PUT", answer.location, DATA, OCTETS, digest=digest).status == 201
    assert client("GET", f"/v2/{name}/blobs/{digest}").body == DATA


@check
def end_4b_whole_at_once_is_201(client: Client, name: str) -> None:
    answer = client("POST", f"/v2/{name}/blobs/uploads/", DATA, OCTETS, digest=digest_of(DATA))
    assert answer.status == 201 and client("HEAD", answer.location).status == 200


@check
def end_5_a_stream(client: Client, name: str) -> None:
    sent = client("PATCH", begun(client, name), oci.pieces(DATA, 1000), OCTETS, chunked=True)
    assert sent.status == 202 and sent.headers["range"] == f"0-{len(DATA) - 1}"
    assert client("PUT", sent.location, digest=digest_of(DATA)).status == 201


@check
def end_5_chunks(client: Client, name: str) -> None:
    where, half = begun(client, name), 5000
    first = client("PATCH", where, DATA[:half], {**OCTETS, "Content-Range": f"0-{half - 1}"})
    assert first.status == 202 and first.headers["range"] == f"0-{half - 1}"
    second = client("PATCH", first.location, DATA[half:], {**OCTETS, "Content-Range": f"{half}-{len(DATA) - 1}"})
    assert second.status == 202 and second.headers["range"] == f"0-{len(DATA) - 1}"
    done = client("PUT", second.location, digest=digest_of(DATA))
    assert done.status == 201 and client("GET", f"/v2/{name}/blobs/{digest_of(DATA)}").body == DATA


@check
def end_5_out_of_order(client: Client, name: str) -> None:
    where = begun(client, name)
    assert client("PATCH", where, DATA[:10], {**OCTETS, "Content-Range": "5-14"}).status == 416
    first = client("PATCH", where, DATA[:10], {**OCTETS, "Content-Range": "0-9"})
    assert first.status == 202
    for again in ("0-9", "9-18", "11-20"):
        assert client("PATCH", first.location, DATA[:10], {**OCTETS, "Content-Range": again}).status == 416, again
    second = client("PATCH", first.location, DATA[10:20], {**OCTETS, "Content-Range": "10-19"})
    assert second.status == 202 and client("PUT", second.location, digest=digest_of(DATA[:20])).status == 201


@check
def end_6_with_the_last_chunk(client: Client, name: str) -> None:
    first = client("PATCH", begun(client, name), DATA[:7], {**OCTETS, "Content-Range": "0-6"})
    last = {**OCTETS, "Content-Range": f"7-{len(DATA) - 1}"}
    assert client("PUT", first.location, DATA[7:], last, digest=digest_of(DATA)).status == 201
    assert client("GET", f"/v2/{name}/blobs/{digest_of(DATA)}").body == DATA


@check
def end_6_with_the_last_chunk_out_of_order(client: Client, name: str) -> None:
    first = client("PATCH", begun(client, name), DATA[:7], {**OCTETS, "Content-Range": "0-6"})
    last = {**OCTETS, "Content-Range": f"8-{len(DATA) - 1}"}
    assert client("PUT", first.location, DATA[8:], last, digest=digest_of(DATA)).status == 416


@check
def end_6_a_digest_of_others(client: Client, name: str) -> None:
    refused(client("PUT", begun(client, name), DATA, OCTETS, digest=ABSENT), 400, "DIGEST_INVALID")
    assert client("HEAD", f"/v2/{name}/blobs/{ABSENT}").status == 404
    assert client("HEAD", f"/v2/{name}/blobs/{digest_of(DATA)}").status == 404


@check
def end_6_without_a_digest(client: Client, name: str) -> None:
    refused(client("PUT", begun(client, name), DATA, OCTETS), 400, "DIGEST_INVALID")
    refused(client("PUT", begun(client, name), DATA, OCTETS, digest="sha256:short"), 400, "DIGEST_INVALID")


@check
def end_13_status(client: Client, name: str) -> None:
    sent = client("PATCH", begun(client, name), DATA[:100], OCTETS)
    told = client("GET", sent.location)
    assert told.status == 204 and told.headers["range"] == "0-99" and told.location
    rest = client("PATCH", told.location, DATA[100:], {**OCTETS, "Content-Range": f"100-{len(DATA) - 1}"})
    assert client("PUT", rest.location, digest=digest_of(DATA)).status == 201


@check
def end_14_cancel(client: Client, name: str) -> None:
    where = begun(client, name)
    assert client("DELETE", where).status == 204
    refused(client("GET", where), 404, "BLOB_UPLOAD_UNKNOWN")
    refused(client("PUT", where, DATA, OCTETS, digest=digest_of(DATA)), 404, "BLOB_UPLOAD_UNKNOWN")


@check
def an_upload_that_never_was(client: Client, name: str) -> None:
    where = re.sub(r"[0-9a-f]{8}(?=[0-9a-f-]*(\?|$))", "00000000", begun(client, name), count=1)
    assert client("PATCH", where, DATA, OCTETS).status in (400, 404)


@check
def end_11_mount(client: Client, name: str) -> None:
    digest = client.push_blob(f"{name}/a", DATA)
    mounted = client("POST", f"/v2/{name}/b/blobs/uploads/", mount=digest, **{"from": f"{name}/a"})
    assert mounted.status == 201 and mounted.headers["docker-content-digest"] == digest
    assert client("GET", mounted.location).body == DATA


@check
def end_11_mount_of_what_is_not_there(client: Client, name: str) -> None:
    client.push_blob(f"{name}/a", DATA)
    answer = client("POST", f"/v2/{name}/b/blobs/uploads/", mount=ABSENT, **{"from": f"{name}/a"})
    assert answer.status == 202 and client("PUT", answer.location, DATA, OCTETS, digest=digest_of(DATA)).status == 201
    assert client("POST", f"/v2/{name}/b/blobs/uploads/", mount=digest_of(DATA)).status in (201, 202)


@check
def sha512(client: Client, name: str) -> None:
    digest = client.push_blob(name, DATA, "sha512")
    assert client("GET", f"/v2/{name}/blobs/{digest}").body == DATA
    answer = client("POST", f"/v2/{name}/blobs/uploads/", **{"digest-algorithm": "sha512"})
    sent = client("PATCH", answer.location, DATA[1:], OCTETS)
    assert client("PUT", sent.location, digest=digest_of(DATA[1:], "sha512")).status == 201


@check
def sha512_of_a_manifest(client: Client, name: str) -> None:
    _digest, document = client.push_image(name)
    body = json.dumps(document).encode()
    digest = digest_of(body, "sha512")
    done = client("PUT", f"/v2/{name}/manifests/{digest}", body, {"Content-Type": oci.IMAGE})
    assert done.status == 201 and done.headers["docker-content-digest"] == digest
    assert client("GET", f"/v2/{name}/manifests/{digest}").body == body


@check
def end_7_bytes_as_they_came(client: Client, name: str) -> None:
    _digest, document = client.push_image(name)
    body = (json.dumps(document, indent=7)[:-1] + ' \n , "x": "\\u00e9é",\t"annotations" : {}}\n\n').encode()
    done = client("PUT", f"/v2/{name}/manifests/odd", body, {"Content-Type": oci.IMAGE})
    assert done.status == 201 and done.headers["docker-content-digest"] == digest_of(body)
    assert client("GET", done.location).body == body
    assert client("GET", f"/v2/{name}/manifests/odd").body == body


@check
def end_7_by_a_digest_of_others(client: Client, name: str) -> None:
    _digest, document = client.push_image(name)
    answer = client("PUT", f"/v2/{name}/manifests/{ABSENT}", json.dumps(document).encode(), {"Content-Type": oci.IMAGE})
    refused(answer, 400, "DIGEST_INVALID")


@check
def end_7_a_tag_that_is_none(client: Client, name: str) -> None:
    _digest, document = client.push_image(name)
    for tag in (".x", "-x", "x" * 129, "%C3%A4"):
        answer = client("PUT", f"/v2/{name}/manifests/{tag}", json.dumps(document).encode(), {"Content-Type": oci.IMAGE})
        assert answer.status in (400, 404), tag
    client.push_manifest(name, "_" + "x" * 127, document)


@check
def end_7_what_is_no_manifest(client: Client, name: str) -> None:
    for body in (b"", b"{", b"[]", b'"x"', b"\xff\xfe", b"null", b"{}"):
        refused(client("PUT", f"/v2/{name}/manifests/v1", body, {"Content-Type": oci.IMAGE}), 400, "MANIFEST_INVALID")


@check
def end_7_of_missing_blobs(client: Client, name: str) -> None:
    body = json.dumps(oci.image(b"config", [b"layer"])).encode()
    refused(client("PUT", f"/v2/{name}/manifests/v1", body, {"Content-Type": oci.IMAGE}), 400, "MANIFEST_BLOB_UNKNOWN")


@check
def end_7_too_large(client: Client, name: str) -> None:
    _digest, document = client.push_image(name)
    body = json.dumps({**document, "annotations": {"x": "x" * 5_000_000}}).encode()
    refused(client("PUT", f"/v2/{name}/manifests/v1", body, {"Content-Type": oci.IMAGE}), 413, "SIZE_INVALID", "MANIFEST_INVALID")


@check
def end_7_of_four_megabytes(client: Client, name: str) -> None:
    _digest, document = client.push_image(name)
    client.push_manifest(name, "large", {**document, "annotations": {"x": "x" * 3_990_000}})


@check
def end_7_of_a_media_type_that_nobody_knows(client: Client, name: str) -> None:
    document = {"mediaType": "application/vnd.example.thing.v7+json", "what": ["ever"]}
    digest = client.push_manifest(name, "thing", document)
    got = client("GET", f"/v2/{name}/manifests/thing")
    assert got.headers["content-type"] == document["mediaType"] and digest_of(got.body) == digest


@check
def end_7_an_index(client: Client, name: str) -> None:
    digest, document = client.push_image(name)
    member = {"mediaType": oci.IMAGE, "digest": digest, "size": len(json.dumps(document))}
    inner = oci.index({**member, "platform": {"architecture": "amd64", "os": "linux"}})
    outer = {"mediaType": oci.INDEX, "digest": client.push_manifest(name, "inner", inner), "size": len(json.dumps(inner))}
    client.push_manifest(name, "outer", oci.index(outer))
    assert client("GET", f"/v2/{name}/manifests/outer", None, {"Accept": oci.INDEX}).json["manifests"] == [outer]


@check
def end_7_with_a_subject(client: Client, name: str) -> None:
    subject = {"mediaType": oci.IMAGE, "digest": ABSENT, "size": 7}
    _digest, document = client.push_image(name, subject=subject)
    done = client("PUT", f"/v2/{name}/manifests/about", json.dumps(document).encode(), {"Content-Type": oci.IMAGE})
    assert done.status == 201 and done.headers["oci-subject"] == ABSENT


@check
def end_7_with_tags(client: Client, name: str) -> None:
    digest, document = client.push_image(name)
    where = f"/v2/{name}/manifests/{digest}?tag=one&tag=two"
    done = client("PUT", where, json.dumps(document).encode(), {"Content-Type": oci.IMAGE})
    assert done.status == 201 and set(done.headers["oci-tag"].split(", ")) == {"one", "two"}
    assert client("HEAD", f"/v2/{name}/manifests/two").headers["docker-content-digest"] == digest


@check
def a_tag_moves(client: Client, name: str) -> None:
    digest, document = client.push_image(name, "v1")
    other = client.push_manifest(name, "v1", {**document, "annotations": {"x": "y"}})
    assert client("HEAD", f"/v2/{name}/manifests/v1").headers["docker-content-digest"] == other
    assert client("GET", f"/v2/{name}/manifests/{digest}").status == 200


# -- discovery ---------------------------------------------------------------------------------------


def _tagged(client: Client, name: str) -> list[str]:
    _digest, document = client.push_image(name)
    tags = ["b", "a", "B", "_", "10", "9", "a.1", "a-1"]
    for tag in tags:
        client.push_manifest(name, tag, document)
    return sorted(tags)


@check
def end_8a_tags(client: Client, name: str) -> None:
    tags = _tagged(client, name)
    assert client("GET", f"/v2/{name}/tags/list").json == {"name": name, "tags": tags}


@check
def end_8b_pages(client: Client, name: str) -> None:
    tags = _tagged(client, name)
    answer = client("GET", f"/v2/{name}/tags/list", n=3)
    assert answer.json["tags"] == tags[:3] and answer.link
    second = client("GET", answer.link)
    assert second.json["tags"] == tags[3:6] and client("GET", second.link).json["tags"] == tags[6:]
    assert client("GET", f"/v2/{name}/tags/list", n=3, last=tags[0]).json["tags"] == tags[1:4]
    assert client("GET", f"/v2/{name}/tags/list", n=3, last="a").json["tags"] == [tag for tag in tags if tag > "a"][:3]


@check
def end_8b_the_last_page_has_no_link(client: Client, name: str) -> None:
    tags = _tagged(client, name)
    assert client("GET", f"/v2/{name}/tags/list", n=len(tags)).link == ""
    none = client("GET", f"/v2/{name}/tags/list", n=0)
    assert none.status == 200 and none.json["tags"] == [] and none.link == ""


@check
def end_8_of_no_number(client: Client, name: str) -> None:
    client.push_image(name, "v1")
    assert client("GET", f"/v2/{name}/tags/list", n="x").status == 400


@check
def the_catalog(client: Client, name: str) -> None:
    names = sorted([f"{name}/z", f"{name}/a-b/c", f"{name}/a/b"])
    for each in names:
        client.push_image(each, "v1")
    found: list[str] = []
    answer = client("GET", "/v2/_catalog", n=2)
    while True:
        assert answer.status == 200 and len(answer.json["repositories"]) <= 2
        found += answer.json["repositories"]
        if not answer.link:
            break
        answer = client("GET", answer.link)
    assert [each for each in found if each.startswith(f"{name}/")] == names
    assert found == sorted(found)


def _referred(client: Client, name: str) -> tuple[str, dict[str, str]]:
    """A subject, and its referrers' digests: an artifact, an image without artifactType, an index without one."""
    digest, document = client.push_image(name, "v1")
    subject = {"mediaType": oci.IMAGE, "digest": digest, "size": len(json.dumps(document))}
    about = {"subject": subject, "annotations": {"org.example": "é"}}
    empty = client.push_blob(name, b"{}")
    artifact = oci.image(b"{}", [], artifactType="application/vnd.example.sbom", **about)
    assert empty == artifact["config"]["digest"]
    return digest, {
        "artifact": client.push_manifest(name, "a", artifact),
        "image": client.push_manifest(name, "b", {**document, **about}),
        "index": client.push_manifest(name, "c", oci.index(**about)),
    }


@check
def end_12a_referrers(client: Client, name: str) -> None:
    digest, known = _referred(client, name)
    answer = client("GET", f"/v2/{name}/referrers/{digest}")
    assert answer.status == 200 and answer.headers["content-type"] == oci.INDEX
    assert answer.json["schemaVersion"] == 2 and answer.json["mediaType"] == oci.INDEX
    told = {each["digest"]: each for each in answer.json["manifests"]}
    assert told.keys() == set(known.values())
    assert told[known["artifact"]]["artifactType"] == "application/vnd.example.sbom"
    assert told[known["image"]]["artifactType"] == oci.CONFIG
    assert "artifactType" not in told[known["index"]] and told[known["index"]]["mediaType"] == oci.INDEX
    assert all(each["annotations"] == {"org.example": "é"} and each["size"] > 0 for each in told.values())


@check
def end_12b_of_a_type(client: Client, name: str) -> None:
    digest, known = _referred(client, name)
    answer = client("GET", f"/v2/{name}/referrers/{digest}", artifactType="application/vnd.example.sbom")
    assert [each["digest"] for each in answer.json["manifests"]] == [known["artifact"]]
    assert answer.headers["oci-filters-applied"] == "artifactType"


@check
def end_12_of_nothing(client: Client, name: str) -> None:
    for where in (name, f"{name}/never"):
        answer = client("GET", f"/v2/{where}/referrers/{ABSENT}")
        assert answer.status == 200 and answer.json["manifests"] == []
    assert client("GET", f"/v2/{name}/referrers/sha256:x").status == 400


@check
def end_12_of_clients_that_knew_no_referrers(client: Client, name: str) -> None:
    digest, document = client.push_image(name, "v1")
    plain = client.push_manifest(name, "plain", {**document, "annotations": {"of": "old"}})
    noted = {"mediaType": oci.IMAGE, "digest": plain, "size": 9, "artifactType": "x/y"}
    client.push_manifest(name, digest.replace(":", "-"), oci.index(noted))
    assert client("GET", f"/v2/{name}/referrers/{digest}").json["manifests"] == [noted]


# -- management --------------------------------------------------------------------------------------


@check
def end_9_a_manifest(client: Client, name: str) -> None:
    digest, _document = client.push_image(name, "v1")
    assert client("DELETE", f"/v2/{name}/manifests/{digest}").status == 202
    for reference in ("v1", digest):
        refused(client("GET", f"/v2/{name}/manifests/{reference}"), 404, "MANIFEST_UNKNOWN")
    assert client("DELETE", f"/v2/{name}/manifests/{digest}").status == 404


@check
def end_9_a_tag(client: Client, name: str) -> None:
    digest, document = client.push_image(name, "v1")
    client.push_manifest(name, "v2", document)
    assert client("DELETE", f"/v2/{name}/manifests/v1").status == 202
    assert client("GET", f"/v2/{name}/manifests/v1").status == 404
    assert client("GET", f"/v2/{name}/manifests/{digest}").status == 200
    assert client("GET", f"/v2/{name}/tags/list").json["tags"] == ["v2"]
    refused(client("DELETE", f"/v2/{name}/manifests/v1"), 404, "MANIFEST_UNKNOWN")


@check
def end_10_a_blob(client: Client, name: str) -> None:
    digest = client.push_blob(name, DATA)
    assert client("DELETE", f"/v2/{name}/blobs/{digest}").status == 202
    refused(client("GET", f"/v2/{name}/blobs/{digest}"), 404, "BLOB_UNKNOWN")
    refused(client("DELETE", f"/v2/{name}/blobs/{digest}"), 404, "BLOB_UNKNOWN")


@check
def what_was_deleted_comes_back(client: Client, name: str) -> None:
    digest, _document = client.push_image(name, "v1")
    assert client("DELETE", f"/v2/{name}/manifests/{digest}").status == 202
    assert client.push_image(name, "v1")[0] == digest
    assert client("GET", f"/v2/{name}/blobs/{digest_of(f'layer of {name}'.encode())}").status == 200


@check
def methods_that_are_none(client: Client, name: str) -> None:
    client.push_image(name, "v1")
    refused(client("POST", f"/v2/{name}/manifests/v1"), 405, "UNSUPPORTED")
