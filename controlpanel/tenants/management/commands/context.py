"""./manage.py context export|list|revoke: files for ``docker context import``, each with a client's certificate."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from controlpanel.base import command, units
from controlpanel.tenants import authority, credentials, queries
from controlpanel.tenants.actor import command_line
from controlpanel.tenants.management import keys


class Command(command.Command):
    help = "Docker contexts: one tenant over TLS, with a certificate for a user or a robot. The same command again renews."
    verbs = ("export", "list", "revoke", "authority")

    def add_export(self, parser: ArgumentParser) -> None:
        parser.add_argument("tenant", metavar="NAME", help="the tenant; the context is called so, too")
        parser.add_argument("-o", "--output", metavar="FILE", help="NAME.dockercontext when left out; - is standard output")
        whose = parser.add_mutually_exclusive_group()
        whose.add_argument("--robot", metavar="NAME", default="", help="for a program, under this name")
        keys.add_options(parser, whose)
        parser.add_argument("--expires", default="", metavar="7d", help="after 7d (when left out), 12h, 90d at most")
        parser.add_argument(
            "--host", default="", metavar="HOST[:PORT]", help="where clients reach this machine, when it is not its first address"
        )

    def do_export(self, options: dict[str, Any]) -> None:
        """write a file for `docker context import` with a short-lived certificate"""
        actor = command_line(queries.tenant_named(options["tenant"]))
        lifetime = units.parse_lifetime(options["expires"])
        row, signed = credentials.create_certificate(
            actor, name=options["robot"], lifetime=lifetime, host=options["host"], **keys.words(options)
        )
        tar = authority.docker_context(options["tenant"], signed, description=row.description)
        self.stdout.buffer.write(tar)  # manage.py itself writes the file, as root: see workers/platform/panel.py

    def add_list(self, parser: ArgumentParser) -> None:
        parser.add_argument("tenant", metavar="NAME")
        parser.add_argument("--json", action="store_true")

    def do_list(self, options: dict[str, Any]) -> None:
        """a tenant's certificates, newest first: number, fingerprint, role, whose, when it ends, when it was used last, what for"""
        self.say(keys.listed(queries.certificates_of(command_line(queries.tenant_named(options["tenant"]))), as_json=options["json"]))

    def add_revoke(self, parser: ArgumentParser) -> None:
        parser.add_argument("tenant", metavar="NAME")
        parser.add_argument("certificate", help="its number or the beginning of its fingerprint, as list shows them")

    def do_revoke(self, options: dict[str, Any]) -> None:
        """end a certificate now, and what is open by it"""
        actor = command_line(queries.tenant_named(options["tenant"]))
        credentials.revoke_certificate(actor, keys.number(queries.certificates_of(actor), options["certificate"], "certificate"))

    def add_authority(self, parser: ArgumentParser) -> None:
        pass

    def do_authority(self, _options: dict[str, Any]) -> None:
        """make the authority that signs clients' certificates, unless there is one; up does it"""
        authority.make()
