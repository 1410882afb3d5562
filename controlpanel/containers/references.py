"""Containers that a create request names: ``--network container:web`` becomes ``container:<id>``, which ``inspect`` shows then."""

from __future__ import annotations

from typing import Any, Final

from controlpanel.containers import projection
from controlpanel.containers.fields import obj, text
from controlpanel.containers.options import CONTAINER
from controlpanel.tenants.actor import Actor
from engine.errors import InvalidArgument, NotFound

_MODES: Final = {"NetworkMode": "joining network namespace of container: ", "IpcMode": "", "PidMode": "", "UTSMode": ""}


async def resolve(actor: Actor, body: dict[str, Any]) -> dict[str, Any]:
    """The request with ids for names. InvalidArgument for one that is not there, as moby has it: "not found" on a create is the image."""
    host_config = obj(body, "HostConfig")
    found = {}
    for member, prefix in _MODES.items():
        mode = text(host_config, member)
        name = mode.removeprefix(CONTAINER)
        if not mode.startswith(CONTAINER) or not name:
            continue
        try:
            found[member] = CONTAINER + (await projection.container(actor, name)).id
        except NotFound as error:
            raise InvalidArgument(prefix + error.message) from None
    return {**body, "HostConfig": {**host_config, **found}} if found else body
