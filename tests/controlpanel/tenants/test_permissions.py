"""The one table: who may what."""

from __future__ import annotations

from typing import Any

import pytest

from controlpanel.tenants.actor import Actor, Door, Role
from controlpanel.tenants.models import Tenant
from controlpanel.tenants.permissions import PLATFORM_VERBS, VERBS, may, parse_verbs, require, verbs_of
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
    if not verb.endswith(".view"):
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
        PermissionDenied, match=r"^token slw_a… may not do container.stop: it was made for container.create, container.start, "
    ):
        require(narrow, "container.stop")
    with pytest.raises(PermissionDenied, match=r"role operator may not do container\.create"):
        require(narrow, "container.create")
    assert verbs_of(actor(Role.OPERATOR, verbs=frozenset())) == frozenset()


def test_verbs_are_named_one_by_one_or_by_kind() -> None:
    assert parse_verbs([], Role.OWNER) == []
    assert parse_verbs(["image.view", "volume.*", "image.view"], Role.VIEWER) == ["image.view", "volume.view"]
    assert set(parse_verbs(["container.*"], Role.DEVELOPER)) == {verb for verb in VERBS if verb.startswith("container.")}
    for word, said in (
        ("container.fly", "no verb 'container.fly'"),
        ("*", r"no verb '\*'"),
        ("x.*", "no verb"),
        ("", "no verb ''"),
        ("tenant.create", "no verb"),
    ):
        with pytest.raises(InvalidArgument, match=said):
            parse_verbs([word], Role.OWNER)
    with pytest.raises(InvalidArgument, match=r"role viewer may not do image\.pull"):
        parse_verbs(["image.pull"], Role.VIEWER)
