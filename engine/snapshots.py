"""Copies of volumes: a clone under another name, snapshots, and the return to one. Blocks are shared where the file system can.

    <volume>/snapshots/<name>/{_data,made}    a plain tree, also of a volume with a file system of its own: it counts for the host's disk

A copy is made beside and renamed into its place; the return to one exchanges two folders at once. What is copied while containers
write to it is as after a power cut: each file as it was at one moment. One act at a time of a volume (Volumes.alone); a return holds
the locks of all its containers while it exchanges, as a start does.
"""

from __future__ import annotations

import dataclasses
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from engine import disk, filling, treecopy
from engine.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from engine.images.trash import sweep_soon
from engine.kernel import syscalls
from engine.model.volume import VolumeSpec
from engine.runtime import client
from engine.volumes import projects
from engine.volumes.store import DATA, PROJECT

if TYPE_CHECKING:
    from engine.engine import Engine

SNAPSHOTS_MAX: Final = 100  # of one volume
_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}")


def clone(engine: Engine, tenant: str, name: str, new_name: str) -> VolumeSpec:
    """With the same options and labels. AlreadyExists."""
    source = engine.volumes.get(tenant, name)
    asked = dataclasses.replace(source, name=new_name, created_ns=0, anonymous=False, limit="")
    with filling.alone(engine, source) as files:
        return engine.volumes.create_filled(asked, lambda target: treecopy.copy_below(files / DATA, target))


def take(engine: Engine, tenant: str, name: str, snapshot: str) -> None:
    spec, folder = engine.volumes.get(tenant, name), _folder(engine, tenant, name)
    _check_name(snapshot)
    with filling.alone(engine, spec) as files:
        if len(names := of(engine, tenant, name)) >= SNAPSHOTS_MAX:
            raise FailedPrecondition(f"volume {name} has {len(names)} snapshots, which is the most: remove one")
        if (folder / snapshot).exists():
            raise AlreadyExists(f"volume {name} has a snapshot {snapshot} already")
        if not folder.exists():
            folder.mkdir(mode=0o700)
            if spec.limit == PROJECT:
                projects.exempt(folder)
        fresh = folder / f".new.{os.urandom(4).hex()}"
        try:
            fresh.mkdir(mode=0o700)
            treecopy.copy_below(files / DATA, fresh / DATA)
            disk.write_json(fresh / "made", time.time_ns())
            fresh.rename(folder / snapshot)
        except BaseException:
            disk.to_trash(fresh, engine.config.trash, name="volume")
            sweep_soon(engine.config.trash)
            raise


def restore(engine: Engine, tenant: str, name: str, snapshot: str) -> None:
    """FailedPrecondition while a container runs with it. What was in it is gone; the snapshot stays."""
    spec = engine.volumes.get(tenant, name)
    with filling.alone(engine, spec) as files, filling.place_beside(engine, spec, files) as fresh:
        source = _found(engine, tenant, name, snapshot)
        _check_users(engine, spec, engine.volumes.users(tenant, name))  # before the copy, which is in vain then
        treecopy.copy_below(source / DATA, fresh)
        if engine.volumes.is_over(spec):
            raise FailedPrecondition(f"volume {name}: while it is put back there must be room for both")
        with _resting(engine, spec):
            syscalls.exchange(fresh, files / DATA)


@contextmanager
def _resting(engine: Engine, volume: VolumeSpec) -> Iterator[None]:
    """No container runs with it, or starts as long as the block lasts, or has its files open since it was made ahead."""
    while True:
        with ExitStack() as held:
            known = engine.volumes.users(volume.tenant, volume.name)
            for user in known:  # in their order: nobody else holds two of them
                with suppress(NotFound):
                    held.enter_context(engine.locked(user))
            if held.enter_context(engine.volumes.kept_users(volume.tenant, volume.name)) != known:
                continue
            if engine.volumes.get(volume.tenant, volume.name).created_ns != volume.created_ns:
                raise NotFound(f"get {volume.name}: no such volume")
            _check_users(engine, volume, known)
            for user in known:
                client.discard(engine.config, user)
            yield
            return


def _check_users(engine: Engine, volume: VolumeSpec, users: Sequence[str]) -> None:
    for user in users:
        if not engine.records.is_recorded(user):
            raise FailedPrecondition(f"volume {volume.name} is in use by the container {user}, which is just being made: try again")
        if engine.records.state(user).has_process:
            raise FailedPrecondition(f"volume {volume.name} is in use by the running container {user}: stop it first")


def remove(engine: Engine, tenant: str, name: str, snapshot: str) -> None:
    with engine.volumes.alone(tenant, name):  # a copy of it may be under way
        disk.to_trash(_found(engine, tenant, name, snapshot), engine.config.trash, name="volume")
    sweep_soon(engine.config.trash)


def of(engine: Engine, tenant: str, name: str) -> dict[str, int]:
    """Name → when it was made, in ns; the oldest first."""
    engine.volumes.get(tenant, name)
    folder = _folder(engine, tenant, name)
    found = {}
    for entry in sorted(os.listdir(folder)) if folder.is_dir() else ():
        if not entry.startswith("."):
            found[entry] = int(disk.read_json(folder / entry / "made") or 0)
    return dict(sorted(found.items(), key=lambda item: item[1]))


def _folder(engine: Engine, tenant: str, name: str) -> Path:
    return engine.volumes.folder(tenant, name) / "snapshots"


def _found(engine: Engine, tenant: str, name: str, snapshot: str) -> Path:
    engine.volumes.get(tenant, name)
    place = _folder(engine, tenant, name) / _check_name(snapshot)
    if not place.is_dir():
        raise NotFound(f"volume {name} has no snapshot {snapshot}")
    return place


def _check_name(snapshot: str) -> str:
    if not _NAME.fullmatch(snapshot):
        raise InvalidArgument(f"invalid name of a snapshot: {snapshot[:80]!r}: letters, digits, _ . and -, at most 63")
    return snapshot
