"""Where a container's writable layer lies, as a name below the engine's folder, and how it is opened.

rootfs/<id>/upper                as a folder of the store
rootfs/<id>/disk.img/upper       in the file system in that file (engine.volumes.layers says why)
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from engine.config import EngineConfig
from engine.kernel import loop_devices, mounts, namespaces, paths
from engine.kernel.syscalls import MS

IMAGE: Final = "disk.img"
_FOLDER: Final = os.O_PATH | os.O_DIRECTORY
_TO_READ: Final = int(MS.RDONLY | MS.NODEV | MS.NOSUID | MS.NOEXEC)


def upper_and_work(config: EngineConfig, container_id: str) -> tuple[str, str]:
    inside = f"/{IMAGE}" if os.path.exists(f"{config.rootfs}/{container_id}/{IMAGE}") else ""
    return f"rootfs/{container_id}{inside}/upper", f"rootfs/{container_id}{inside}/work"


@contextmanager
def opened(config: EngineConfig, store: int, *names: str, uid_start: int, ids: int) -> Iterator[list[int]]:
    """O_PATH descriptors of one container's folders for an overlay. ``store``: the tenant's view of the engine's folder."""
    image = _image(names[0])
    with ExitStack() as held:
        if image:
            mount = loop_devices.mounted(config.engine / image)
            held.callback(os.close, mount)
            show_as(mount, uid_start, ids)
            held.enter_context(mounts.attached(mount))
            store, names = mount, tuple(os.path.basename(name) for name in names)
        folders = []
        for name in names:
            folders.append(paths.open_beneath(store, name, _FOLDER))
            held.callback(os.close, folders[-1])
        yield folders


def show_as(mount: int, uid_start: int, ids: int) -> None:
    """A detached mount gets the tenant's ids: id n of its files is ``uid_start`` + n."""
    id_map = [(0, uid_start, ids)]
    userns = namespaces.user_namespace(id_map, id_map)
    try:
        mounts.map_ids(mount, userns, recursive=False)
    finally:
        os.close(userns)


def open_to_read(config: EngineConfig, engine: int, name: str, flags: int = _FOLDER) -> int:
    """A layer, with the ids as they lie on the disk. ``engine``: the engine's folder."""
    image = _image(name)
    if not image:
        return paths.open_beneath(engine, name, flags)
    mount = loop_devices.mounted(config.engine / image)
    try:
        mounts.set_flags(mount, _TO_READ)
        return paths.open_beneath(mount, os.path.basename(name), flags)
    finally:
        os.close(mount)  # what is open keeps it


def _image(name: str) -> str:
    above = os.path.dirname(name)
    return above if os.path.basename(above) == IMAGE else ""
