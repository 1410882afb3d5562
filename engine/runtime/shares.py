"""NFS mounts for containers, each question in a child of the launcher's: a server that does not answer is waited for by nobody else.

    E → L  {"op": "mount_nfs", "uid_start", "shares": [Wanted, …]}
    L        forks; the child has the connection from here on
    C        mounts in a mount namespace of its own; after LIMIT_S the kernel's alarm ends it, and E reads the end of the connection
    C → E  {"ok": {}} + a detached mount for each, in their order      or  {"error": …}
    E → L  launch, with those descriptors; E closes its own, then this connection
    C        ends. Of a launch that came to nothing it has the last reference, so that it alone waits for the unmount

What is mounted is the export that root granted. The tenant's part of the path is looked up from there, as the tenant's own first id and by
our walk: a link on the server cannot lead out of the export, and who may not search a folder there gets none of what is in it.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import traceback
from collections.abc import Mapping
from functools import partial
from typing import Any, Final, NoReturn

from engine import errors
from engine.kernel import mounts, nfs, paths, processes, syscalls
from engine.model.nfs import spelled
from engine.runtime import protocol
from engine.runtime.loop import READABLE, Connection, Loop, say

LIMIT_S: Final = 15  # for all of one container together
_PLACE: Final = "/tmp"  # in a mount namespace that nobody else is in: any folder does
_FOLDER: Final = os.O_PATH | os.O_DIRECTORY
_NO_ANSWER: Final = (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ECONNREFUSED, errno.EIO)
LACKING: Final = (
    "volumes on an NFS server cannot be mounted here, for this kernel has no nfs: the administrator of this machine loads the module,"
    " or boots a kernel that has it, as Debian's own have"
)


class Shares:
    """The launcher's side."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def begin(self, connection: Connection, words: Mapping[str, Any]) -> None:
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            _run(connection.fileno(), parent, words)
        connection.close()  # our copy of it
        pidfd = os.pidfd_open(pid)
        self._loop.add(pidfd, READABLE, partial(self._ended, pid, pidfd))

    def _ended(self, pid: int, pidfd: int, _events: int) -> None:
        self._loop.remove(pidfd)
        os.close(pidfd)
        os.waitpid(pid, 0)


def _run(line: int, parent: int, words: Mapping[str, Any]) -> NoReturn:
    """In the child."""
    try:
        processes.die_with_parent()
        if os.getppid() == parent:
            os.closerange(3, line)
            os.closerange(line + 1, os.sysconf("SC_OPEN_MAX"))
            signal.alarm(LIMIT_S)  # nobody handles it
            sock = socket.socket(fileno=line)
            sock.setblocking(True)
            _answer(sock, words)
            signal.alarm(0)
            protocol.receive(sock)  # until the other end is closed
    finally:
        os._exit(0)


def _answer(sock: socket.socket, words: Mapping[str, Any]) -> None:
    try:
        mounts.private_namespace()
        found = tuple(_mounted(wanted, int(words["uid_start"])) for wanted in words["shares"])
    except errors.EngineError as error:
        protocol.send(sock, {"error": error.to_json()})
    except Exception as error:
        say(f"mount_nfs failed: {traceback.format_exc()}")
        protocol.send(sock, {"error": errors.Internal(f"mount_nfs: {error!r}").to_json()})
    else:
        protocol.send(sock, {"ok": {}}, found)


def _mounted(wanted: Mapping[str, Any], uid_start: int) -> int:
    """``wanted``: the words of kernel.nfs.mounted, and where in it: {"below": "sub/folder", "subpath": "in/there"}, both may be ""."""
    words = dict(wanted)
    below, subpath = words.pop("below"), words.pop("subpath")
    try:
        whole = nfs.mounted(**words)
    except OSError as error:
        raise refusal(error, words["address"], words["path"]) from None
    if not below and not subpath:
        return whole
    mounts.attach(whole, _PLACE)
    os.close(whole)
    found = _below(words, below, subpath, uid_start)
    syscalls.umount2(_PLACE, syscalls.MNT_DETACH)
    return found


def _below(words: Mapping[str, Any], below: str, subpath: str, uid_start: int) -> int:
    try:
        folder = os.open(_PLACE, _FOLDER | os.O_CLOEXEC)
        with mounts.files_owned_by(uid_start, uid_start):
            folder = paths.open_in_folder(folder, below or ".", _FOLDER)
            source = paths.open_in_root(folder, subpath, os.O_PATH) if subpath else folder
    except OSError as error:
        raise _not_there(error, words, below, subpath) from None
    return mounts.bind_copy(source, recursive=False)


def refusal(error: OSError, address: str, path: str) -> errors.EngineError:
    """The kernel's answer in the words of who can do something about it."""
    share = spelled(address, path)
    if error.errno == errno.ENODEV:
        return errors.Unsupported(LACKING)
    if error.errno in (errno.EACCES, errno.EPERM):
        return errors.FailedPrecondition(f"{share} is refused by the server: who administers it exports the path to this machine")
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return errors.FailedPrecondition(f"{share} is not there: the server has no such folder, or does not export it")
    if error.errno in (errno.EPROTONOSUPPORT, errno.EPROTOTYPE):
        return errors.FailedPrecondition(f"{share}: the server speaks none of the versions of NFS that the volume asks for (o=vers=…)")
    if error.errno in _NO_ANSWER:
        return errors.Unavailable(f"{share}: the NFS server does not answer: {os.strerror(error.errno).lower()}")
    return errors.FailedPrecondition(f"{share} cannot be mounted: {error.strerror}", errno=error.errno)


def _not_there(error: OSError, words: Mapping[str, Any], below: str, subpath: str) -> errors.EngineError:
    share = spelled(words["address"], os.path.join(words["path"], below))
    if error.errno in _NO_ANSWER:
        return refusal(error, words["address"], words["path"])
    if error.errno in (errno.EXDEV, errno.ELOOP):
        return errors.PermissionDenied(f"{share} leads out of {words['path']}, which is what was granted", rule="nfs")
    what = f"subpath {subpath} of {share}" if subpath else share
    return errors.InvalidArgument(f"cannot mount {what}: {os.strerror(error.errno or 0).lower()}")
