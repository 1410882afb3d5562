"""What a create request names and only rows can say: containers (``--network container:web``, ``--link db``, ``--volumes-from db``) and
networks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from controlpanel.containers import projection
from controlpanel.containers.fields import Object, obj, objects, strings, text
from controlpanel.containers.options import CONTAINER
from controlpanel.images import projection as image_views
from controlpanel.networks import projection as networks
from controlpanel.networks.builtin import BRIDGE, DRIVERS, HOST, NONE
from controlpanel.networks.projection import NetworkView
from controlpanel.tenants.actor import Actor
from engine.errors import InvalidArgument, NotFound
from engine.model.volume import MountSpec

_MODES: Final = {"NetworkMode": "joining network namespace of container: ", "IpcMode": "", "PidMode": "", "UTSMode": ""}
_BRIDGE: Final = NetworkView(id="", name=BRIDGE, driver=DRIVERS[BRIDGE], created_ns=0, user_defined=False)
_HOST: Final = NetworkView(id=HOST, name=HOST, driver=DRIVERS[HOST], created_ns=0, user_defined=False)
_NONE: Final = NetworkView(id="none", name=NONE, driver=DRIVERS[NONE], created_ns=0, user_defined=False)
BUILTIN: Final[Mapping[str, NetworkView]] = {
    "": _BRIDGE,
    "default": _BRIDGE,
    BRIDGE: _BRIDGE,
    HOST: _HOST,
    NONE: _NONE,
}  # words that need no rows


@dataclass(frozen=True, slots=True)
class References:
    """By the words of the request. ``containers``: ids."""

    networks: Mapping[str, NetworkView] = field(default_factory=lambda: BUILTIN)
    containers: Mapping[str, str] = field(default_factory=dict)


async def resolve(actor: Actor, body: dict[str, Any]) -> tuple[dict[str, Any], References]:
    """The request with the ids of containers whose namespaces it shares, which ``inspect`` shows then, and what else it names.

    InvalidArgument for what is not there, as moby has it: "not found" on a create is the image.
    """
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
    if found:
        body = {**body, "HostConfig": {**host_config, **found}}
    endpoints = obj(obj(body, "NetworkingConfig"), "EndpointsConfig")
    mode = text(obj(body, "HostConfig"), "NetworkMode")
    named = [] if mode.startswith(CONTAINER) else [mode, *endpoints]
    wanted = {name for link in _links(host_config, mode, endpoints) if (name := _name(link))}
    if BUILTIN.keys() >= set(named) and not wanted:
        return body, References()
    return body, References(await _networks(actor, named), {word: await _linked(actor, word) for word in sorted(wanted)})


async def linked(actor: Actor, settings: Object) -> dict[str, str]:
    """The containers that an EndpointConfig's Links name."""
    words = sorted({name for link in strings(settings, "Links") if (name := _name(link))})
    return {word: await _linked(actor, word) for word in words}


def _links(host_config: Object, mode: str, endpoints: Object) -> Iterator[str]:
    """HostConfig's are the default bridge's."""
    if mode in ("", "default", BRIDGE):
        yield from strings(host_config, "Links")
    for name in endpoints:
        yield from strings(obj(endpoints, name), "Links")


def _name(link: str) -> str:
    """ "" of what is no link: whoever reads it says so."""
    return link.partition(":")[0] if link.count(":") < 2 else ""


async def _networks(actor: Actor, words: list[str]) -> dict[str, NetworkView]:
    views, found = await networks.networks(actor), dict(BUILTIN)
    for word in words:
        if word not in found:
            try:
                network = networks.find(views, word)
            except NotFound as error:
                raise InvalidArgument(error.message) from None
            networks.check_use(actor, network)
            found[word] = network if network.user_defined else BUILTIN[network.name]
    return found


async def _linked(actor: Actor, word: str) -> str:
    try:
        return (await projection.container(actor, word)).id
    except NotFound as error:
        raise InvalidArgument(f"could not get container for {word}: {error.message}") from None


async def donors(actor: Actor, body: dict[str, Any]) -> dict[str, tuple[MountSpec, ...]]:
    """What the containers of ``VolumesFrom`` mount, by the words they are named with."""
    found = {}
    for words in strings(obj(body, "HostConfig"), "VolumesFrom"):
        name = words.partition(":")[0]
        if name:
            try:
                found[name] = (await projection.container(actor, name)).spec.mounts
            except NotFound as error:
                raise InvalidArgument(error.message) from None
    return found


async def images(actor: Actor, body: dict[str, Any]) -> dict[str, str]:
    """Ids of the images that are mounted, by the words they are named with. NotFound, upon which a client pulls the container's own."""
    words = {text(mount, "Source") for mount in objects(obj(body, "HostConfig"), "Mounts") if text(mount, "Type") == "image"}
    return {word: (await image_views.image(actor, word)).id for word in sorted(words) if word}
