"""./manage.py group list|create|add|drop|grant|revoke|remove"""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from controlpanel.accounts.services import user_named
from controlpanel.base import command
from controlpanel.tenants import groups, queries
from controlpanel.tenants.actor import command_line
from controlpanel.tenants.management import granting


class Command(command.Command):
    help = "Groups of a tenant's members, who are granted roles together."
    verbs = ("list", "create", "add", "drop", "grant", "revoke", "remove")

    def add_list(self, parser: ArgumentParser) -> None:
        parser.add_argument("tenant")

    def do_list(self, options: dict[str, Any]) -> None:
        """the groups of a tenant, who is in them and what was granted to them"""
        for row in groups.groups(command_line(queries.tenant_named(options["tenant"]))):
            members = " ".join(sorted(member.user.username for member in row.members.all())) or "–"
            granted = ", ".join(f"{grant.role} at {grant.place}" for grant in row.grants.all()) or "nothing"
            self.say(f"{row.name}\t{members}\t{granted}")

    def add_create(self, parser: ArgumentParser) -> None:
        _add_group(parser)

    def do_create(self, options: dict[str, Any]) -> None:
        """make a group"""
        groups.create_group(command_line(queries.tenant_named(options["tenant"])), options["group"])

    def add_add(self, parser: ArgumentParser) -> None:
        _add_group(parser)
        parser.add_argument("user")

    def do_add(self, options: dict[str, Any]) -> None:
        """put a user into a group, and into the tenant"""
        groups.add_to_group(command_line(queries.tenant_named(options["tenant"])), options["group"], user_named(options["user"]))

    def add_drop(self, parser: ArgumentParser) -> None:
        _add_group(parser)
        parser.add_argument("user")

    def do_drop(self, options: dict[str, Any]) -> None:
        """take a user out of a group; the user stays a member of the tenant"""
        groups.take_from_group(command_line(queries.tenant_named(options["tenant"])), options["group"], user_named(options["user"]))

    def add_grant(self, parser: ArgumentParser) -> None:
        granting.add_options(parser, "group")

    def do_grant(self, options: dict[str, Any]) -> None:
        """give all who are in a group a role, in a project or in the whole tenant"""
        granting.grant(options, group_name=options["group"])

    def add_revoke(self, parser: ArgumentParser) -> None:
        granting.add_options(parser, "group")

    def do_revoke(self, options: dict[str, Any]) -> None:
        """take such a role back, and end what rests on it"""
        granting.revoke(options, group_name=options["group"])

    def add_remove(self, parser: ArgumentParser) -> None:
        _add_group(parser)

    def do_remove(self, options: dict[str, Any]) -> None:
        """remove a group, with what was granted to it; its members stay members of the tenant"""
        groups.remove_group(command_line(queries.tenant_named(options["tenant"])), options["group"])


def _add_group(parser: ArgumentParser) -> None:
    parser.add_argument("tenant")
    parser.add_argument("group")
