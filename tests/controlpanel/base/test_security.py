"""What Django checks before a deployment, and what browsers are told: nothing inline, TLS where it was promised, cookies for us alone."""

from __future__ import annotations

import logging
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as configured
from django.core.checks import WARNING, run_checks
from django.test import Client

from controlpanel.base.logs import InALine

TEMPLATES = sorted(Path(configured.BASE_DIR, "templates").rglob("*.html"))
_HSTS = "Strict-Transport-Security"
# each with its reason in settings.py; one more is to be thought about here first
_SILENCED = {"security.W004", "security.W005", "security.W008", "security.W012", "security.W016", "security.W021"}


def test_djangos_own_checks_for_a_deployment_find_nothing() -> None:
    assert not configured.DEBUG
    found = [message for message in run_checks(include_deployment_checks=True) if message.level >= WARNING and not message.is_silenced()]
    assert not found
    assert set(configured.SILENCED_SYSTEM_CHECKS) == _SILENCED


class _Inline(HTMLParser):
    """What a policy without unsafe-inline would not let run or shine. Template tags are text to it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        words = dict(attrs)
        if tag == "style" or (tag == "script" and "src" not in words and words.get("type") != "application/json"):
            self.found.append(f"<{tag}> at {self.getpos()}")
        for name, value in words.items():
            if (
                name == "style"
                or re.match(r"on[a-z]+$", name)
                or name.startswith("hx-on")
                or (value or "").strip().lower().startswith("javascript:")
            ):
                self.found.append(f"{name} of <{tag}> at {self.getpos()}")


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(configured.BASE_DIR)))
def test_no_template_has_anything_inline(path: Path) -> None:
    reader = _Inline()
    reader.feed(re.sub(r"{%.*?%}|{#.*?#}", "", path.read_text(), flags=re.DOTALL))
    assert not reader.found


@pytest.mark.parametrize(
    "path", ["/", "/accounts/login/", "/nowhere", "/t/acme/", "/t/acme/containers/", "/api/v1/tenants", "/api/v1/nowhere", "/api/v1/docs"]
)
def test_every_answer_says_that_nothing_inline_runs(people: Any, path: str) -> None:
    for browser in (Client(), Client()):
        answer = browser.get(path)
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "script-src 'self'" in policy and "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy and "*" not in policy
        assert (answer["X-Content-Type-Options"], answer["X-Frame-Options"], answer["Referrer-Policy"]) == (
            "nosniff",
            "DENY",
            "same-origin",
        )
        browser.force_login(people.alice)


def test_browsers_are_held_to_tls_where_the_operator_says_so_and_not_else(people: Any, settings: Any) -> None:
    assert _HSTS not in Client().get("/accounts/login/", secure=True), "it would hold for the tenants' published ports of the same name"
    settings.SECURE_HSTS_SECONDS = 3600
    assert Client().get("/accounts/login/", secure=True)[_HSTS] == "max-age=3600", "neither for the names below, nor for a browsers' list"
    assert _HSTS not in Client().get("/accounts/login/")


def test_each_cookie_is_for_this_site_alone_and_leaves_tls_never_again(people: Any) -> None:
    for secure in (False, True):
        browser = Client()
        browser.get("/accounts/login/", secure=secure)
        browser.post("/accounts/language/", {"language": "en", "next": "/"}, secure=secure)
        browser.post("/accounts/login/", {"login": "alice", "password": "alice-has-a-password"}, secure=secure)
        browser.get("/t/acme/", secure=secure)
        assert {configured.SESSION_COOKIE_NAME, configured.CSRF_COOKIE_NAME, configured.LANGUAGE_COOKIE_NAME} <= browser.cookies.keys()
        for name, cookie in browser.cookies.items():
            assert (cookie["samesite"], cookie["path"], cookie["domain"]) == ("Lax", "/", ""), name
            assert bool(cookie["secure"]) is secure, name
            assert cookie["httponly"] or name in (configured.CSRF_COOKIE_NAME, configured.LANGUAGE_COOKIE_NAME), name


def test_a_host_that_is_not_ours_is_refused_and_logged_in_a_line(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("django.security.DisallowedHost")
    assert any(isinstance(each, InALine) for each in logger.filters)
    with caplog.at_level(logging.ERROR):
        assert Client().get("/accounts/login/", headers={"host": "elsewhere.example"}).status_code == 400
    assert [record.exc_info for record in caplog.records if record.name == logger.name] == [None]
