"""A management command as ./manage.py's users meet it: one sentence and exit code 1 instead of a stack trace."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

from django.core.management.base import BaseCommand, CommandParser
from django.db.utils import OperationalError

from engine.errors import EngineError

T = TypeVar("T")


class Command(BaseCommand):
    """Subclasses have ``verbs``: a method ``add_<verb>(parser)`` and one ``do_<verb>(options)`` each, with _ for a hyphen."""

    verbs: tuple[str, ...] = ()
    requires_system_checks: list[str] = []

    def create_parser(self, prog_name: str, subcommand: str, **words: Any) -> CommandParser:
        """Usage as it is typed: by ./manage.py, whoever started Django."""
        return super().create_parser("manage.py", subcommand, **words)

    def add_arguments(self, parser: CommandParser) -> None:
        words = parser.add_subparsers(dest="verb", required=True, metavar="|".join(self.verbs), parser_class=argparse.ArgumentParser)
        for verb in self.verbs:
            method, add = (getattr(self, f"{what}_{verb.replace('-', '_')}") for what in ("do", "add"))
            add(words.add_parser(verb, help=method.__doc__, description=method.__doc__))

    def handle(self, *_args: Any, **options: Any) -> None:
        try:
            getattr(self, f"do_{options['verb'].replace('-', '_')}")(options)
        except EngineError as error:
            self._refuse(error.message)
        except OperationalError as error:
            self._refuse(f"the database does not answer: {error}. Has ./manage.py up run on this machine?")

    def _refuse(self, why: str) -> None:
        self.stderr.write(f"slipway: {why}")
        sys.exit(1)

    def say(self, line: str) -> None:
        self.stdout.write(line)


def wait_for(act: Coroutine[Any, Any, T]) -> T:
    """Run an asynchronous service to its end."""
    return asyncio.run(act)
