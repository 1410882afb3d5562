"""The one table: who may what."""

from __future__ import annotations

import pytest

from controlpanel.tenants.actor import Actor, Door, Role
from controlpanel.tenants.models import Tenant
from controlpanel.tenants.permissions import PLATFORM_VERBS, VERBS, may, require
from engine.errors import PermissionDenied

TENANT = Tenant(pk=1, name="acme")


def actor(role: Role | None) -> Actor:
    return Actor(door=Door.PANEL, tenant=TENANT, role=role)


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
