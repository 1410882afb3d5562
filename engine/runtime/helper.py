"""A process beside a root process, which does one kind of work for it: started when first needed, and anew when it was killed.

Its command line ends with the descriptor of its end of a SOCK_SEQPACKET pair (engine.runtime.protocol); the end of that is its own.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import Any, Final

from engine.runtime import protocol
from engine.runtime.code import HOME

_END_S: Final = 5.0


class Helper:
    """For any number of threads."""

    def __init__(self, module: str, environment: Mapping[str, str], *, bare: bool = False) -> None:
        """``bare``: without site-packages, and in a session of its own."""
        self._module, self._bare = module, bare
        self._environment = {"PYTHONPATH": str(HOME), "PATH": os.defpath, "LANG": "C.UTF-8", **environment}
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None

    def send(self, message: dict[str, Any], fds: tuple[int, ...]) -> None:
        """The fds stay the caller's. OSError: it cannot be started, or not spoken to."""
        with self._lock:
            try:
                protocol.send(self._line(), message, fds)
            except OSError:  # it was killed: the next one does it
                self._close()
                protocol.send(self._line(), message, fds)

    def close(self) -> None:
        """It ends, and what it was doing."""
        with self._lock:
            self._close()

    def _line(self) -> socket.socket:
        if self._socket is None:
            ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with its:
                self._process = subprocess.Popen(
                    [sys.executable, *(["-S"] if self._bare else []), "-m", self._module, str(its.fileno())],
                    pass_fds=[its.fileno()],
                    env=self._environment,
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    start_new_session=self._bare,
                )
            self._socket = ours
        return self._socket

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is not None:
            try:
                self._process.wait(_END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
