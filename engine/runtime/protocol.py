"""The sockets between the processes of one host's engine. Root only (0600, SO_PEERCRED checked).

All are SOCK_SEQPACKET: one JSON object a message, file descriptors beside it by SCM_RIGHTS. Every request carries
``"v": 1``; an answer is ``{"ok": …}`` or ``{"error": {"code", "message", "detail"}}`` (engine.errors).

    foster ── parent and subreaper of the keeper, so that the containers of a killed keeper still have a parent
      keeper ── parent of all containers; holds pidfds, stdin ends, output pipes, pty masters; writes exit.json
        launcher ── clones (CLONE_PARENT: the child is the keeper's)
        logger ── holds copies of the output ends (and hands all fds to a new keeper); pumps them to log segments
        agent, …  ── any other command line the keeper was asked to supervise
        container init, container init, …

Starting one container (E = Engine, in whatever process; L = launcher; K = keeper):

    E → L  {"op": "launch", "id", "run", "config": OCI runtime-spec config, "rootfs": Rootfs, "log_dir",
            "log": {"max_size_bytes", "max_files"}, "stdin": bool}      without stdin (and tty) it is /dev/null
            + the pidfd of the container whose namespaces the config joins, if it joins any (engine.runtime.neighbour),
            + a detached mount for each NFS volume of the config's, in its order (engine.runtime.shares)
    L        makes pipes or pty and the cgroup, clone3s into namespaces with the child blocked on a socket
    L → K  {"op": "adopt", "id", "run", "pid", "tty", "tenant", "cgroup", "log_dir", "log",
            "have": ["pidfd", "stdin", "stdout", "stderr"]} + those fds in that order; of a tty "have" is ["pidfd", "pty"].
            K answers {"ok": {}}, then all later questions find it
    L → E  {"ok": {"pid": 4711}}                    the namespaces exist: E attaches the network to /proc/<pid>/ns/net
    E → L  {"op": "start"}                          on the same connection; closing it instead kills the child
    L        the child mounts, pivots, drops, executes
    L → K  {"op": "started", "id", "run", "started_at_ns"}      answered {"ok": {}}; watchers hear it
       or  {"op": "failed", "id", "run"}            it did not come to execve: K forgets it
    L → E  {"ok": {"pid", "started_at_ns"}}   or   {"error": {"code", "message", "detail": {"exit_code": 127}}}

Made ahead (engine.runtime.ready):

    E → L  {"op": "prepare", …the words of launch}  at the create; not answered. A launch in the same words takes it over
    E → L  {"op": "ready", "id"} → {"ok": {"ready": bool}}          whether one waits
    E → L  {"op": "discard", "id"} → {"ok": {}}                     answered when nothing of it is left

A volume in memory (engine.volatile):

    E → L  {"op": "drop_memory", "place"} → {"ok": {}}              nobody runs with it: it is unmounted

An NFS volume (drawn in engine.runtime.shares):

    E → L  {"op": "mount_nfs", "uid_start", "shares"} → {"ok": {}} + the mounts; the end of the connection: the server did not answer

Joining one that runs (exec; engine.runtime.joining):

    E → K  {"op": "join", "id"} → {"ok": {"run", "cgroup"}} + pidfd of its first process; NotFound: not running
    E → L  {"op": "exec", "id", "exec", "config": with the process to run, "stdin", "stdout", "stderr", "quiet": bool} + that pidfd
    L        clones into its pid namespace, the child joins the rest and waits
    L → K  {"op": "exec_adopt", "id", "exec", "pid", "quiet"}     answered {"ok": {}}; then the child is let go
       or  {"op": "exec_failed", "id", "exec"}                  later: it did not come to execve, K forgets it
    L → E  {"ok": {"pid", "started_at_ns", "have": ["pidfd", "stdin", "stdout", "stderr"]}} + those fds; of a tty "pty" instead of the three
    E → K  {"op": "exec_wait", "id", "exec"}                     answered when it has ended: {"exit_code", "signal", "finished_at_ns"}

A child that ends before "started" is no exit event yet: either "started" follows (it ran and ended at once; then both events
come), or "failed". Adopted but not started when
its launcher's connection to K closes: killed, because nobody will ever say that it runs.

Keeper (keeper.sock); every message is answered:

    {"op": "adopt" | "started" | "failed", …}       launcher only, as above
    {"op": "fds", "id", "want": ["stdin"|"pty"|"stdout"|"stderr"|"pidfd", …]} → {"ok": {"have": […]}} + dups, in that order
    {"op": "close_stdin", "id"}                     every copy of the write end goes: the container reads end of file
    {"op": "signal", "id", "signal": 15}            by pidfd: never another process that got the number; NotFound: not running
    {"op": "list"} → {"ok": {"containers": [{"id", "run", "pid"}, …], "more": false}}    in chunks: the last has "more": false
    {"op": "watch"} → first {"ok": {}}, then for ever {"event": "started"|"exited", "id", "run", "pid", "exit_code",
                      "signal", "oom_killed", "time_ns"}; "exec_exited" has "exec" and "quiet", too.
                      A watcher that does not read is dropped, and must ``list`` again
    {"op": "supervise", "name", "argv", "env"}      start and restart with back-off; again with other words: replace
    {"op": "parts"} → {"ok": {"foster": {"pid"}, "keeper": {"pid", "code"},
                              "launcher": {"pid", "restarts", "since_ns", "last_exit"}, …}}
    {"op": "renew", "python", "home"}               go on with the engine in folder ``home``; containers notice nothing
    {"op": "stop"}                                  end the supervised parts and itself; refused while containers run
                                                    unless {"containers": true}: then they are stopped first

Logger (logger.sock), one keeper at a time; it asks first for what an earlier keeper gave, then sends what the logger lacks:

    {"op": "handover"} → {"ok": {the words of adopt, "more": true}} + fds, a message each; the last is {"ok": {"more": false}}
    {"op": "adopt", …as above}                      of a tty "have" ends with "spool_out", "spool_in": the pipe between pty and file
    {"op": "close_stdin", "id"} · {"op": "forget", "id"}      forget: the launch failed
    and says by itself {"event": "drained", "id", "run"}: the log is complete, the keeper may close its copies

An exit, in this order: reap, containers/<id>/exit.json ({"run", "exit_code", "signal", "oom_killed", "finished_at_ns"}),
then watchers. So whoever hears of an exit can read it, and whoever reads no exit.json for the run of start.json knows
that the container runs, or that keeper and foster died together (then the pidfd's owner is gone: exit code 137, documented).
"""

