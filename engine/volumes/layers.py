"""The writable layer of a container; mounting it is the launcher's business.

<engine>/rootfs/<id>/{upper,work}       what it wrote, with the ids that it sees
                    /project            of one with a size, where the disk has quotas: its number (engine.volumes.projects)
                    /disk.img           of one with a size where the disk has none: a file system that has upper and work (disks)
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from engine import disk
from engine.config import EngineConfig
from engine.errors import AlreadyExists, FailedPrecondition, Unsupported
from engine.images.trash import sweep_soon
from engine.kernel.paths import open_beneath
from engine.runtime.layers import IMAGE
from engine.volumes import disks, projects

_FOLDERS = {"upper": 0o755, "work": 0o700}
_SIZE = "size"  # beside disk.img: bytes


def create(config: EngineConfig, container_id: str, size: int = 0) -> None:
    """Empty folders, root:root: the tenant's id-mapped view makes that the container's root. ``size``: bytes at most, 0: as many as
    there are. Raises AlreadyExists; after another error nothing is there."""
    folder = config.rootfs / container_id
    if size:
        disks.check_size(config.rootfs, size)
    try:
        folder.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        raise AlreadyExists(f"the files of container {container_id[:12]} exist already") from None
    try:
        if size and projects.hold(config.rootfs):
            projects.begin(folder, size)
        elif size:
            _create_disk(folder, size)
            return
        _make_folders(folder)
    except BaseException:
        remove(config, container_id)
        raise


def _create_disk(folder: Path, size: int) -> None:
    try:
        disks.make(folder / IMAGE, size, *_FOLDERS)
    except Unsupported as error:
        raise Unsupported(f"--storage-opt size: {error.message}") from error
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise FailedPrecondition(f"there is no room for a layer of {size} bytes") from error
    with disks.opened(folder / IMAGE) as root:
        for name, mode in _FOLDERS.items():
            os.chmod(name, mode, dir_fd=root)
    disk.write_json(folder / _SIZE, size)


def _make_folders(above: Path) -> None:
    for name, mode in _FOLDERS.items():
        (above / name).mkdir()
        (above / name).chmod(mode)


def resize(config: EngineConfig, container_id: str, size: int) -> None:
    """Also of one that runs, as far as the host can. FailedPrecondition for one that was made without a size."""
    folder = config.rootfs / container_id
    disks.check_size(config.rootfs, size)
    if (before := disk.read_json(folder / _SIZE)) is not None:
        disks.resize(folder / IMAGE, int(before), size)
        disk.write_json(folder / _SIZE, size)
    elif projects.is_one(folder):
        projects.resize(folder, size)
    else:
        raise FailedPrecondition("its writable layer was made without a size, and gets none: commit it, and make a container with one")


def remove(config: EngineConfig, container_id: str) -> None:
    """Gone at once by a rename; the bytes follow. Fine when there is nothing."""
    config.trash.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(OSError):
        projects.end(config.rootfs / container_id)
    disk.to_trash(config.rootfs / container_id, config.trash)
    sweep_soon(config.trash)


def size_bytes(config: EngineConfig, container_id: str) -> int:
    """What lies in its writable layer: counted by the file system where it has a size, else by a walk."""
    folder = config.rootfs / container_id
    with suppress(FileNotFoundError):  # removed meanwhile
        if (size := disk.read_json(folder / _SIZE)) is not None:
            return disks.used(folder / IMAGE, int(size))
        if projects.is_one(folder):
            return projects.used(folder)
    return tree_bytes(config.rootfs, f"{container_id}/upper")


def tree_bytes(above: Path, top: str) -> int:
    """Below ``above``/``top``, each file once however many names it has; folders count nothing (as moby counts). 0 of what is not there."""
    seen: set[int] = set()
    size, folders = 0, [top]
    try:
        root = os.open(above, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        while folders:
            name = folders.pop()
            try:
                folder = open_beneath(root, name, os.O_RDONLY | os.O_DIRECTORY)
            except OSError:
                continue  # gone meanwhile, or deeper than a path is long
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(f"{name}/{entry.name}")
                        elif entry.inode() not in seen:
                            seen.add(entry.inode())
                            with suppress(FileNotFoundError):
                                size += entry.stat(follow_symlinks=False).st_size
            finally:
                os.close(folder)
    finally:
        os.close(root)
    return size
