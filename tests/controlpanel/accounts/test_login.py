"""Login, lock, password, who-are-you-again, as browsers meet them. Real Redis counts, real sessions end."""

from __future__ import annotations

import re
import time
from types import SimpleNamespace
from typing import Any

import pytest
from allauth.core.internal import ratelimit
from django.conf import settings
from django.test import Client

from controlpanel.accounts import agents
from controlpanel.accounts.models import User
from controlpanel.accounts.services import new_password
from controlpanel.audit.chain import first_broken
from controlpanel.audit.models import Record
from controlpanel.audit.services import PLATFORM
from controlpanel.base.cache import _connection
from controlpanel.tenants.models import Membership
from tests.controlpanel.tenants.test_commands import refused, run

LOGIN = "/accounts/login/"
WRONG = "The user name or the password is wrong."
LOCKED = "Too many attempts have failed."


@pytest.fixture(autouse=True)
def _no_counters(people: Any) -> None:
    _connection(settings.REDIS_URL).execute(("FLUSHDB",))


def log_in(name: str, password: str = "", *, browser: Client | None = None, address: str = "192.0.2.7", **words: str) -> tuple[Client, Any]:
    browser = browser or Client(
        REMOTE_ADDR=address, HTTP_USER_AGENT="Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
    )
    answer = browser.post(LOGIN, {"login": name, "password": password or f"{name}-has-a-password", **words})
    return browser, answer


def told(verb: str) -> list[Record]:
    """Of the platform's chain, newest first."""
    return [record for record in Record.objects.for_tenant(PLATFORM) if record.verb == verb]


def test_a_login_leads_to_where_one_wanted_and_is_told(people: Any) -> None:
    browser, answer = log_in("alice", next="/t/acme/images/")
    assert (answer.status_code, answer["Location"]) == (302, "/t/acme/images/")
    cookie = answer.cookies[settings.SESSION_COOKIE_NAME]
    assert cookie["httponly"] and cookie["samesite"] == "Lax" and not cookie["secure"]
    [record] = told("user.login")
    assert (record.actor, record.object, record.address, record.door) == ("alice", "alice", "192.0.2.7", "panel")
    assert log_in("alice", next="https://elsewhere.example/")[1]["Location"] == "/"
    assert log_in("ALICE", "alice-has-a-password")[1].status_code == 302, "nobody else may have this name"
    browser.post("/accounts/logout/")
    assert browser.get("/accounts/security/").status_code == 302
    assert [record.object for record in told("user.logout")] == ["alice"]
    assert first_broken(PLATFORM) is None


def test_five_wrong_passwords_lock_a_name_whether_it_exists_or_not(people: Any) -> None:
    pages: dict[str, list[str]] = {}
    for name in ("alice", "nobody-has-it"):
        browser = Client(REMOTE_ADDR="192.0.2.8")
        pages[name] = [log_in(name, f"wrong {each}", browser=browser)[1].content.decode() for each in range(7)]
        assert [WRONG in page for page in pages[name]] == [True] * 5 + [False] * 2
        assert LOCKED in pages[name][5] and LOCKED in pages[name][6]

    def same(page: str) -> str:
        page = re.sub(r"alice|nobody-has-it", "NAME", page)
        return re.sub(r'csrfmiddlewaretoken" value="\w+"', "", page)

    assert [same(page) for page in pages["alice"]] == [same(page) for page in pages["nobody-has-it"]]
    assert [record.object for record in told("user.login_failed")] == ["(no such user)"] * 5 + ["alice"] * 5
    assert [record.object for record in told("user.locked")] == ["(no such user)", "alice"], "once, however often it is tried"


def test_the_right_password_waits_for_the_lock_and_an_operator_lifts_it(people: Any) -> None:
    for each in range(5):
        log_in("alice", f"wrong {each}", address=f"192.0.2.{each}")
    other = Client(REMOTE_ADDR="198.51.100.1", HTTP_HOST="localhost")  # another address, another name of the panel
    assert LOCKED in log_in("alice", browser=other)[1].content.decode()
    assert log_in("bob")[1].status_code == 302
    run("user", "unlock", "alice")
    assert log_in("alice", browser=other)[1].status_code == 302
    [record] = told("user.unlock")
    assert (record.actor, record.door, record.object) == ("root", "cli", "alice")
    assert refused("user", "unlock", "nobody") == "slipway: No such user: nobody"


