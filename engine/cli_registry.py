"""``python3 -m engine pull`` and ``push``: Docker's lines as plain text, as docker prints them where there is no terminal."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from engine.engine import Engine
from engine.errors import InvalidArgument
from engine.registries.auth import NOBODY, Credentials
from engine.registries.registries import Transfer


def add_parsers(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    pull = verbs.add_parser("pull", help="an image from a registry")
    pull.add_argument("--platform", default="", help="linux/arm64; this host's when not given")
    pull.set_defaults(command=_pull)
    push = verbs.add_parser("push", help="an image to a registry")
    push.set_defaults(command=_push)
    for parser in (pull, push):
        parser.add_argument("-a", "--all-tags", action="store_true")
        parser.add_argument("-u", "--username", default="", help="its password is read from standard input")
        parser.add_argument("name", help="HOST[:PORT]/PATH[:TAG]")


def pull(engine: Engine, tenant: str, name: str) -> None:
    """For ``run`` of an image that is not here."""
    _show(engine.pull(tenant, name), to_stderr=True)


def _pull(engine: Engine, asked: argparse.Namespace) -> int:
    given: dict[str, Any] = {"platform": asked.platform, "credentials": _credentials(asked), "every_tag": asked.all_tags}
    _show(engine.pull(asked.tenant, asked.name, **given))
    return 0


def _push(engine: Engine, asked: argparse.Namespace) -> int:
    _show(engine.push(asked.tenant, asked.name, credentials=_credentials(asked), every_tag=asked.all_tags))
    return 0


def _credentials(asked: argparse.Namespace) -> Credentials:
    if not asked.username:
        return NOBODY
    password = sys.stdin.readline().rstrip("\n")
    if not password:
        raise InvalidArgument("the password of -u is read from standard input, and there was none")
    return Credentials(asked.username, password)


def _show(transfer: Transfer, *, to_stderr: bool = False) -> None:
    out = sys.stderr if to_stderr else sys.stdout
    try:
        for line in transfer:
            if line.get("progressDetail") and "progress" in line:  # figures are for terminals that can go back
                continue
            if "status" in line:
                print(f"{line['id']}: {line['status']}" if line.get("id") else line["status"], file=out, flush=True)
    except KeyboardInterrupt:
        transfer.cancel()
        os._exit(130)
