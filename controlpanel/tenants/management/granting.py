"""What the commands for members and groups share: a role, granted in the tenant or in a project."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from controlpanel.tenants import groups, queries
from controlpanel.tenants.actor import command_line


def add_options(parser: ArgumentParser, whom: str) -> None:
    parser.add_argument("tenant")
    parser.add_argument(whom)
    parser.add_argument("--role", required=True, help="one of the tenant's: ./manage.py role list")
    parser.add_argument("--project", default="", metavar="NAME", help="in this one alone; in the whole tenant when left out")


def grant(options: dict[str, Any], **whom: str) -> None:
    actor = command_line(queries.tenant_named(options["tenant"]))
    groups.grant(actor, options["role"], project=options["project"], **whom)


def revoke(options: dict[str, Any], **whom: str) -> None:
    actor = command_line(queries.tenant_named(options["tenant"]))
    groups.revoke(actor, groups.grant_named(actor, options["role"], project=options["project"], **whom))
