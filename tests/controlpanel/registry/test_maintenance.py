"""What people do with a registry beside pushing and pulling: what a tag was, the trash, rules of what stays, copies, bytes read again."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from controlpanel.containers.models import Container
from controlpanel.registry import cleaning, copying, history, names, retention, rules, scrub, tags, trash
from controlpanel.registry.models import Blob, Link, Manifest, Move, Rule, Sweep, Tag
from controlpanel.tenants.models import Tenant
from engine.errors import InvalidArgument, NotFound, PermissionDenied
from tests.controlpanel.conftest import People
from tests.controlpanel.registry.conftest import client_of
from tests.controlpanel.registry.test_uploads import used
from tests.support import oci
from tests.support.oci import Client, digest_of

NAME = "acme/shop/web"


@pytest.fixture
def owner(people: People, host: str) -> Any:
    return people.actor(people.alice)


def push(client: Client, tag: str, word: str, name: str = NAME) -> str:
    """An image of its own for each word; its digest."""
    layer, config = f"layer {word}".encode(), f'{{"of": "{word}"}}'.encode()
    client.push_blob(name, layer)
    client.push_blob(name, config)
    return client.push_manifest(name, tag, oci.image(config, [layer]))


def delete(client: Client, reference: str, name: str = NAME) -> int:
    return client("DELETE", f"/v2/{name}/manifests/{reference}").status


def scrubbed() -> tuple[int, int]:
    """Of all blobs, also of those that were read just now."""
    return scrub.scrub(again=timedelta())


def days_ago(days: float) -> Any:
    return timezone.now() - timedelta(days=days)


# -- history -----------------------------------------------------------------------------------------


def test_what_a_tag_was_and_back_to_it(alice: Client, owner: Any) -> None:
    one, two = push(alice, "latest", "one"), push(alice, "latest", "two")
    Move.objects.filter(digest=one).update(at=days_ago(7))
    Move.objects.filter(digest=two).update(at=days_ago(2))
    row = tags.repository(owner, NAME)
    assert [history.at(row.pk, "latest", days_ago(days)) for days in (9, 5, 1)] == [None, one, two]
    copying.copy(owner, NAME, one, NAME, "latest")
    assert alice("HEAD", f"/v2/{NAME}/manifests/latest").headers["docker-content-digest"] == one
    assert delete(alice, "latest") == 202
    assert [(move.digest, move.by) for move in history.of(row.pk, "latest", limit=10)] == [
        ("", "alice"), (one, "alice"), (two, "alice"), (one, "alice")
    ]  # fmt: skip
    push(alice, "latest", "two")
    push(alice, "latest", "two")
    assert Move.objects.count() == 5, "the same again is no move"


# -- the trash ---------------------------------------------------------------------------------------


def test_what_was_deleted_is_there_for_nobody_and_comes_back(alice: Client, owner: Any, people: People) -> None:
    digest = push(alice, "1", "one")
    push(alice, "2", "two")
    layer = digest_of(b"layer one")
    alice("PUT", f"/v2/{NAME}/manifests/stable", alice("GET", f"/v2/{NAME}/manifests/1").body, {"Content-Type": oci.IMAGE})
    before = used(people.acme)
    assert delete(alice, digest) == 202
    for path in (f"manifests/{digest}", "manifests/1", "manifests/stable", f"blobs/{layer}"):
        assert alice("GET", f"/v2/{NAME}/{path}").status == 404, path
    assert alice("GET", f"/v2/{NAME}/tags/list").json["tags"] == ["2"] and delete(alice, digest) == 404
    assert alice("POST", "/v2/acme/other/blobs/uploads/", mount=layer, **{"from": NAME}).status == 202, "not mounted"
    assert used(people.acme) == before, "its bytes are on the disk"
    with pytest.raises(NotFound):
        trash.found(people.actor(people.charlie, people.umbrella), NAME, digest)

    push(alice, "1", "three")
    assert trash.restore(owner, NAME, digest) == ["stable"], "1 is another's by now"
    assert alice("GET", f"/v2/{NAME}/blobs/{layer}").body == b"layer one"
    assert alice("HEAD", f"/v2/{NAME}/manifests/stable").headers["docker-content-digest"] == digest
    with pytest.raises(NotFound, match="its time is over"):
        trash.restore(owner, NAME, digest)


def test_what_another_image_needs_stays_readable(alice: Client) -> None:
    base = b"a layer of both"
    for word in ("one", "two"):
        config = f'{{"of": "{word}"}}'.encode()
        alice.push_blob(NAME, base)
        alice.push_blob(NAME, config)
        alice.push_manifest(NAME, word, oci.image(config, [base]))
    digest = alice("HEAD", f"/v2/{NAME}/manifests/one").headers["docker-content-digest"]
    assert delete(alice, digest) == 202 and alice("GET", f"/v2/{NAME}/blobs/{digest_of(base)}").status == 200


def test_pushed_again_it_is_as_new(alice: Client, owner: Any) -> None:
    digest = push(alice, "1", "one")
    delete(alice, digest)
    assert push(alice, "2", "one") == digest
    assert alice("GET", f"/v2/{NAME}/tags/list").json["tags"] == ["2"] and trash.content(owner) == []


def test_blobs_of_the_trash_that_are_pushed_again_are_the_new_images(alice: Client, owner: Any) -> None:
    digest = push(alice, "1", "one")
    delete(alice, digest)
    alice.push_blob(NAME, b"layer one")
    alice.push_blob(NAME, b"another")
    alice.push_manifest(NAME, "2", oci.image(b"another", [b"layer one"]))
    assert trash.empty(owner, trash.content(owner)) == 1
    assert alice("GET", f"/v2/{NAME}/blobs/{digest_of(b'layer one')}").status == 200
    config = digest_of(b'{"of": "one"}')
    assert alice("GET", f"/v2/{NAME}/blobs/{config}").status == 404


def test_a_manifest_is_not_put_over_blobs_that_lie_in_the_trash(alice: Client) -> None:
    delete(alice, push(alice, "1", "one"))
    alice.push_blob(NAME, b"{}")
    answer = alice("PUT", f"/v2/{NAME}/manifests/2", oci.json.dumps(oci.image(b"{}", [b"layer one"])).encode(), {"Content-Type": oci.IMAGE})
    assert (answer.status, answer.code) == (400, "MANIFEST_BLOB_UNKNOWN")


def test_emptied_or_over_it_is_gone_and_its_room_is_free(alice: Client, owner: Any, people: People, storage: Path) -> None:
    empty = used(people.acme)
    one, two = push(alice, "1", "one"), push(alice, "2", "two")
    full = used(people.acme)
    delete(alice, one)
    trash.empty(owner, [trash.found(owner, NAME, one)])
    assert empty < used(people.acme) < full
    delete(alice, two)
    cleaning.tidy()
    assert Manifest.everywhere.count() == 1
    Manifest.everywhere.update(deleted_at=days_ago(7.1))
    cleaning.tidy()
    assert used(people.acme) == empty and not Link.everywhere.exists()
    assert not [path for path in (storage / "blobs").rglob("*") if path.is_file()]


def test_without_a_trash(alice: Client, owner: Any, settings: Any) -> None:
    settings.REGISTRY_TRASH_DAYS = 0
    delete(alice, push(alice, "1", "one"))
    assert not Manifest.everywhere.exists() and not Blob.objects.exists()


# -- rules -------------------------------------------------------------------------------------------


def test_immutable_tags(alice: Client, owner: Any, people: People) -> None:
    rules.create(owner, Rule.IMMUTABLE, "shop/**", "v*")
    first = push(alice, "v1", "one")
    assert push(alice, "v1", "one") == first, "the same again changes nothing"
    config = b'{"of": "two"}'
    alice.push_blob(NAME, config)
    answer = alice("PUT", f"/v2/{NAME}/manifests/v1", oci.json.dumps(oci.image(config, [])).encode(), {"Content-Type": oci.IMAGE})
    assert (answer.status, answer.code) == (403, "DENIED") and "tag v1 of acme/shop/web is immutable" in answer.body.decode()
    assert delete(alice, "v1") == 403 and delete(alice, first) == 403
    assert push(alice, "latest", "two") and push(alice, "latest", "one") and delete(alice, "latest") == 202
    assert push(alice, "v1", "one", "acme/other") and push(alice, "v1", "two", "acme/other")
    with pytest.raises(PermissionDenied):
        rules.create(people.actor(people.bob), Rule.KEEP, "**", last=1)
    rules.remove(owner, Rule.everywhere.get().pk)
    assert delete(alice, "v1") == 202


def test_what_stays_by_rules_and_why(alice: Client, owner: Any, people: People, container: Container) -> None:
    for number in range(1, 9):
        push(alice, f"b{number}", str(number))
        Tag.objects.filter(name=f"b{number}").update(pushed_at=days_ago(19.5 - number))
    for name in ("main", "v1"):
        push(alice, name, name)
        Tag.objects.filter(name=name).update(pushed_at=days_ago(100))
    push(alice, "b1", "elsewhere", "acme/elsewhere")
    assert retention.plan(owner) == [], "without a rule everything stays"

    rules.create(owner, Rule.KEEP, "shop/*", "b*", last=2, pushed_days=15, pulled_days=3)
    rules.create(owner, Rule.KEEP, "shop/*", "main", last=1)
    rules.create(owner, Rule.IMMUTABLE, "**", "v*")
    Tag.objects.filter(name="b1").update(pinned=True)
    Tag.objects.filter(name="b2").update(pulled_at=days_ago(1))
    config = digest_of(b'{"of": "3"}')
    Container.everywhere.filter(pk=container.pk).update(image_id=config, tenant=people.umbrella)
    assert not any(str(verdict.why).startswith("a container") for verdict in retention.plan(owner)), "what others run is not told"
    Container.everywhere.filter(pk=container.pk).update(tenant=people.acme)
    found = {verdict.tag: (verdict.stays, str(verdict.why)) for verdict in retention.plan(owner)}
    keep = "rule shop/*:b*"
    assert found == {
        "b8": (True, f"{keep}: the last 2"),
        "b7": (True, f"{keep}: the last 2"),
        "b6": (True, f"{keep}: pushed in the last 15 days"),
        "b5": (True, f"{keep}: pushed in the last 15 days"),
        "b4": (False, "no rule keeps it"),
        "b3": (True, "a container of the tenant has this image"),
        "b2": (True, f"{keep}: pulled in the last 3 days"),
        "b1": (True, "pinned"),
        "main": (True, "rule shop/*:main: the last 1"),
        "v1": (True, "immutable"),
    }
    swept = retention.sweep(owner)
    assert (swept.kept, swept.removed) == (9, 1) and [(gone["tag"], gone["why"]) for gone in swept.gone] == [("b4", "no rule keeps it")]
    assert "b4" not in alice("GET", f"/v2/{NAME}/tags/list").json["tags"]
    assert [row.lost_tags for row in trash.content(owner)] == [["b4"]]


def test_an_index_keeps_what_it_is_made_of_and_signatures_go_with_their_image(alice: Client, owner: Any) -> None:
    member = push(alice, "amd64", "one")
    listed = {"mediaType": oci.IMAGE, "digest": member, "size": len(alice("GET", f"/v2/{NAME}/manifests/{member}").body)}
    whole = alice.push_manifest(NAME, "1", oci.index(listed))
    alice.push_blob(NAME, b"{}")
    signature = alice.push_manifest(NAME, digest := oci_digest(listed), oci.image(b"{}", [], subject=listed))
    assert signature == digest
    rules.create(owner, Rule.KEEP, "**", "1", last=1, untagged_days=1)
    Manifest.everywhere.update(pushed_at=days_ago(3))
    assert {(verdict.tag, verdict.stays) for verdict in retention.plan(owner)} == {("1", True), ("amd64", False)}
    retention.sweep(owner)
    assert alice("GET", f"/v2/{NAME}/manifests/{member}").status == 200, "the index needs it; its tag alone went"
    assert delete(alice, whole) == 202
    gone = [retention.sweep(owner).gone for _turn in range(3)]
    assert [[each["digest"] for each in turn] for turn in gone] == [[member], [signature], []]


def oci_digest(subject: dict[str, Any]) -> str:
    return digest_of(oci.json.dumps(oci.image(b"{}", [], subject=subject)).encode())


def test_rules_are_followed_once_a_day(alice: Client, owner: Any, people: People) -> None:
    push(alice, "1", "one")
    rules.create(owner, Rule.KEEP, "**", last=1)
    for _ in range(2):
        retention.sweep_due()
    assert Sweep.everywhere.count() == 1
    Sweep.everywhere.update(at=days_ago(1.1))
    retention.sweep_due()
    assert Sweep.everywhere.count() == 2
    Tenant.objects.filter(pk=people.acme.pk).update(delete_at=timezone.now())
    Sweep.everywhere.update(at=days_ago(1.1))
    retention.sweep_due()
    assert Sweep.everywhere.count() == 2


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        ("team-a/**", ["team-a/x", "team-a/x/y"], ["team-b/x", "team-a", "xteam-a/x"]),
        ("*", ["web"], ["a/web"]),
        ("**", ["web", "a/b/c"], []),
        ("v?.*", ["v1.2", "v2."], ["v10.1", "v1"]),
        ("a, b/*", ["a", "b/c"], ["b", "b/c/d"]),
        ("x.y", ["x.y"], ["xzy"]),
    ],
)
def test_patterns(pattern: str, good: list[str], bad: list[str]) -> None:
    names.check_pattern(pattern, "x")
    assert all(names.matches(pattern, name) for name in good) and not any(names.matches(pattern, name) for name in bad)


@pytest.mark.parametrize("pattern", ["", "a,,b", "a b", "[a]", "*a*b*c*", "x" * 300, "é"])
def test_what_is_no_pattern(pattern: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid pattern of tags"):
        names.check_pattern(pattern, "tags")


# -- copies ------------------------------------------------------------------------------------------


def test_promoted_with_all_it_is_made_of_and_no_bytes_moved(alice: Client, owner: Any, people: People) -> None:
    member = push(alice, "amd64", "one")
    listed = {"mediaType": oci.IMAGE, "digest": member, "size": len(alice("GET", f"/v2/{NAME}/manifests/{member}").body)}
    whole = alice.push_manifest(NAME, "1", oci.index(listed))
    alice.push_blob(NAME, b"{}")
    alice.push_manifest(NAME, oci_digest(listed), oci.image(b"{}", [], subject=listed))
    blobs = Blob.objects.count()
    assert copying.copy(owner, NAME, "1", "acme/prod/web", "7") == whole
    assert Blob.objects.count() == blobs
    assert alice("GET", "/v2/acme/prod/web/manifests/7").headers["docker-content-digest"] == whole
    assert alice("GET", f"/v2/acme/prod/web/blobs/{digest_of(b'layer one')}").body == b"layer one"
    assert len(alice("GET", f"/v2/acme/prod/web/referrers/{member}").json["manifests"]) == 1
    for shown in tags.tags(owner, NAME):
        assert shown.size_bytes > 0 and shown.pushed_by == "alice" and not shown.immutable


def test_pulls_are_counted(alice: Client, host: str, owner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from controlpanel.registry import pulls

    monkeypatch.setattr(pulls, "LATER_S", 0.05)
    digest = push(alice, "1", "one")
    for reference in ("1", "1", digest):
        assert alice("GET", f"/v2/{NAME}/manifests/{reference}").status == 200
    alice("HEAD", f"/v2/{NAME}/manifests/1")
    deadline = timezone.now() + timedelta(seconds=10)
    while (row := Manifest.everywhere.get()).pulls < 3:
        assert timezone.now() < deadline
    assert row.pulls == 3 and row.pulled_at is not None
    [shown] = tags.tags(owner, NAME)
    assert shown.pulls == 2 and shown.pulled_at is not None


# -- bytes read again --------------------------------------------------------------------------------


def test_rot_is_found_and_mended_by_the_next_push(alice: Client, storage: Path, caplog: pytest.LogCaptureFixture) -> None:
    push(alice, "1", "one")
    layer = digest_of(b"layer one")
    assert scrubbed() == (2, 0) and scrub.scrub() == (0, 0), "not so soon again"
    [path] = [path for path in (storage / "blobs").rglob("*") if path.is_file() and layer[7:] in path.name]
    os.chmod(path, 0o600)
    path.write_bytes(b"layer 0ne")
    assert scrubbed() == (2, 1) and f"blob {layer} is not what it was" in caplog.text
    assert alice("HEAD", f"/v2/{NAME}/blobs/{layer}").status == 404, "so that who pushes it sends it"
    push(alice, "1", "one")
    assert alice("GET", f"/v2/{NAME}/blobs/{layer}").body == b"layer one" and scrubbed() == (2, 0)
    assert not path.exists()
    [path] = [path for path in (storage / "blobs").rglob("*") if path.is_file() and layer[7:] in path.name]
    path.unlink()
    assert scrubbed() == (2, 1)


# -- the walls ---------------------------------------------------------------------------------------


def test_another_tenants_are_not_there(alice: Client, people: People, host: str) -> None:
    push(alice, "1", "one")
    charlie = people.actor(people.charlie, people.umbrella)
    for act in (lambda: tags.tags(charlie, NAME), lambda: tags.pin(charlie, NAME, "1", True)):
        with pytest.raises(NotFound, match="No such repository"):
            act()
    assert trash.content(charlie) == [] and client_of(host, "charlie")("GET", f"/v2/{NAME}/manifests/1").status == 404
