"""Opening what an image or a tenant names: openat2(2), so that no symlink, ``..`` or magic link leads out of a tree."""

from __future__ import annotations

import os
import stat

from engine.kernel import syscalls
from engine.kernel.syscalls import Resolve


def open_in_root(root: int, path: str, flags: int, *, mode: int = 0) -> int:
    """As if ``root`` (a folder's descriptor) were ``/``: absolute symlinks and ``..`` stay inside. The caller closes the fd."""
    return syscalls.openat2(root, path, flags, mode=mode, resolve=Resolve.IN_ROOT | Resolve.NO_MAGICLINKS)


def open_beneath(folder: int, path: str, flags: int) -> int:
    """For our own trees: any symlink on the way is an error (ELOOP), any way out too (EXDEV)."""
    return syscalls.openat2(folder, path, flags, resolve=Resolve.BENEATH | Resolve.NO_SYMLINKS)


def open_in_folder(folder: int, path: str, flags: int) -> int:
    """For a folder that others write to: links are followed as long as they stay in it; a way out is an error (EXDEV)."""
    return syscalls.openat2(folder, path, flags, resolve=Resolve.BENEATH | Resolve.NO_MAGICLINKS)


def text_of(fd: int, limit: int) -> str:
    """What a regular file holds, its first ``limit`` bytes; "" for anything else. Opened with O_NONBLOCK: a fifo would never answer.
    Closes it."""
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return ""
        return os.read(fd, limit).decode(errors="surrogateescape")
    finally:
        os.close(fd)
