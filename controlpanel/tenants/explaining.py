"""Why somebody may do something in a tenant, or may not. The check itself, and its sentences, are permissions.py's."""

from __future__ import annotations

from controlpanel.accounts.services import user_named
from controlpanel.tenants import access
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.permissions import Verdict, require
from controlpanel.tenants.permissions import explain as verdict
from engine.errors import InvalidArgument, NotFound


def explain(actor: Actor, verb: str, *, project: str | None = None, user: str = "") -> Verdict:
    """Of the actor, as the actor came: with a key, of what the key may. ``user``: of another member, as logged in."""
    if not user or (actor.user is not None and not actor.name and user == actor.user.username):
        return verdict(actor, verb, project)
    require(actor, "member.view")
    assert actor.tenant is not None
    try:
        whose = access.member(user_named(user), actor.tenant.name)
    except (NotFound, InvalidArgument):
        raise NotFound(f"No such member: {user}") from None
    return verdict(whose, verb, project)
