"""Images as people see them: the list, one of them with its names and layers, what nothing needs, an archive in and out."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.support.platform import Platform
from tests.support.visitor import Visitor

pytestmark = [
    pytest.mark.browser,
    pytest.mark.requires("root", "overlay", "userns", "cgroup", "nft", "chromium"),
    pytest.mark.timeout(240),
]


@pytest.fixture
def site(platform: Platform) -> Iterator[str]:
    """An image committed from busybox, of two layers, by the name site:1; every image of the tenant goes at the end."""
    platform.docker("run", "--name", "walked", "busybox", "sh", "-c", "echo hello > /etc/motd; rm /etc/nsswitch.conf")
    platform.docker("commit", "-m", "a greeting", "-c", "ENV GREETING=hello", "-c", 'CMD ["cat", "/etc/motd"]', "walked", "site:1")
    platform.docker("rm", "walked")
    yield "site:1"
    for name in platform.docker("images", "-q", "--no-trunc").stdout.split():
        platform.docker("rmi", "-f", name, check=False)


def test_an_image_is_looked_at_named_compared_and_removed(anna: Visitor, platform: Platform, site: str) -> None:
    page = anna.goto("images/")
    page.get_by_role("searchbox").fill("nothing like this")
    expect(page.get_by_text("No image matches")).to_be_visible()
    page.get_by_role("link", name="Clear filter").click()
    page.get_by_role("link", name=site, exact=True).click()
    page.wait_for_url("**/images/view/site:1")

    steps = page.locator("section", has=page.get_by_role("heading", name="How it was made")).locator("tbody tr")
    expect(steps).to_have_count(2)
    expect(steps.first).to_contain_text("a greeting")
    expect(page.get_by_text("GREETING=hello", exact=True)).to_be_visible()
    expect(page.get_by_role("link", name="busybox:latest", exact=True)).to_be_visible()  # what it was made from

    page.get_by_label("Another name").fill("team/site:stable")
    expect(page.locator("#tag-command")).to_have_text("docker tag site:1 team/site:stable")
    page.get_by_role("button", name="Add").click()
    expect(page.locator("#names")).to_contain_text("team/site:stable")  # without reload
    assert "team/site:stable" in json.loads(platform.docker("image", "inspect", site).stdout)[0]["RepoTags"]
    page.get_by_role("button", name="Take the name away team/site:stable").click()
    expect(page.locator("#names")).not_to_contain_text("team/site:stable")

    page.get_by_role("button", name="Compare").click()
    page.wait_for_url("**/compare?*")
    expect(page.locator(".file-tree")).to_contain_text("motd")
    expect(page.locator(".file-tree")).to_contain_text("nsswitch.conf")
    expect(page.get_by_label("From")).to_have_value("image:busybox:latest")

    page = anna.goto("images/view/site:1")
    page.get_by_role("button", name="Remove").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("code")).to_have_text("docker rmi site:1")
    dialog.get_by_role("button", name="Remove").click()
    page.wait_for_url("**/t/demo/images/")
    expect(page.get_by_role("link", name=site, exact=True)).to_have_count(0)


def test_what_nothing_needs_is_listed_before_it_goes(anna: Visitor, platform: Platform, site: str) -> None:
    platform.docker("image", "prune", "-f")  # what other tests left
    platform.docker("run", "--name", "walked", site, "touch", "/new")
    platform.docker("commit", "walked")
    page = anna.goto("images/prune")
    expect(page.locator("#main tbody tr")).to_have_count(1)
    expect(page.locator("code")).to_have_text("docker image prune")
    page.get_by_role("link", name="All that no container uses").click()
    expect(page.locator("#main tbody tr")).to_have_count(1)  # site:1 has a container
    platform.docker("rm", "walked")
    page.reload()
    expect(page.locator("#main tbody tr")).to_have_count(2)
    page.get_by_role("button", name="Remove these").click()
    page.wait_for_url("**/t/demo/images/")
    expect(page.locator("#main tbody tr")).to_have_count(1)  # the public busybox
    assert site not in platform.docker("images", "--format", "{{.Repository}}:{{.Tag}}").stdout


def test_an_archive_goes_out_and_comes_in(anna: Visitor, platform: Platform, site: str, tmp_path: Path) -> None:
    page = anna.goto("images/view/site:1")
    with page.expect_download() as downloading:
        page.get_by_role("link", name="Download").click()
    archive = tmp_path / downloading.value.suggested_filename
    assert archive.name == "site.tar"
    downloading.value.save_as(archive)
    with tarfile.open(archive) as tar:
        assert json.load(tar.extractfile("manifest.json"))[0]["RepoTags"] == [site]  # type: ignore[arg-type]
    platform.docker("rmi", site)

    page = anna.goto("images/")
    page.get_by_label("An archive as docker save writes it").set_input_files(archive)
    expect(page.locator("#load-command")).to_have_text("docker load -i site.tar")
    page.get_by_role("button", name="Load").click()
    expect(page.locator("#loaded")).to_contain_text("Loaded image: site:1")
    expect(page.get_by_role("link", name=site, exact=True)).to_be_visible()

    nonsense = tmp_path / "nonsense.tar"
    nonsense.write_bytes(b"no archive at all" * 100)
    page.get_by_label("An archive as docker save writes it").set_input_files(nonsense)
    page.get_by_role("button", name="Load").click()
    expect(page.locator("#loaded .text-danger")).to_contain_text("invalid")
    anna.complaints.clear()


@pytest.mark.parametrize("language", ["en", "zh-hans"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_image_pages_are_clean_for_axe(anna: Visitor, site: str, theme: str, language: str) -> None:
    anna.dress(theme, language)
    for path in ("images/", "images/view/site:1", "images/prune?all=1"):
        anna.goto(path)
        anna.examine(path)


def test_a_stranger_sees_no_image_of_another_tenant(stranger: Visitor, site: str) -> None:
    for path in ("/t/demo/images/", "/t/demo/images/view/site:1", "/t/demo/images/prune"):
        assert stranger.go(path).status == 404
    assert stranger.go("/t/other/images/view/site:1").status == 404
    stranger.complaints.clear()
