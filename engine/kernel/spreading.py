"""Where a file system puts new folders: ext4(5) keeps what lies in a folder near it, and takes a fresh place for what lies in a *top*."""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path
from typing import Final

_FS_IOC_GETFLAGS: Final = 0x80086601  # linux/fs.h
_FS_IOC_SETFLAGS: Final = 0x40086602
_FS_TOPDIR_FL: Final = 0x00020000
_FLAGS: Final = struct.Struct("@l")


def spread(folder: Path) -> None:
    """From now on each folder that is made in this one gets a block group of its own (chattr +T). Nothing where there are no groups.

    An ext4 without a journal does not use an inode again for a minute after it was freed, and looks at every such inode of a group
    before it takes one: 20,000 files made where as many were just removed cost 8 s of CPU, in a fresh group 0.35 s (kernel 6.18).
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        (flags,) = _FLAGS.unpack(fcntl.ioctl(fd, _FS_IOC_GETFLAGS, _FLAGS.pack(0)))
        if not flags & _FS_TOPDIR_FL:
            fcntl.ioctl(fd, _FS_IOC_SETFLAGS, _FLAGS.pack(flags | _FS_TOPDIR_FL))
    except OSError:
        pass  # another file system, or one that does not let us: only slower
    finally:
        os.close(fd)
