"""Images in Docker's words: the list with its filters and dialects, history, search, disk usage. What needs a host is in conformance."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest

from controlpanel.images import projection
from controlpanel.images.models import Image, Tag
from controlpanel.tenants.models import Tenant
from engine.model.platform import host_architecture
from tests.controlpanel.dockerapi.conftest import BUSYBOX, Api, put_container


def put_image(
    digit: str, *refs: str, layers: dict[str, int], tenant: str = "demo", created: str = "2025-02-01T00:00:00Z", **config: Any
) -> str:
    """A row of an image; ``layers`` are the chain's digits with the bytes of each, base first. Its id."""
    owner = Tenant.objects.get(name=tenant)
    row = Image.everywhere.create(
        tenant=owner,
        image_id="sha256:" + digit * 64,
        config={"architecture": host_architecture(), "os": "linux", "config": {}, **config},
        diff_ids=["sha256:" + each * 64 for each in layers],
        chain_ids=[each * 64 for each in layers],
        layer_bytes=list(layers.values()),
        size_bytes=sum(layers.values()),
        created=created,
    )
    for ref in refs:
        Tag.everywhere.create(tenant=owner, image=row, ref=ref)
    projection.clear()
    return row.image_id


@pytest.fixture
def some(api: Api) -> Api:
    base = put_image("1", "app:1", layers={"a": 1000, "b": 200})
    put_image("2", "app:2", f"app@sha256:{'9' * 64}", layers={"a": 1000, "c": 30}, config={"Labels": {"tier": "web"}})
    middle = put_image("3", layers={"a": 1000, "b": 200, "d": 4}, parent=base, created="2025-03-01T00:00:00Z")
    put_image("4", "top:1", layers={"a": 1000, "b": 200, "d": 4, "e": 5}, parent=middle, created="2025-04-01T00:00:00Z")
    put_image("5", layers={"f": 7}, created="2025-05-01T00:00:00Z")
    return api


def listed(api: Api, query: str = "", version: str = "1.51", **given: list[str]) -> list[str]:
    """The first digits of the ids, newest first."""
    words = f"filters={quote(json.dumps(given))}&{query}" if given else query
    return [line["Id"][7] for line in api("GET", f"/v{version}/images/json?{words}").json]


def test_what_an_image_was_made_from_is_shown_when_all_is_asked_for(some: Api) -> None:
    assert listed(some) == ["5", "4", "2", "1", "e"]  # e is the public busybox
    assert listed(some, "all=1") == ["5", "4", "3", "2", "1", "e"]


@pytest.mark.parametrize(("given", "found"), [
    ({"dangling": ["true"]}, ["5"]), ({"dangling": ["false"]}, ["4", "2", "1", "e"]), ({"label": ["tier=web"]}, ["2"]),
    ({"label": ["tier=db"]}, []), ({"reference": ["app"]}, ["2", "1"]), ({"reference": ["app:2"]}, ["2"]),
    ({"reference": ["*:1"]}, ["4", "1"]),
    ({"since": ["app:1"]}, ["5", "4"]), ({"before": ["app:1"]}, ["e"]), ({"until": ["2025-03-15T00:00:00Z"]}, ["2", "1", "e"]),
    ({"since": ["1" * 12], "dangling": ["true"]}, ["5"]),
])  # fmt: skip
def test_filters(some: Api, given: dict[str, list[str]], found: list[str]) -> None:
    assert listed(some, **given) == found


def test_a_bad_filter_is_named(some: Api) -> None:
    for given in ({"nonsense": ["x"]}, {"dangling": ["maybe"]}):
        assert some("GET", f"/images/json?filters={quote(json.dumps(given))}").status == 400
    assert some("GET", f"/images/json?filters={quote(json.dumps({'since': ['absent']}))}").status == 404


def test_a_line_has_digests_shared_bytes_and_users_when_they_are_asked_for(some: Api) -> None:
    put_container("c1", image_id="sha256:" + "2" * 64)
    lines = {line["Id"][7]: line for line in some("GET", "/v1.51/images/json?shared-size=1&all=1").json}
    assert lines["2"]["RepoTags"] == ["app:2"] and lines["2"]["RepoDigests"] == [f"app@sha256:{'9' * 64}"]
    assert {digit: line["SharedSize"] for digit, line in lines.items()} == {"1": 1200, "2": 1000, "3": 1204, "4": 1204, "5": 0, "e": 0}
    assert {digit: line["Containers"] for digit, line in lines.items()} == {"1": 0, "2": 1, "3": 0, "4": 0, "5": 0, "e": 0}
    assert lines["4"]["ParentId"] == "sha256:" + "3" * 64
    unasked = some("GET", "/v1.50/images/json").json[0]
    assert (unasked["SharedSize"], unasked["Containers"]) == (-1, -1)


