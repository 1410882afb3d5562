"""Launches made ahead: what is created is mostly started at once, so its process is made at the create and waits, all set up.

    prepare  the engine has created a container: cgroup, namespaces, mounts, user, filters as for a launch, only nobody is told yet
    launch   in the same words: taken over where it is, which leaves keeper, network and execve to do
             in other words (its limits were changed meanwhile): ended, and the engine asks again
    discard  somebody removes the container or writes into its files

So the work happens while the create's answer is on its way up and the start on its way down. It is the very launch of every
container, in the container's own cgroup and by the same checks; there is no second kind of member. Who is not started within
KEPT_S ends without a trace, and who creates without starting soon gets none made ahead any more.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from engine import errors
from engine.kernel import processes

if TYPE_CHECKING:
    from engine.runtime.launch import Launch
    from engine.runtime.loop import Connection, Loop

KEPT_S: Final = 2.0
MOST: Final = 16  # at a time; the oldest goes first
PATIENCE: Final = 8  # in a row that nobody started, then only every PROBE-th is made
PROBE: Final = 16
MEMORY_MIN: Final = 0.05  # of the machine's, that must be available
_WORDS: Final = ("run", "config", "rootfs", "log_dir", "log", "stdin")

Make = Callable[[dict[str, Any]], "Launch"]


class Ready:
    """Of a launcher. ``make`` gives a launch that has no connection yet."""

    def __init__(self, loop: Loop, make: Make) -> None:
        self._loop, self._make = loop, make
        self._launches: dict[str, Launch] = {}  # by container, oldest first; also those that are just ending
        self._waiting: dict[str, list[Connection]] = {}  # who asked for an end of it
        self._unused = 0  # in a row
        self._asked = 0

    def prepare(self, words: dict[str, Any]) -> None:
        """Answers nobody: what goes wrong here goes wrong again, and is told, when it is launched."""
        container_id = str(words.get("id"))
        self._asked += 1
        if container_id in self._launches or (self._unused >= PATIENCE and self._asked % PROBE):
            return
        if processes.available_memory() < MEMORY_MIN:
            return
        launch = self._launches[container_id] = self._make(words)
        launch.begin()
        self._loop.after(KEPT_S, partial(self._expire, container_id, launch))
        if len(self._launches) > MOST:
            next(iter(self._launches.values())).abandoned()

    def take(self, words: dict[str, Any]) -> Launch | None:
        """For this launch, no longer ours. Unavailable: one is there and must end first; ask again."""
        launch = self._launches.get(str(words.get("id")))
        if launch is None:
            return None
        if launch.is_over or any(launch.words.get(name) != words.get(name) for name in _WORDS):
            launch.abandoned()
            raise errors.Unavailable("a launch made ahead is just being ended")
        del self._launches[launch.id]
        self._unused = 0
        return launch

    def has(self, container_id: str) -> bool:
        return container_id in self._launches and not self._launches[container_id].is_over

    def discard(self, connection: Connection, container_id: str) -> None:
        """Answers when there is none (any more): its process is reaped, its mounts and its cgroup are gone."""
        launch = self._launches.get(container_id)
        if launch is None:
            connection.send({"ok": {}})
            return
        self._waiting.setdefault(container_id, []).append(connection)
        launch.abandoned()

    def ended(self, launch: Launch) -> None:
        """One of ours has come to an end without a start."""
        del self._launches[launch.id]
        self._unused += 1
        for connection in self._waiting.pop(launch.id, ()):
            connection.send({"ok": {}})

    def _expire(self, container_id: str, launch: Launch) -> None:
        if self._launches.get(container_id) is launch:
            launch.abandoned()
