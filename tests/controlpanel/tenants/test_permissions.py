"""The one table: who may what."""

from __future__ import annotations

from typing import Any

import pytest

from controlpanel.tenants.actor import Actor, Door, Held, Role
from controlpanel.tenants.models import Tenant
from controlpanel.tenants.permissions import check_place, explain, loses, may, require, sight, verbs_of, where
from controlpanel.tenants.verbs import OF_TENANT, PLATFORM_VERBS, VERBS, parse_verbs, verbs_of_role
from engine.errors import InvalidArgument, PermissionDenied

TENANT = Tenant(pk=1, name="acme")


def actor(role: Role | None, **words: Any) -> Actor:
    return Actor(door=Door.PANEL, tenant=TENANT, role=role, **words)


def test_every_lesser_role_may_no_more_than_the_greater() -> None:
    """Owner, admin, developer, operator, viewer: in this order, on every verb."""
    for verb, roles in VERBS.items():
        allowed = [role in roles for role in Role]
        assert allowed == sorted(allowed, reverse=True), verb


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_viewers_only_view(verb: str) -> None:
    if not verb.endswith(".view") and verb != "registry.pull":  # to see what a repository has is to pull it
        with pytest.raises(PermissionDenied) as caught:
            require(actor(Role.VIEWER), verb)
        assert verb in caught.value.message and caught.value.detail["rule"] == verb


@pytest.mark.parametrize("verb", sorted(PLATFORM_VERBS))
def test_no_role_in_a_tenant_reaches_the_platform(verb: str) -> None:
    assert not may(actor(Role.OWNER), verb)
    assert may(Actor(door=Door.PANEL, operator=True), verb)


def test_operators_of_the_platform_have_no_hands_in_tenants() -> None:
    outsider = Actor(door=Door.PANEL, operator=True)
    assert not any(may(outsider, verb) for verb in VERBS)


def test_an_unknown_verb_is_a_mistake_of_ours() -> None:
    with pytest.raises(KeyError):
        require(actor(Role.OWNER), "container.teleport")


def test_what_was_made_for_some_verbs_does_these_alone_and_no_more_than_its_role() -> None:
    narrow = actor(Role.OPERATOR, name="token slw_a…", verbs=frozenset({"container.view", "container.start", "container.create"}))
    assert verbs_of(narrow) == {"container.view", "container.start"}
    with pytest.raises(
        PermissionDenied, match=r"^denied: rule container.stop of token slw_a…: it was made for container.create, container.start, "
    ):
        require(narrow, "container.stop")
    with pytest.raises(
        PermissionDenied,
        match=r"^denied: rule container\.create of role operator \(granted to token slw_a… at tenant acme\): it takes one of owner, ",
    ):
        require(narrow, "container.create")
    assert verbs_of(actor(Role.OPERATOR, verbs=frozenset())) == frozenset()


def test_verbs_are_named_one_by_one_or_by_kind() -> None:
    viewer = verbs_of_role(Role.VIEWER)
    assert parse_verbs([]) == []
    assert parse_verbs(["image.view", "volume.*", "image.view"], viewer) == ["image.view", "volume.view"]
    assert set(parse_verbs(["container.*"])) == {verb for verb in VERBS if verb.startswith("container.")}
    for word, said in (
        ("container.fly", "no verb 'container.fly'"),
        ("*", r"no verb '\*'"),
        ("x.*", "no verb"),
        ("", "no verb ''"),
        ("tenant.create", "no verb"),
    ):
        with pytest.raises(InvalidArgument, match=said):
            parse_verbs([word])
    with pytest.raises(InvalidArgument, match=r"role viewer may not do image\.pull"):
        parse_verbs(["image.pull"], viewer, of="viewer")


def held(role: str, *verbs: str, **words: str) -> Held:
    return Held(role=role, verbs=frozenset(verbs), **words)


