"""From credentials to an actor, and how fast a revoked one stops to count."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from controlpanel.accounts.models import Token
from controlpanel.base import database
from controlpanel.tenants import access, credentials, services
from controlpanel.tenants.actor import Door, Role, command_line
from engine.errors import NotFound, PermissionDenied, Unauthenticated

pytestmark = pytest.mark.usefixtures("web")


async def token(people: Any, user: str = "alice", role: Role = Role.DEVELOPER, **words: Any) -> tuple[Token, str]:
    actor = await database.read(people.actor, getattr(people, user))
    made: tuple[Token, str] = await database.run(credentials.create_token, actor, role=role, **words)
    return made


async def test_a_token_acts_in_its_tenant_and_role_and_only_its_hash_is_kept(people: Any) -> None:
    row, secret = await token(people, name="ci")
    actor = await access.actor_for_token(secret, address="10.0.0.9")
    assert (actor.tenant, actor.role, actor.user, actor.door) == (people.acme, Role.DEVELOPER, people.alice, Door.API)
    assert actor.label == f"alice (token {row.prefix}…)"
    stored = await database.read(Token.objects.get, pk=row.pk)
    assert secret not in str(stored.__dict__) and secret.startswith(stored.prefix)
    assert stored.last_used_from == "10.0.0.9" and stored.last_used_at is not None


@pytest.mark.parametrize("secret", ["", "slw_nope", "slw_" + "x" * 43, "x" * 10_000])
async def test_unknown_tokens_are_refused(people: Any, secret: str) -> None:
    with pytest.raises(Unauthenticated):
        await access.actor_for_token(secret)


async def test_an_expired_token_is_refused(people: Any) -> None:
    _row, secret = await token(people, lifetime=timedelta(seconds=-1))
    with pytest.raises(Unauthenticated):
        await access.actor_for_token(secret)


async def test_a_revoked_token_stops_at_once(people: Any) -> None:
    row, secret = await token(people)
    await access.actor_for_token(secret)
    alice = await database.read(people.actor, people.alice)
    await database.run(credentials.revoke_token, alice, row.pk)
    with pytest.raises(Unauthenticated):
        await access.actor_for_token(secret)


async def test_a_token_follows_its_owners_role_and_ends_with_the_membership(people: Any) -> None:
    await database.run(services.add_member, await database.read(people.actor, people.alice), people.bob, Role.ADMIN)
    _row, secret = await token(people, "bob", Role.ADMIN)
    assert (await access.actor_for_token(secret)).role is Role.ADMIN
    alice = await database.read(people.actor, people.alice)
    await database.run(services.add_member, alice, people.bob, Role.VIEWER)
    assert (await access.actor_for_token(secret)).role is Role.VIEWER
    await database.run(services.remove_member, alice, people.bob)
    with pytest.raises(Unauthenticated):
        await access.actor_for_token(secret)


async def test_nobody_gives_more_than_they_have(people: Any) -> None:
    alice = await database.read(people.actor, people.alice)
    await database.run(services.add_member, alice, people.bob, Role.ADMIN)
    with pytest.raises(PermissionDenied, match="role admin may not make a key of role owner"):
        await token(people, "bob", Role.OWNER)
    with pytest.raises(PermissionDenied, match=r"^denied: rule token\.create of role viewer"):
        await token(people, "victor", Role.VIEWER)


async def test_unix_users_are_linked_to_members_and_root_owns(people: Any) -> None:
    people.bob.uid = 1234
    await database.run(people.bob.save)
    root = await access.actor_for_uid("acme", 0)
    assert (root.role, root.label, root.door) == (Role.OWNER, "root", Door.SOCKET)
    bob = await access.actor_for_uid("acme", 1234)
    assert (bob.user, bob.role, bob.address) == (people.bob, Role.DEVELOPER, "uid 1234")
    with pytest.raises(PermissionDenied, match="unix user 1234 is not linked to a member of tenant umbrella"):
        await access.actor_for_uid("umbrella", 1234)
    with pytest.raises(PermissionDenied):
        await access.actor_for_uid("acme", 65534)


async def test_strangers_and_unknown_tenants_get_the_same_404(people: Any) -> None:
    for user in (people.charlie, people.operator):
        with pytest.raises(NotFound, match=r"^No such tenant: acme$"):
            await access.actor_for_user(user, "acme")
    with pytest.raises(NotFound, match=r"^No such tenant: nowhere$"):
        await access.actor_for_user(people.alice, "nowhere")
    assert (await access.actor_for_user(people.alice, "acme")).role is Role.OWNER


async def test_the_last_owner_stays_and_only_owners_touch_owners(people: Any) -> None:
    alice = await database.read(people.actor, people.alice)
    with pytest.raises(Exception, match="alice is the last owner of acme"):
        await database.run(services.remove_member, alice, people.alice)
    await database.run(services.add_member, alice, people.bob, Role.ADMIN)
    bob = await database.read(people.actor, people.bob)
    for act in (lambda: services.remove_member(bob, people.alice), lambda: services.add_member(bob, people.victor, Role.OWNER)):
        with pytest.raises(PermissionDenied, match="only owners"):
            await database.run(act)


async def test_a_closed_account_acts_no_more(people: Any) -> None:
    _row, secret = await token(people)
    people.alice.is_active, people.alice.uid = False, 1234
    await database.run(people.alice.save)
    await database.run(access.forget)
    with pytest.raises(Unauthenticated):
        await access.actor_for_token(secret)
    with pytest.raises(PermissionDenied):
        await access.actor_for_uid("acme", 1234)
    with pytest.raises(NotFound):
        await access.actor_for_user(people.alice, "acme")


def test_root_at_the_command_line_is_an_owner(people: Any) -> None:
    assert command_line(people.acme).role is Role.OWNER and command_line().role is None
