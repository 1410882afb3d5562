"""Login, second factor, sessions and invitations in Chromium against a whole platform; every page is clean for axe."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.controlpanel.accounts.test_second_factor import totp
from tests.flows.conftest import visitor
from tests.support.platform import Platform
from tests.support.visitor import Visitor

pytestmark = [
    pytest.mark.browser,
    pytest.mark.requires("root", "overlay", "userns", "cgroup", "nft", "chromium"),
    pytest.mark.timeout(240),
]

PASSWORD = "a long enough one"
LOOKS = [("light", "en"), ("dark", "zh-hans"), ("dark", "en")]
another = contextlib.contextmanager(visitor)


def look(who: Visitor, what: str) -> None:
    """Each time anew: a theme that changes under the page fades, and axe measures what is half way."""
    for theme, language in LOOKS:
        who.dress(theme, language)
        who.page.reload()
        who.examine(f"{what} {theme} {language}")
    who.dress("light", "en")
    who.page.reload()


def send(page: Page, button: str) -> None:
    page.get_by_role("button", name=button, exact=True).click()


@pytest.fixture
def invited(anna: Visitor) -> Iterator[str]:
    """A link into the demo tenant; whoever it let in is a member no more afterwards."""
    page = anna.goto("settings/members")
    send(page, "Invite")
    expect(page.get_by_label("For whom")).to_be_focused()
    anna.examine("invite")
    page.get_by_label("For whom").fill("Eve")
    send(page, "Make a link")
    link = page.locator("#link").text_content()
    assert link and re.search(r"/invitation/[\w-]{43}/$", link)
    yield link
    anna.goto("settings/members").get_by_role("button", name="Remove eve").click()
    send(page.get_by_role("dialog"), "Remove")  # type: ignore[arg-type]
    expect(page.get_by_role("cell", name="eve", exact=True)).to_have_count(0)


def test_a_guest_becomes_a_member_with_a_second_factor_and_ends_a_session(invited: str, platform: Platform, browser: Browser) -> None:
    with another(platform, browser) as eve, another(platform, browser) as elsewhere:
        page = eve.page
        page.goto(invited)
        look(eve, "invitation")
        page.get_by_label("User").fill("eve")
        page.get_by_label("Password", exact=True).fill(PASSWORD)
        page.get_by_label("Password again").fill(PASSWORD)
        send(page, "Make this user and join")
        expect(page.locator(".live-dot")).to_have_attribute("data-state", "live")

        eve.go("/accounts/two-step/")
        look(eve, "set up")
        secret = page.locator("#secret").text_content()
        assert secret
        page.get_by_label("The code that your app shows").fill(totp(secret, steps=-1))
        send(page, "Switch it on")
        expect(page.locator("#codes")).to_have_text(re.compile(r"(\d{8}\s*){10}"))
        look(eve, "recovery codes")

        elsewhere.go("/accounts/login/")
        look(elsewhere, "login")
        elsewhere.page.get_by_label("User").fill("eve")
        elsewhere.page.get_by_label("Password").fill(PASSWORD)
        send(elsewhere.page, "Log in")
        elsewhere.page.wait_for_url("**/accounts/login/code/")
        look(elsewhere, "code")
        elsewhere.page.get_by_label("The code that your app shows").fill(totp(secret))
        send(elsewhere.page, "Log in")
        expect(elsewhere.page.locator(".live-dot")).to_have_attribute("data-state", "live")

        eve.go("/accounts/security/")
        look(eve, "security")
        page.get_by_role("button", name="End Chrome").click()
        elsewhere.page.wait_for_url("**/accounts/login/?next=**")  # by its websocket, at once
        for path in ("/accounts/password/", "/accounts/two-step/remove/", "/accounts/reauthenticate/", "/accounts/logout/"):
            eve.go(path)
            look(eve, path)
    platform.manage("user", "mfa-reset", "eve")
