"""Volume rows following the host: the same fact twice is one. Each function belongs inside a transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from controlpanel.base import live, statements
from controlpanel.events import log
from controlpanel.events.models import Event
from controlpanel.tenants import projects
from controlpanel.volumes.models import Volume
from engine.model import codec
from engine.model.volume import VolumeSpec


def put(tenant_id: int, spec: VolumeSpec) -> bool:
    """The host has this one under its name. Whether that is news; what is news is told as Docker's event, too."""
    row = Volume.everywhere.filter(tenant_id=tenant_id, name=spec.name).first()
    if row is None:
        project_id = projects.number_of(tenant_id, spec.labels)
        statements.insert(Volume(tenant_id=tenant_id, project_id=project_id, name=spec.name, **_members(spec)))
    elif row.created_ns >= spec.created_ns:
        live.remind({"kind": "volume", "tenant": tenant_id}, None)
        return False
    else:
        before, row.project_id = row.project_id, projects.number_of(tenant_id, spec.labels)
        for name, value in _members(spec).items():
            setattr(row, name, value)
        row.save()
        projects.left(tenant_id, before)
    event(tenant_id, "create", spec.name, spec.labels, time_ns=spec.created_ns, driver=spec.driver)
    changed(tenant_id, spec.name, spec)
    return True


def _members(spec: VolumeSpec) -> dict[str, Any]:
    return {
        "driver": spec.driver,
        "options": spec.options,
        "labels": spec.labels,
        "anonymous": spec.anonymous,
        "limit": spec.limit,
        "size_bytes": spec.size_bytes,
        "created_ns": spec.created_ns,
    }


def change(tenant_id: int, spec: VolumeSpec) -> None:
    """The very one has other options now."""
    if Volume.everywhere.filter(tenant_id=tenant_id, name=spec.name, created_ns=spec.created_ns).update(
        options=spec.options, size_bytes=spec.size_bytes
    ):
        changed(tenant_id, spec.name, spec)


def drop(tenant_id: int, name: str, created_ns: int = 0) -> bool:
    """It is gone. ``created_ns`` says which it was: one of the same name that came after it stays. Whether that is news."""
    found = Volume.everywhere.filter(tenant_id=tenant_id, name=name)
    if created_ns:
        found = found.filter(created_ns__lte=created_ns)
    row = found.first()
    if row is None:
        live.remind({"kind": "volume", "tenant": tenant_id}, None)
        return False
    statements.delete(row)
    projects.left(tenant_id, row.project_id)
    event(tenant_id, "destroy", name, row.labels, driver=row.driver)
    changed(tenant_id, name, None)
    return True


def mirror(tenant_id: int, spec: VolumeSpec, *, time_ns: int) -> bool:
    """As the host said at ``time_ns``; what was removed since then does not come back."""
    told = Event.everywhere.filter(tenant_id=tenant_id, type="volume", action="destroy", actor_id=spec.name, time_ns__gt=time_ns)
    return not told.exists() and put(tenant_id, spec)


def event(tenant_id: int, action: str, name: str, labels: Mapping[str, str], *, time_ns: int = 0, **attributes: str) -> None:
    log.write(tenant_id, "volume", action, name, attributes, project=projects.name_of(labels), time_ns=time_ns)


def changed(tenant_id: int, name: str, spec: VolumeSpec | None) -> None:
    """None: it is gone."""
    live.on_commit({"kind": "volume", "tenant": tenant_id}, (name, spec))


def put_all(tenant_id: int, volumes: Iterable[dict[str, Any]]) -> None:
    """From the JSON of a host's message."""
    for data in volumes:
        put(tenant_id, codec.from_json(VolumeSpec, data))
