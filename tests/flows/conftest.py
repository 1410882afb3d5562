"""Who visits the panel in these tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.support.platform import Platform
from tests.support.visitor import Visitor


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


def visitor(platform: Platform, browser: Browser) -> Iterator[Visitor]:
    context = browser.new_context(viewport={"width": 1280, "height": 800}, locale="en-GB")
    found = Visitor(platform, context)
    found.speak("en")  # whatever the account has chosen in an earlier test
    yield found
    context.close()
    assert found.complaints == []


@pytest.fixture
def anna(platform: Platform, browser: Browser) -> Iterator[Visitor]:
    """The first user, in the demo tenant; it has no containers but its own when she comes, and when she goes."""
    for each in visitor(platform, browser):
        each.log_in(*platform.login())
        yield each
        platform.docker("rm", "-f", "walked", "spoken", check=False)


@pytest.fixture
def stranger(platform: Platform, browser: Browser) -> Iterator[Visitor]:
    """Owner of another tenant."""
    platform.tenant("other")
    made = platform.manage("user", "create", "stranger", check=False)
    password = (made if made.returncode == 0 else platform.manage("user", "password", "stranger")).stdout.split()[-1]
    platform.manage("member", "add", "other", "stranger", "--role", "owner")
    for each in visitor(platform, browser):
        each.log_in("stranger", password)
        yield each
