"""./manage.py project list|quota"""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from controlpanel.base import command
from controlpanel.tenants import projects, queries
from controlpanel.tenants.actor import command_line
from controlpanel.tenants.quota import ledger, words
from controlpanel.tenants.quota.resources import CONTAINERS, DISK, MEMORY, NETWORKS, VOLUMES

_SHOWN = (CONTAINERS, VOLUMES, NETWORKS, MEMORY, DISK)


class Command(command.Command):
    help = "Projects of a tenant: compose's, and those that have a quota."
    verbs = ("list", "quota")

    def add_list(self, parser: ArgumentParser) -> None:
        parser.add_argument("tenant")

    def do_list(self, options: dict[str, Any]) -> None:
        """what there is in each project of a tenant; "over" is what a quota no longer allows"""
        actor = command_line(queries.tenant_named(options["tenant"]))
        self.say("".join(f"{title:<14}" for title in ("NAME", *map(str.upper, _SHOWN))).rstrip())
        for project in projects.projects(actor):
            uses = {use.resource.name: use for use in ledger.use_of_project(project)}
            figures = [words.figure(uses[name].resource, uses[name].used or 0) for name in _SHOWN]
            over = "over" if any(use.state == "over" for use in uses.values()) else ""
            self.say("".join(f"{text:<14}" for text in (project.name, *figures, over)).rstrip())

    def add_quota(self, parser: ArgumentParser) -> None:
        parser.add_argument("tenant")
        parser.add_argument("project")
        words.add_options(parser, of_project=True)

    def do_quota(self, options: dict[str, Any]) -> None:
        """what a project uses and may use; change its limits, within the tenant's; 0 is unlimited"""
        actor = command_line(queries.tenant_named(options["tenant"]))
        if limits := words.limits_in(options):
            found = projects.change_quota(actor, options["project"], **limits)
            if found is None:
                self.say(f"project {options['project']} is empty and has no quota: it is gone")
                return
        for line in words.lines(projects.use(actor, options["project"])):
            self.say(line)
