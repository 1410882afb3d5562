"""One child process, exactly as its part says: user, descriptors, log file, no new privileges, and gone when we are.

fork and execve by hand, because the supervisor has one thread, and because LISTEN_PID is the child's own pid
(sd_listen_fds(3)), which subprocess can't know.
"""

from __future__ import annotations

import fcntl
import os
import resource
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from engine.kernel import processes, scheduling, syscalls

_FIRST_FD: Final = 3  # SD_LISTEN_FDS_START
_OUT_OF_THE_WAY: Final = 256  # above what we pass, so that moving one descriptor never closes another
_CANNOT_START: Final = 127
_OPEN_FILES: Final = 65536


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a part runs as. Leaving uid 0 clears every capability (capabilities(7)); no_new_privs keeps it so."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


def spawn(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    folder: str,
    log_fd: int,
    identity: Identity | None,
    listen: Mapping[str, int],
    end_with: signal.Signals = signal.SIGTERM,
) -> int:
    """The pid. ``listen``: name → descriptor, handed over by sd_listen_fds(3). ``identity`` None: root as we are.

    ``end_with`` reaches the child when this process dies, so that a killed supervisor leaves nobody holding its sockets.
    """
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()  # Ctrl-C at the terminal is for the supervisor alone
        scheduling.prefer_session()
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        null = os.open("/dev/null", os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(log_fd, 1)
        os.dup2(log_fd, 2)
        variables = dict(environment)
        if listen:
            high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _OUT_OF_THE_WAY) for fd in listen.values()]
            for place, fd in enumerate(high, _FIRST_FD):
                os.dup2(fd, place, inheritable=True)
            variables |= {"LISTEN_FDS": str(len(high)), "LISTEN_FDNAMES": ":".join(listen), "LISTEN_PID": str(os.getpid())}
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, _OPEN_FILES), hard))
        os.chdir(folder)
        os.umask(0o022)
        if identity is not None:
            os.setgroups(identity.groups)
            os.setresgid(identity.gid, identity.gid, identity.gid)
            os.setresuid(identity.uid, identity.uid, identity.uid)
            processes.forbid_new_privileges()
        syscalls.prctl(syscalls.Prctl.SET_PDEATHSIG, end_with)  # last: a change of credentials clears it
        if os.getppid() == parent:  # else it died before we asked
            os.execve(argv[0], list(argv), variables)
    except OSError as error:
        os.write(2, f"cannot start {argv[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(_CANNOT_START)
