"""./manage.py member add|remove|list|grant|revoke|explain"""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from controlpanel.accounts.services import user_named
from controlpanel.base import command
from controlpanel.tenants import explaining, groups, queries, services
from controlpanel.tenants.actor import Role, command_line
from controlpanel.tenants.management import granting
from controlpanel.tenants.models import Membership


class Command(command.Command):
    help = "Members of tenants."
    verbs = ("add", "remove", "list", "grant", "revoke", "explain")

    def add_add(self, parser: ArgumentParser) -> None:
        parser.add_argument("tenant")
        parser.add_argument("user")
        parser.add_argument("--role", default=Role.DEVELOPER.value, help="one of the tenant's: ./manage.py role list")

    def do_add(self, options: dict[str, Any]) -> None:
        """make a user a member, or give a member another role"""
        actor = command_line(queries.tenant_named(options["tenant"]))
        services.add_member(actor, user_named(options["user"]), options["role"])

    def add_remove(self, parser: ArgumentParser) -> None:
        parser.add_argument("tenant")
        parser.add_argument("user")

    def do_remove(self, options: dict[str, Any]) -> None:
        """end a membership, with the user's tokens for the tenant"""
        actor = command_line(queries.tenant_named(options["tenant"]))
        services.remove_member(actor, user_named(options["user"]))

    def add_list(self, parser: ArgumentParser) -> None:
        parser.add_argument("tenant")

    def do_list(self, options: dict[str, Any]) -> None:
        """the members of a tenant, their roles, and what was granted to them beside"""
        actor = command_line(queries.tenant_named(options["tenant"]))
        granted: dict[int, list[str]] = {}
        for grant in groups.grants(actor):
            granted.setdefault(grant.member_id or 0, []).append(f"{grant.role} at {grant.place}")
        for row in Membership.objects.for_actor(actor).select_related("user").order_by("user__username"):
            self.say("\t".join([row.user.username, row.role or "–", *granted.get(row.pk, ())]))

    def add_grant(self, parser: ArgumentParser) -> None:
        granting.add_options(parser, "user")

    def do_grant(self, options: dict[str, Any]) -> None:
        """give a user a role in a project, or one more in the whole tenant; who is no member becomes one"""
        granting.grant(options, user=options["user"])

    def add_revoke(self, parser: ArgumentParser) -> None:
        granting.add_options(parser, "user")

    def do_revoke(self, options: dict[str, Any]) -> None:
        """take such a role back, and end what rests on it"""
        granting.revoke(options, user=options["user"])

    def add_explain(self, parser: ArgumentParser) -> None:
        parser.add_argument("tenant")
        parser.add_argument("user")
        parser.add_argument("act", metavar="verb", help="container.remove, image.build, …")
        parser.add_argument("--project", metavar="NAME", help="there; anywhere when left out")

    def do_explain(self, options: dict[str, Any]) -> None:
        """why a member may do something, or may not"""
        actor = command_line(queries.tenant_named(options["tenant"]))
        self.say(explaining.explain(actor, options["act"], project=options["project"], user=options["user"]).sentence)
