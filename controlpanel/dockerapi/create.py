"""``POST /containers/create``: Go's types are checked here; what the words mean, and what we do not do, in containers.request."""

from __future__ import annotations

import re
from typing import Any, Final

from controlpanel.containers import services
from controlpanel.containers.networking import MAC_DEPRECATED
from controlpanel.dockerapi import schema, shapes
from controlpanel.dockerapi.exchange import Exchange
from engine.errors import InvalidArgument, Unsupported

_SEVERAL_NETWORKS: Final = (1, 44)  # since this version a create may name more than one
_PLATFORM: Final = re.compile(r"linux(/|\Z)")


async def create(exchange: Exchange) -> None:
    body = decode(await exchange.read_json())
    platform = exchange.text("platform")
    if platform.count("/") > 2:
        raise InvalidArgument(f'"{platform}": cannot parse platform specifier: invalid argument')
    if platform and not _PLATFORM.match(platform):
        raise Unsupported(f"images for platform {platform} don't run here: this host is linux")
    old = exchange.version < _SEVERAL_NETWORKS
    named = (body.get("NetworkingConfig") or {}).get("EndpointsConfig") or {}
    if old and len(named) > 1:
        raise InvalidArgument(f"Container cannot be created with multiple network endpoints: {', '.join(named)}")
    made = await services.create_container(exchange.actor, body, name=exchange.text("name"), platform=platform)
    warnings = [warning for warning in made.warnings if not (old and warning == MAC_DEPRECATED)]
    await exchange.reply_json({"Id": made.view.id, "Warnings": warnings}, 201)


def decode(data: bytes) -> dict[str, Any]:
    """The request with the members that were given, spelled as Docker spells them."""
    given = schema.parse(data)
    if given is None or given == {}:
        raise InvalidArgument("config cannot be empty in order to create a container")
    body = schema.decode(shapes.CREATE, given, go_type="container.CreateRequest")
    host_config = body.get("HostConfig") or {}
    # a request made from an inspect carries the defaults back
    for name, default in (("MaskedPaths", shapes.MASKED_PATHS), ("ReadonlyPaths", shapes.READONLY_PATHS)):
        if host_config.get(name) == default:
            del host_config[name]
    return body
