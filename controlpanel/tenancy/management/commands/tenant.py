"""./manage.py tenant create|list|endpoint|quota|policy|delete|restore"""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from collections.abc import Coroutine
from functools import partial
from typing import Any, TypeVar

from django.db.models import Count

from controlpanel.accounts.services import user_named
from controlpanel.base import command, units
from controlpanel.containers.models import Container
from controlpanel.hosts import ceilings, dispatch, log_use, tenants
from controlpanel.networks.models import Network
from controlpanel.tenancy import deletion
from controlpanel.tenants import policy, queries
from controlpanel.tenants.actor import command_line
from controlpanel.tenants.models import Tenant
from controlpanel.tenants.quota import words
from controlpanel.volumes.models import Volume
from engine.errors import AlreadyExists
from engine.model.bandwidth import parse_rate, spelled

T = TypeVar("T")

_BESIDE = {  # option → (limit, reader), beside those of resources
    "bandwidth_in": ("bandwidth_in", parse_rate),
    "bandwidth_out": ("bandwidth_out", parse_rate),
}


class Command(command.Command):
    help = "Tenants: who owns containers, images and limits."
    verbs = ("create", "list", "endpoint", "quota", "policy", "delete", "restore")

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
        parser.add_argument("--json", action="store_true", help="for programs: name and number of each, and what it has on hosts")

    def do_list(self, options: dict[str, Any]) -> None:
        """all tenants with their limits"""
        if options["json"]:
            self.say(json.dumps([_told(tenant) for tenant in Tenant.objects.order_by("name")]))
            return
        rows = [("NAME", "CONTAINERS", "CPUS", "MEMORY", "PIDS", "DISK", "")]
        for tenant in Tenant.objects.annotate(used=Count("containers")).order_by("name"):
            used = str(tenant.used)  # type: ignore[attr-defined]
            going = f"goes at {tenant.delete_at:%Y-%m-%d %H:%M} UTC" if tenant.delete_at else ""
            rows.append((tenant.name, used, *_shown(tenant), going))
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
        """what a tenant uses and may use; change its limits; 0 is unlimited"""
        tenant = queries.tenant_named(options["name"])
        limits = _limits(options)
        if limits:
            tenant = _wait(tenants.change_limits(command_line(), tenant, **limits))
        for line in words.lines(_wait(log_use.with_logs(tenant))):
            self.say(line)
        self.say(f"{'bandwidth':<15}in {_rate(tenant.bandwidth_in)}, out {_rate(tenant.bandwidth_out)}")

    def add_policy(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")
        item = f"one of {', '.join(policy.ITEMS)}; of a list also ITEM=WORD, as capabilities=NET_ADMIN, or all of it"
        parser.add_argument("--allow", metavar="ITEM", action="append", default=[], help=item)
        parser.add_argument(
            "--deny", metavar="ITEM", action="append", default=[], help="the same; what is denied goes before what is allowed"
        )

    def do_policy(self, options: dict[str, Any]) -> None:
        """what a tenant may have beyond a plain container, and what root of the host grants; change it"""
        name, change = options["name"], {way: options[way] for way in ("allow", "deny") if options[way]}
        if change:
            _wait(tenants.change_policy(command_line(), name, partial(policy.changed, **change)))
        tenant = queries.tenant_named(name)
        granted = _wait(ceilings.of_tenant(tenant))
        said = {item: tenant.policy.words(item) for item in policy.ITEMS} | dict.fromkeys(("folders", "exports"), "–")
        width = max(map(len, said.values())) + 2
        self.say(f"{'ITEM':<16}{'POLICY':<{width}}ROOT OF THE HOST GRANTS")
        for item, value in said.items():
            self.say(f"{item:<16}{value:<{width}}{_granted(item, granted)}".rstrip())

    def add_delete(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")
        when = parser.add_mutually_exclusive_group()
        when.add_argument("--now", action="store_true", help="at once, with all it has; nothing brings it back")
        when.add_argument("--grace", default="", metavar="7d", help="how long it can be restored: 7d, 12h; seven days when left out")

    def do_delete(self, options: dict[str, Any]) -> None:
        """mark a tenant for deletion: its containers stop, its doors close; or delete it now, with the proof that nothing is left"""
        tenant = queries.tenant_named(options["name"])
        if options["now"]:
            found = _wait(deletion.purge(command_line(), tenant))
            for line in found.lines():
                self.say(line)
            if not found.is_clean:
                sys.exit(1)
            return
        grace = units.parse_lifetime(options["grace"]) or deletion.GRACE
        tenant = _wait(deletion.mark(command_line(), tenant, grace=grace))
        when = f"{tenant.delete_at:%Y-%m-%d %H:%M} UTC"
        self.say(f"tenant {tenant.name} goes at {when}; ./manage.py tenant restore {tenant.name} brings it back")

    def add_restore(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")

    def do_restore(self, options: dict[str, Any]) -> None:
        """take the mark of a deletion back, and start what ran"""
        tenant = _wait(deletion.restore(command_line(), queries.tenant_named(options["name"])))
        self.say(tenant.endpoint)


def _told(tenant: Tenant) -> dict[str, Any]:
    """What hosts are compared with: engine.leftovers."""
    return {
        "name": tenant.name,
        "number": tenant.pk,
        "containers": list(Container.everywhere.filter(tenant=tenant).values_list("engine_id", flat=True)),
        "volumes": list(Volume.everywhere.filter(tenant=tenant).values_list("name", flat=True)),
        "networks": list(Network.everywhere.filter(tenant=tenant).values_list("network_id", flat=True)),
    }


def _add_limits(parser: ArgumentParser) -> None:
    words.add_options(parser)
    parser.add_argument("--bandwidth-in", metavar="RATE", help="into all networks together, bytes a second: 1MB, 100mbit")
    parser.add_argument("--bandwidth-out", metavar="RATE", help="the same of what comes out of them")


def _limits(options: dict[str, Any]) -> dict[str, Any]:
    given = {name: options[name] for name in _BESIDE if options[name] is not None}
    return {**words.limits_in(options), **{_BESIDE[name][0]: _BESIDE[name][1](value) for name, value in given.items()}}


def _granted(item: str, granted: dict[str, Any] | None) -> str:
    if granted is None:
        return "?"
    return policy.spelled(granted[item]) if item in granted else "–"


def _shown(tenant: Tenant) -> tuple[str, str, str, str]:
    return (
        f"{tenant.nano_cpus / 1e9:g}" if tenant.nano_cpus else "unlimited",
        units.show_bytes(tenant.memory_bytes) if tenant.memory_bytes else "unlimited",
        str(tenant.pids or "unlimited"),
        units.show_bytes(tenant.disk_bytes) if tenant.disk_bytes else "unlimited",
    )


def _rate(rate: int) -> str:
    return f"{spelled(rate)}/s" if rate else "unlimited"


def _wait(act: Coroutine[Any, Any, T]) -> T:
    async def run() -> T:
        try:
            return await act
        finally:
            await dispatch.close()

    return command.wait_for(run())
