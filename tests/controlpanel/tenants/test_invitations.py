"""Invitations: by page, by REST, opened by who has a user and by who has none; used once, over, revoked, outlived."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.test import AsyncClient, Client
from django.utils import timezone

from controlpanel.accounts.models import User
from controlpanel.audit.models import Record
from controlpanel.base import database
from controlpanel.base.cache import _connection
from controlpanel.tenants import invitations, roles, services
from controlpanel.tenants.actor import Role
from controlpanel.tenants.models import Invitation, Membership
from controlpanel.tenants.permissions import may
from engine.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied, QuotaExceeded
from tests.controlpanel.conftest import say_who

T = "/api/v1/tenants/acme"
WEEK = timedelta(days=7)


@pytest.fixture(autouse=True)
def _no_counters(people: Any) -> None:
    _connection(settings.REDIS_URL).execute(("FLUSHDB",))


def link_for(people: Any, role: str = Role.DEVELOPER, by: Any = None, **words: Any) -> str:
    _row, secret = invitations.invite(people.actor(by or people.alice), role=role, lifetime=WEEK, **words)
    return f"/invitation/{secret}/"


def told(people: Any, verb: str) -> list[Record]:
    return [record for record in Record.objects.for_tenant(people.acme.pk) if record.verb == verb]


async def visit(people: Any, user: str) -> AsyncClient:
    browser = AsyncClient()
    await browser.aforce_login(getattr(people, user))
    await say_who(browser, getattr(people, user))
    return browser


@pytest.mark.usefixtures("web")
async def test_an_admin_makes_a_link_that_is_shown_once_and_revokes_it(people: Any) -> None:
    alice = await visit(people, "alice")
    page = (await alice.post("/t/acme/settings/invitations", {"name": "Dora <d>", "role": "viewer", "expires": "7d"})).content.decode()
    refused = await alice.post("/t/acme/settings/invitations", {"role": "viewer", "project": "Not one", "expires": "7d"})
    assert refused.status_code == 400 and "invalid project name" in refused.content.decode() and "<table" in refused.content.decode()
    link = re.search(r"http://testserver(/invitation/[\w-]{43}/)", page)
    assert link and "Dora &lt;d&gt;" in page and "viewer" in page
    listed = await alice.get("/t/acme/settings/members")
    assert link[1] not in listed.content.decode() and "Dora &lt;d&gt;" in listed.content.decode()
    assert not await database.read(lambda: any(link[1].split("/")[2] in str(row.__dict__) for row in Invitation.everywhere.all()))
    number = re.search(r"invitations/(\d+)/revoke", listed.content.decode())
    assert number and (await AsyncClient().get(link[1])).status_code == 200
    await alice.post(f"/t/acme/settings/invitations/{number[1]}/revoke")
    assert (await AsyncClient().get(link[1])).status_code == 404
    made, revoked = await database.read(lambda: (told(people, "invitation.create"), told(people, "invitation.revoke")))
    assert made[0].detail["role"] == "viewer" and revoked[0].actor == "alice"


@pytest.mark.usefixtures("web")
async def test_the_same_by_rest_for_admins_alone(people: Any) -> None:
    alice = await visit(people, "alice")
    made = await alice.post(f"{T}/invitations", {"name": "ci", "role": "operator", "expires": "1d"}, content_type="application/json")
    assert made.status_code == 201 and re.search(r"/invitation/[\w-]{43}/$", made.json()["link"])
    listed = (await alice.get(f"{T}/invitations")).json()
    assert [(row["name"], row["role"], row["invited_by"]) for row in listed] == [("ci", "operator", "alice")] and "link" not in listed[0]
    for user, status in (("bob", 403), ("victor", 403), ("charlie", 404), ("operator", 404)):
        browser = await visit(people, user)
        assert (await browser.get(f"{T}/invitations")).status_code == status, user
        assert (await browser.post(f"{T}/invitations", {"role": "viewer"}, content_type="application/json")).status_code == status, user
        assert (await browser.delete(f"{T}/invitations/{listed[0]['id']}")).status_code == status, user
        assert (await browser.post(f"/t/acme/settings/invitations/{listed[0]['id']}/revoke")).status_code == status, user
    strange = await alice.post(f"{T}/invitations", {"role": "viewer", "expires": "31d"}, content_type="application/json")
    assert strange.status_code == 400
    assert (await alice.delete(f"{T}/invitations/{listed[0]['id']}")).status_code == 204
    assert (await alice.delete(f"{T}/invitations/{listed[0]['id']}")).status_code == 404


def test_who_has_no_user_makes_one_and_is_in(people: Any) -> None:
    link, browser = link_for(people), Client(REMOTE_ADDR="192.0.2.5")
    page = browser.get(link)
    assert "You are invited to acme" in page.content.decode() and page["Cache-Control"].startswith("max-age=0, no-cache")
    words = {"username": "dora-the-first", "password1": "a long enough one", "password2": "a long enough one"}
    for wrong, said in (
        ({"password1": "dora-the-first1", "password2": "dora-the-first1"}, "too similar"),
        ({"password2": "another"}, "This is not the same password."),
        ({"username": "bob"}, "user bob exists already"),
        ({"username": "a b"}, "invalid user name"),
    ):
        answer = browser.post(link, {**words, **wrong})
        assert answer.status_code == 400 and said in answer.content.decode(), said
    assert not User.objects.filter(username="dora-the-first").exists()
    assert browser.post(link, words)["Location"] == "/t/acme/"
    assert browser.get("/t/acme/").status_code == 200
    assert Membership.everywhere.get(user__username="dora-the-first").role == "developer"
    [record] = told(people, "invitation.accept")
    assert (record.actor, record.address, record.detail["invited_by"]) == ("dora-the-first", "192.0.2.5", "alice")
    again = Client().post(link, {**words, "username": "eve"})
    assert again.status_code == 404 and not User.objects.filter(username="eve").exists(), "once"


def test_who_has_a_user_joins_with_it_also_by_way_of_the_login(people: Any) -> None:
    link, browser = link_for(people, Role.VIEWER), Client()
    assert f"/accounts/login/?next={link}" in browser.get(link).content.decode()
    answer = browser.post("/accounts/login/", {"login": "charlie", "password": "charlie-has-a-password", "next": link})
    assert answer["Location"] == link and "Join as charlie" in browser.get(link).content.decode()
    assert browser.post(link)["Location"] == "/t/acme/" and browser.get("/t/acme/").status_code == 200
    assert Membership.everywhere.get(user=people.charlie, tenant=people.acme).role == "viewer"


def test_a_member_keeps_the_role_and_the_link_stays_good(people: Any) -> None:
    link, browser = link_for(people, Role.ADMIN), Client()
    browser.force_login(people.victor)
    answer = browser.post(link)
    assert answer.status_code == 400 and "victor belongs to acme already" in answer.content.decode()
    assert Membership.everywhere.get(user=people.victor).role == "viewer" and Invitation.everywhere.exists()


def test_what_is_over_used_or_wrong_is_the_same_404(people: Any) -> None:
    link = link_for(people)
    Invitation.everywhere.update(expires_at=timezone.now() - timedelta(seconds=1))
    over, wrong = Client().get(link), Client().get("/invitation/" + "x" * 43 + "/")
    assert over.status_code == wrong.status_code == 404

    def words(answer: Any) -> str:
        return re.sub(r'(csrfmiddlewaretoken|next)" value="[^"]*"', "", answer.content.decode())

    assert words(over) == words(wrong) and "acme" not in over.content.decode()


def test_a_link_dies_with_the_right_to_make_it(people: Any) -> None:
    alice = people.actor(people.alice)
    services.add_member(alice, people.bob, Role.ADMIN)
    link = link_for(people, by=people.bob)
    assert Client().get(link).status_code == 200
    services.add_member(alice, people.bob, Role.DEVELOPER)
    assert Client().get(link).status_code == 404
    services.add_member(alice, people.bob, Role.OWNER)
    owners = link_for(people, Role.OWNER, by=people.bob)
    services.add_member(alice, people.bob, Role.ADMIN)
    assert Client().get(owners).status_code == 404 and Client().get(link).status_code == 200
    services.remove_member(alice, people.bob)
    assert Client().get(link).status_code == 404


def test_a_role_of_the_tenants_own_dies_with_it(people: Any) -> None:
    alice = people.actor(people.alice)
    roles.create_role(alice, "watcher", ["container.view"])
    link = link_for(people, "watcher")
    browser = Client()
    browser.force_login(people.charlie)
    assert "watcher" in browser.get(link).content.decode()
    roles.remove_role(alice, "watcher")
    assert browser.get(link).status_code == 404
    with pytest.raises(NotFound, match="No such role: watcher"):
        link_for(people, "watcher")
    roles.create_role(alice, "watcher", ["container.view"])
    assert browser.post(link)["Location"] == "/t/acme/"
    assert Membership.everywhere.get(user=people.charlie, tenant=people.acme).role == "watcher"


def test_one_project_alone(people: Any) -> None:
    link, browser = link_for(people, Role.DEVELOPER, project="shop"), Client()
    browser.force_login(people.charlie)
    assert "developer of project shop" in browser.get(link).content.decode()
    assert browser.post(link)["Location"] == "/t/acme/" and browser.get("/t/acme/").status_code == 200
    joined = people.actor(people.charlie)
    assert may(joined, "container.create", "shop") and not may(joined, "container.create", "other")
    [record] = told(people, "invitation.accept")
    assert (record.detail["role"], record.detail["project"]) == ("developer", "shop")

    browser.force_login(people.victor)  # who is a viewer of it all
    assert browser.post(link_for(people, Role.OPERATOR, project="shop"))["Location"] == "/t/acme/"
    assert may(people.actor(people.victor), "container.stop", "shop") and not may(people.actor(people.victor), "container.stop", "other")
    with pytest.raises(InvalidArgument, match="owner is a role in the whole tenant"):
        link_for(people, Role.OWNER, project="shop")
    with pytest.raises(InvalidArgument, match="invalid project name"):
        link_for(people, project="Sh op")


def test_two_at_once_are_one_member(people: Any) -> None:
    secret = link_for(people).split("/")[2]
    invitations.accept(people.charlie, secret)
    with pytest.raises(NotFound):
        invitations.accept(people.operator, secret)


def test_who_may_invite_whom_and_how_often(people: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    alice = people.actor(people.alice)
    with pytest.raises(PermissionDenied, match="of role developer"):
        invitations.invite(people.actor(people.bob), role=Role.VIEWER, lifetime=WEEK)
    services.add_member(alice, people.bob, Role.ADMIN)
    with pytest.raises(PermissionDenied, match="only owners"):
        invitations.invite(people.actor(people.bob), role=Role.OWNER, lifetime=WEEK)
    for lifetime in (None, timedelta(days=31)):
        with pytest.raises(InvalidArgument, match="30 days at most"):
            invitations.invite(alice, role=Role.VIEWER, lifetime=lifetime)
    monkeypatch.setattr(invitations, "OPEN_MAX", 2)
    for _ in range(2):
        link_for(people)
    with pytest.raises(QuotaExceeded):
        link_for(people)
    Invitation.everywhere.update(expires_at=timezone.now())
    link_for(people)
    assert Invitation.everywhere.count() == 1, "what is over goes"
    with pytest.raises(FailedPrecondition):
        invitations.accept(people.bob, link_for(people).split("/")[2])


def test_a_tenant_that_is_full_lets_nobody_in_and_the_link_stays_good(people: Any) -> None:
    people.acme.members_max = Membership.everywhere.filter(tenant=people.acme).count()
    people.acme.save()
    link = link_for(people)
    words = {"username": "dora", "password1": "a long enough one", "password2": "a long enough one"}
    page = Client().post(link, words)
    assert page.status_code == 400 and "members is limited to" in page.content.decode()
    assert not User.objects.filter(username="dora").exists(), "both or neither"
    browser = Client()
    browser.force_login(people.charlie)
    assert "members is limited to" in browser.post(link).content.decode()
    type(people.acme).objects.update(members_max=0)
    assert browser.post(link)["Location"] == "/t/acme/"
    assert Membership.everywhere.filter(tenant=people.acme, user=people.charlie).exists()
