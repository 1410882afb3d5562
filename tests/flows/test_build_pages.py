"""Builds and registries as people see them: a Dockerfile typed, a folder chosen, a log that moves, a push and a pull with their layers."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.support import registry
from tests.support.platform import Platform
from tests.support.registry import DebianRegistry
from tests.support.visitor import Visitor

pytestmark = [
    pytest.mark.browser,
    pytest.mark.requires("root", "overlay", "userns", "cgroup", "nft", "chromium"),
    pytest.mark.timeout(240),
]


ONE = re.compile(r"/t/demo/builds/[0-9a-f]{32}$")


@pytest.fixture(autouse=True)
def emptied(platform: Platform) -> Iterator[None]:
    """By name: what was pulled here is the public busybox under another one."""
    yield
    for name in platform.docker("images", "--format", "{{.Repository}}:{{.Tag}}").stdout.split():
        platform.docker("rmi", "-f", name, check=False)


@pytest.fixture
def debian(tmp_path: Path) -> Iterator[DebianRegistry]:
    with registry.running(tmp_path / "registry") as running:
        yield running


def test_a_typed_dockerfile_is_built_while_its_log_moves(anna: Visitor, platform: Platform) -> None:
    page = anna.goto("builds/new")
    page.get_by_label("Name of the image").fill("typed:1")
    page.get_by_label("A Dockerfile that needs no context").fill("FROM busybox\nARG WORD\nRUN echo begun; sleep 2; echo $WORD > /word\n")
    page.get_by_text("Arguments and options").click()
    page.get_by_label("Build arguments").fill("WORD=spoken")
    page.get_by_role("button", name="Build", exact=True).click()
    page.wait_for_url(ONE)

    expect(page.locator("#build-log")).to_contain_text("begun")
    expect(page.locator("#build-facts")).to_contain_text("under way")
    expect(page.locator("#build-log")).to_contain_text("Successfully tagged typed:1")
    expect(page.locator("#build-facts")).to_contain_text("done")  # without reload
    assert platform.docker("run", "--rm", "typed:1", "cat", "/word").stdout == "spoken\n"

    page.get_by_role("link", name="The image").click()
    expect(page.get_by_role("heading", name="How it was made")).to_be_visible()
    page = anna.goto("builds/")
    expect(page.locator("tbody tr").first).to_contain_text("typed:1")


def test_a_folder_is_a_context_without_what_it_ignores(anna: Visitor, platform: Platform, tmp_path: Path) -> None:
    folder = tmp_path / "site"
    (folder / "pages").mkdir(parents=True)
    (folder / "Dockerfile").write_text(
        "FROM busybox\nCOPY . /site\n"
        "RUN --mount=type=secret,id=token,required --mount=type=ssh,required cat /run/secrets/token | wc -c >/n; test -S $SSH_AUTH_SOCK\n"
    )
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    (folder / ".dockerignore").write_text("*.key\n")
    (folder / "pages" / "index.html").write_text("hello")
    (folder / "secret.key").write_text("not for images")
    page = anna.goto("builds/new")
    page.get_by_label("Name of the image").fill("site:2")
    page.get_by_label("A folder of this computer").set_input_files(folder)
    page.get_by_text("Arguments and options").click()
    page.get_by_label("Secrets").fill("token=a=schlüssel")
    page.get_by_label("Private SSH key").fill((tmp_path / "key").read_text())
    page.get_by_role("button", name="Build", exact=True).click()
    page.wait_for_url(ONE)
    expect(page.locator("#build-facts")).to_contain_text("done")
    assert platform.docker("run", "--rm", "site:2", "cat", "/n").stdout == "12\n"
    found = platform.docker("run", "--rm", "site:2", "find", "/site", "-type", "f").stdout.split()
    assert sorted(found) == ["/site/.dockerignore", "/site/Dockerfile", "/site/pages/index.html"]


def test_a_build_is_cancelled_and_one_that_fails_says_why(anna: Visitor, platform: Platform) -> None:
    before = platform.docker("ps", "-aq").stdout
    page = anna.goto("builds/new")
    page.get_by_label("A Dockerfile that needs no context").fill("FROM busybox\nRUN echo begun; sleep 600\n")
    page.get_by_role("button", name="Build", exact=True).click()
    page.wait_for_url(ONE)
    expect(page.locator("#build-log")).to_contain_text("begun")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#build-facts")).to_contain_text("cancelled")

    page = anna.goto("builds/new")
    page.get_by_label("A Dockerfile that needs no context").fill("FROM busybox\nRUN exit 3\n")
    page.get_by_role("button", name="Build", exact=True).click()
    page.wait_for_url(ONE)
    expect(page.locator("#build-facts")).to_contain_text("returned a non-zero code: 3")
    assert platform.docker("ps", "-aq").stdout == before


def test_an_image_goes_to_a_registry_and_comes_back(anna: Visitor, platform: Platform, debian: DebianRegistry) -> None:
    name = f"{debian.host}/team/web:1"
    platform.docker("tag", "busybox", name)
    page = anna.goto("images/registry")
    push, pull = page.locator("form[data-transfer$=push]"), page.locator("form[data-transfer$=pull]")
    push.get_by_label("Name").fill(name)
    expect(push.locator(".command code")).to_have_text(f"docker push {name}")
    push.get_by_role("button", name="Push").click()
    expect(push.locator("[data-said]")).to_contain_text("Pushed")
    expect(push.locator("[data-said]")).to_contain_text("It is there.")

    platform.docker("rmi", name)
    pull.get_by_label("Name").fill(name)
    pull.get_by_role("button", name="Pull").click()
    expect(pull.locator("[data-said]")).to_contain_text("It is here.")
    assert name in platform.docker("images", "--format", "{{.Repository}}:{{.Tag}}").stdout

    pull.get_by_label("Name").fill(f"{debian.host}/team/nothing:1")
    pull.get_by_role("button", name="Pull").click()
    expect(pull.locator("[data-said] .text-danger")).to_contain_text("not found")


@pytest.mark.parametrize("language", ["en", "zh-hans"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_build_and_registry_pages_are_clean_for_axe(anna: Visitor, theme: str, language: str) -> None:
    anna.dress(theme, language)
    for path in ("builds/", "builds/new", "images/registry"):
        anna.goto(path)
        anna.examine(path)


def test_a_stranger_sees_no_build_of_another_tenant(stranger: Visitor) -> None:
    for path in ("/t/demo/builds/", "/t/demo/builds/new", "/t/demo/images/registry"):
        assert stranger.go(path).status == 404
    stranger.complaints.clear()
