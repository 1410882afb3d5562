"""A host's complete list against the rows: each side may have lost its last seconds in a power cut.

    a row whose container the list does not name      it goes
    a row that knows a greater (seq, change)          it goes back to what the list says
    a container without a row                         a stranger, for events.strangers

What the panel knew is taken before the list begins: what is done meanwhile is not judged by it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

from controlpanel.containers import recovery, services
from controlpanel.containers import rows as containers
from controlpanel.containers.models import Container
from controlpanel.images import rows as images
from controlpanel.images.models import Image
from controlpanel.networks import rows as networks
from controlpanel.networks.models import Network
from controlpanel.tenants.models import Tenant
from controlpanel.volumes import rows as volumes
from controlpanel.volumes.models import Volume
from engine.config import PUBLIC_TENANT
from engine.model import codec
from engine.model.container import ContainerState
from engine.model.event import EventKind

log = logging.getLogger(__name__)

ImageKey = tuple[str, str]  # tenant name ("public"), image id
VolumeKey = tuple[str, str]  # tenant name, volume name
Order = tuple[int, int]  # (seq, change) of a ContainerState


@dataclass(slots=True)
class Known:
    """What the panel believes. The order of a container whose creation the host has not answered is (-1, 0)."""

    containers: dict[str, Order]
    images: set[ImageKey]
    volumes: dict[VolumeKey, int] = field(default_factory=dict)  # when each was made
    networks: set[str] = field(default_factory=set)  # ids of those that are ready


@dataclass(slots=True)
class Inventory:
    """Collected while the list comes in. ``containers``: id → its Event as JSON."""

    containers: dict[str, dict[str, Any]] = field(default_factory=dict)
    images: set[ImageKey] = field(default_factory=set)
    volumes: dict[VolumeKey, int] = field(default_factory=dict)
    networks: set[str] = field(default_factory=set)

    def note(self, message: dict[str, Any]) -> None:
        if message["kind"] == EventKind.IMAGE_ADDED:
            self.images.add((message["tenant"], message["object_id"]))
        elif message["kind"] == EventKind.NETWORK_ADDED:
            self.networks.add(message["object_id"])
        elif message["kind"] == EventKind.VOLUME_ADDED:
            self.volumes[message["tenant"], message["object_id"]] = message["state"]["created_ns"]
        elif message["kind"].startswith("container."):
            self.containers[message["object_id"]] = message


def known(host_name: str) -> Known:
    rows = Container.everywhere.filter(host__name=host_name).values_list("engine_id", "host_seq", "state__change")
    of_tenants = Image.everywhere.values_list("tenant__name", "image_id")
    return Known(
        {engine_id: (seq, change or 0) for engine_id, seq, change in rows},
        {(tenant or PUBLIC_TENANT, image_id) for tenant, image_id in of_tenants},
        {(tenant, name): made for tenant, name, made in Volume.everywhere.values_list("tenant__name", "name", "created_ns")},
        set(Network.everywhere.filter(host__name=host_name, state=Network.READY).values_list("network_id", flat=True)),
    )


def settle(before: Known, found: Inventory) -> dict[str, str]:
    """The strangers, id → tenant. Call it inside a transaction."""
    for container_id, order in sorted(before.containers.items()):
        message = found.containers.get(container_id)
        if message is None:
            _gone(container_id, order)
        elif order > (message["seq"], message["state"].get("change", 0)):
            _recall(container_id, message)
    for tenant, image_id in sorted(before.images - found.images):
        log.warning("image %s of %s is gone from the host", image_id[:19], tenant)
        row_tenant = {"tenant": None} if tenant == PUBLIC_TENANT else {"tenant__name": tenant}
        for image in Image.everywhere.filter(image_id=image_id, **row_tenant):
            images.drop(image.tenant_id, [image_id])
    for network_id in sorted(before.networks - found.networks):
        networks.gone(network_id)
    for tenant, name in sorted(before.volumes.keys() - found.volumes.keys()):
        log.warning("volume %s of %s is gone from the host", name, tenant)
        for number in Tenant.objects.filter(name=tenant).values_list("pk", flat=True):
            volumes.drop(number, name, before.volumes[tenant, name])
    unknown = found.containers.keys() - before.containers.keys()
    unknown -= set(Container.everywhere.filter(engine_id__in=unknown).values_list("engine_id", flat=True))
    return {container_id: found.containers[container_id]["tenant"] for container_id in sorted(unknown)}


def _gone(container_id: str, order: Order) -> None:
    """Of a create without an answer nothing is known yet: the sweeper asks."""
    row = containers.locked(container_id) if order[0] >= 0 else None
    if row is not None:
        log.warning("container %s (%s) is gone from its host", row.name, container_id[:12])
        services.gone(row)


def _recall(container_id: str, message: dict[str, Any]) -> None:
    row = containers.locked(container_id)
    if row is not None and row.spec["tenant"] == message["tenant"]:
        recovery.recall(row, codec.from_json(ContainerState, message["state"]), time_ns=message["time_ns"])
