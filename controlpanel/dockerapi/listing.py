"""``GET /containers/json``. What doesn't change with time is serialised once for each version of a container."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import orjson

from controlpanel.containers import mounts, networking, ports, projection, tmpfs
from controlpanel.containers.projection import ContainerView
from controlpanel.dockerapi import inspect, sizes, words
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
_PORTS: Final = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?", re.ASCII)
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
    of_ports: list[Test] = []  # of these one is enough
    for name, values in given.items():
        if values:
            (of_ports if name in ("publish", "expose") else tests).append(await _test(actor, name, values))
    return [*tests, lambda view: any(test(view) for test in of_ports)] if of_ports else tests


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
            patterns = [words.pattern(name, value) for value in values]
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
                name in values or (number and number.startswith(tuple(values)))
                for name, number in inspect.network_ids(view, tenant).items()
            )
        case "health":
            _only(name, values, _HEALTH, "health")
            return lambda view: (view.state.health.status if view.state.health else "none") in values
        case "is-task":
            wanted_task = words.one_boolean({name: list(values)}, name, False)
            return lambda view: not wanted_task
        case "publish" | "expose":
            ports_wanted = {port for value in values for port in _range(name, value)}
            member = "PublicPort" if name == "publish" else "PrivatePort"
            return lambda view: any((port.get(member), port["Type"]) in ports_wanted for port in _ports(view))
        case _:  # volume, by name or by where it is
            return lambda view: any(mount.source in values or mount.target in values for mount in view.spec.mounts)


def _exit_code(value: str) -> int:
    try:
        return words.integer(value)
    except InvalidArgument as error:
        raise InvalidArgument(f"invalid filter 'exited={value[:40]}': {error.message}") from None


def _range(name: str, value: str) -> Iterator[tuple[int, str]]:
    """80, 80/tcp or 80-90/tcp: each port of it."""
    if ":" in value:
        raise InvalidArgument(f"filter for '{name}' should not contain ':': {value[:40]}")
    found = _PORTS.fullmatch(value)
    if not found:
        raise InvalidArgument(f'error while looking up for {name} {value[:40]}: strconv.ParseUint: parsing "{value[:40]}": invalid syntax')
    first, last = int(found[1]), int(found[2] or found[1])
    if not first <= last <= 65535:
        raise InvalidArgument(f"error while looking up for {name} {value[:40]}: invalid range specified for port: {value[:40]}")
    return ((port, found[3] or "tcp") for port in range(first, last + 1))


def _only(name: str, values: Sequence[str], known: Sequence[str], what: str) -> None:
    for value in values:
        if value not in known:
            raise InvalidArgument(f"invalid filter '{name}={value}': invalid value for {what} ({value}): must be one of {', '.join(known)}")


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
    mode = networking.shown_mode(str(view.docker_host_config.get("NetworkMode") or ""), view.spec.network_mode)
    return {
        "Id": view.id,
        "Names": [f"/{view.name}"],
        "ImageID": view.image_id,
        "Command": command(view.spec.args),
        "Created": view.created_at_ns // 1_000_000_000,
        "Ports": _ports(view),
        "Labels": view.spec.labels,
        "State": view.status.value,
        "HostConfig": {"NetworkMode": mode},
        "NetworkSettings": {"Networks": inspect.networks_of(view, tenant)},
        "Mounts": [*mounts.points(view.spec.mounts), *tmpfs.mount_points(view.docker_host_config)],
    }


def _ports(view: ContainerView) -> list[dict[str, Any]]:
    """Of one that runs in a network of its own."""
    if not view.state.has_process or view.spec.network_mode not in inspect.NETWORKED:
        return []
    return ports.summary(view.docker_config, ports.current(view.spec, view.state))


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
