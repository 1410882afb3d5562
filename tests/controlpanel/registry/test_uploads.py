"""Uploads: cut short, killed, lied about, too many, too large; and what they take of a quota."""

from __future__ import annotations

import contextlib
import errno
import http.client
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as panel
from django.utils import timezone

from controlpanel.audit.models import Record
from controlpanel.registry import cleaning, uploads
from controlpanel.registry import storage as storages
from controlpanel.registry.models import Blob, Link, Manifest, Repository, Upload
from controlpanel.tenants.models import Tenant
from controlpanel.tenants.quota import ledger
from controlpanel.tenants.quota.resources import IMAGES
from tests.controlpanel.conftest import People
from tests.controlpanel.registry.conftest import client_of
from tests.support import oci
from tests.support.oci import Client, basic, digest_of

OCTETS = {"Content-Type": "application/octet-stream"}
DATA = os.urandom(3 << 20)


@pytest.fixture(autouse=True)
def _no_trash(settings: Any) -> None:
    """What is deleted is gone at once, with its bytes."""
    settings.REGISTRY_TRASH_DAYS = 0


def begun(client: Client, name: str = "acme/web", **query: str) -> str:
    answer = client("POST", f"/v2/{name}/blobs/uploads/", **query)
    assert answer.status == 202, answer
    return answer.location


def used(tenant: Tenant) -> int:
    return next(use.used or 0 for use in ledger.use_of_tenant(tenant) if use.resource.name == IMAGES)


def limit(tenant: Tenant, size: int) -> None:
    Tenant.objects.filter(pk=tenant.pk).update(image_bytes=size)


def send_part(client: Client, location: str, announced: int, sent: bytes) -> http.client.HTTPConnection:
    """A PATCH of which not all has gone yet; the connection stays open."""
    connection = client.connect()
    connection.putrequest("PATCH", location)
    assert client.basic is not None
    for name, value in {"Authorization": basic(*client.basic), **OCTETS, "Content-Length": str(announced)}.items():
        connection.putheader(name, value)
    connection.endheaders()
    connection.send(sent)
    return connection


def wait_for(path: Path, size: int) -> None:
    import time

    deadline = time.monotonic() + 10
    while path.stat().st_size < size:
        assert time.monotonic() < deadline, path.stat().st_size
        time.sleep(0.005)


# -- cut short ---------------------------------------------------------------------------------------


def test_a_client_that_leaves_goes_on_where_it_was(alice: Client, storage: Path) -> None:
    where = begun(alice)
    part = uploads.PIECE * 2
    connection = send_part(alice, where, len(DATA), DATA[:part])
    wait_for(storage / "uploads" / where.rpartition("/")[2], uploads.PIECE)
    connection.close()
    while (told := alice("GET", where)).headers["range"] == "0-0":
        pass
    came = int(told.headers["range"].removeprefix("0-")) + 1
    assert told.status == 204 and uploads.PIECE <= came <= part
    rest = alice("PATCH", told.location, DATA[came:], {**OCTETS, "Content-Range": f"{came}-{len(DATA) - 1}"})
    assert alice("PUT", rest.location, digest=digest_of(DATA)).status == 201
    assert alice("GET", f"/v2/acme/web/blobs/{digest_of(DATA)}").body == DATA