def test_old_dialects_have_their_members(some: Api) -> None:
    nameless = some("GET", "/v1.42/images/json").json[0]
    assert (nameless["RepoTags"], nameless["RepoDigests"]) == (["<none>:<none>"], ["<none>@<none>"]) and nameless["VirtualSize"] == 7
    nameless = some("GET", "/v1.44/images/json").json[0]
    assert (nameless["RepoTags"], nameless["RepoDigests"]) == ([], []) and "VirtualSize" not in nameless
    assert "Hostname" in some("GET", "/v1.49/images/app:1/json").json["Config"]
    assert "Hostname" not in some("GET", "/v1.50/images/app:1/json").json["Config"]


def test_history_gives_each_step_its_layer(api: Api) -> None:
    history = [
        {"created": "2025-01-01T00:00:00Z", "created_by": "ADD base"}, {"created_by": "ENV A=1", "empty_layer": True},
        {"created_by": "COPY f", "comment": "why"},
    ]  # fmt: skip
    put_image("1", "app:1", layers={"a": 1000, "b": 200}, history=history)
    lines = api("GET", "/images/app:1/history").json
    assert [(line["CreatedBy"], line["Size"]) for line in lines] == [("COPY f", 200), ("ENV A=1", 0), ("ADD base", 1000)]
    assert [line["Id"][:10] for line in lines] == ["sha256:111", "<missing>", "<missing>"] and lines[0]["Tags"] == ["app:1"]


def test_a_platform_that_it_is_not_of_is_not_found(some: Api) -> None:
    ours = quote(json.dumps({"os": "linux", "architecture": host_architecture()}))
    assert some("GET", f"/images/app:1/json?platform={ours}").status == 200
    for path in ("json", "history"):
        refused = some("GET", f"/images/app:1/{path}?platform=linux/s390x")
        assert refused.status == 404 and "does not provide the specified platform (linux/s390x)" in refused.message
    assert some("GET", "/images/app:1/json?platform=a/b/c/d").status == 400


def test_another_tenants_images_are_nowhere(some: Api) -> None:
    assert [line["Id"] for line in some("GET", "/images/json?all=1", tenant="other").json] == [BUSYBOX]
    for method, path in (
        ("GET", "/images/app:1/json"), ("GET", f"/images/{'1' * 64}/json"), ("GET", "/images/app:1/history"), ("DELETE", "/images/app:1"),
        ("POST", "/images/app:1/tag?repo=mine"),
    ):  # fmt: skip
        assert some(method, path, tenant="other").status == 404
    assert some("GET", "/images/search?term=app", tenant="other").json == []


def test_search_finds_the_repositories_that_are_here(some: Api) -> None:
    found = some("GET", "/images/search?term=ap").json
    assert [(each["name"], each["description"]) for each in found] == [("app", "on this host: 1, 2")]
    assert [each["name"] for each in some("GET", "/images/search?term=&limit=2").json] == ["app", "busybox"]
    assert some("GET", "/images/search?term=x&limit=999").message == "limit 999 is outside the range of [1, 100]"
    assert some("GET", f"/images/search?term=app&filters={quote(json.dumps({'stars': ['3']}))}").json == []
    assert some("GET", f"/images/search?term=app&filters={quote(json.dumps({'nonsense': ['3']}))}").status == 400


def test_disk_usage_counts_each_layer_once(some: Api) -> None:
    told = some("GET", "/system/df?type=image").json
    assert told["LayersSize"] == 1000 + 200 + 30 + 4 + 5 + 7 + 1984230
    assert told["Containers"] is None and {line["Id"][7]: line["SharedSize"] for line in told["Images"]}["2"] == 1000
    assert some("GET", "/system/df?type=nonsense").message == "unknown object type: nonsense"


def test_two_platforms_at_once_are_refused(some: Api) -> None:
    refused = some("GET", "/images/app:1/get?platform=linux/amd64&platform=linux/arm64")
    assert refused.status == 400 and refused.message == "multiple platform parameters not supported"


def test_a_viewer_saves_and_prunes_nothing(some: Api) -> None:
    for path in ("/images/prune", "/images/load"):
        assert some("POST", path, uid=65533).status == 403
