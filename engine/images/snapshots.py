"""The writable layer of a container: <engine>/rootfs/<id>/{upper,work}. Mounting it is the launcher's business."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass

from engine import disk
from engine.config import EngineConfig
from engine.errors import AlreadyExists
from engine.images.trash import sweep_soon
from engine.kernel.paths import open_beneath


@dataclass(frozen=True, slots=True)
class Rootfs:
    """Paths relative to EngineConfig.engine, as the launcher wants them."""

    upper: str
    work: str


def create(config: EngineConfig, container_id: str) -> Rootfs:
    """Both folders, empty, root:root: the tenant's id-mapped view makes that the container's root. Raises AlreadyExists."""
    folder = config.rootfs / container_id
    try:
        folder.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        raise AlreadyExists(f"the files of container {container_id[:12]} exist already") from None
    for name, mode in (("upper", 0o755), ("work", 0o700)):
        (folder / name).mkdir()
        (folder / name).chmod(mode)
    return Rootfs(f"rootfs/{container_id}/upper", f"rootfs/{container_id}/work")


def remove(config: EngineConfig, container_id: str) -> None:
    """Gone at once by a rename; the bytes follow. Fine when there is nothing."""
    config.trash.mkdir(mode=0o700, parents=True, exist_ok=True)
    disk.to_trash(config.rootfs / container_id, config.trash)
    sweep_soon(config.trash)


def size_bytes(config: EngineConfig, container_id: str) -> int:
    """What lies in its writable layer, each file once however many names it has; folders count nothing (as moby counts)."""
    seen: set[int] = set()
    size, folders = 0, [f"{container_id}/upper"]
    root = os.open(config.rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
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
