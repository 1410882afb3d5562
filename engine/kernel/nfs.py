"""nfs(5) by the kernel's own client, without mount.nfs. What it wants (fs/nfs/fs_context.c, from Linux 5.19 to 6.18):

    source      SERVER:/PATH, an IPv6 address in brackets; the server's part is only shown
    addr        whom it asks, a number: names, versions to be tried and retries are user space's business, and so is ``proto``,
                which has to fit the address
    vers        4 alone means 4.0, and none at all 3; of type nfs any version may be, the kernel takes its type nfs4 by itself
    clientaddr  where a server of 4.0 calls back; left out, it is the address of our end of the connection
    version 3   rpcbind and mountd of the same address are asked by the kernel; locks need rpc.statd on this machine, or ``nolock``

The path of 4.x is walked here, from the server's root, and links that lie there are followed (mount_subtree): who may write on a server
could lead a path elsewhere. Of 3 mountd does the same. Waiting for a server is ended by SIGKILL, and by SIGALRM that nobody handles.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from engine.kernel import syscalls
from engine.kernel.syscalls import MountAttr

KIND: Final = "nfs"
_TRY_ANOTHER: Final = (errno.EPROTONOSUPPORT, errno.EINVAL)  # a server's answer, and that of a kernel built without the version


def is_here() -> bool:
    """Whether this kernel has it; a module is loaded. For root."""
    try:
        os.close(syscalls.fsopen(KIND))
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise
        return False
    return True


def mounted(address: str, path: str, *, port: int, versions: Sequence[str], settings: Sequence[str], read_only: bool, no_exec: bool) -> int:
    """A detached mount, nosuid and nodev, of the first of ``versions`` that the server speaks. The caller closes it, which may take as
    long as the server does. OSError, whose strerror is the kernel's own message where it has one.
    """
    is_6 = ":" in address
    words = [
        ("source", f"[{address}]:{path}" if is_6 else f"{address}:{path}"),
        *(("addr", address), ("proto", "tcp6" if is_6 else "tcp"), ("port", str(port))),
        *(word.partition("=")[::2] for word in settings),
        *([("ro", "")] if read_only else []),
    ]
    attributes = MountAttr.NOSUID | MountAttr.NODEV | (MountAttr.RDONLY if read_only else 0) | (MountAttr.NOEXEC if no_exec else 0)
    for version in versions[:-1]:
        try:
            return _mounted([*words, ("vers", version)], attributes)
        except OSError as error:
            if error.errno not in _TRY_ANOTHER:
                raise
    return _mounted([*words, ("vers", versions[-1])], attributes)


def _mounted(words: Sequence[tuple[str, str]], attributes: int) -> int:
    context = syscalls.fsopen(KIND)
    try:
        for key, value in words:
            syscalls.fsconfig(context, syscalls.FSCONFIG_SET_STRING if value else syscalls.FSCONFIG_SET_FLAG, key, value or None)
        syscalls.fsconfig(context, syscalls.FSCONFIG_CMD_CREATE)
        return syscalls.fsmount(context, attributes)
    except OSError as error:
        raise OSError(error.errno, _message(context) or error.strerror) from error
    finally:
        os.close(context)


def _message(context: int) -> str:
    """The last that the kernel has to say of it, which are "e NFS: …" without the letter, a read each; ENODATA: no more."""
    said = ""
    with suppress(OSError):
        while text := os.read(context, 4096):
            said = text.decode(errors="replace")[2:].strip()
    return said
