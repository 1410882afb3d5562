"""Images: list, inspect, history, tag, remove. Bytes come in by loading.py."""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Callable
from typing import Final

from controlpanel.containers import projection as containers
from controlpanel.dockerapi import image_shapes, words
from controlpanel.dockerapi.exchange import Exchange
from controlpanel.images import projection, services
from controlpanel.images.projection import ImageView
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.permissions import require
from engine.errors import InvalidArgument
from engine.model.reference import Reference

_FILTERS: Final = ("before", "dangling", "label", "reference", "since", "until")
Test = Callable[[ImageView], bool]


async def list_all(exchange: Exchange) -> None:
    actor = exchange.actor
    require(actor, "image.view")
    given = words.filters(exchange.text("filters"), _FILTERS)
    if exchange.text("filter"):  # before 1.25
        given.setdefault("reference", []).append(exchange.text("filter"))
    views = await projection.images(actor)
    for test in await _tests(actor, given):
        views = [view for view in views if test(view)]
    mine = await containers.containers(actor) if exchange.version >= (1, 51) else None  # older clients are told that nobody counted
    lines = [image_shapes.summary(view, mine, shared_size=0 if exchange.flag("shared-size") else -1) for view in views]
    patterns = given.get("reference")
    if patterns:  # only the names that match are shown
        for line in lines:
            line["RepoTags"] = [ref for ref in line["RepoTags"] if _named(ref, patterns)]
    await exchange.reply_json(lines)


async def _tests(actor: Actor, given: words.Filters) -> list[Test]:
    tests: list[Test] = []
    if "dangling" in given:
        dangling = words.one_boolean(given, "dangling", False)
        tests.append(lambda view: (not image_shapes.tags(view)) is dangling)
    if given.get("label"):
        tests.append(lambda view: words.labels_match(given["label"], (view.record.config.get("config") or {}).get("Labels") or {}))
    if given.get("reference"):
        tests.append(lambda view: any(_named(ref, given["reference"]) for ref in view.refs))
    for name in ("before", "since"):
        for value in given.get(name, ()):
            tests.append(_by_time(name, image_shapes.created_s((await projection.image(actor, value)).record.created)))
    for value in given.get("until", ()):
        tests.append(_by_time("before", words.moment_ns(value, time.time_ns()) // 1_000_000_000))
    return tests


def _by_time(side: str, moment_s: int) -> Test:
    if side == "before":
        return lambda view: image_shapes.created_s(view.record.created) < moment_s
    return lambda view: image_shapes.created_s(view.record.created) > moment_s


def _named(ref: str, patterns: list[str]) -> bool:
    """The whole name or the name without its tag, with * ? [ ]; as in a path, none of them stands for a slash."""
    name = ref.partition("@")[0]
    bare = name.rpartition(":")[0] if ":" in name.rpartition("/")[2] else name
    return any(_like(form, pattern) for pattern in patterns for form in (name, bare))


def _like(name: str, pattern: str) -> bool:
    parts, patterns = name.split("/"), pattern.split("/")
    return len(parts) == len(patterns) and all(map(fnmatch.fnmatchcase, parts, patterns))


async def inspect(exchange: Exchange) -> None:
    require(exchange.actor, "image.view")
    await exchange.reply_json(image_shapes.describe(await projection.image(exchange.actor, exchange.params["name"])))


async def history(exchange: Exchange) -> None:
    require(exchange.actor, "image.view")
    await exchange.reply_json(image_shapes.history(await projection.image(exchange.actor, exchange.params["name"])))


async def tag(exchange: Exchange) -> None:
    await services.tag(exchange.actor, exchange.params["name"], repository_and_tag(exchange.text("repo"), exchange.text("tag")))
    await exchange.reply(201)


async def remove(exchange: Exchange) -> None:
    outcome = await services.remove(exchange.actor, exchange.params["name"], force=exchange.flag("force"))
    lines = [{"Untagged": ref} for ref in outcome["untagged"]] + [{"Deleted": image_id} for image_id in outcome["deleted"]]
    await exchange.reply_json(lines)


def repository_and_tag(repository: str, tag: str) -> str:
    """``repo`` and ``tag`` of a query as one checked reference. A digest may be given as the tag."""
    if not repository:
        raise InvalidArgument("invalid reference format")
    text = repository
    if tag:
        text += f"@{tag}" if ":" in tag else f":{tag}"
    return str(Reference.parse(text))
