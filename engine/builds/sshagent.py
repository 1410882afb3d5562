"""RUN --mount=type=ssh: a key for one step, as an ssh-agent(1) of the step's own that lives as long as the step.

The key is in the agent's memory and in no file. The agent runs as the very user of the container who may ask it (it answers nobody else
but root), without privileges or network, in the tenant's cgroup; it loads no code for whoever asks (``-P``: CVE-2023-38408).
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from engine.errors import InvalidArgument, Unsupported

_SOCKET: Final = "agent"
_WITHIN_S: Final = 30.0
_ENVIRONMENT: Final = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "SSH_ASKPASS_REQUIRE": "never"}


def begin(folder: Path, name: str, key: bytes, *, outside: tuple[int, int], inside: tuple[int, int], mode: int, stack: ExitStack) -> Path:
    """The socket to bind into the container; the agent ends with ``stack``, in the thread that called.

    ``folder``: new, empty. ``outside``: uid and gid of the asking user on this host; ``inside``: in the container, whose binds map ids.
    Raises Unsupported without OpenSSH on the host, InvalidArgument for what is no usable key.
    """
    agent, add = shutil.which("ssh-agent"), shutil.which("ssh-add")
    if agent is None or add is None:
        raise Unsupported("RUN --mount=type=ssh needs ssh-agent on this host: its administrator installs Debian's openssh-client")
    uid, gid = outside
    os.chown(folder, uid, gid)
    folder.chmod(0o700)
    alone = ["unshare", "--net", "--ipc", "--uts"]
    privileges = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--no-new-privs", "--pdeathsig=KILL"]
    command = [*alone, *privileges, agent, "-D", "-P", "none", "-a", _SOCKET]  # a relative name: unix(7) has 107 letters for a path
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=_ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    stack.callback(_end, process)
    socket = folder / _SOCKET
    deadline = time.monotonic() + _WITHIN_S
    while not socket.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise Unsupported(f"ssh-agent did not start on this host (exit code {process.poll()}): its administrator can say why")
        time.sleep(0.005)
    added = subprocess.run(
        [add, "-q", "-"],
        cwd=folder,
        env={**_ENVIRONMENT, "SSH_AUTH_SOCK": _SOCKET},
        input=key,
        capture_output=True,
        timeout=60,
        check=False,
    )
    if added.returncode:
        raise InvalidArgument(f"ssh key {name}: ssh-add does not take it: it must be a private key without a passphrase")
    os.chown(folder, 0, 0)  # nothing in it changes its name any more
    if not stat.S_ISSOCK(socket.lstat().st_mode):
        raise Unsupported("ssh-agent made no socket on this host: its administrator can say why")
    os.chown(socket, *inside)
    socket.chmod(mode)
    return socket


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
