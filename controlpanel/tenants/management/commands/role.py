"""./manage.py role list|create|change|remove"""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from controlpanel.base import command
from controlpanel.tenants import queries, roles
from controlpanel.tenants.actor import command_line


class Command(command.Command):
    help = "Roles of a tenant: the five that all have, and its own."
    verbs = ("list", "create", "change", "remove")

    def add_list(self, parser: ArgumentParser) -> None:
        parser.add_argument("tenant")

    def do_list(self, options: dict[str, Any]) -> None:
        """the roles of a tenant, what each may, and who holds those of its own"""
        for role in roles.roles(command_line(queries.tenant_named(options["tenant"]))):
            held = f"\theld by {', '.join(role.holders)}" if role.holders else ""
            self.say(f"{role.name}\t{'built in' if role.built_in else 'own'}\t{' '.join(role.verbs)}{held}")

    def add_create(self, parser: ArgumentParser) -> None:
        _add_role(parser)
        _add_verbs(parser)

    def do_create(self, options: dict[str, Any]) -> None:
        """make a role: a name and a set of verbs"""
        roles.create_role(command_line(queries.tenant_named(options["tenant"])), options["role"], _verbs(options))

    def add_change(self, parser: ArgumentParser) -> None:
        _add_role(parser)
        _add_verbs(parser)

    def do_change(self, options: dict[str, Any]) -> None:
        """give a role of the tenant's own other verbs; all who hold it may these from now on"""
        roles.change_role(command_line(queries.tenant_named(options["tenant"])), options["role"], _verbs(options))

    def add_remove(self, parser: ArgumentParser) -> None:
        _add_role(parser)

    def do_remove(self, options: dict[str, Any]) -> None:
        """remove a role of the tenant's own that nobody holds"""
        roles.remove_role(command_line(queries.tenant_named(options["tenant"])), options["role"])


def _add_role(parser: ArgumentParser) -> None:
    parser.add_argument("tenant")
    parser.add_argument("role")


def _add_verbs(parser: ArgumentParser) -> None:
    parser.add_argument("--verbs", required=True, metavar="container.view,container.restart", help="container.* is all of a kind")


def _verbs(options: dict[str, Any]) -> list[str]:
    return [word.strip() for word in options["verbs"].split(",") if word.strip()]
