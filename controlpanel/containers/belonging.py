"""Volumes that a create names, for who may create in some projects only: those that are there must be theirs to use, and those that it
makes belong to the container's project.

Docker gives a volume that ``run -v data:/data`` makes no label; whoever made it so could not use it again.
"""

from __future__ import annotations

import dataclasses

from controlpanel.tenants import projects
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.permissions import LABEL, may, refusal, where
from controlpanel.volumes.models import Volume
from controlpanel.volumes.services import name_taken
from engine.model.container import ContainerSpec
from engine.model.volume import VOLUME


def volumes_of(actor: Actor, spec: ContainerSpec) -> ContainerSpec:
    """In the transaction that writes the row."""
    if where(actor, "container.create") is None:
        return spec
    named = {mount.source for mount in spec.mounts if mount.type == VOLUME}
    rows = Volume.everywhere.filter(tenant=actor.tenant, name__in=named).select_related("project")
    there = {row.name: row.project.name if row.project else "" for row in rows}
    for name, project in sorted(there.items()):
        if not may(actor, "container.create", project):
            raise refusal(actor, "container.create", project) if may(actor, "volume.view", project) else name_taken(name)
    label = {LABEL: projects.name_of(spec.labels)}
    mounts = (
        dataclasses.replace(mount, labels={**mount.labels, **label}) if mount.type == VOLUME and mount.source not in there else mount
        for mount in spec.mounts
    )
    return dataclasses.replace(spec, mounts=tuple(mounts))
