"""./manage.py user create|password|list"""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from controlpanel.accounts import services
from controlpanel.accounts.models import User
from controlpanel.base import command


class _Root:
    """Root at the machine's shell, for the audit log; accounts know no tenants and so no Actor."""

    tenant_number, label, address, door_name = 0, "root", "", "cli"


class Command(command.Command):
    help = "People who log in to the panel."
    verbs = ("create", "password", "list")

    def add_create(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--admin", action="store_true", help="an operator of the whole platform")
        parser.add_argument("--uid", type=int, help="the unix user who may use the sockets of this user's tenants")

    def do_create(self, options: dict[str, Any]) -> None:
        """make a user and print the password, which is shown this once only"""
        _user, password = services.create_user(_Root(), options["name"], operator=options["admin"], uid=options["uid"])
        self.say(password)

    def add_password(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")

    def do_password(self, options: dict[str, Any]) -> None:
        """give a user a new password and print it; ends the user's sessions"""
        self.say(services.set_password(_Root(), services.user_named(options["name"])))

    def add_list(self, parser: ArgumentParser) -> None:
        pass

    def do_list(self, _options: dict[str, Any]) -> None:
        """all users"""
        for user in User.objects.order_by("username"):
            self.say("\t".join([user.username, "admin" if user.is_superuser else "", f"uid {user.uid}" if user.uid else ""]).rstrip())
