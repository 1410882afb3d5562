"""./manage.py token create|list|revoke"""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from controlpanel.base import command, units
from controlpanel.tenants import credentials, queries
from controlpanel.tenants.actor import command_line
from controlpanel.tenants.management import keys


class Command(command.Command):
    help = "API tokens: bearer keys to one tenant."
    verbs = ("create", "list", "revoke")

    def add_create(self, parser: ArgumentParser) -> None:
        parser.add_argument("--tenant", required=True, metavar="NAME")
        keys.add_options(parser)
        parser.add_argument("--expires", default="", metavar="30d", help="after 30d, 12h, 90m; never when left out")
        parser.add_argument("--name", default="", help="what it is for")

    def do_create(self, options: dict[str, Any]) -> None:
        """print a new token and nothing else; it is shown this once only"""
        actor = command_line(queries.tenant_named(options["tenant"]))
        lifetime = units.parse_lifetime(options["expires"])
        _token, secret = credentials.create_token(actor, name=options["name"], lifetime=lifetime, **keys.words(options))
        self.say(secret)

    def add_list(self, parser: ArgumentParser) -> None:
        parser.add_argument("--tenant", required=True, metavar="NAME")
        parser.add_argument("--json", action="store_true")

    def do_list(self, options: dict[str, Any]) -> None:
        """a tenant's tokens, newest first: number, beginning, role, whose, when it ends, when it was used last, what for"""
        self.say(keys.listed(queries.tokens_of(command_line(queries.tenant_named(options["tenant"]))), as_json=options["json"]))

    def add_revoke(self, parser: ArgumentParser) -> None:
        parser.add_argument("--tenant", required=True, metavar="NAME")
        parser.add_argument("token", help="its number or beginning, as list shows them")

    def do_revoke(self, options: dict[str, Any]) -> None:
        """end a token now, and what is open by it"""
        actor = command_line(queries.tenant_named(options["tenant"]))
        credentials.revoke_token(actor, keys.number(queries.tokens_of(actor), options["token"], "token"))
