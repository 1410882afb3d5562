"""./manage.py user create|password|disable|enable|unlock|mfa-reset|logout|list"""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from controlpanel.accounts import adapter, second_factor, services, sessions
from controlpanel.accounts.models import User
from controlpanel.accounts.who import ROOT
from controlpanel.audit.services import record
from controlpanel.base import command


class Command(command.Command):
    help = "People who log in to the panel."
    verbs = ("create", "password", "disable", "enable", "unlock", "mfa-reset", "logout", "list")

    def add_create(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--admin", action="store_true", help="an operator of the whole platform")
        parser.add_argument("--uid", type=int, help="the unix user who may use the sockets of this user's tenants")

    def do_create(self, options: dict[str, Any]) -> None:
        """make a user and print the password, which is shown this once only"""
        _user, password = services.create_user(ROOT, options["name"], operator=options["admin"], uid=options["uid"])
        self.say(password)

    def add_password(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")

    def do_password(self, options: dict[str, Any]) -> None:
        """give a user a new password and print it; ends the user's sessions"""
        self.say(services.set_password(ROOT, services.user_named(options["name"])))

    def add_unlock(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--address", default="", help="let this client's address try again, too")

    def do_unlock(self, options: dict[str, Any]) -> None:
        """let a user who was locked out log in at once; a lock ends by itself after five minutes"""
        user = services.user_named(options["name"])
        adapter.unlock(user, options["address"])
        record(ROOT, "user.unlock", user.username, **({"address": options["address"]} if options["address"] else {}))

    def add_mfa_reset(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")

    def do_mfa_reset(self, options: dict[str, Any]) -> None:
        """take away the second factor and recovery codes of a user who lost them"""
        second_factor.reset(ROOT, services.user_named(options["name"]))

    def add_logout(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")

    def do_logout(self, options: dict[str, Any]) -> None:
        """end all sessions of a user and print how many there were"""
        self.say(str(sessions.end_sessions(ROOT, services.user_named(options["name"]))))

    def add_disable(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")

    def do_disable(self, options: dict[str, Any]) -> None:
        """shut a user out now: sessions, tokens, certificates, sockets and what is open by them"""
        services.set_active(ROOT, services.user_named(options["name"]), active=False)

    def add_enable(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")

    def do_enable(self, options: dict[str, Any]) -> None:
        """let a disabled user in again"""
        services.set_active(ROOT, services.user_named(options["name"]), active=True)

    def add_list(self, parser: ArgumentParser) -> None:
        pass

    def do_list(self, _options: dict[str, Any]) -> None:
        """all users"""
        for user in User.objects.order_by("username"):
            words = ["admin" if user.is_superuser else "", f"uid {user.uid}" if user.uid else "", "" if user.is_active else "disabled"]
            self.say("\t".join([user.username, *words]).rstrip())