from __future__ import annotations

import array
import fcntl
import os
import socket
import struct
from pathlib import Path
from typing import Any, Final

from engine import errors, wire

VERSION: Final = 1
MAX_MESSAGE: Final = 192 << 10  # below net.core.wmem_default (212,992), with room for the kernel's own bookkeeping
MAX_FDS: Final = 16
BACKLOG: Final = 2048  # listen(2): a burst of launches must not see EAGAIN
_SIOCUNIXFILE: Final = 0x89E0  # linux/un.h: a descriptor of the file that a socket is bound to
_UCRED: Final = struct.Struct("=3i")


def listen(path: Path) -> socket.socket:
    """A listening socket at ``path`` that only root can reach; a stale one is replaced."""
    path.unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    old = os.umask(0o177)
    try:
        server.bind(str(path))
    finally:
        os.umask(old)
    server.listen(BACKLOG)
    return server


class Place:
    """A listening socket's name in the file system, which another process may take."""

    def __init__(self, path: Path, listener: socket.socket) -> None:
        """By the socket's own file, whatever ``path`` means by now. SIOCUNIXFILE (Linux 4.6) wants CAP_NET_ADMIN."""
        self._path = path
        file = fcntl.ioctl(listener.fileno(), _SIOCUNIXFILE)
        try:
            self._inode = os.fstat(file).st_ino
        finally:
            os.close(file)

    def is_lost(self) -> bool:
        """Whether nobody can reach us there any more: another listens, or the folder is gone.

        A keeper that is killed between starting a part and noting it leaves that part to nobody, and its successor starts another one.
        """
        try:
            return os.stat(self._path).st_ino != self._inode
        except FileNotFoundError:
            return True


def connect(path: Path, *, timeout_s: float | None = None) -> socket.socket:
    """Raises errors.Unavailable when nobody listens there."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.settimeout(timeout_s)
    try:
        sock.connect(str(path))
    except OSError as error:
        sock.close()
        raise errors.Unavailable(f"no {path.stem} answers at {path}: {error.strerror}") from error
    return sock


def peer_uid(sock: socket.socket) -> int:
    """SO_PEERCRED, unix(7)."""
    return int(_UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))[1])


def send(sock: socket.socket, message: dict[str, Any], fds: tuple[int, ...] = (), *, flags: int = 0) -> None:
    """One message. The caller keeps (and closes) its own fds. ``flags``: of send(2)."""
    data = wire.encode(message)
    if len(data) > MAX_MESSAGE:
        raise errors.InvalidArgument(f"a message of {len(data)} bytes is larger than {MAX_MESSAGE}")
    if fds:
        sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))], flags)
    else:
        sock.send(data, flags)


def receive(sock: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """The next message and its fds (close-on-exec, the caller's to close); None at the end of the connection."""
    data, ancillary, _flags, _address = sock.recvmsg(
        MAX_MESSAGE, socket.CMSG_SPACE(MAX_FDS * array.array("i").itemsize), socket.MSG_CMSG_CLOEXEC
    )
    fds = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    if not data:
        for fd in fds:
            os.close(fd)
        return None
    return wire.decode(data), list(fds)


def ask(sock: socket.socket, op: str, fds: tuple[int, ...] = (), **words: Any) -> tuple[Any, list[int]]:
    """Send a request, wait for its answer; raises the error it carries, or Unavailable when the peer went away."""
    try:
        send(sock, {"v": VERSION, "op": op, **words}, fds)
        answer = receive(sock)
    except OSError as error:
        raise errors.Unavailable(f"{op}: {error.strerror or 'no answer in time'}") from error
    if answer is None:
        raise errors.Unavailable(f"{op}: the other side went away")
    message, received = answer
    if "error" in message:
        for fd in received:
            os.close(fd)
        raise errors.from_json(message["error"])
    return message.get("ok"), received
