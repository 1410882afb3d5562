"""Porter: forks a process for each question about files. What goes into a container's view becomes root of nothing but the tenant's
user namespace first (copying.py); what reads layers follows nothing (reading.py).

    asker → porter   one message of engine.runtime.protocol on a socket pair: the job's words and descriptors, named by "have":
                     report and client, and pidfd (of a running container) or lock (of who writes into one)
    child → client   {"ok": {…}}\\n and the stream, or {"error": {…}}\\n
    child            ends; the report, of which it holds the only other end, says so

    stat      {"ok": {"stat": {name, size, mode, mtime, linkTarget}}}
    get       {"ok": {"stat"}}, then down: tar
    export    {"ok": {}}, then down: tar
    user      {"ok": {}}: the user of these words is known there
    list      {"ok": {"entries": [path stats with uid and gid], "count"}} of a folder
    remove    {"ok": {}}: a file or a folder is gone
    put       {"ok": {}}, then up: tar, half-close; then down: {"done": {}} or {"error"}
    changes   {"ok": {}}, {"done": {}} or {"error"}, then [{"Path", "Kind"}, …] or null
    diff      {"ok": {}}, {"done": {"count"}} or {"error"}, then a JSON line each (reading.line_of)
    text      {"ok": {}}, {"done": textdiff.text_diff} or {"error"}
    commit    {"ok": {}}, {"done": {"image": {"refs", "record"}}} or {"error"}

A child runs in the words' ``cgroup``, which is the tenant's: what it takes of memory, CPU, disk and processes counts as the tenant's own.

Porter has a mount namespace of its own and ends with its asker; a child ends with porter. So whoever is killed, no mount stays.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any

from engine.config import EngineConfig
from engine.files.child import Child, sorry
from engine.files.copying import Copying
from engine.files.reading import Reading
from engine.files.view import View
from engine.kernel import capabilities, cgroups, mounts, processes, scheduling
from engine.kernel.syscalls import MS
from engine.model.codec import from_json
from engine.runtime import protocol
from engine.runtime.stores import Stores


def main(argv: Sequence[str]) -> int:
    """``python -m engine.files.porter <descriptor of the socket>``."""
    asker = socket.socket(fileno=int(argv[1]))
    asker.set_inheritable(False)
    processes.hide()
    scheduling.as_others()
    mounts.private_namespace()
    capabilities.keep_on_setfsuid()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children reap themselves; each reports on a socket of its own
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    porter = _Porter(EngineConfig.from_environment())
    while (message := protocol.receive(asker)) is not None:
        words, fds = message
        try:
            porter.serve(words, dict(zip(words["have"], fds, strict=True)))
        finally:
            for fd in fds:
                os.close(fd)
    return 0


class _Porter:
    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._stores = Stores(config)
        engine = os.open(config.engine, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._layers = mounts.bind_copy(engine, recursive=False, flags=int(MS.RDONLY | MS.NODEV | MS.NOSUID | MS.NOEXEC))

    def serve(self, words: dict[str, Any], fds: dict[str, int]) -> None:
        parent = os.getpid()
        try:
            child = self._child(words, fds, parent)
            if cgroups.fork(words["cgroup"]) == 0:
                child.run()
        except OSError as error:  # no room for another process, or no store: said, and gone on
            sorry(fds["client"], error)

    def _child(self, words: dict[str, Any], fds: dict[str, int], parent: int) -> Child:
        if "view" not in words:
            return Reading(words, fds, parent, self._layers, self._config)
        view = from_json(View, words["view"])
        return Copying(words, fds, parent, view, self._stores.open(view.tenant, view.uid_start, view.ids), self._config)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
