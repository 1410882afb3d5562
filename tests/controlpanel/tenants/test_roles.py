"""A tenant's own roles, groups, and what is granted in a project: the rows, and how fast they reach who acts."""

from __future__ import annotations

from typing import Any

import pytest

from controlpanel.audit.models import Record
from controlpanel.base import database
from controlpanel.tenants import access, credentials, explaining, groups, projects, roles, services
from controlpanel.tenants.actor import Role, command_line
from controlpanel.tenants.models import Membership, Project
from controlpanel.tenants.permissions import may, verbs_of, where
from engine.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, PermissionDenied

pytestmark = pytest.mark.usefixtures("web")


@pytest.fixture
def root(people: Any) -> Any:
    return command_line(people.acme)


async def run(function: Any, *args: Any, **words: Any) -> Any:
    return await database.run(lambda: function(*args, **words))


async def acting(user: Any, tenant: str = "acme") -> Any:
    return await access.actor_for_user(user, tenant)


async def test_a_role_is_a_name_and_a_set_of_verbs_beside_the_five(root: Any) -> None:
    made = await run(roles.create_role, root, "restarter", ["container.view", "container.restart"])
    assert made.verbs == ["container.restart", "container.view"]
    assert [role.name for role in await run(roles.roles, root)] == [*Role, "restarter"]
    for name, error, said in (
        ("restarter", AlreadyExists, "exists already"),
        ("viewer", AlreadyExists, "exists already"),
        ("No", InvalidArgument, "invalid role name"),
    ):
        with pytest.raises(error, match=said):
            await run(roles.create_role, root, name, ["container.view"])
    with pytest.raises(InvalidArgument, match="needs a verb at least"):
        await run(roles.create_role, root, "idle", [])
    with pytest.raises(FailedPrecondition, match="the same in every tenant"):
        await run(roles.change_role, root, "viewer", ["container.view"])
    with pytest.raises(NotFound):
        await run(roles.remove_role, root, "nobody")


async def test_nobody_makes_or_gives_a_role_that_may_more(people: Any, root: Any) -> None:
    await run(roles.create_role, root, "hr", ["role.create", "role.change", "member.add", "member.grant", "member.view", "group.*"])
    await run(roles.create_role, root, "root", ["container.*"])
    await run(services.add_member, root, people.bob, "hr")
    await run(groups.create_group, root, "strong")
    await run(groups.grant, root, "developer", group_name="strong")
    hr = await acting(people.bob)
    for act in (
        lambda: roles.create_role(hr, "mine", ["container.view"]),
        lambda: roles.change_role(hr, "hr", ["member.add", "container.*"]),
        lambda: services.add_member(hr, people.bob, Role.ADMIN),
        lambda: services.add_member(hr, people.bob, "root"),
        lambda: groups.grant(hr, "root", user="bob"),
        lambda: groups.grant(hr, "viewer", user="bob", project="web"),
        lambda: groups.add_to_group(hr, "strong", people.bob),
    ):
        with pytest.raises(PermissionDenied, match="would have more than bob may"):
            await database.run(act)
    await run(roles.create_role, hr, "less", ["member.view"])


async def test_a_role_that_somebody_holds_stays_and_says_who(people: Any, root: Any) -> None:
    await run(roles.create_role, root, "restarter", ["container.view", "container.restart"])
    await run(services.add_member, root, people.bob, "restarter")
    await run(groups.create_group, root, "night")
    grant = await run(groups.grant, root, "restarter", group_name="night", project="web")
    token, _secret = await run(credentials.create_token, root, role="restarter")
    with pytest.raises(FailedPrecondition) as caught:
        await run(roles.remove_role, root, "restarter")
    assert caught.value.message == (
        f"role restarter is held by bob, group night at project web, token {token.prefix}…: give them another one first"
    )
    await run(services.add_member, root, people.bob, "viewer")
    await run(groups.revoke, root, grant.pk)
    await run(credentials.revoke_token, root, token.pk)
    await run(roles.remove_role, root, "restarter")


async def test_a_changed_role_reaches_its_holders_at_once(people: Any, root: Any) -> None:
    await run(roles.create_role, root, "keeper", ["container.view", "container.restart"])
    await run(services.add_member, root, people.bob, "keeper")
    assert verbs_of(await acting(people.bob)) == {"container.view", "container.restart"}
    await run(roles.change_role, root, "keeper", ["container.view"])
    assert verbs_of(await acting(people.bob)) == {"container.view"}


async def test_groups_and_grants_make_members_and_go_with_them(people: Any, root: Any) -> None:
    await run(groups.create_group, root, "students")
    await run(groups.add_to_group, root, "students", people.charlie)
    assert not await run(lambda: verbs_of(access.member(people.charlie, "acme")))
    await run(groups.grant, root, "developer", group_name="students", project="web")
    charlie = await acting(people.charlie)
    assert where(charlie, "container.create") == {"web"} and not may(charlie, "member.view")
    assert await run(lambda: list(Project.everywhere.values_list("name", flat=True))) == ["web"]
    assert [row.name for row in await run(projects.projects, charlie)] == ["web"]
    await run(groups.grant, root, "viewer", user="charlie", project="db")
    assert where(await acting(people.charlie), "container.view") == {"web", "db"}
    await run(services.remove_member, root, people.charlie)
    with pytest.raises(NotFound):
        await acting(people.charlie)
    assert await run(lambda: list(Project.everywhere.values_list("name", flat=True))) == ["web"]
    await run(groups.remove_group, root, "students")
    assert not await run(Project.everywhere.exists)


