"""One child of porter: answers one question, says what went wrong, and ends."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, ClassVar, NoReturn, Self

from engine import errors
from engine.files.pathstat import explain
from engine.kernel import cgroups, processes

_NOBODY_LISTENS = (errno.EPIPE, errno.ECONNRESET)


class Child:
    """``ops`` are a subclass's. ``run`` never returns to the code that forked."""

    ops: ClassVar[Mapping[str, Callable[[Any], None]]]

    def __init__(self, words: dict[str, Any], fds: dict[str, int], parent: int) -> None:
        self.words, self.fds, self._parent = words, fds, parent
        self.client = fds["client"]
        self.container = str(words.get("shown") or "")
        self.path = str(words.get("path") or "/")

    def run(self: Self) -> NoReturn:
        sys.meta_path.clear()  # once the root is the container's, an import would take the container's file (CVE-2019-14271)
        sys.path.clear()
        try:
            self.end_with_parent()
            self._join_cgroup()
            self.ops[self.words["op"]](self)
        except errors.EngineError as error:
            self._refuse(error)
        except OSError as error:
            if error.errno not in _NOBODY_LISTENS:
                self._refuse(explain(error, self.words["op"], self.path, self.container))
        except BaseException as error:
            self._refuse(errors.Internal(f"{self.words['op']} failed on the host: {type(error).__name__}: {error}"))
        finally:
            os._exit(0)

    def end_with_parent(self) -> None:
        """Again after every change of ids, which takes it back: prctl(2), PR_SET_PDEATHSIG."""
        processes.die_with_parent()
        if os.getppid() != self._parent:
            os._exit(1)

    def _join_cgroup(self) -> None:
        """Version 2: born in it."""
        if cgroups.version() == 1:
            try:
                cgroups.join(self.words["cgroup"])
            except OSError as error:
                raise errors.Unavailable(f"the host cannot look at files just now: {error.strerror}") from error

    def say(self, line: dict[str, Any]) -> None:
        write(self.client, json.dumps(line, separators=(",", ":")).encode() + b"\n")

    def refused(self) -> None:
        """After the error was said."""

    def _refuse(self, error: errors.EngineError) -> None:
        with suppress(OSError):
            self.say({"error": error.to_json()})
            self.refused()


def write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def sorry(client: int, error: OSError) -> None:
    fault = errors.Unavailable(f"the host cannot look at files just now: {error.strerror}")
    with suppress(OSError):
        write(client, json.dumps({"error": fault.to_json()}).encode() + b"\n")
