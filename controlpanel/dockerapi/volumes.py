"""Volumes: list, create, inspect, remove, prune."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from controlpanel.containers.volumes import all_users, users
from controlpanel.dockerapi import schema, words
from controlpanel.dockerapi.exchange import Exchange
from controlpanel.hosts.streams import open_stream
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.permissions import require
from controlpanel.volumes import projection, services
from engine.errors import InvalidArgument, Unavailable
from engine.model.volume import ANONYMOUS_LABEL, VolumeSpec

_FILTERS: Final = ("dangling", "driver", "label", "name")
_CREATE: Final[dict[str, schema.Kind]] = {
    "ClusterVolumeSpec": schema.anything,
    "Name": schema.string,
    "Driver": schema.string,
    "DriverOpts": schema.string_map,
    "Labels": schema.string_map,
}
_PRUNED_ALL_BEFORE: Final = (1, 42)  # API version: since then the nameless alone


async def list_all(exchange: Exchange) -> None:
    require(exchange.actor, "volume.view")
    try:
        given = words.filters(exchange.text("filters"), _FILTERS)
    except InvalidArgument as error:
        if error.message != "invalid filter":
            raise
        raise InvalidArgument("error reading volume filters: invalid filter") from None
    test = await _test(exchange.actor, given)
    found = [described(spec) for spec in await projection.volumes(exchange.actor) if test(spec)]
    await exchange.reply_json({"Volumes": found, "Warnings": None})


async def inspect(exchange: Exchange) -> None:
    require(exchange.actor, "volume.view")
    await exchange.reply_json(described(await projection.volume(exchange.actor, exchange.params["id"])))


async def create(exchange: Exchange) -> None:
    body = await exchange.read_json()
    given = schema.decode(_CREATE, schema.parse(body), "CreateOptions", go_type="volume.CreateOptions") if body.strip() else {}
    if given.get("ClusterVolumeSpec"):
        raise Unavailable("This node is not a swarm manager. Cluster volumes need one.")
    made = await services.create(
        exchange.actor,
        given.get("Name") or "",
        driver=given.get("Driver") or "",
        options=given.get("DriverOpts"),
        labels=given.get("Labels"),
    )
    await exchange.reply_json(described(made), 201)


async def remove(exchange: Exchange) -> None:
    await services.remove(exchange.actor, exchange.params["id"], force=exchange.flag("force"))
    await exchange.reply(204)


async def prune(exchange: Exchange) -> None:
    given = words.filters(exchange.text("filters"), ("all", "label", "label!"))
    everything = words.one_boolean(given, "all", exchange.version < _PRUNED_ALL_BEFORE)
    found = await unused(exchange.actor, named=everything, labels=given.get("label") or [], without=given.get("label!") or [])
    done = await services.prune(exchange.actor, [spec.name for spec in found])
    await exchange.reply_json({"VolumesDeleted": list(done.names) or None, "SpaceReclaimed": done.bytes})


async def unused(actor: Actor, *, named: bool, labels: Sequence[str] = (), without: Sequence[str] = ()) -> list[VolumeSpec]:
    """What a prune takes: those that nobody mounts; with ``named`` also those that have a name."""
    used = await all_users(actor)
    return [
        spec
        for spec in await projection.volumes(actor)
        if (named or ANONYMOUS_LABEL in spec.labels)
        and spec.name not in used
        and words.labels_match(labels, spec.labels)
        and not (without and words.labels_match(without, spec.labels))
    ]


def described(spec: VolumeSpec) -> dict[str, Any]:
    """In moby's form. Where the host keeps it is not its tenant's to know."""
    return {
        "CreatedAt": words.rfc3339(spec.created_ns // 10**9 * 10**9),
        "Driver": spec.driver,
        "Labels": spec.labels or None,
        "Mountpoint": "",
        "Name": spec.name,
        "Options": spec.options or None,
        "Scope": "local",
    }


async def usage(actor: Actor) -> list[dict[str, Any]]:
    """For ``system df``: -1 bytes while the host does not tell."""
    assert actor.tenant is not None
    specs, used = await projection.volumes(actor), await users(actor)
    sizes: dict[str, int] = {}
    if specs:
        try:
            ok, _reader, writer = await open_stream("volume_usage", actor.tenant.name, "")
            writer.close()
            sizes = ok["volumes"]
        except Unavailable:
            pass
    return [
        {**described(spec), "UsageData": {"RefCount": len(used.get(spec.name, ())), "Size": sizes.get(spec.name, -1)}} for spec in specs
    ]


async def _test(actor: Actor, given: words.Filters) -> Callable[[VolumeSpec], bool]:
    for name in given.get("name") or ():
        if len(name) > 255:
            raise InvalidArgument("invalid filter 'name'")
    dangling = given.get("dangling")
    used = await all_users(actor) if dangling else {}
    wants_dangling = words.one_boolean(given, "dangling", True)
    names, drivers, labels = given.get("name") or [], given.get("driver") or [], given.get("label") or []

    def test(spec: VolumeSpec) -> bool:
        if dangling and (spec.name not in used) != wants_dangling:
            return False
        if names and not any(name in spec.name for name in names):
            return False
        return (not drivers or spec.driver in drivers) and words.labels_match(labels, spec.labels)

    return test
