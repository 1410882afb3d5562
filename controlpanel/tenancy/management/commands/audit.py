"""./manage.py audit verify|export"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from controlpanel.audit import chain, export, search
from controlpanel.audit.services import PLATFORM
from controlpanel.base import command
from controlpanel.hosts import witness
from controlpanel.tenants import queries
from controlpanel.tenants.models import Tenant
from engine.errors import InvalidArgument
from workers.witness import chains as witnessed


class Command(command.Command):
    help = "The audit log: who did what, through which door, and what came of it."
    verbs = ("verify", "export")

    def add_verify(self, parser: ArgumentParser) -> None:
        _add_tenant(parser)

    def do_verify(self, options: dict[str, Any]) -> None:
        """prove that no record was changed, removed or put in between, and that no end is cut off; exit code 1 if not"""
        names = _names()
        numbers = [_number(options["tenant"])] if options["tenant"] else self._all()
        broken = 0
        for number in numbers:
            name = _name(number, names)
            try:
                anchors = witness.anchors(number)
            except OSError as error:
                anchors = []
                self.stderr.write(f"slipway: {name}: the witness cannot be asked ({error.strerror}): a cut-off end would not show")
            verdict = chain.verify(number, anchors)
            if verdict.broken:
                broken += 1
                self.say(f"{name}: BROKEN at record {verdict.broken}: {verdict.why}")
            else:
                seen = f"; the host's witness has seen {anchors[-1].number}" if anchors else "; no witness has seen it yet"
                self.say(f"{name}: {verdict.records} records, whole{seen if verdict.records else ''}")
        if broken:
            sys.exit(1)

    def _all(self) -> list[int]:
        """Also those of which nothing but the witness is left."""
        try:
            told = witnessed(witness.folder())
        except OSError:
            told = []
        return sorted({*chain.chains(), *told})

    def add_export(self, parser: ArgumentParser) -> None:
        _add_tenant(parser)
        parser.add_argument("--format", choices=list(export.FORMATS), default="jsonl")

    def do_export(self, options: dict[str, Any]) -> None:
        """print records, oldest first"""
        number = _number(options["tenant"]) if options["tenant"] else None
        for part in export.FORMATS[options["format"]](search.everything(search.Search(), number), _names()):
            sys.stdout.buffer.write(part)


def _add_tenant(parser: ArgumentParser) -> None:
    parser.add_argument("--tenant", metavar="NAME", help="of this tenant alone; a number of one that was deleted; 0 is the platform's own")


def _names() -> dict[int, str]:
    return dict(Tenant.objects.values_list("pk", "name"))


def _name(number: int, names: dict[int, str]) -> str:
    return "the platform" if number == PLATFORM else f"tenant {names.get(number, f'#{number} (deleted)')}"


def _number(words: str) -> int:
    if words.isascii() and words.isdecimal() and not Tenant.objects.filter(name=words).exists():
        number = int(words)
        if number in (PLATFORM, *chain.chains()):
            return number
        raise InvalidArgument(f"there is no audit chain {words}")
    return queries.tenant_named(words).pk
