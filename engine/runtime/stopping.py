"""The keeper's end with all that it keeps (``down --containers``): launcher first, so that nothing new begins, then the containers, then,
their logs complete, all other parts and the keeper itself."""

from __future__ import annotations

import signal
from collections.abc import Callable, Collection, Mapping
from typing import Final

from engine.config import EngineConfig
from engine.runtime.kept import Kept
from engine.runtime.loop import Loop
from engine.runtime.parts import Parts

STOP_TIMEOUT_S: Final = 10.0  # between SIGTERM and SIGKILL of containers


class Stopping:
    """``kept`` and ``draining`` are the keeper's own: what runs, and what has ended with its log under way."""

    def __init__(self, config: EngineConfig, loop: Loop, parts: Parts, kept: Mapping[str, Kept], draining: Collection[object]) -> None:
        self._config, self._loop, self._parts = config, loop, parts
        self._kept, self._draining = kept, draining
        self.has_begun = self.is_over = False
        self._then: Callable[[], None] | None = None

    def begin(self, then: Callable[[], None]) -> None:
        """The loop ends after ``then``."""
        self.has_begun = True
        self._then = then
        self._parts.stop(["launcher"], self._stop_containers)

    def look(self) -> None:
        """Whether the last container has gone; after each of them."""
        if self._kept or self._draining or self._then is None:
            return
        then, self._then = self._then, None

        def leave() -> None:
            for path in (self._config.keeper_socket, self._config.logger_socket, self._config.launcher_socket):
                path.unlink(missing_ok=True)
            (self._config.run / "parts.json").unlink(missing_ok=True)
            self._config.era.unlink(missing_ok=True)
            then()
            self.is_over = True
            self._loop.stop()

        self._parts.stop(self._parts.names(), leave)

    def _stop_containers(self) -> None:
        for kept in self._kept.values():
            kept.try_signal(signal.SIGTERM)
            kept.thaw()
        self._loop.after(STOP_TIMEOUT_S, self._kill_containers)
        self._loop.after(0, self.look)

    def _kill_containers(self) -> None:
        """The first process takes all others of its pid namespace with it."""
        for kept in self._kept.values():
            kept.try_signal(signal.SIGKILL)
