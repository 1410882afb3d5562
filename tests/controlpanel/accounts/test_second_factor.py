"""TOTP and recovery codes: set up, asked for at login, taken away; what lies in the database is sealed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import struct
import time
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from django.conf import settings
from django.contrib.sessions.models import Session
from django.test import Client

from controlpanel.accounts.seal import seal, unseal
from controlpanel.base.cache import _connection
from engine.errors import FailedPrecondition
from tests.controlpanel.accounts.test_login import _age, log_in, told
from tests.controlpanel.tenants.test_commands import refused, run

CODE = "/accounts/login/code/"


@pytest.fixture(autouse=True)
def _no_counters(people: Any) -> None:
    _connection(settings.REDIS_URL).execute(("FLUSHDB",))


def totp(secret: str, *, steps: int = 0) -> str:
    """RFC 6238 by its own words, not by the library that is tested."""
    counter = struct.pack(">Q", int(time.time()) // 30 + steps)
    mac = hmac.digest(base64.b32decode(secret), counter, hashlib.sha1)
    offset = mac[-1] & 15
    return f"{(int.from_bytes(mac[offset : offset + 4], 'big') & 0x7FFFFFFF) % 1_000_000:06}"


def set_up(name: str = "alice") -> tuple[Client, str, list[str]]:
    """A logged-in browser, the app's secret, the recovery codes."""
    browser = log_in(name)[0]
    page = browser.get("/accounts/two-step/").content.decode()
    found = re.search(r'id="secret"[^>]*>([A-Z2-7]{32})<', page)
    assert found and 'src="data:image/svg+xml;base64,' in page
    answer = browser.post("/accounts/two-step/", {"code": totp(found[1])})
    assert answer["Location"] == "/accounts/recovery/"
    codes = re.findall(r"^(\d{8})$", browser.get("/accounts/recovery/").content.decode().replace('Recovery codes">', "\n"), re.MULTILINE)
    assert len(codes) == 10
    return browser, found[1], codes


def half_in(name: str = "alice", **words: str) -> Client:
    browser, answer = log_in(name, **words)
    assert answer["Location"] == CODE
    assert browser.get("/t/acme/").status_code == 302, "the password alone opens nothing"
    return browser


def test_login_asks_for_a_code_and_takes_each_once(people: Any) -> None:
    _browser, secret, _codes = set_up()
    later = totp(secret, steps=1)
    browser = half_in(next="/t/acme/images/")
    assert "This code is wrong" in browser.post(CODE, {"code": "000000"}).content.decode()
    assert browser.post(CODE, {"code": later})["Location"] == "/t/acme/images/"
    assert browser.get("/t/acme/").status_code == 200
    assert "This code is wrong" in half_in().post(CODE, {"code": later}).content.decode(), "seen over a shoulder it is of no use"
    assert [record.verb for record in told("user.mfa_add")] == ["user.mfa_add"] * 2  # the app, the recovery codes
    assert told("user.code_failed")[0].object == "alice" and len(told("user.login")) == 2
    assert Client().get(CODE)["Location"] == "/accounts/login/"


def test_a_wrong_code_at_set_up_switches_nothing_on(people: Any) -> None:
    browser = log_in("alice")[0]
    browser.get("/accounts/two-step/")
    assert "This code is wrong" in browser.post("/accounts/two-step/", {"code": "000000"}).content.decode()
    assert not Authenticator.objects.exists() and log_in("alice")[1]["Location"] == "/"


def test_five_wrong_codes_lock_the_second_factor(people: Any) -> None:
    _browser, secret, _codes = set_up()
    browser = half_in()
    for _ in range(5):
        browser.post(CODE, {"code": "000000"})
    assert "Too many attempts" in browser.post(CODE, {"code": totp(secret, steps=1)}).content.decode()
    run("user", "unlock", "alice")
    assert browser.post(CODE, {"code": totp(secret, steps=1)}).status_code == 302


