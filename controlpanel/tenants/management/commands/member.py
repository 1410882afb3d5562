"""./manage.py member add|remove|list"""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from controlpanel.accounts.services import user_named
from controlpanel.base import command
from controlpanel.tenants import queries, services
from controlpanel.tenants.actor import Role, command_line
from controlpanel.tenants.models import Membership


class Command(command.Command):
    help = "Members of tenants."
    verbs = ("add", "remove", "list")

    def add_add(self, parser: ArgumentParser) -> None:
        parser.add_argument("tenant")
        parser.add_argument("user")
        parser.add_argument("--role", default=Role.DEVELOPER.value, choices=[role.value for role in Role])

    def do_add(self, options: dict[str, Any]) -> None:
        """make a user a member, or give a member another role"""
        actor = command_line(queries.tenant_named(options["tenant"]))
        services.add_member(actor, user_named(options["user"]), Role(options["role"]))

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
        """the members of a tenant and their roles"""
        tenant = queries.tenant_named(options["tenant"])
        for row in Membership.everywhere.filter(tenant=tenant).select_related("user").order_by("user__username"):
            self.say(f"{row.user.username}\t{row.role}")
