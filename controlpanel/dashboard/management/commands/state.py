"""What ``./manage.py backup`` and ``restore`` ask the panel; no command of people (workers.platform)."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from typing import Any

from django.apps import apps
from django.core import serializers
from django.core.management import call_command
from django.core.management.color import no_style
from django.db import connection, transaction
from django.db.migrations.loader import MigrationLoader

from controlpanel.accounts.models import User
from controlpanel.audit import services as audit
from controlpanel.base import command
from controlpanel.containers.models import Container
from controlpanel.images.models import Tag
from controlpanel.networks.models import Network
from controlpanel.tenants.actor import command_line
from controlpanel.tenants.models import Impersonation, Tenant


class Command(command.Command):
    help = "For backup and restore alone."
    verbs = ("known", "empty", "definitions", "backed_up", "restored", "dump", "load")

    def add_known(self, parser: ArgumentParser) -> None:
        pass

    def do_known(self, _options: dict[str, Any]) -> None:
        """the migrations of this release, and those that its database has"""
        loader = MigrationLoader(connection)
        known = {"release": loader.disk_migrations, "database": loader.applied_migrations}
        self.say(json.dumps({where: [".".join(key) for key in sorted(keys or ())] for where, keys in known.items()}))

    def add_empty(self, parser: ArgumentParser) -> None:
        pass

    def do_empty(self, _options: dict[str, Any]) -> None:
        """what would be lost, if anything: names of tenants, and of users beside the first"""
        tenants = list(Tenant.objects.order_by("name").values_list("name", flat=True)[:10])
        users = list(User.objects.order_by("pk").values_list("username", flat=True)[1:10])
        self.say(json.dumps({"tenants": tenants, "users": users}))

    def add_definitions(self, parser: ArgumentParser) -> None:
        pass

    def do_definitions(self, _options: dict[str, Any]) -> None:
        """by tenant: how its containers and networks were asked for in Docker's words, and what its images are called"""
        self.say(json.dumps({tenant.name: _definitions(tenant) for tenant in Tenant.objects.order_by("name")}))

    def add_backed_up(self, parser: ArgumentParser) -> None:
        parser.add_argument("--volumes", action="store_true")

    def do_backed_up(self, options: dict[str, Any]) -> None:
        """a record in the platform's chain, which is in the backup, too"""
        audit.record(command_line(), "platform.backup", "the panel's state", volumes=options["volumes"])

    def add_restored(self, parser: ArgumentParser) -> None:
        parser.add_argument("--made-at", required=True)

    @transaction.atomic
    def do_restored(self, options: dict[str, Any]) -> None:
        """on another machine nothing of a tenant is made yet, and nobody visits; a record in the platform's chain"""
        Tenant.objects.update(hosts={})
        Impersonation.everywhere.filter(ended_at=None).delete()
        audit.record(command_line(), "platform.restore", "the panel's state", made_at=options["made_at"])

    def add_dump(self, parser: ArgumentParser) -> None:
        pass

    def do_dump(self, _options: dict[str, Any]) -> None:
        """every row as JSON lines, as of one moment (PostgreSQL)"""
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            for model in apps.get_models():
                if model._meta.managed and not model._meta.proxy:
                    rows = model._base_manager.order_by("pk").iterator(chunk_size=2000)
                    serializers.serialize("jsonl", rows, stream=sys.stdout)

    def add_load(self, parser: ArgumentParser) -> None:
        pass

    def do_load(self, _options: dict[str, Any]) -> None:
        """what ``dump`` wrote, in place of all there is; all of it or nothing (PostgreSQL)"""
        with transaction.atomic():
            call_command("flush", interactive=False, inhibit_post_migrate=True, verbosity=0)
            for row in serializers.deserialize("jsonl", sys.stdin):
                row.save(force_insert=True)
            with connection.cursor() as cursor:
                for statement in connection.ops.sequence_reset_sql(no_style(), apps.get_models(include_auto_created=True)):
                    cursor.execute(statement)


def _definitions(tenant: Tenant) -> dict[str, Any]:
    containers = [
        {
            "name": row.name,
            "image": row.image,
            "image_id": row.image_id,
            "create": {**row.docker_config, "Image": row.image, "HostConfig": row.docker_host_config},
            "networks": sorted(row.network_names.values()),
        }
        for row in Container.everywhere.filter(tenant=tenant).order_by("name")
    ]
    networks = [
        {
            "name": row.name,
            "create": {
                "Name": row.name,
                "Internal": row.internal,
                "Attachable": row.attachable,
                "IPAM": row.ipam,
                "Options": row.options,
                "Labels": row.labels,
            },
            "subnet": (row.pool or row.ipv6_pool or {}).get("subnet", ""),
            "rules": row.rules,
        }
        for row in Network.everywhere.filter(tenant=tenant).order_by("name")
    ]
    tags = Tag.everywhere.filter(tenant=tenant).order_by("ref").values_list("ref", "image__image_id")
    return {"containers": containers, "networks": networks, "images": dict(tags)}
