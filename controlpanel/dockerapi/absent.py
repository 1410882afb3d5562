"""What this release has not: lists are empty, objects don't exist, swarm is not there, verbs say so. Never a wrong 200."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from controlpanel.containers import projection as containers
from controlpanel.dockerapi.exchange import Exchange
from engine.errors import NotFound, Unavailable, Unsupported

Handler = Callable[[Exchange], Awaitable[None]]

_NO_SWARM: Final = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.'
)


def _says(value: Any) -> Handler:
    async def answer(exchange: Exchange) -> None:
        await exchange.reply_json(value)

    return answer


def _missing(sentence: str) -> Handler:
    """An object of a kind of which there are none."""

    async def answer(exchange: Exchange) -> None:
        raise NotFound(sentence.format(**exchange.params))

    return answer


def _sentence(what: str) -> str:
    """``what`` may carry advice after a colon."""
    name, colon, advice = what.partition(":")
    return f"{name} is not supported yet{colon}{advice}"


def _container_verb(what: str) -> Handler:
    """An unknown container is still 404."""

    async def answer(exchange: Exchange) -> None:
        await containers.container(exchange.actor, exchange.params["id"])
        raise Unsupported(_sentence(what))

    return answer


def _verb(what: str) -> Handler:
    async def answer(_exchange: Exchange) -> None:
        raise Unsupported(_sentence(what))

    return answer


async def _not_in_swarm(_exchange: Exchange) -> None:
    raise Unavailable("This node is not part of a swarm")


async def _no_cluster_volume(_exchange: Exchange) -> None:
    raise Unavailable("volume update only valid for cluster volumes, but swarm is unavailable")


async def _no_swarm(_exchange: Exchange) -> None:
    raise Unavailable(_NO_SWARM)


_C = "/containers/{id}"
_PLUGIN = 'plugin "{name}" not found'

TABLE: Final[list[tuple[str, str, Handler]]] = [
    ("GET,POST", _C + "/checkpoints", _container_verb("checkpointing")),
    ("DELETE", _C + "/checkpoints/{name}", _container_verb("checkpointing")),
    ("PUT", "/volumes/{id}", _no_cluster_volume),
    ("GET", "/plugins", _says([])),
    ("GET", "/plugins/privileges", _verb("managing plugins: they would run as root of the host")),
    ("POST", "/plugins/pull", _verb("managing plugins: they would run as root of the host")),
    ("POST", "/plugins/create", _verb("managing plugins: they would run as root of the host")),
    ("GET", "/plugins/{name}/json", _missing(_PLUGIN)),
    ("DELETE", "/plugins/{name}", _missing(_PLUGIN)),
    ("POST", "/plugins/{name}/enable", _missing(_PLUGIN)),
    ("POST", "/plugins/{name}/disable", _missing(_PLUGIN)),
    ("POST", "/plugins/{name}/upgrade", _missing(_PLUGIN)),
    ("POST", "/plugins/{name}/push", _missing(_PLUGIN)),
    ("POST", "/plugins/{name}/set", _missing(_PLUGIN)),
    ("POST", "/swarm/leave", _not_in_swarm),
    *(
        ("GET,POST,DELETE", path, _no_swarm)
        for kind in ("swarm", "services", "nodes", "tasks", "secrets", "configs")
        for path in (f"/{kind}", f"/{kind}/{{name}}")
    ),
]