def test_a_lock_ends_by_itself(people: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for each in range(5):
        log_in("alice", f"wrong {each}")
    assert LOCKED in log_in("alice")[1].content.decode()
    for later, status in ((290, 200), (301, 302)):
        clock = SimpleNamespace(time=lambda later=later: time.time() + later, monotonic=time.monotonic, sleep=time.sleep)
        monkeypatch.setattr(ratelimit, "time", clock)
        assert log_in("alice")[1].status_code == status, later


def test_an_address_that_tries_many_names_is_stopped_too(people: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "ACCOUNT_RATE_LIMITS", {"login_failed": "4/1h/ip,5/5m/key"})  # an hour: for slow machines
    for each in range(4):
        assert WRONG in log_in(f"name{each}", "wrong", address="192.0.2.66")[1].content.decode()
    assert LOCKED in log_in("alice", address="192.0.2.66")[1].content.decode()
    assert log_in("alice", address="192.0.2.67")[1].status_code == 302
    run("user", "unlock", "alice", "--address", "192.0.2.66")
    assert log_in("alice", address="192.0.2.66")[1].status_code == 302


def test_nobody_signs_up_and_nobody_gets_a_password_by_mail(people: Any) -> None:
    for path in ("signup/", "password/reset/", "email/", "confirm-email/", "login/code/request/"):
        assert Client().get(f"/accounts/{path}").status_code == 404, path


def test_who_is_switched_off_does_not_get_in(people: Any) -> None:
    User.objects.filter(pk=people.alice.pk).update(is_active=False)
    browser, answer = log_in("alice")
    assert answer["Location"] == "/accounts/inactive/"
    assert browser.get("/t/acme/").status_code == 302 and not told("user.login")


def test_a_new_password_holds_at_once_and_ends_the_other_sessions(people: Any) -> None:
    browser, other = log_in("alice")[0], log_in("alice")[0]
    words = {"oldpassword": "alice-has-a-password", "password1": "1234567890", "password2": "1234567890"}
    page = browser.post("/accounts/password/", words).content.decode()
    assert "entirely numeric" in page and "too common" in page
    page = browser.post("/accounts/password/", {**words, "oldpassword": "wrong"}).content.decode()
    assert "This is not your current password." in page
    new = new_password()
    answer = browser.post("/accounts/password/", {**words, "password1": new, "password2": new})
    assert answer["Location"] == "/accounts/security/"
    page = browser.get("/accounts/security/").content.decode()
    assert "The new password holds" in page and page.count("<tr>") == 2, "the head, and this session"
    assert other.get("/accounts/security/").status_code == 302
    assert log_in("alice")[1].status_code == 200 and log_in("alice", new)[1].status_code == 302
    assert [len(told(verb)) for verb in ("user.password", "user.session_end")] == [1, 1]


def test_a_printed_password_is_one_that_the_policy_takes(people: Any) -> None:
    from django.contrib.auth.password_validation import validate_password

    for _ in range(200):
        validate_password(new_password(), User(username="dora"))
    log_in("alice")
    browser = log_in("alice")[0]
    assert log_in("alice", run("user", "password", "alice").strip())[1].status_code == 302
    assert browser.get("/accounts/security/").status_code == 302, "root's new password ends sessions as well"


def test_sessions_are_listed_and_end_one_by_one_or_all_others(people: Any) -> None:
    browser, second, third = log_in("alice")[0], log_in("alice", address="198.51.100.9")[0], log_in("alice")[0]
    bob = log_in("bob")[0]
    page = browser.get("/accounts/security/").content.decode()
    assert page.count("Firefox 128, Linux") >= 3 and "198.51.100.9" in page and "this one" in page
    number = re.findall(r"/accounts/sessions/(\d+)/end", page)
    assert len(number) == 2, "not one's own: that is Log out"
    assert bob.post(f"/accounts/sessions/{number[0]}/end").status_code == 404, "another's"
    row = re.search(r"198\.51\.100\.9.*?sessions/(\d+)/end", page, re.DOTALL)
    assert row
    browser.post(f"/accounts/sessions/{row[1]}/end")
    assert second.get("/t/acme/").status_code == 302 and third.get("/t/acme/").status_code == 200
    [record] = told("user.session_end")
    assert record.detail["address"] == "198.51.100.9"
    browser.post("/accounts/sessions/end")
    assert third.get("/t/acme/").status_code == 302 and browser.get("/t/acme/").status_code == 200
    assert bob.get("/t/acme/").status_code == 200
    assert run("user", "logout", "alice") == "1\n" and browser.get("/t/acme/").status_code == 302


def test_what_matters_asks_again_and_is_done_after_the_answer(people: Any) -> None:
    browser = log_in("alice")[0]
    words = {"user": "charlie", "role": "viewer"}
    _age(browser, 601)
    answer = browser.post("/t/acme/settings/members/add", words)
    assert answer["Location"].startswith("/accounts/reauthenticate/?next=")
    assert not Membership.everywhere.filter(user=people.charlie, tenant=people.acme).exists()
    asked = browser.post(answer["Location"], {"password": "wrong", "next": "/t/acme/settings/members/add"})
    assert "This is not your current password." in asked.content.decode()
    done = browser.post(answer["Location"], {"password": "alice-has-a-password", "next": "/t/acme/settings/members/add"})
    assert done["Location"] == "/t/acme/settings/members"
    assert Membership.everywhere.get(user=people.charlie, tenant=people.acme).role == "viewer"
    made = browser.post("/t/acme/settings/tokens", {"name": "ci", "role": "viewer", "expires": "30d"})
    assert re.search(r"slw_[\w-]{40,}", made.content.decode()), "not asked twice within ten minutes"


@pytest.mark.parametrize(
    ("verb", "path", "body"),
    [
        ("put", "members/charlie", '{"role": "viewer"}'),
        ("delete", "members/bob", ""),
        ("post", "tokens", '{"role": "viewer"}'),
        ("post", "invitations", '{"role": "viewer"}'),
    ],
)
def test_rest_by_cookie_says_where_to_answer(people: Any, verb: str, path: str, body: str) -> None:
    browser = log_in("alice")[0]
    _age(browser, 601)
    answer = getattr(browser, verb)(f"/api/v1/tenants/acme/{path}", body, content_type="application/json")
    error = answer.json()["error"]
    assert (answer.status_code, error["detail"]) == (403, {"rule": "reauthentication"}) and "/accounts/reauthenticate/" in error["message"]
    _age(browser, 0)
    assert getattr(browser, verb)(f"/api/v1/tenants/acme/{path}", body, content_type="application/json").status_code < 300


def test_a_proxys_word_counts_only_where_the_operator_says_so(people: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"HTTP_X_FORWARDED_FOR": "203.0.113.1, 198.51.100.4", "HTTP_X_FORWARDED_PROTO": "https"}
    log_in("alice", browser=Client(**said))
    assert told("user.login")[0].address == "127.0.0.1"
    monkeypatch.setattr(settings, "BEHIND_PROXY", True)
    monkeypatch.setattr(settings, "SECURE_PROXY_SSL_HEADER", ("HTTP_X_FORWARDED_PROTO", "https"))
    _browser, answer = log_in("alice", browser=Client(**said))
    assert told("user.login")[0].address == "198.51.100.4", "what the proxy saw, not what the client wrote before it"
    assert all(cookie["secure"] for cookie in answer.cookies.values())


def test_over_tls_cookies_are_secure(people: Any) -> None:
    answer = Client().post(LOGIN, {"login": "alice", "password": "alice-has-a-password"}, secure=True)
    assert answer.cookies and all(cookie["secure"] for cookie in answer.cookies.values())


def test_names_that_differ_in_case_alone_are_one(people: Any) -> None:
    assert refused("user", "create", "Alice") == "slipway: user Alice exists already"


@pytest.mark.parametrize(
    ("agent", "words"),
    [
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36 Edg/130.0",
            "Edge 130, Windows",
        ),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 Version/17.0 Mobile/15E148 Safari/604.1",
            "Safari 17, iPhone",
        ),
        ("curl/8.5.0", "curl 8"),
        ("Something else", "Something"),
        ("", ""),
    ],
)
def test_an_agent_in_words(agent: str, words: str) -> None:
    assert agents.in_words(agent) == words


def _age(browser: Client, seconds: float) -> None:
    """As if the last answer was ``seconds`` ago."""
    session = browser.session
    records = session["account_authentication_methods"]
    session["account_authentication_methods"] = [{**record, "at": time.time() - seconds} for record in records]
    session.save()
