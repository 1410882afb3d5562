"""Images: list, inspect, history, tag, remove, prune, search. Their bytes go in and out by loading.py."""

from __future__ import annotations

import fnmatch
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from controlpanel.containers import projection as containers
from controlpanel.dockerapi import image_shapes, words
from controlpanel.dockerapi.exchange import Exchange
from controlpanel.images import projection, pruning, services, usage
from controlpanel.images.projection import ImageView
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.permissions import require
from engine.errors import InvalidArgument
from engine.model.platform import check_platform
from engine.model.reference import Reference

_FILTERS: Final = ("before", "dangling", "label", "reference", "since", "until")
_PRUNE_FILTERS: Final = ("dangling", "label", "label!", "until")
_SEARCH_FILTERS: Final = ("is-automated", "is-official", "stars")
_FOUND: Final = 25, 100  # repositories that a search tells: unless asked, at most
Test = Callable[[ImageView], bool]


async def list_all(exchange: Exchange) -> None:
    actor = exchange.actor
    require(actor, "image.view")
    given = words.filters(exchange.text("filters"), _FILTERS)
    if exchange.text("filter"):  # before 1.25
        given.setdefault("reference", []).append(exchange.text("filter"))
    everything = views = await projection.images(actor)
    for test in await _tests(actor, given):
        views = [view for view in views if test(view)]
    if not exchange.flag("all"):  # what a later image was made from, and nobody gave a name
        parents = {view.record.parent for view in everything}
        views = [view for view in views if view.refs or view.id not in parents]
    users = Counter(view.image_id for view in await containers.containers(actor)) if exchange.version >= (1, 51) else None
    shared = usage.shared(everything) if exchange.flag("shared-size") else {}
    lines = [image_shapes.summary(view, shared.get(view.id, -1), users, exchange.version) for view in views]
    if patterns := given.get("reference"):  # only the names that match are shown
        for line in lines:
            line["RepoTags"] = [ref for ref in line["RepoTags"] if _named(ref, patterns)]
            line["RepoDigests"] = [ref for ref in line["RepoDigests"] if _named(ref, patterns)]
    await exchange.reply_json(lines)


async def _tests(actor: Actor, given: words.Filters) -> list[Test]:
    tests: list[Test] = []
    if "dangling" in given:
        dangling = words.one_boolean(given, "dangling", False)
        tests.append(lambda view: (not pruning.tagged(view)) is dangling)
    if given.get("label"):
        tests.append(lambda view: words.labels_match(given["label"], image_shapes.labels(view)))
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
    return any(_like(form, pattern) for pattern in patterns for form in (ref, name, bare))


def _like(name: str, pattern: str) -> bool:
    parts, patterns = name.split("/"), pattern.split("/")
    return len(parts) == len(patterns) and all(map(fnmatch.fnmatchcase, parts, patterns))


async def inspect(exchange: Exchange) -> None:
    view = await _one(exchange)
    await exchange.reply_json(image_shapes.describe(view, exchange.version))


async def history(exchange: Exchange) -> None:
    await exchange.reply_json(image_shapes.history(await _one(exchange)))


async def _one(exchange: Exchange) -> ImageView:
    require(exchange.actor, "image.view")
    name = exchange.params["name"]
    if exchange.text("platform") and exchange.flag("manifests"):
        raise InvalidArgument("conflicting options: manifests and platform options cannot both be set")
    view = await projection.image(exchange.actor, name)
    check_platform(view.record.config, exchange.text("platform"), name)
    return view


async def tag(exchange: Exchange) -> None:
    await services.tag(exchange.actor, exchange.params["name"], repository_and_tag(exchange.text("repo"), exchange.text("tag")))
    await exchange.reply(201)


async def remove(exchange: Exchange) -> None:
    outcome = await services.remove(
        exchange.actor, exchange.params["name"], force=exchange.flag("force"), no_prune=exchange.flag("noprune")
    )
    await exchange.reply_json(_removed(outcome["untagged"], outcome["deleted"]))


def _removed(untagged: Any, deleted: Any) -> list[dict[str, str]]:
    return [{"Untagged": ref} for ref in untagged] + [{"Deleted": image_id} for image_id in deleted]


async def prune(exchange: Exchange) -> None:
    require(exchange.actor, "image.prune")
    given = words.filters(exchange.text("filters"), _PRUNE_FILTERS)
    named = not words.one_boolean(given, "dangling", True)
    test = prunable(given, time.time_ns())
    used = {view.image_id for view in await containers.everything(exchange.actor)}
    done = await pruning.prune(exchange.actor, used, named=named, test=test)
    await exchange.reply_json({"ImagesDeleted": _removed(done.untagged, done.deleted) or None, "SpaceReclaimed": done.bytes})


def prunable(given: words.Filters, now_ns: int) -> Test:
    until = given.get("until") or []
    if len(until) > 1:
        raise InvalidArgument("more than one until filter specified")
    before_s = words.moment_ns(until[0], now_ns) // 1_000_000_000 if until else 0
    wanted, unwanted = given.get("label") or [], given.get("label!") or []

    def test(view: ImageView) -> bool:
        if before_s and image_shapes.created_s(view.record.created) > before_s:
            return False
        labels = image_shapes.labels(view)
        return words.labels_match(wanted, labels) and not (unwanted and words.labels_match(unwanted, labels))

    return test


async def search(exchange: Exchange) -> None:
    """Among the repositories that the tenant has here: there is no registry yet whose catalogue could be asked."""
    require(exchange.actor, "image.view")
    usual, most = _FOUND
    limit = words.integer(exchange.text("limit")) if exchange.text("limit") else usual
    limit = limit or usual
    if not 1 <= limit <= most:
        raise InvalidArgument(f"limit {limit} is outside the range of [1, {most}]")
    given = words.filters(exchange.text("filters"), _SEARCH_FILTERS)
    stars = [words.integer(value) for value in given.get("stars", ())]
    asks_for_fame = words.one_boolean(given, "is-automated", False) or words.one_boolean(given, "is-official", False)
    if asks_for_fame or any(value > 0 for value in stars):
        await exchange.reply_json([])
        return
    term = exchange.text("term").lower()
    tags: dict[str, list[str]] = {}
    for view in await projection.images(exchange.actor):
        for ref in image_shapes.tags(view):
            reference = Reference.parse(ref)
            if term in reference.name:
                tags.setdefault(reference.name, []).append(reference.tag)
    found = [
        {
            "star_count": 0,
            "is_official": False,
            "name": name,
            "is_automated": False,
            "description": f"on this host: {', '.join(sorted(tags[name])[:10])}",
        }
        for name in sorted(tags)
    ]
    await exchange.reply_json(found[:limit])


def repository_and_tag(repository: str, tag: str) -> str:
    """``repo`` and ``tag`` of a query as one checked reference. A digest may be given as the tag."""
    if not repository:
        raise InvalidArgument("invalid reference format")
    text = repository
    if tag:
        text += f"@{tag}" if ":" in tag else f":{tag}"
    return str(Reference.parse(text))
