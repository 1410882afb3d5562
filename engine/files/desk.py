"""Porter's desk: where a root process hands a copy over, and hears when it is done. One porter a process, started when first needed."""

from __future__ import annotations

import os
import socket
from typing import Any

from engine.config import REGISTRY_VARIABLES, EngineConfig
from engine.errors import Unavailable
from engine.runtime import protocol
from engine.runtime.helper import Helper


class Desk:
    """For any number of threads."""

    def __init__(self, config: EngineConfig, *, module: str = "engine.files.porter") -> None:
        """``module``: what does the work; engine.builds.yard is another one that is asked in this way."""
        words = {name: os.environ[name] for name in REGISTRY_VARIABLES if name in os.environ}  # for builds, which pull
        self._helper = Helper(module, {"SLIPWAY_DATA": str(config.data), "SLIPWAY_RUN": str(config.run), **words})

    def hand_over(self, job: dict[str, Any], fds: dict[str, int]) -> socket.socket:
        """Begins the copy; ``fds`` stay the caller's, who may close them at once. The report: end of file when it is over.

        The client's socket must be in blocking mode. Raises Unavailable.
        """
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            sent = {"report": its.fileno(), **fds}
            try:
                self._helper.send({"v": protocol.VERSION, **job, "have": list(sent)}, tuple(sent.values()))
            except OSError as error:
                ours.close()
                raise Unavailable(f"the host cannot copy files: {error.strerror}") from error
        return ours

    def close(self) -> None:
        """Porter ends, and what it was doing."""
        self._helper.close()
