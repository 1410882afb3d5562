"""What changes on this host without the keeper's doing: names of images, removed containers, starts that failed.

inotify(7) on the engine's folders, whoever writes there (host worker, agent, command line). Every record of the engine arrives
by rename, so IN_MOVED_TO is the moment it is whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import Final

from engine.engine import Engine
from engine.kernel.inotify import IN_Q_OVERFLOW, inotify_add_watch, inotify_init, inotify_rm_watch, read_events
from engine.model.event import Event, EventKind
from workers import report
from workers.agent.watcher import Watcher

_IN_MOVED_TO: Final = 0x80  # sys/inotify.h
_IN_DELETE: Final = 0x200

Names = dict[str, dict[str, list[str]]]  # tenant: {image id: [ref, …]}


class Folders:
    """Lives in the event loop; tells through the Watcher."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher, self._engine = watcher, watcher.engine
        self._names = image_names(self._engine)
        self._records: dict[int, set[Callable[[], None]]] = {}
        self._fd = inotify_init()
        self._refs = inotify_add_watch(self._fd, str(self._engine.config.refs), _IN_MOVED_TO | _IN_DELETE)
        self._trash = inotify_add_watch(self._fd, str(self._engine.config.trash), _IN_MOVED_TO)
        asyncio.get_running_loop().add_reader(self._fd, self._ready)

    @contextlib.contextmanager
    def watching(self, container_id: str, call: Callable[[], None]) -> Iterator[None]:
        """``call`` whenever a record of this container is written, while in this block. FileNotFoundError: it is gone."""
        watch = inotify_add_watch(self._fd, str(self._engine.config.container(container_id)), _IN_MOVED_TO)
        calls = self._records.setdefault(watch, set())
        calls.add(call)
        try:
            yield
        finally:
            calls.discard(call)
            if not calls:
                del self._records[watch]
                with contextlib.suppress(OSError):  # the folder was removed, and its watch with it
                    inotify_rm_watch(self._fd, watch)

    def _ready(self) -> None:
        names_changed = False
        for event in read_events(self._fd):
            if event.mask & IN_Q_OVERFLOW:  # the kernel kept no more: of what is gone with the rest only an inventory tells
                names_changed = True
                for calls in list(self._records.values()):
                    for call in list(calls):
                        call()
                self._watcher.lose_track()
            elif event.watch == self._trash:
                self._removed(event.name.decode())
            elif event.watch == self._refs:
                names_changed = True
            else:
                for call in list(self._records.get(event.watch, ())):
                    call()
        if names_changed:
            self._tell_names()

    def _removed(self, trashed: str) -> None:
        if container := self._engine.records.removed(trashed):
            container_id, tenant = container
            self._watcher.tenants.pop(container_id, "")
            now, kind, host = time.time_ns(), EventKind.CONTAINER_REMOVED, self._watcher.host
            self._watcher.tell(Event(kind=kind, tenant=tenant, object_id=container_id, seq=now, time_ns=now, host=host))

    def _tell_names(self) -> None:
        seen_ns = time.time_ns()
        before, self._names = self._names, image_names(self._engine)
        for tenant in before.keys() | self._names.keys():
            old, new = before.get(tenant, {}), self._names.get(tenant, {})
            for image_id in old.keys() | new.keys():
                if old.get(image_id) != new.get(image_id):
                    self._watcher.tell(image_event(self._engine, self._watcher.host, tenant, image_id, new.get(image_id), seen_ns=seen_ns))


def image_names(engine: Engine) -> Names:
    """What every tenant, and ``public``, has on this host and calls how; images without a name are there, too."""
    found: Names = {}
    for entry in os.scandir(engine.config.refs):
        tenant, dot, kind = entry.name.partition(".")
        if tenant and dot and kind == "json":
            holding = engine.images.refs_of.read(tenant)
            found[tenant] = {image_id: holding.names_of(image_id) for image_id in holding.images}
    return found


def image_event(engine: Engine, host: str, tenant: str, image_id: str, refs: list[str] | None, *, seen_ns: int) -> Event:
    """Added, or renamed; ``refs`` None: the tenant has it no more. Time orders these facts: ``seen_ns`` is before names were read."""
    kind, state = report.image_fact(engine.images, image_id, refs)
    return Event(kind=kind, tenant=tenant, object_id=image_id, seq=seen_ns, time_ns=seen_ns, host=host, state=state)
