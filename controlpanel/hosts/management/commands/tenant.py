"""./manage.py tenant create|list|endpoint|quota|delete"""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Coroutine
from typing import Any, TypeVar

from django.db.models import Count

from controlpanel.accounts.services import user_named
from controlpanel.base import command, units
from controlpanel.hosts import dispatch, tenants
from controlpanel.tenants import queries
from controlpanel.tenants.actor import command_line
from controlpanel.tenants.models import Tenant
from engine.errors import AlreadyExists

T = TypeVar("T")

_LIMITS = {  # option → (limit, reader)
    "cpus": ("nano_cpus", units.parse_nano_cpus),
    "memory": ("memory_bytes", units.parse_bytes),
    "pids": ("pids", int),
    "disk": ("disk_bytes", units.parse_bytes),
    "containers": ("containers_max", int),
}


class Command(command.Command):
    help = "Tenants: who owns containers, images and limits."
    verbs = ("create", "list", "endpoint", "quota", "delete")

    def add_create(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--owner", metavar="USER", help="a user who becomes its owner")
        parser.add_argument("--exist-ok", action="store_true", help="a tenant of this name is fine")
        _add_limits(parser)

    def do_create(self, options: dict[str, Any]) -> None:
        """make a tenant; its socket opens at once"""
        owner = user_named(options["owner"]) if options["owner"] else None
        try:
            tenant = _wait(tenants.create_tenant(command_line(), options["name"], owner=owner, **_limits(options)))
        except AlreadyExists:
            if not options["exist_ok"]:
                raise
            tenant = queries.tenant_named(options["name"])
        self.say(tenant.endpoint)

    def add_list(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="name and number of each, for programs")

    def do_list(self, options: dict[str, Any]) -> None:
        """all tenants with their limits"""
        if options["json"]:
            self.say(json.dumps([{"name": tenant.name, "number": tenant.pk} for tenant in Tenant.objects.order_by("name")]))
            return
        rows = [("NAME", "CONTAINERS", "CPUS", "MEMORY", "PIDS", "DISK")]
        for tenant in Tenant.objects.annotate(used=Count("containers")).order_by("name"):
            used = str(tenant.used)  # type: ignore[attr-defined]
            rows.append((tenant.name, used, *_shown(tenant)))
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for row in rows:
            self.say("  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip())

    def add_endpoint(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")

    def do_endpoint(self, options: dict[str, Any]) -> None:
        """print the tenant's DOCKER_HOST and nothing else"""
        self.say(queries.tenant_named(options["name"]).endpoint)

    def add_quota(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")
        _add_limits(parser)

    def do_quota(self, options: dict[str, Any]) -> None:
        """show or change a tenant's limits; 0 is unlimited"""
        tenant = queries.tenant_named(options["name"])
        limits = _limits(options)
        if limits:
            tenant = _wait(tenants.change_limits(command_line(), tenant, **limits))
        for name, value in zip(("cpus", "memory", "pids", "disk"), _shown(tenant), strict=True):
            self.say(f"{name:<11}{value}")
        self.say(f"{'containers':<11}{tenant.containers_max or 'unlimited'}")

    def add_delete(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")

    def do_delete(self, options: dict[str, Any]) -> None:
        """delete a tenant that has no containers, with its images, members and tokens"""
        _wait(tenants.delete_tenant(command_line(), queries.tenant_named(options["name"])))


def _add_limits(parser: ArgumentParser) -> None:
    parser.add_argument("--cpus", metavar="N", help="CPUs of all containers together, e.g. 1.5")
    parser.add_argument("--memory", metavar="BYTES", help="of all containers together, e.g. 2g")
    parser.add_argument("--pids", metavar="N", type=int, help="processes of all containers together")
    parser.add_argument("--disk", metavar="BYTES", help="of images, containers and logs together, e.g. 20g")
    parser.add_argument("--containers", metavar="N", type=int, help="how many containers there may be")


def _limits(options: dict[str, Any]) -> dict[str, int]:
    given = {name: options[name] for name in _LIMITS if options[name] is not None}
    return {_LIMITS[name][0]: _LIMITS[name][1](value) for name, value in given.items()}


def _shown(tenant: Tenant) -> tuple[str, str, str, str]:
    return (
        f"{tenant.nano_cpus / 1e9:g}" if tenant.nano_cpus else "unlimited",
        units.show_bytes(tenant.memory_bytes) if tenant.memory_bytes else "unlimited",
        str(tenant.pids or "unlimited"),
        units.show_bytes(tenant.disk_bytes) if tenant.disk_bytes else "unlimited",
    )


def _wait(act: Coroutine[Any, Any, T]) -> T:
    async def run() -> T:
        try:
            return await act
        finally:
            await dispatch.close()

    return command.wait_for(run())
