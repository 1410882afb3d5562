"""Folders of the host in containers: only below what root granted to the tenant (engine.ceilings), and never by a link out of it."""

from __future__ import annotations

import dataclasses
import errno
import os
import posixpath
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from engine import ceilings
from engine.ceilings import Ceiling, Folder
from engine.errors import InvalidArgument, PermissionDenied
from engine.kernel import mounts, paths, syscalls
from engine.model.container import ContainerSpec
from engine.model.tenant import TenantHost
from engine.model.volume import BIND, VOLUME, MountSpec, VolumeSpec

_NOT_SHARED = ("shared", "rshared")


def granted(ceiling: Ceiling, mount: MountSpec) -> Folder:
    """The folder that it lies in, the innermost. PermissionDenied, saying who can change it, when there is none."""
    source = posixpath.normpath(mount.source)
    found = [folder for folder in ceiling.binds if source == folder.path or source.startswith(folder.path.rstrip("/") + "/")]
    if not found:
        raise PermissionDenied(
            f"bind mounts of {source} are not allowed: root of this host grants folders to a tenant"
            " with `python3 -m engine --tenant NAME ceiling --bind FOLDER`",
            rule="bind",
        )
    if mount.propagation in _NOT_SHARED:
        raise PermissionDenied(f"propagation {mount.propagation} is not allowed: what a container mounts is not the host's", rule="bind")
    folder = max(found, key=lambda each: len(each.path))
    if folder.read_only and not mount.read_only:
        raise PermissionDenied(f"bind mounts of {source} are allowed read-only alone (:ro): {folder.path} was granted so", rule="bind")
    return folder


def check_volume(volume: VolumeSpec, ceiling: Ceiling) -> None:
    """Of a volume that is another name of a folder."""
    if volume.folder:
        granted(ceiling, _of(volume, MountSpec(type=VOLUME, source=volume.name, target="/")))


def resolved(spec: ContainerSpec, volumes: Sequence[VolumeSpec]) -> ContainerSpec:
    """With the folders for the volumes that are other names of one."""
    named = {volume.name: volume for volume in volumes if volume.folder}
    if not named:
        return spec
    mounts = [_of(named[mount.source], mount) if mount.type == VOLUME and mount.source in named else mount for mount in spec.mounts]
    return dataclasses.replace(spec, mounts=tuple(mounts))


def _of(volume: VolumeSpec, mount: MountSpec) -> MountSpec:
    asked = volume.options["o"].split(",")
    return dataclasses.replace(
        mount,
        type=BIND,
        source=posixpath.normpath(posixpath.join(volume.folder, mount.subpath)),
        read_only=mount.read_only or "ro" in asked,
        recursive="rbind" in asked,
        propagation="rprivate",
        subpath="",
    )


def words(spec: ContainerSpec, ceiling: Ceiling) -> dict[str, dict[str, Any]]:
    """Target → what the launcher needs to find each source."""
    found = {}
    for mount in spec.mounts:
        if mount.type == BIND:
            folder = granted(ceiling, mount)
            found[mount.target] = {"below": folder.path, **({"owner": folder.owner} if folder.owner else {})}
    return found


def check(spec: ContainerSpec, ceiling: Ceiling, tenant: TenantHost) -> None:
    """At a create: each source is there, or is made where the request is of the kind that makes it (``-v``)."""
    for mount in spec.mounts:
        if mount.type == BIND:
            folder = granted(ceiling, mount)
            _ensure(folder, mount, folder.owner or tenant.uid_start)


def _ensure(folder: Folder, mount: MountSpec, owner: int) -> None:
    source = posixpath.normpath(mount.source)
    missing = InvalidArgument(f'invalid mount config for type "bind": bind source path does not exist: {mount.source}')
    try:
        here = ceilings.open_folder(folder)
    except OSError:
        raise missing from None
    try:
        try:
            os.close(paths.open_in_folder(here, source[len(folder.path) :].lstrip("/") or ".", os.O_PATH))
            return
        except FileNotFoundError:
            if not mount.create:
                raise missing from None
        for part in source[len(folder.path) :].strip("/").split("/"):
            with suppress(FileExistsError):
                _make(part, here, owner)
            deeper = paths.open_in_folder(here, part, os.O_PATH | os.O_DIRECTORY)
            os.close(here)
            here = deeper
    except OSError as error:
        if error.errno in (errno.EXDEV, errno.ELOOP, errno.ENOTDIR):
            raise InvalidArgument(f"{mount.source} leads out of {folder.path}, or through what is no folder") from None
        raise InvalidArgument(f"{mount.source}: {os.strerror(error.errno or 0).lower()}") from None
    finally:
        os.close(here)


def _make(name: str, above: int, owner: int) -> None:
    """Its owner's from the first moment: a chown would follow, and change whatever others have put there meanwhile."""
    effective, permitted, inheritable = syscalls.capget()
    with mounts.files_owned_by(owner, owner):
        # another file system id takes the thread's rights on files along; the folder above may be root's
        syscalls.capset(effective=effective, permitted=permitted, inheritable=inheritable)
        os.mkdir(name, 0o755, dir_fd=above)
