"""A container's volumes when it is made: taken, or made; and an empty one gets what the image has at that path, as moby does it.

The content is copied beside the volume's files, as ``filling``, and moved in entry by entry when it is whole: so a copy that was killed
is none, and a container that has the volume mounted meanwhile sees whole files. A move that was killed is finished by whoever comes next.
The image's layers are read one by one: nothing is mounted, no link is followed but by its text, inside the image.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from engine import binds, ceilings, disk, errors, remote
from engine.builds.files import follow
from engine.builds.layertree import LayerTree
from engine.files import stack
from engine.model.container import ContainerSpec
from engine.model.image import ImageRecord
from engine.model.tenant import TenantHost
from engine.model.volume import IMAGE, VOLUME, MountSpec, VolumeSpec
from engine.treecopy import TreeCopy, new_folder
from engine.volumes.store import DATA

if TYPE_CHECKING:
    from engine.engine import Engine

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_COPY: Final = "copy"  # becomes ``filling`` when it is whole
_FILLING: Final = "filling"
_MARK: Final = "is-filled"  # an empty file beside, as long as this or a return to a snapshot is under way
_RESTORED: Final = "restored."  # and random digits: what goes in the place of ``_data``, or was there (engine.snapshots)


def take(engine: Engine, spec: ContainerSpec, tenant: TenantHost, held: ExitStack, undo: ExitStack) -> None:
    """Everything that ``spec`` mounts is there and in use when this returns, and as long as ``held`` lasts, or ``undo`` has it as it was.

    Volumes with a name stay, as in moby: somebody else may have begun to use them.
    """
    if not spec.mounts:
        return
    ceiling = ceilings.read(engine.config, spec.tenant)
    binds.check(spec, ceiling, tenant)
    for mount in spec.mounts:
        if mount.type == IMAGE:
            engine.images.resolve(spec.tenant, mount.source)  # NotFound for another tenant's
        if mount.type == VOLUME and mount.options:
            check_granted(VolumeSpec(tenant=spec.tenant, name=mount.source, options=mount.options), ceiling)
    undo.callback(engine.volumes.leave, spec, remove=True)
    engine.volumes.take(spec)
    remote.check(engine, spec, ceiling)
    held.enter_context(engine.volumes.held(spec))
    record: ImageRecord | None = None
    for mount in spec.mounts:
        if mount.type == VOLUME and not mount.no_copy and not mount.subpath:
            volume = engine.volumes.get(spec.tenant, mount.source)
            if volume.has_own_files:
                record = record or engine.images.get(spec.image_id)
                _fill(engine, volume, mount, record)


def check_granted(volume: VolumeSpec, ceiling: ceilings.Ceiling) -> None:
    """Of one that is about to be made: what of the host or of a server it would be. PermissionDenied."""
    binds.check_volume(volume, ceiling)
    remote.check_volume(volume, ceiling)


def recover(engine: Engine) -> None:
    """What processes that were killed in the midst of a copy left."""
    for spec in engine.volumes.list():
        if spec.folder:
            continue
        folder = engine.volumes.folder(spec.tenant, spec.name)
        if (folder / _MARK).exists():
            with suppress(errors.NotFound), alone(engine, spec) as files:
                _finish(files)
                (folder / _MARK).unlink(missing_ok=True)


def _finish(files: Path) -> None:
    for name in os.listdir(files):
        if name.startswith(_RESTORED):
            disk.remove_tree(files / name)
    if (files / _COPY).is_dir():
        disk.remove_tree(files / _COPY)
    if (files / _FILLING).is_dir():
        _move_in(files / _FILLING, files / DATA)


@contextmanager
def place_beside(engine: Engine, volume: VolumeSpec, files: Path) -> Iterator[Path]:
    """Where nothing is: a folder that is made there is gone at the end, or when we are killed, at the next start. For who is ``alone``."""
    _finish(files)
    mark = engine.volumes.folder(volume.tenant, volume.name) / _MARK
    mark.touch()
    place = files / f"{_RESTORED}{os.urandom(8).hex()}"
    try:
        yield place
    finally:
        if place.exists():
            disk.remove_tree(place)
        mark.unlink(missing_ok=True)


def _fill(engine: Engine, volume: VolumeSpec, mount: MountSpec, image: ImageRecord) -> None:
    with alone(engine, volume) as files:
        _finish(files)
        if any(os.scandir(files / DATA)):
            return
        path = _folder_in_image(engine, image, mount)
        if not path:
            return
        mark = engine.volumes.folder(volume.tenant, volume.name) / _MARK
        mark.touch()
        _copy_beside(engine, volume, files, path, image)
        _finish(files)
        mark.unlink()


def _copy_beside(engine: Engine, volume: VolumeSpec, files: Path, path: str, image: ImageRecord) -> None:
    copy = files / _COPY
    with _layers(engine, image) as roots:
        found = stack.locate(roots, path)
        assert found is not None
        target = new_folder(copy)
        try:
            TreeCopy(target).folder(found[0], path)
            if engine.volumes.is_over(volume):
                raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        except BaseException as error:
            disk.remove_tree(copy)
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise errors.FailedPrecondition(f"volume {volume.name}: there is no room for what the image has in /{path}") from error
            raise
        finally:
            os.close(target)
    copy.rename(files / _FILLING)


def _move_in(fresh: Path, data: Path) -> None:
    """What another put there meanwhile stays."""
    source, target = os.open(fresh, _FOLDER), os.open(data, _FOLDER)
    try:
        for name in os.listdir(source):
            with suppress(FileExistsError, NotADirectoryError, IsADirectoryError):
                if not _exists(name, target):
                    os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
        status = os.fstat(source)
        os.fchown(target, status.st_uid, status.st_gid)
        os.fchmod(target, stat.S_IMODE(status.st_mode))
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
    finally:
        os.close(source)
        os.close(target)
    disk.remove_tree(fresh)


def _exists(name: str, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _folder_in_image(engine: Engine, image: ImageRecord, mount: MountSpec) -> str:
    """The image's folder at the target, links followed; "" when it has none. InvalidArgument for a file, in moby's words."""
    tree = LayerTree([engine.config.layers / chain_id / "diff" for chain_id in reversed(image.chain_ids)])
    try:
        path = follow(tree, mount.target.lstrip("/"))
        file = tree.find(path)
    finally:
        tree.close()
    if file is not None and not file.is_folder:
        raise errors.InvalidArgument(f"cannot mount volume over existing file, file exists {mount.target}")
    return path if file is not None else ""


@contextmanager
def alone(engine: Engine, volume: VolumeSpec) -> Iterator[Path]:
    """The folder with its ``_data``, which nobody else fills, copies or replaces meanwhile. NotFound when it went away."""
    with engine.volumes.alone(volume.tenant, volume.name), engine.volumes.files(volume) as files:
        yield files


@contextmanager
def _layers(engine: Engine, image: ImageRecord) -> Iterator[stack.Roots]:
    roots: list[int] = []
    try:
        for chain_id in reversed(image.chain_ids):
            folder = engine.config.layers / chain_id / "diff"
            roots.append(os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        yield tuple(roots)
    finally:
        for root in roots:
            os.close(root)
