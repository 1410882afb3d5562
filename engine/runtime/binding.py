"""What a container's bind mounts are of: files of the engine's, volumes, granted folders of the host. The launcher's half: each
becomes a detached mount, which the member puts into its place.

    below the engine's folder   through the tenant's view of it, so that the container's root owns what root owns on disk
    a volume's disk             its file system, with the container's ids
    a volume in memory          one tmpfs for all that run with it (engine.volatile)
    on an NFS server            mounted already (engine.runtime.shares), with the ids of the server: the kernel maps none there
    an image                    an overlay of its layers, to be read
    a volume's subpath          resolved in the volume as if that were ``/``: what lies there is the tenant's to arrange
    below a granted folder      links are followed as long as they stay in it
"""

from __future__ import annotations

import os
from functools import partial
from typing import Final

from engine import errors
from engine.config import EngineConfig
from engine.kernel import loop_devices, mounts, namespaces, paths, syscalls
from engine.kernel.mounts import parse_options
from engine.kernel.syscalls import MS, Clone
from engine.runtime import layers
from engine.runtime.plan import HOSTS_SYS, INIT_ON_HOST, Mount, Plan

_NEWNET: Final = int(Clone.NEWNET)
_NODEV: Final = int(MS.NODEV)
_NOSUID: Final = int(MS.NOSUID)
_SLAVE: Final = int(MS.SLAVE)
_FOLDER: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def detached(config: EngineConfig, store: int, planned: Plan, mount: Mount) -> int:
    """``store``: the tenant's view of the engine's folder."""
    engine = f"{config.engine}/"
    if mount.below:
        return _granted(planned, mount)
    if mount.lower:
        return _of_image(store, planned, mount)
    if mount.disk and mount.source.startswith(engine):
        return _of_disk(planned, mount)
    if mount.memory is not None and mount.source.startswith(engine):
        source = _memory(mount.source, mount.memory, planned.uid_start)
    elif mount.source.startswith(engine):
        source = paths.open_beneath(store, mount.source[len(engine) :], os.O_PATH)
    elif mount.source == INIT_ON_HOST or (
        mount.source == mount.target == HOSTS_SYS and not (planned.namespaces | planned.joined) & _NEWNET
    ):
        source = os.open(mount.source, os.O_PATH | os.O_CLOEXEC)
    else:
        raise errors.PermissionDenied(f"{mount.source} is not the engine's: folders of the host are not given to containers")
    try:
        if mount.subpath:
            whole, source = source, _subpath(source, mount.subpath)
            os.close(whole)
        fd = mounts.bind_copy(source, recursive=mount.recursive, flags=mount.options.flags | _NODEV)
    finally:
        os.close(source)
    if mount.suid:
        mounts.clear_nosuid(fd)
    return fd


def _memory(place: str, words: str, uid_start: int) -> int:
    """O_PATH of the tmpfs on ``place``, which is made when there is none."""
    if not os.path.ismount(place):
        fd = mounts.tmpfs(parse_options(words.split(",")), uid_start)
        try:
            mounts.attach(fd, place)
        finally:
            os.close(fd)
    return os.open(place, _FOLDER)


def drop_memory(config: EngineConfig, place: str) -> None:
    """Nobody runs with it. Gone already is fine."""
    if os.path.normpath(place) == place and place.startswith(f"{config.volumes}/") and os.path.ismount(place):
        syscalls.umount2(place, syscalls.MNT_DETACH)


def shared(share: int, mount: Mount) -> int:
    """``share`` stays the caller's."""
    mounts.set_flags(share, mount.options.flags | _NODEV | _NOSUID)
    return os.dup(share)


def _of_disk(planned: Plan, mount: Mount) -> int:
    whole = loop_devices.mounted(os.path.join(os.path.dirname(mount.source), "disk.img"))
    resolve = partial(_subpath, path=mount.subpath) if mount.subpath else None
    fd = mounts.below_detached(whole, os.path.basename(mount.source), flags=mount.options.flags | _NODEV, resolve=resolve)
    try:
        layers.show_as(fd, planned.uid_start, planned.ids)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _of_image(store: int, planned: Plan, mount: Mount) -> int:
    opened: list[int] = []
    try:
        for name in mount.lower:
            opened.append(paths.open_beneath(store, name, os.O_PATH | os.O_DIRECTORY))
        with mounts.files_owned_by(planned.uid_start, planned.uid_start):
            fd = mounts.overlay_to_read(opened)
    finally:
        for each in opened:
            os.close(each)
    if mount.subpath:
        return mounts.below_detached(fd, ".", flags=mount.options.flags | _NODEV, resolve=partial(_subpath, path=mount.subpath))
    try:
        mounts.set_flags(fd, mount.options.flags | _NODEV)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _subpath(volume: int, path: str) -> int:
    try:
        return paths.open_in_root(volume, path, os.O_PATH)
    except OSError as error:
        raise errors.InvalidArgument(f"cannot mount subpath {path}: {os.strerror(error.errno or 0).lower()}") from None


def _granted(planned: Plan, mount: Mount) -> int:
    try:
        folder = os.open(mount.below, _FOLDER)
        try:
            source = paths.open_in_folder(folder, mount.source[len(mount.below) :].lstrip("/") or ".", os.O_PATH)
        finally:
            os.close(folder)
    except OSError as error:
        raise errors.InvalidArgument(f"error while creating mount source path '{mount.source}': {os.strerror(error.errno or 0)}") from None
    propagation = _SLAVE if mount.options.propagation & _SLAVE else int(MS.PRIVATE)
    try:
        fd = mounts.bind_copy(source, recursive=mount.recursive, flags=mount.options.flags | _NODEV, propagation=propagation)
    finally:
        os.close(source)
    if mount.owner:
        try:
            _map_owner(fd, planned.uid_start, mount)
        except BaseException:
            os.close(fd)
            raise
    return fd


def _map_owner(fd: int, uid_start: int, mount: Mount) -> None:
    """The id ``owner`` on disk is the container's root, and there is no other."""
    id_map = [(mount.owner, uid_start, 1)]
    userns = namespaces.user_namespace(id_map, id_map)
    try:
        mounts.map_ids(fd, userns, recursive=mount.recursive)
    except OSError as error:
        raise errors.InvalidArgument(f"{mount.source}: the file system there cannot show its files as another user's") from error
    finally:
        os.close(userns)
