"""What FROM and COPY --from name when it is no stage: an image of the tenant's, or one that everybody has; else a registry's."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from engine.builds.output import Output
from engine.errors import EngineError, NotFound
from engine.model.build import BuildRequest
from engine.model.image import ImageRecord
from engine.model.platform import check_platform

if TYPE_CHECKING:
    from engine.engine import Engine

Pull = Callable[[str, str], Iterator[dict[str, Any]]]  # name, platform: Docker's progress lines


class Bases:
    """For any number of threads. One name means one image throughout a build."""

    def __init__(self, engine: Engine, request: BuildRequest, pull: Pull | None, check: Callable[[], None]) -> None:
        """``check`` raises when the build was cancelled."""
        self._engine, self._request, self._pull, self._check = engine, request, pull, check
        self._known: dict[tuple[str, str], ImageRecord] = {}
        self._lock = threading.Lock()

    def find(self, name: str, platform: str, output: Output) -> ImageRecord:
        """NotFound in moby's words; also when the image here is of another platform."""
        with self._lock:
            known = self._known.get((name, platform))
            if known is None:
                known = self._known[name, platform] = self._find(name, platform, output)
            return known

    def here(self, name: str) -> ImageRecord | None:
        """Without a pull."""
        try:
            return self._engine.images.resolve(self._request.tenant, name)
        except EngineError:
            return None

    def _find(self, name: str, platform: str, output: Output) -> ImageRecord:
        if not self._request.pull:
            try:
                return self._local(name, platform)
            except NotFound:
                if self._pull is None:
                    raise
        if self._pull is None:
            return self._local(name, platform)
        for line in self._pull(name, platform):
            self._check()
            output.say(line)
        return self._local(name, platform)

    def _local(self, name: str, platform: str) -> ImageRecord:
        record = self._engine.images.resolve(self._request.tenant, name)
        check_platform(record.config, platform, name)
        return record
