"""A container's merged files as the root folder of a process that gives up being root of the host first. For porter's children.

running    its mount namespace, found by its pidfd: tmpfs and all, as its own processes see it
stopped    an overlay of its layers, made as the launcher makes it and attached nowhere: gone with its last descriptor
volume     a volume's folder, which is the whole root
sealed     the same without a writable layer of its own: for reading, beside whatever else mounts these layers
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from engine.config import EngineConfig
from engine.kernel import loop_devices, mounts, namespaces, paths, processes, syscalls
from engine.kernel.syscalls import AT_FDCWD, MS, OPEN_TREE_CLONE, Clone
from engine.runtime import layers

RUNNING: Final = "running"
STOPPED: Final = "stopped"
SEALED: Final = "sealed"
VOLUME: Final = "volume"


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What porter is told. ``lower`` (top first), ``upper`` and ``work`` are below the engine's folder. Of a volume: its folder is
    ``upper``, and ``image`` the file whose file system has it, if it has one of its own."""

    kind: str
    tenant: str
    uid_start: int
    ids: int
    lower: tuple[str, ...]
    upper: str
    work: str
    image: str = ""
    hidden: tuple[int, ...] = field(default=())  # st_dev of proc, sysfs and their like in a running one


def enter_running(pidfd: int, *, without_mounts: bool = False) -> int:
    """This process becomes root of the container's user namespace. A descriptor of the root folder.

    ``without_mounts``: of the root file system alone, nothing of what is mounted in it.
    """
    syscalls.setns(pidfd, Clone.NEWUSER | Clone.NEWNS)
    _become_root()
    if without_mounts:
        return syscalls.open_tree(AT_FDCWD, "/", OPEN_TREE_CLONE)
    return os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def enter_volume(view: View, store: int) -> int:
    """As ``enter_running``, before a volume."""
    id_map: Sequence[tuple[int, int, int]] = [(0, view.uid_start, view.ids)]
    user_namespace = namespaces.user_namespace(id_map, id_map)
    if view.image:
        root = mounts.below_detached(loop_devices.mounted(view.image), view.upper.rpartition("/")[2])
        mounts.map_ids(root, user_namespace, recursive=False)
    else:
        source = paths.open_beneath(store, view.upper, os.O_PATH | os.O_DIRECTORY)
        root = mounts.bind_copy(source, recursive=False, flags=int(MS.NODEV | MS.NOEXEC))
        os.close(source)
    syscalls.setns(user_namespace, Clone.NEWUSER)
    os.close(user_namespace)
    _become_root()
    return root


def enter_layers(view: View, store: int, config: EngineConfig) -> int:
    """As ``enter_running``, before an overlay of the layers in ``store``, the engine's folder as the tenant sees it."""
    opened: list[int] = []

    def layer(name: str) -> int:
        opened.append(paths.open_beneath(store, name, os.O_PATH | os.O_DIRECTORY))
        return opened[-1]

    try:
        lower = [layer(name) for name in view.lower]
        own = layers.opened(config, store, view.upper, view.work, uid_start=view.uid_start, ids=view.ids)
        with own as (upper, work), mounts.files_owned_by(view.uid_start, view.uid_start):
            root = mounts.overlay_to_read([upper, *lower]) if view.kind == SEALED else mounts.overlay(lower, upper, work)
    finally:
        for fd in opened:
            os.close(fd)
    id_map: Sequence[tuple[int, int, int]] = [(0, view.uid_start, view.ids)]
    user_namespace = namespaces.user_namespace(id_map, id_map)
    syscalls.setns(user_namespace, Clone.NEWUSER)
    os.close(user_namespace)
    _become_root()
    return root


def _become_root() -> None:
    os.setresgid(0, 0, 0)
    os.setgroups([])
    os.setresuid(0, 0, 0)
    processes.hide()
    os.umask(0)