def test_what_one_may_is_the_union_of_all_that_was_granted() -> None:
    who = actor(
        Role.VIEWER,
        held=(held("restarter", "container.view", "container.restart", project="web"), held("killer", "container.kill", group="night")),
    )
    assert where(who, "container.view") is None and where(who, "container.kill") is None
    assert where(who, "container.restart") == {"web"} and where(who, "container.create") == frozenset()
    assert may(who, "container.restart") and may(who, "container.restart", "web")
    assert not may(who, "container.restart", "") and not may(who, "container.restart", "db")


def test_a_role_in_a_project_gives_nothing_that_concerns_the_whole_tenant() -> None:
    who = actor(None, held=(Held(role="owner", verbs=verbs_of_role(Role.OWNER), project="web"),))
    assert {verb for verb in VERBS if may(who, verb)} == VERBS.keys() - OF_TENANT
    assert not verbs_of(who)
    with pytest.raises(PermissionDenied, match=r"of role owner \(granted to panel at project web\): it concerns the whole tenant"):
        require(who, "image.prune")


def test_a_key_for_a_project_opens_no_other() -> None:
    key = actor(Role.OWNER, name="token slw_a…", project="web")
    assert where(key, "container.remove") == {"web"} and not may(key, "member.add")
    with pytest.raises(PermissionDenied, match=r"^denied: rule container.remove of token slw_a…: it was made for project web alone$"):
        require(key, "container.remove", "db")
    with pytest.raises(PermissionDenied, match=r"alone; what is made there carries the label com\.docker\.compose\.project=web$"):
        require(key, "container.create", "")
    both = actor(None, held=(held("restarter", "container.restart", project="db"),), project="web")
    assert not may(both, "container.restart")


def test_objects_of_other_projects_are_not_there_and_of_ones_own_the_verb_must_hold() -> None:
    who = actor(None, held=(held("a", "container.view", "container.remove", project="web"), held("b", "container.view", project="db")))
    require(who, "container.remove")
    sees = sight(who, "container")
    assert sees is not None and [sees(name) for name in ("web", "db", "mail", "")] == [True, True, False, False]
    check_place(who, "web")
    with pytest.raises(PermissionDenied, match=r"of role a \(granted to panel at project web\): it holds there alone"):
        check_place(who, "db")
    require(who, "container.view")
    check_place(who, "db")
    assert sight(actor(Role.VIEWER), "container") is None


def test_what_may_be_done_to_a_thing_may_be_looked_up_for_it_without_seeing_it() -> None:
    who = actor(None, held=(held("starter", "container.start", project="web"),))
    require(who, "container.start")
    sees = sight(who, "container")
    assert sees is not None and sees("web") and not sees("db")


@pytest.mark.parametrize(
    ("who", "verb", "project", "said"),
    [
        (actor(Role.VIEWER), "container.view", None, "allowed: rule container.view of role viewer (granted to panel at tenant acme)"),
        (
            actor(None, held=(held("viewer", "container.view", group="students", project="web"),)),
            "container.remove",
            "web",
            "denied: rule container.remove of role viewer (granted to group students at project web): it takes one of owner, admin, "
            "developer, or a role with this verb",
        ),
        (actor(None), "container.view", None, "denied: rule container.view: panel holds no role in tenant acme"),
    ],
)
def test_it_says_which_role_allows_and_what_denies(who: Actor, verb: str, project: str | None, said: str) -> None:
    verdict = explain(who, verb, project)
    assert (verdict.sentence, verdict.allowed) == (said, may(who, verb, project))
    if not verdict.allowed:
        with pytest.raises(PermissionDenied) as caught:
            require(who, verb, project)
        assert caught.value.message == said


def test_what_is_lost_is_seen_wherever_it_held() -> None:
    web, both = (held("r", "container.exec", project="web"),), (held("r", "container.exec"),)
    assert loses(actor(None, held=both), actor(None, held=web)) and not loses(actor(None, held=web), actor(None, held=both))
    assert loses(actor(Role.OWNER), actor(Role.OWNER, project="web")) and not loses(actor(Role.VIEWER), actor(Role.ADMIN))
