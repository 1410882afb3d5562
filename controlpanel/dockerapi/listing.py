"""``GET /containers/json``. What doesn't change with time is serialised once for each version of a container."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import orjson

from controlpanel.containers import projection, tmpfs
from controlpanel.containers.projection import ContainerView
from controlpanel.dockerapi import inspect, networks, sizes, words
from controlpanel.dockerapi.exchange import Exchange
from controlpanel.images import projection as images
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.permissions import require
from engine.errors import EngineError, InvalidArgument
from engine.model.container import HealthState, Status

_FILTERS: Final = (
    "ancestor", "before", "exited", "expose", "health", "id", "is-task", "label", "name", "network", "publish", "since", "status",
    "volume",
)  # fmt: skip
_STATES: Final = ("created", "running", "paused", "restarting", "removing", "exited", "dead")
_HEALTH: Final = ("none", "starting", "healthy", "unhealthy")
_PORTS: Final = re.compile(r"\d{1,5}(-\d{1,5})?(/(tcp|udp|sctp))?")
_QUANTIFIERS = re.compile(r"[*+?{]")
Test = Callable[[ContainerView], bool]


async def containers(exchange: Exchange) -> None:
    actor = exchange.actor
    require(actor, "container.view")
    given = words.filters(exchange.text("filters"), _FILTERS)
    for name in ("since", "before"):  # older clients send these as words of their own
        if exchange.text(name):
            given.setdefault(name, []).append(exchange.text(name))
    limit = words.integer(exchange.text("limit") or "0")
    views = await projection.containers(actor)
    everything = exchange.flag("all") or limit > 0 or "status" in given
    if not everything:
        views = [view for view in views if view.is_running]
    for test in await _tests(actor, given):
        views = [view for view in views if test(view)]
    if limit > 0:
        views = views[:limit]
    tenant = actor.tenant
    assert tenant is not None
    names, now = await _image_names(actor, views), time.time()
    lines = [_line(view, tenant.name, names[view.image], now) for view in views]
    if exchange.flag("size"):
        found = await sizes.measured(actor, views)
        lines = [
            b"%b,%b" % (line[:-1], orjson.dumps(found.get(view.id) or {"SizeRw": 0})[1:]) for view, line in zip(views, lines, strict=True)
        ]
    await exchange.reply_bytes(b"[" + b",".join(lines) + b"]\n")


async def _tests(actor: Actor, given: words.Filters) -> list[Test]:
    """One for each filter; a container must pass all, and one value of each is enough."""
    tests: list[Test] = []
    for name, values in given.items():
        if values:
            tests.append(await _test(actor, name, values))
    return tests


async def _test(actor: Actor, name: str, values: Sequence[str]) -> Test:
    match name:
        case "status":
            _only(name, values, _STATES, "state")
            return lambda view: view.status.value in values
        case "exited":
            codes = {_exit_code(value) for value in values}
            return lambda view: view.state.run > 0 and not view.is_running and view.state.exit_code in codes
        case "id":
            starts = tuple(values)
            return lambda view: view.id.startswith(starts)
        case "name":
            patterns = [_pattern(name, value) for value in values]
            return lambda view: any(pattern.search(view.name) or pattern.search(f"/{view.name}") for pattern in patterns)
        case "label":
            return lambda view: words.labels_match(values, view.spec.labels)
        case "ancestor":
            wanted = {image_id for value in values if (image_id := await _image_id(actor, value))}
            return lambda view: view.image_id in wanted
        case "since":
            after = max([(await projection.container(actor, value)).created_at_ns for value in values])
            return lambda view: view.created_at_ns > after
        case "before":
            first = min([(await projection.container(actor, value)).created_at_ns for value in values])
            return lambda view: view.created_at_ns < first
        case "network":
            tenant = actor.tenant.name if actor.tenant else ""
            return lambda view: any(
                value in (view.spec.network_mode, networks.network_id(tenant, view.spec.network_mode)) for value in values
            )
        case "health":
            _only(name, values, _HEALTH, "health")
            return lambda view: (view.state.health.status if view.state.health else "none") in values
        case "is-task":
            wanted_task = words.one_boolean({name: list(values)}, name, False)
            return lambda view: not wanted_task
        case "publish" | "expose":
            for value in values:
                _check_port(name, value)
            return lambda view: False  # no container has published ports in this release
        case _:  # volume: nor volumes
            return lambda view: False


def _exit_code(value: str) -> int:
    try:
        return words.integer(value)
    except InvalidArgument as error:
        raise InvalidArgument(f"invalid filter 'exited={value[:40]}': {error.message}") from None


def _check_port(name: str, value: str) -> None:
    """80, 80/tcp or 80-90/tcp"""
    if not _PORTS.fullmatch(value):
        raise InvalidArgument(f'error while looking up for {name} {value[:40]}: strconv.ParseUint: parsing "{value[:40]}": invalid syntax')


def _only(name: str, values: Sequence[str], known: Sequence[str], what: str) -> None:
    for value in values:
        if value not in known:
            raise InvalidArgument(f"invalid filter '{name}={value}': invalid value for {what} ({value}): must be one of {', '.join(known)}")


def _pattern(name: str, text: str) -> re.Pattern[str]:
    """A regular expression, as in moby; but ours can be made to backtrack for hours, so only simple ones are taken."""
    if len(text) > 300 or len(_QUANTIFIERS.findall(text)) > 3 or re.search(r"\)[*+?{]", text):
        raise InvalidArgument(f"invalid filter '{name}={text[:40]}': the expression is too complicated")
    try:
        return re.compile(text, re.ASCII)
    except re.error as error:
        raise InvalidArgument(f"invalid filter '{name}={text}': {error}") from None


async def _image_id(actor: Actor, name: str) -> str:
    try:
        return (await images.image(actor, name)).id
    except EngineError:
        return ""


async def _image_names(actor: Actor, views: Sequence[ContainerView]) -> dict[str, dict[str, str]]:
    """What was typed → which image that is today: a name that moved on is shown as the id, as docker does."""
    typed = {view.image for view in views}
    return {name: {await _image_id(actor, name): name} for name in typed}


def _line(view: ContainerView, tenant: str, names: dict[str, str], now: float) -> bytes:
    fixed = view.cache.get("list")
    if fixed is None:
        fixed = view.cache["list"] = orjson.dumps(_fixed(view, tenant))[:-1]
    return b'%b,"Image":%b,"Status":%b}' % (fixed, orjson.dumps(names.get(view.image_id, view.image_id)), orjson.dumps(status(view, now)))


def _fixed(view: ContainerView, tenant: str) -> dict[str, Any]:
    mode = view.spec.network_mode
    return {
        "Id": view.id,
        "Names": [f"/{view.name}"],
        "ImageID": view.image_id,
        "Command": command(view.spec.args),
        "Created": view.created_at_ns // 1_000_000_000,
        "Ports": [],
        "Labels": view.spec.labels,
        "State": view.status.value,
        "HostConfig": {"NetworkMode": mode},
        "NetworkSettings": {"Networks": inspect.endpoints(view, tenant)},
        "Mounts": tmpfs.mount_points(view.docker_host_config),
    }


def summary(view: ContainerView, tenant: str, now: float) -> dict[str, Any]:
    """The same as a dict: for ``system df``."""
    return {**_fixed(view, tenant), "Image": view.image, "Status": status(view, now)}


def command(args: Sequence[str]) -> str:
    return " ".join(f"'{arg}'" if index and " " in arg else arg for index, arg in enumerate(args))


def status(view: ContainerView, now: float) -> str:
    """As ``docker ps`` shows it."""
    known, since = view.state, words.human_duration(now - view.state.started_at_ns / 1e9)
    if view.status is Status.RESTARTING:
        return f"Restarting ({known.exit_code}) {words.human_duration(now - known.finished_at_ns / 1e9)} ago"
    if view.status is Status.PAUSED:
        return f"Up {since} (Paused)"
    if view.status is Status.RUNNING:
        return f"Up {since} ({_health(known.health)})" if known.health else f"Up {since}"
    if view.status is Status.EXITED:
        return f"Exited ({known.exit_code}) {words.human_duration(now - known.finished_at_ns / 1e9)} ago"
    return view.status.value.capitalize()


def _health(known: HealthState) -> str:
    return "health: starting" if known.status == "starting" else known.status