async def test_a_grant_is_given_once_and_taken_back_by_its_number(people: Any, root: Any) -> None:
    first = await run(groups.grant, root, "viewer", user="charlie", project="web")
    again = await run(groups.grant, root, "viewer", user="charlie", project="web")
    assert first.pk == again.pk
    other = command_line(people.umbrella)
    with pytest.raises(NotFound, match="No such grant"):
        await run(groups.revoke, other, first.pk)
    await run(groups.revoke, root, first.pk)
    assert not await run(groups.grants, root) and not await run(Project.everywhere.exists)
    assert await run(Membership.everywhere.filter(user=people.charlie, tenant=people.acme, role="").exists)
    for words, error in (
        ({"user": "charlie", "group_name": "x"}, InvalidArgument),
        ({}, InvalidArgument),
        ({"group_name": "nowhere"}, NotFound),
        ({"user": "nobody"}, NotFound),
        ({"user": "bob", "project": "No Project"}, InvalidArgument),
    ):
        with pytest.raises(error):
            await run(groups.grant, root, "viewer", **words)
    with pytest.raises(NotFound, match="No such role: fool"):
        await run(groups.grant, root, "fool", user="bob")
    with pytest.raises(InvalidArgument, match="owner is no role to be granted"):
        await run(groups.grant, root, "owner", user="bob", project="web")


async def test_what_changes_is_on_record_with_what_was_before(people: Any, root: Any) -> None:
    await run(roles.create_role, root, "keeper", ["container.view"])
    await run(roles.change_role, root, "keeper", ["container.view", "container.kill"])
    await run(groups.create_group, root, "night")
    await run(groups.add_to_group, root, "night", people.bob)
    await run(groups.grant, root, "keeper", group_name="night", project="web")
    rows = await run(lambda: list(Record.objects.order_by("pk").values_list("verb", "object", "detail")))
    told = [(verb, what, detail.get("before"), detail.get("after")) for verb, what, detail in rows]
    assert told == [
        ("role.create", "keeper", None, ["container.view"]),
        ("role.change", "keeper", ["container.view"], ["container.kill", "container.view"]),
        ("group.create", "night", None, []),
        ("group.change", "night", [], ["bob"]),
        ("member.grant", "group night", None, "keeper"),
    ]


async def test_keys_for_a_role_of_the_tenants_own_and_for_a_project(people: Any, root: Any) -> None:
    await run(roles.create_role, root, "restarter", ["container.view", "container.restart"])
    _row, secret = await run(credentials.create_token, root, role="restarter", project="web")
    robot = await access.actor_for_token(secret)
    assert where(robot, "container.restart") == {"web"} and not may(robot, "container.kill")
    _row, secret = await run(credentials.create_token, root, role="restarter", user=people.bob)
    bobs = await access.actor_for_token(secret)
    assert verbs_of(bobs) == {"container.view", "container.restart"}
    await run(services.add_member, root, people.bob, "viewer")
    assert verbs_of(await access.actor_for_token(secret)) == {"container.view"}
    _row, secret = await run(credentials.create_token, root, role="developer", project="web", verbs=["container.view"])
    narrow = await access.actor_for_token(secret)
    assert where(narrow, "container.view") == {"web"} and not may(narrow, "container.create")


async def test_a_members_key_gives_no_more_than_what_was_granted(people: Any, root: Any) -> None:
    await run(groups.grant, root, "developer", user="charlie", project="web")
    _row, secret = await run(credentials.create_token, root, role="developer", user=people.charlie)
    key = await access.actor_for_token(secret)
    assert where(key, "container.create") == {"web"} and not may(key, "image.prune")
    grant = (await run(groups.grants, root))[0]
    await run(groups.revoke, root, grant.pk)
    assert not may(await access.actor_for_token(secret), "container.view")


async def test_why_is_answered_to_oneself_and_to_who_sees_members(people: Any, root: Any) -> None:
    await run(groups.create_group, root, "students")
    await run(groups.add_to_group, root, "students", people.charlie)
    await run(groups.grant, root, "viewer", group_name="students", project="web")
    charlie = await acting(people.charlie)
    said = "denied: rule container.remove of role viewer (granted to group students at project web): "
    assert (await run(explaining.explain, charlie, "container.remove", project="web", user="charlie")).sentence.startswith(said)
    assert (await run(explaining.explain, root, "container.remove", project="web", user="charlie")).sentence.startswith(said)
    assert (await run(explaining.explain, root, "container.view", project="web", user="charlie")).by[0].group == "students"
    with pytest.raises(PermissionDenied):
        await run(explaining.explain, charlie, "container.view", user="alice")
    with pytest.raises(NotFound, match="No such member: operator"):
        await run(explaining.explain, root, "container.view", user="operator")
    with pytest.raises(InvalidArgument, match="there is no verb"):
        await run(explaining.explain, root, "container.fly")