@contextlib.contextmanager
def process(data: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    environment = {
        **os.environ,
        "SLIPWAY_DATA": str(data),
        "DATABASE_URL": f"sqlite:///{panel.DATABASES['default']['NAME']}",
        "SECRET_KEY": panel.SECRET_KEY,
        "SEAL_KEY": panel.SEAL_KEY,
    }
    command = [sys.executable, "-m", "tests.controlpanel.registry.server"]
    running = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert running.stdout is not None
        yield running, running.stdout.readline().strip()
    finally:
        running.kill()
        running.wait()
        if running.stdout is not None:
            running.stdout.close()


def test_kill_in_the_middle_of_a_chunk(storage: Path, people: People) -> None:
    """What was acknowledged is there, what was not is not counted, and the upload goes on with the next process."""
    token, secret = _token(people)
    limit(people.acme, 1 << 40)
    part, more = uploads.PIECE + 17, uploads.PIECE * 2
    with process(storage.parent.parent) as (running, host):
        alice = Client(host, ("token", secret))
        where = begun(alice)
        assert alice("PATCH", where, DATA[:part], OCTETS).headers["range"] == f"0-{part - 1}"
        connection = send_part(alice, where, len(DATA) - part, DATA[part : part + more])
        wait_for(storage / "uploads" / where.rpartition("/")[2], part + uploads.PIECE)
        running.kill()
        running.wait()
        connection.close()
    assert used(people.acme) == part
    with process(storage.parent.parent) as (_running, host):
        alice = Client(host, ("token", secret))
        assert alice("GET", where).headers["range"] == f"0-{part - 1}"
        rest = alice("PATCH", where, DATA[part:], {**OCTETS, "Content-Range": f"{part}-{len(DATA) - 1}"})
        assert rest.status == 202 and alice("PUT", where, digest=digest_of(DATA)).status == 201
        assert alice("GET", f"/v2/acme/web/blobs/{digest_of(DATA)}").body == DATA
    assert used(people.acme) == len(DATA) and token.pk


def _token(people: People) -> tuple[Any, str]:
    from controlpanel.accounts.models import Token

    token, secret = Token.make(tenant=people.acme, role="developer", name="ci")
    token.save()
    return token, secret


def test_killed_between_the_file_and_the_row(alice: Client, storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The upload can be finished again, and the name that nobody knows goes a day later."""
    where = begun(alice)

    def dies(*_: object) -> bool:
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(uploads._Open, "_commit", dies)
        assert alice("PUT", where, DATA, OCTETS, digest=digest_of(DATA)).status == 500
    assert not Blob.objects.exists() and alice("GET", where).status == 204
    assert alice("PUT", where, DATA, OCTETS, digest=digest_of(DATA)).status == 201
    assert [path.name.partition(".")[0] for path in (storage / "blobs").rglob("*.*")] == [digest_of(DATA)[7:]]


# -- lied about --------------------------------------------------------------------------------------


def test_chunks_that_are_not_what_they_say(alice: Client) -> None:
    where = begun(alice)
    for words, data, status in (
        ("0-9", DATA[:5], 400),
        ("0-9", DATA[:11], 400),
        ("9-0", DATA[:10], 416),
        ("x", DATA[:10], 416),
        ("-5", DATA[:5], 416),
        ("1-10", DATA[:10], 416),
        ("0-99999999999999999999", DATA[:10], 416),
    ):
        assert alice("PATCH", where, data, {**OCTETS, "Content-Range": words}).status == status, words
    chunked = alice("PATCH", where, oci.pieces(DATA[:11], 3), {**OCTETS, "Content-Range": "0-9"}, chunked=True)
    assert chunked.status == 400 and chunked.code == "SIZE_INVALID"
    assert alice("GET", where).headers["range"] == "0-0"
    alice("PATCH", where, DATA[:10], {**OCTETS, "Content-Range": "0-9"})
    overlap = alice("PATCH", where, DATA[5:20], {**OCTETS, "Content-Range": "5-19"})
    assert overlap.status == 416 and overlap.headers["range"] == "0-9"
    rest = alice("PUT", where, DATA[10:], {**OCTETS, "Content-Range": f"10-{len(DATA) - 1}"}, digest=digest_of(DATA))
    assert rest.status == 201


def test_a_wrong_digest_leaves_nothing(alice: Client, storage: Path, people: People) -> None:
    for answer in (
        alice("PUT", begun(alice), DATA, OCTETS, digest=digest_of(b"else")),
        alice("PUT", begun(alice), DATA, OCTETS, digest=digest_of(b"else", "sha512")),
        alice("POST", "/v2/acme/web/blobs/uploads/", DATA, OCTETS, digest=digest_of(b"else")),
    ):
        assert answer.status == 400 and answer.code == "DIGEST_INVALID"
    assert not Upload.everywhere.exists() and not Blob.objects.exists() and used(people.acme) == 0
    assert not [path for path in storage.rglob("*") if path.is_file()]


def test_names_that_lead_elsewhere(alice: Client, storage: Path, tmp_path: Path) -> None:
    digest = digest_of(DATA)
    for name in ("acme/../umbrella", "acme/web/..", "..", "acme/%2e%2e/x", "acme//web", "acme", "acme/web%00", "acme/\\..", "acme/a/./b"):
        for method, path in (
            ("POST", f"/v2/{name}/blobs/uploads/"),
            ("GET", f"/v2/{name}/manifests/v1"),
            ("PUT", f"/v2/{name}/manifests/v1"),
            ("GET", f"/v2/{name}/blobs/{digest}"),
        ):
            assert alice(method, path).status in (400, 404), (method, path)
    for key in ("..", "../../blobs", "%2e%2e%2fx", "0" * 31, "0" * 33, "G" * 32):
        for method in ("GET", "PATCH", "PUT", "DELETE"):
            answer = alice(method, f"/v2/acme/web/blobs/uploads/{key}", digest=digest)
            assert answer.status in (400, 404), (method, key, answer)
    assert not Repository.everywhere.exists()


def test_an_upload_is_its_repositorys(alice: Client, host: str) -> None:
    key = begun(alice).rpartition("/")[2]
    for client, name in ((alice, "acme/other"), (client_of(host, "charlie"), "umbrella/web")):
        assert client("GET", f"/v2/{name}/blobs/uploads/{key}").code == "BLOB_UPLOAD_UNKNOWN"
        assert client("PATCH", f"/v2/{name}/blobs/uploads/{key}", b"x", OCTETS).code == "BLOB_UPLOAD_UNKNOWN"
        assert client("DELETE", f"/v2/{name}/blobs/uploads/{key}").code == "BLOB_UPLOAD_UNKNOWN"
    assert alice("GET", f"/v2/acme/web/blobs/uploads/{key}").status == 204


def test_two_at_one_upload(alice: Client, storage: Path) -> None:
    where = begun(alice)
    connection = send_part(alice, where, len(DATA), DATA[: uploads.PIECE])
    wait_for(storage / "uploads" / where.rpartition("/")[2], uploads.PIECE)
    for method in ("PATCH", "PUT", "DELETE"):
        second = alice(method, where, b"x", OCTETS, digest=digest_of(b"x"))
        assert second.status == 409 and second.code == "BLOB_UPLOAD_INVALID", method
    connection.send(DATA[uploads.PIECE :])
    assert connection.getresponse().status == 202
    connection.close()
    assert alice("PUT", where, digest=digest_of(DATA)).status == 201


def test_a_digest_of_another_kind_than_was_taken(alice: Client) -> None:
    where = begun(alice)
    alice("PATCH", where, DATA, OCTETS)
    assert alice("PUT", where, digest=digest_of(DATA, "sha512")).status == 201
    assert alice("POST", "/v2/acme/web/blobs/uploads/", **{"digest-algorithm": "md5"}).code == "DIGEST_INVALID"


def test_a_manifest_that_lies_about_a_size(alice: Client) -> None:
    for data in (b"config", b"layer"):
        alice.push_blob("acme/web", data)
    document = oci.image(b"config", [b"layer"])
    document["layers"][0]["size"] = 6
    import json

    answer = alice("PUT", "/v2/acme/web/manifests/v1", json.dumps(document).encode(), {"Content-Type": oci.IMAGE})
    assert answer.status == 400 and answer.code == "SIZE_INVALID"


def test_a_blob_that_is_needed_stays(alice: Client) -> None:
    digest, document = alice.push_image("acme/web", "v1")
    layer = document["layers"][0]["digest"]
    refused = alice("DELETE", f"/v2/acme/web/blobs/{layer}")
    assert refused.status == 405 and refused.code == "UNSUPPORTED" and digest in refused.json["errors"][0]["message"]


# -- quota -------------------------------------------------------------------------------------------


def test_a_quota_holds_at_the_start_in_the_middle_and_at_the_end(alice: Client, people: People, storage: Path) -> None:
    limit(people.acme, 1 << 20)
    known = alice("PATCH", begun(alice), DATA, OCTETS)
    unknown = alice("PATCH", begun(alice), oci.pieces(DATA, 100_000), OCTETS, chunked=True)
    at_once = alice("POST", "/v2/acme/web/blobs/uploads/", DATA, OCTETS, digest=digest_of(DATA))
    for answer in (known, unknown, at_once):
        assert answer.status == 403 and answer.code == "DENIED"
        error = answer.json["errors"][0]
        assert "images is limited to 1048576 bytes" in error["message"] and error["detail"]["limit"] == 1 << 20
    assert used(people.acme) == 0
    assert sum(path.stat().st_size for path in (storage / "uploads").iterdir()) <= 1 << 20
    alice.push_blob("acme/web", DATA[: 1 << 20])
    assert used(people.acme) == 1 << 20
    full = alice("POST", "/v2/acme/web/blobs/uploads/")
    assert full.status == 403 and full.code == "DENIED"
    assert Record.objects.filter(tenant_number=people.acme.pk, result="refused", verb="registry.push", detail__rule="quota.images").exists()


def test_what_is_announced_counts_while_it_comes(alice: Client, people: People, storage: Path) -> None:
    limit(people.acme, 4 << 20)
    first, second = begun(alice), begun(alice)
    connection = send_part(alice, first, len(DATA), DATA[: uploads.PIECE])
    wait_for(storage / "uploads" / first.rpartition("/")[2], uploads.PIECE)
    assert used(people.acme) == len(DATA)
    assert alice("PATCH", second, DATA[: 2 << 20], OCTETS).code == "DENIED"
    connection.send(DATA[uploads.PIECE :])
    assert connection.getresponse().status == 202
    connection.close()
    assert used(people.acme) == len(DATA)
    assert alice("DELETE", first).status == 204 and used(people.acme) == 0


def test_what_counts(alice: Client, host: str, people: People) -> None:
    """Each blob of a tenant once, whatever repositories have it; and exactly again when it is gone."""
    digest, document = alice.push_image("acme/web", "v1")
    once = used(people.acme)
    assert once == sum(Blob.objects.values_list("size_bytes", flat=True)) + Manifest.everywhere.get().size_bytes
    layer = document["layers"][0]["digest"]
    assert alice("POST", "/v2/acme/two/blobs/uploads/", mount=layer, **{"from": "acme/web"}).status == 201
    assert used(people.acme) == once and used(people.umbrella) == 0
    alice("DELETE", f"/v2/acme/two/blobs/{layer}")
    alice("DELETE", f"/v2/acme/web/manifests/{digest}")
    assert used(people.acme) == 0 and not Blob.objects.exists()


def test_a_mount_from_a_public_repository_takes_room(alice: Client, host: str, people: People) -> None:
    charlie = client_of(host, "charlie")
    digest = charlie.push_blob("umbrella/web", DATA)
    Repository.everywhere.filter(name="umbrella/web").update(visibility="public")
    limit(people.acme, 1 << 20)
    answer = alice("POST", "/v2/acme/web/blobs/uploads/", mount=digest, **{"from": "umbrella/web"})
    assert answer.status == 403 and answer.code == "DENIED" and used(people.acme) == 0


def test_a_full_disk(alice: Client, people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    where = begun(alice)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(storages._FileWriter, "write", full)
        answer = alice("PATCH", where, DATA, OCTETS)
    assert answer.status == 503 and answer.code == "UNAVAILABLE" and "disk is full" in answer.json["errors"][0]["message"]
    assert used(people.acme) == 0
    assert alice("PUT", where, DATA, OCTETS, digest=digest_of(DATA)).status == 201


def test_so_many_uploads_and_no_more(alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "OPEN_MAX", 2)
    for _ in range(2):
        begun(alice)
    answer = alice("POST", "/v2/acme/web/blobs/uploads/")
    assert answer.status == 429 and answer.code == "TOOMANYREQUESTS"


# -- cleaning ----------------------------------------------------------------------------------------


def test_what_nobody_goes_on_with_goes_after_a_day(alice: Client, people: People, storage: Path) -> None:
    old = timezone.now() - cleaning.KEPT - timedelta(minutes=1)
    where, kept = begun(alice), begun(alice)
    alice("PATCH", where, DATA, OCTETS)
    alice.push_blob("acme/lonely", b"no manifest comes for it")
    alice.push_image("acme/web", "v1")
    stray = storage / "blobs" / "sha256" / "ab"
    stray.mkdir(parents=True, exist_ok=True)
    (stray / "abc.def").write_bytes(b"its row never came")
    assert used(people.acme) > len(DATA)
    cleaning.tidy()
    assert Upload.everywhere.count() == 2 and Link.everywhere.count() == 3 and (stray / "abc.def").exists()
    Upload.everywhere.filter(key=where.rpartition("/")[2]).update(touched_at=old)
    Link.everywhere.update(created_at=old)
    Repository.everywhere.update(created_at=old)
    cleaning.tidy()
    assert alice("GET", where).code == "BLOB_UPLOAD_UNKNOWN" and alice("GET", kept).status == 204
    assert set(Repository.everywhere.values_list("name", flat=True)) == {"acme/web"}
    assert Blob.objects.count() == 2 and alice("GET", "/v2/acme/web/manifests/v1").status == 200
    assert len(list((storage / "uploads").iterdir())) == 1


def test_files_without_a_row(alice: Client, people: People, storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenant that goes takes its rows at once and its files with the next look."""
    alice.push_image("acme/web", "v1")
    begun(alice)
    people.acme.delete()
    cleaning.tidy()
    assert not Blob.objects.exists() and not list((storage / "blobs").rglob("*.*"))
    monkeypatch.setattr(cleaning, "KEPT", timedelta(seconds=-60))
    cleaning.tidy()
    assert not list((storage / "uploads").iterdir())


def test_pushes_and_deletes_are_recorded(alice: Client, people: People) -> None:
    digest, document = alice.push_image("acme/web", "v1")
    other = alice.push_manifest("acme/web", "v1", {**document, "annotations": {"a": "b"}})
    alice("DELETE", "/v2/acme/web/manifests/v1")
    alice("DELETE", f"/v2/acme/web/manifests/{digest}")
    told = [(each.verb, each.object, each.detail) for each in reversed(Record.objects.for_tenant(people.acme.pk))]
    assert ("registry.push", "acme/web:v1", {"before": None, "after": digest}) in told
    assert ("registry.push", "acme/web:v1", {"before": digest, "after": other}) in told
    assert ("registry.delete", "acme/web:v1", {"before": other}) in told
    assert [each[0] for each in told] == ["registry.push"] * 4 + ["registry.delete"] * 2
    assert {each.door for each in Record.objects.for_tenant(people.acme.pk)} == {"registry"}
