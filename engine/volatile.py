"""Volumes in memory (``-o type=tmpfs``): what containers write there is shared by all that run with the volume, and gone with the last.

The launcher mounts one in its own mount namespace when the first is started, on ``_data``, where nobody else sees it, and each gets a copy
of that mount. Whose run ends looks whether anybody else's goes on, and has it unmounted. A start holds the volume's lock meanwhile,
so that nobody unmounts between a mount and the keeper's knowing of who has it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Final

from engine import errors
from engine.model.container import ContainerSpec
from engine.model.volume import VolumeSpec
from engine.runtime import client
from engine.volumes.store import DATA

if TYPE_CHECKING:
    from engine.engine import Engine

_LOCK: Final = ".memory.lock"


def of(engine: Engine, spec: ContainerSpec) -> list[VolumeSpec]:
    return [volume for volume in engine.volumes.of(spec) if volume.in_memory]


@contextmanager
def held(engine: Engine, spec: ContainerSpec) -> Iterator[None]:
    """For a start."""
    with ExitStack() as locks:
        for volume in of(engine, spec):
            locks.enter_context(_locked(engine, volume, fcntl.LOCK_SH))
        yield


def forget(engine: Engine, spec: ContainerSpec) -> None:
    """The run of ``spec`` has ended: what nobody else runs with goes. Without keeper or launcher it is gone already."""
    for volume in of(engine, spec):
        with suppress(errors.Unavailable), _locked(engine, volume, fcntl.LOCK_EX):
            running = {words["id"] for words in engine.keeper.list()}
            if running.isdisjoint(engine.volumes.users(volume.tenant, volume.name)):
                client.drop_memory(engine.config, str(engine.volumes.folder(volume.tenant, volume.name) / DATA))


@contextmanager
def _locked(engine: Engine, volume: VolumeSpec, how: int) -> Iterator[None]:
    fd = os.open(engine.volumes.folder(volume.tenant, volume.name) / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, how)
        yield
    finally:
        os.close(fd)
