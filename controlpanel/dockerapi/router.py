"""Every route: what is served, what answers empty, what is refused and how.

Paths are moby's after the version prefix. A route matches by method and path; a path known with another method is "page not
found" as in moby. Image names contain slashes, so ``{name}`` of images is greedy.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from controlpanel.dockerapi import (
    absent,
    attach,
    attach_ws,
    buildkit,
    builds,
    create,
    disk_usage,
    events,
    execs,
    files,
    images,
    inspect,
    lifecycle,
    listing,
    loading,
    logs,
    networks,
    registries,
    resources,
    stats,
    system,
    volumes,
)
from controlpanel.dockerapi.exchange import Exchange

Handler = Callable[[Exchange], Awaitable[None]]


class Found(NamedTuple):
    handler: Handler
    params: dict[str, str]
    public: bool  # answered without asking who calls


_CONTAINER = "/containers/{id}"
_IMAGE = "/images/{name}"

_PUBLIC: Final[list[tuple[str, str, Handler]]] = [
    ("GET", "/_ping", system.ping),
    ("HEAD", "/_ping", system.ping),
]

_TABLE: Final[list[tuple[str, str, Handler]]] = [
    ("GET", "/version", system.version),
    ("GET", "/info", system.info),
    ("GET", "/events", events.stream),
    ("GET", "/system/df", disk_usage.disk_usage),
    ("POST", "/auth", registries.auth),
    ("GET", "/containers/json", listing.containers),
    ("GET", "/containers/ps", listing.containers),
    ("POST", "/containers/create", create.create),
    ("GET", _CONTAINER + "/json", inspect.container),
    ("GET", _CONTAINER + "/logs", logs.logs),
    ("GET", _CONTAINER + "/stats", stats.stats),
    ("POST", _CONTAINER + "/attach", attach.attach),
    ("GET", _CONTAINER + "/attach/ws", attach_ws.attach_ws),
    ("POST", _CONTAINER + "/resize", attach.resize),
    ("POST", _CONTAINER + "/start", lifecycle.start),
    ("POST", _CONTAINER + "/stop", lifecycle.stop),
    ("POST", _CONTAINER + "/restart", lifecycle.restart),
    ("POST", _CONTAINER + "/kill", lifecycle.kill),
    ("POST", _CONTAINER + "/wait", lifecycle.wait),
    ("POST", _CONTAINER + "/pause", resources.pause),
    ("POST", _CONTAINER + "/unpause", resources.unpause),
    ("POST", _CONTAINER + "/update", resources.update),
    ("GET", _CONTAINER + "/top", resources.top),
    ("POST", _CONTAINER + "/rename", lifecycle.rename),
    ("DELETE", _CONTAINER, lifecycle.remove),
    ("POST", "/containers/prune", lifecycle.prune),
    ("POST", _CONTAINER + "/exec", execs.create),
    ("POST", "/exec/{id}/start", execs.start),
    ("POST", "/exec/{id}/resize", execs.resize),
    ("GET", "/exec/{id}/json", execs.inspect),
    ("GET", _CONTAINER + "/changes", files.changes),
    ("GET", _CONTAINER + "/export", files.export),
    ("HEAD", _CONTAINER + "/archive", files.archive_stat),
    ("GET", _CONTAINER + "/archive", files.archive_get),
    ("PUT", _CONTAINER + "/archive", files.archive_put),
    ("POST", "/commit", files.commit),
    ("POST", "/build", builds.build),
    ("POST", "/build/prune", builds.prune),
    ("POST", "/build/cancel", builds.cancel),
    ("POST", "/session", builds.session),
    ("POST", "/grpc", buildkit.grpc),
    ("GET", "/images/json", images.list_all),
    ("POST", "/images/load", loading.load),
    ("POST", "/images/create", loading.create),
    ("GET", "/images/get", loading.save),
    ("GET", "/images/search", images.search),
    ("POST", "/images/prune", images.prune),
    ("GET", _IMAGE + "/get", loading.save),
    ("GET", _IMAGE + "/json", images.inspect),
    ("GET", _IMAGE + "/history", images.history),
    ("POST", _IMAGE + "/tag", images.tag),
    ("POST", _IMAGE + "/push", registries.push),
    ("GET", "/distribution/{name}/json", registries.distribution),
    ("DELETE", _IMAGE, images.remove),
    ("GET", "/volumes", volumes.list_all),
    ("POST", "/volumes/create", volumes.create),
    ("POST", "/volumes/prune", volumes.prune),
    ("GET", "/volumes/{id}", volumes.inspect),
    ("DELETE", "/volumes/{id}", volumes.remove),
    ("GET", "/networks", networks.list_all),
    ("GET", "/networks/", networks.list_all),
    ("POST", "/networks/create", networks.create),
    ("POST", "/networks/prune", networks.prune),
    ("GET", "/networks/{id}", networks.inspect),
    ("DELETE", "/networks/{id}", networks.remove),
    ("POST", "/networks/{id}/connect", networks.connect),
    ("POST", "/networks/{id}/disconnect", networks.disconnect),
    *absent.TABLE,
]

# First parts of the unversioned paths, which share the HTTP port with pages and REST
ROOTS: Final = frozenset(path.split("/")[1] for _method, path, _handler in _PUBLIC + _TABLE)


def _pattern(path: str) -> re.Pattern[str]:
    """``{id}`` is one part of the path, ``{name}`` any number of them."""
    text = re.escape(path).replace(r"\{id\}", "(?P<id>[^/]+)").replace(r"\{name\}", "(?P<name>.+)")
    return re.compile(text + r"\Z")


_Routes = dict[tuple[str, str], list[tuple[re.Pattern[str], Handler, bool]]]


def _compile() -> _Routes:
    routes: _Routes = {}
    for public, table in ((True, _PUBLIC), (False, _TABLE)):
        for methods, path, handler in table:
            for method in methods.split(","):
                routes.setdefault((method, path.split("/")[1]), []).append((_pattern(path), handler, public))
    return routes


_ROUTES: Final = _compile()


def find(method: str, path: str) -> Found | None:
    for pattern, handler, public in _ROUTES.get((method, path[1:].partition("/")[0]), ()):
        found = pattern.match(path)
        if found:
            return Found(handler, found.groupdict(), public)
    return None
