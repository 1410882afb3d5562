"""The registry's pages: what they show, what their buttons do, and to whom they say no."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client as Browser

from controlpanel.registry.models import Manifest, Repository, Rule, Tag
from tests.controlpanel.registry.test_maintenance import NAME, push
from tests.support import oci
from tests.support.oci import Client

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def panel(people: Any, host: str) -> Any:
    """A browser of whoever is named."""

    def of(name: str) -> Browser:
        browser = Browser()
        browser.force_login(getattr(people, name))
        return browser

    return of


def text(browser: Browser, path: str) -> str:
    answer = browser.get(f"/t/acme/registry/{path}")
    assert answer.status_code == 200, path
    return answer.content.decode()


def test_what_is_there_is_shown(alice: Client, panel: Any) -> None:
    browser = panel("alice")
    assert "docker push testserver/acme/app:1" in text(browser, "") and "Images that are pushed here" in text(browser, "")
    member = push(alice, "1", "one")
    listed = {"mediaType": oci.IMAGE, "digest": member, "size": 1, "platform": {"os": "linux", "architecture": "arm64"}}
    alice.push_manifest(NAME, "all", oci.index(listed))
    alice.push_blob(NAME, b"{}")
    body = json.dumps(oci.image(b"{}", [], subject=listed, artifactType="text/sbom")).encode()
    alice("PUT", f"/v2/{NAME}/manifests/{oci.digest_of(body)}", body, {"Content-Type": oci.IMAGE})
    assert NAME in text(browser, "") and NAME not in text(browser, "?q=other")
    assert "docker pull testserver/acme/shop/web:all" in text(browser, f"view/{NAME}")
    shown = text(browser, f"image/{NAME}:1")
    assert member in shown and "text/sbom" in shown and f"docker pull testserver/{NAME}:1" in shown
    assert "linux/arm64" in text(browser, f"image/{NAME}:all") and member in text(browser, f"image/{NAME}@{member}")
    for path in (f"view/{NAME}x", f"image/{NAME}:2", "image/umbrella/x:1"):
        assert browser.get(f"/t/acme/registry/{path}").status_code == 404, path
    assert browser.get("/t/acme/registry/image/acme").status_code == 400


def test_its_buttons(alice: Client, panel: Any) -> None:
    browser = panel("alice")
    one = push(alice, "1", "one")
    push(alice, "latest", "one")
    push(alice, "latest", "two")

    def press(path: str, **words: str) -> None:
        answer = browser.post(f"/t/acme/registry/{path}", words)
        assert answer.status_code == 302, path

    press(f"copy/{NAME}@{one}", target=f"{NAME}:latest")
    assert alice("HEAD", f"/v2/{NAME}/manifests/latest").headers["docker-content-digest"] == one
    press(f"copy/{NAME}:1", target="acme/prod/web:7")
    assert alice("HEAD", "/v2/acme/prod/web/manifests/7").status == 200
    press(f"pin/{NAME}:1", pinned="1")
    assert Tag.objects.get(name="1", repository__name=NAME).pinned
    press("publish/acme/prod/web", public="1")
    assert Repository.everywhere.get(name="acme/prod/web").visibility == "public"
    press(f"delete/{NAME}:latest")
    press(f"delete/{NAME}@{one}")
    assert one[7:19] in text(browser, "trash") and alice("HEAD", f"/v2/{NAME}/manifests/1").status == 404
    press("restore", repository=NAME, digest=one)
    assert alice("HEAD", f"/v2/{NAME}/manifests/1").status == 200
    press("rules/make", kind="keep", repositories="prod/**", tags="**", last="", pushed_days="", pulled_days="", untagged_days="")
    assert "no rule keeps it" in text(browser, "rules")
    press("rules/follow")
    assert "1 went, 0 stayed" in text(browser, "rules") and alice("HEAD", "/v2/acme/prod/web/manifests/7").status == 404
    press("empty")
    assert not Manifest.everywhere.filter(deleted_at__isnull=False).exists()
    press(f"rules/{Rule.everywhere.get().pk}/remove")
    browser.post("/t/acme/registry/rules/make", {"kind": "keep", "repositories": "[a]", "last": "x"})
    assert not Rule.everywhere.exists() and "is no number" in text(browser, "rules")


def test_a_viewer_looks_and_changes_nothing(alice: Client, panel: Any) -> None:
    push(alice, "1", "one")
    browser = panel("victor")
    for path in ("", f"view/{NAME}", f"image/{NAME}:1", "trash", "rules"):
        assert '<form method="post" action="/t/acme/registry' not in text(browser, path), path
    for path in (
        f"pin/{NAME}:1",
        f"copy/{NAME}:1",
        f"delete/{NAME}:1",
        f"publish/{NAME}",
        "restore",
        "empty",
        "rules/make",
        "rules/follow",
    ):
        assert browser.post(f"/t/acme/registry/{path}").status_code == 403, path
    assert panel("charlie").get(f"/t/acme/registry/view/{NAME}").status_code == 404
    assert Tag.objects.filter(name="1").exists()