def test_a_recovery_code_works_once(people: Any) -> None:
    _browser, _secret, codes = set_up()
    assert half_in().post(CODE, {"code": codes[3]}).status_code == 302
    assert "This code is wrong" in half_in().post(CODE, {"code": codes[3]}).content.decode()
    assert told("user.recovery_code")[0].detail == {"left": 9}
    browser = half_in()
    browser.post(CODE, {"code": codes[4]})
    assert "8 are left" in browser.get("/accounts/security/").content.decode()
    file = browser.get("/accounts/recovery/file/")
    assert file.content.decode().split() == [code for code in codes if code not in codes[3:5]]
    assert browser.post("/accounts/recovery/new/")["Location"] == "/accounts/recovery/"
    assert "This code is wrong" in half_in().post(CODE, {"code": codes[5]}).content.decode()
    assert told("user.mfa_new_codes")


@pytest.mark.parametrize("path", ["two-step/", "two-step/remove/", "recovery/", "recovery/new/", "recovery/file/"])
def test_each_page_of_it_asks_who_you_are(people: Any, path: str) -> None:
    browser = set_up()[0] if path != "two-step/" else log_in("alice")[0]
    _age(browser, 601)
    for answer in (browser.get(f"/accounts/{path}"), browser.post(f"/accounts/{path}")):
        assert answer.status_code in (302, 405) and "reauthenticate" in answer.get("Location", "reauthenticate")
    assert Client().get(f"/accounts/{path}").status_code == 302
    assert Authenticator.objects.filter(type="totp").exists() == (path != "two-step/")


def test_it_is_taken_away_after_an_answer_by_code(people: Any) -> None:
    browser, secret, _codes = set_up()
    _age(browser, 601)
    asked = browser.post("/accounts/two-step/remove/")
    assert "/accounts/reauthenticate/code/" in browser.get(asked["Location"]).content.decode()
    answer = browser.post("/accounts/reauthenticate/code/", {"code": totp(secret, steps=1), "next": "/accounts/two-step/remove/"})
    assert answer["Location"] == "/accounts/security/", "what was asked for is done"
    assert not Authenticator.objects.exists() and log_in("alice")[1]["Location"] == "/"
    assert {record.detail["factor"] for record in told("user.mfa_remove")} == {"totp", "recovery_codes"}


def test_an_operator_takes_it_away_from_who_lost_the_telephone(people: Any) -> None:
    set_up()
    run("user", "mfa-reset", "alice")
    assert log_in("alice")[1]["Location"] == "/"
    [record] = told("user.mfa_reset")
    assert (record.actor, record.door, record.object) == ("root", "cli", "alice")
    assert refused("user", "mfa-reset", "alice") == "slipway: alice has no second factor"


def test_what_is_in_the_database_opens_nothing_without_the_key(people: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _browser, secret, codes = set_up()
    rows = json.dumps([row.data for row in Authenticator.objects.all()]) + "".join(str(row.get_decoded()) for row in Session.objects.all())
    assert secret not in rows and not any(code in rows for code in codes)
    totp_row = Authenticator.objects.get(type="totp")
    assert unseal(totp_row.data["secret"]) == secret
    old = settings.SEAL_KEY
    monkeypatch.setattr(settings, "SEAL_KEY", f"another {old}")
    assert unseal(totp_row.data["secret"]) == secret, "an old key opens, while a new one seals"
    monkeypatch.setattr(settings, "SEAL_KEY", "another")
    with pytest.raises(FailedPrecondition, match="user mfa-reset"):
        unseal(totp_row.data["secret"])
    assert "mfa-reset" in half_in().post(CODE, {"code": totp(secret)}).content.decode()
    assert unseal(seal("x")) == "x"


def test_a_panel_without_a_second_factor_never_loads_it(people: Any) -> None:
    """12 MiB of each web process: FIDO2 and cryptography come with the first page of it."""
    import subprocess
    import sys

    look = (
        "import django, sys; django.setup(); from django.urls import get_resolver; get_resolver().url_patterns; import controlpanel.asgi;"
        "import controlpanel.accounts.second_factor; print({'cryptography', 'fido2', 'qrcode', 'redis'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
