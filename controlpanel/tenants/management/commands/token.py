"""./manage.py token create"""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from controlpanel.base import command, units
from controlpanel.tenants import queries, services
from controlpanel.tenants.actor import Role, command_line


class Command(command.Command):
    help = "API tokens: bearer keys to one tenant."
    verbs = ("create",)

    def add_create(self, parser: ArgumentParser) -> None:
        parser.add_argument("--tenant", required=True, metavar="NAME")
        parser.add_argument("--role", default=Role.DEVELOPER.value, choices=[role.value for role in Role])
        parser.add_argument("--expires", default="", metavar="30d", help="after 30d, 12h, 90m; never when left out")
        parser.add_argument("--name", default="", help="what it is for")

    def do_create(self, options: dict[str, Any]) -> None:
        """print a new token and nothing else; it is shown this once only"""
        actor = command_line(queries.tenant_named(options["tenant"]))
        lifetime = units.parse_lifetime(options["expires"])
        _token, secret = services.create_token(actor, role=Role(options["role"]), name=options["name"], lifetime=lifetime)
        self.say(secret)
