"""Porter's desk: where a root process hands a copy over, and hears when it is done. One porter a process, started when first needed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from typing import Any, Final

from engine.config import EngineConfig
from engine.errors import Unavailable
from engine.runtime import protocol
from engine.runtime.code import HOME

_END_S: Final = 5.0
_REGISTRIES: Final = ("SLIPWAY_REGISTRY_MIRRORS", "SLIPWAY_INSECURE_REGISTRIES", "SLIPWAY_REGISTRIES_ALLOWED")  # for builds, which pull


class Desk:
    """For any number of threads."""

    def __init__(self, config: EngineConfig, *, module: str = "engine.files.porter") -> None:
        """``module``: what does the work; engine.builds.yard is another one that is asked in this way."""
        self._config, self._module = config, module
        self._lock = threading.Lock()
        self._porter: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None

    def hand_over(self, job: dict[str, Any], fds: dict[str, int]) -> socket.socket:
        """Begins the copy; ``fds`` stay the caller's, who may close them at once. The report: end of file when it is over.

        The client's socket must be in blocking mode. Raises Unavailable.
        """
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            sent = {"report": its.fileno(), **fds}
            message = {"v": protocol.VERSION, **job, "have": list(sent)}
            with self._lock:
                try:
                    protocol.send(self._line(), message, tuple(sent.values()))
                except OSError:  # it was killed: the next one does it
                    self._close()
                    try:
                        protocol.send(self._line(), message, tuple(sent.values()))
                    except OSError as error:
                        ours.close()
                        raise Unavailable(f"the host cannot copy files: {error.strerror}") from error
        return ours

    def close(self) -> None:
        """Porter ends, and what it was doing."""
        with self._lock:
            self._close()

    def _line(self) -> socket.socket:
        if self._socket is None:
            ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with its:
                environment = {
                    "PYTHONPATH": str(HOME),
                    "SLIPWAY_DATA": str(self._config.data),
                    "SLIPWAY_RUN": str(self._config.run),
                    "PATH": os.defpath,
                    "LANG": "C.UTF-8",
                    **{name: os.environ[name] for name in _REGISTRIES if name in os.environ},
                }
                self._porter = subprocess.Popen(
                    [sys.executable, "-m", self._module, str(its.fileno())],
                    pass_fds=[its.fileno()],
                    env=environment,
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                )
            self._socket = ours
        return self._socket

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._porter is not None:
            try:
                self._porter.wait(_END_S)
            except subprocess.TimeoutExpired:
                self._porter.kill()
                self._porter.wait()
            self._porter = None
