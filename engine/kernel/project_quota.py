"""Project quotas of ext4 and xfs: a folder tree with a number, whose bytes and files the file system counts and limits. quotactl(2).

A limit holds for whoever has no CAP_SYS_RESOURCE: not for the host's root. A file takes the number of the folder it is made in (inherit),
and may not be renamed into a folder that has another.
"""

from __future__ import annotations

import errno
import fcntl
import gzip
import os
import struct
from pathlib import Path
from typing import Final

from engine.kernel import syscalls

_GET_ATTRIBUTES: Final = 0x801C581F  # FS_IOC_FSGETXATTR, linux/fs.h
_SET_ATTRIBUTES: Final = 0x401C5820
_ATTRIBUTES: Final = struct.Struct("=5I8s")  # struct fsxattr: flags, …, the fourth is the project
_INHERIT: Final = 0x200
# linux/quota.h, linux/dqblk_xfs.h
_PROJECT: Final = 2
_GET: Final = 0x800007
_SET: Final = 0x800008
_STATE: Final = 0x5808  # Q_XGETQSTATV
_ENFORCED: Final = 1 << 5  # FS_QUOTA_PDQ_ENFD
_BLOCK: Final = struct.Struct("=8QI4x")  # struct if_dqblk, in blocks of 1 KiB
_LIMITS: Final = 1 | 4  # QIF_BLIMITS, QIF_ILIMITS
_FILES_MIN: Final = 1024
_BYTES_OF_A_FILE: Final = 4096  # an empty one takes room of the disk, too: one for as many bytes
_OPTIONS: Final = ("QUOTA", "QFMT_V2")  # for ext4
_NONE: Final = (errno.ENOTTY, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ESRCH, errno.ENOTSUP, errno.EPERM, errno.ENOENT)


def holds(folder: Path) -> bool:
    """Whether limits are enforced on the file system of ``folder``: counted only (ext4 mounted without prjquota) does not count."""
    fd = _open(folder)
    try:
        state = bytearray(256)
        state[0] = 1  # FS_QSTATV_VERSION1
        syscalls.quotactl_fd(fd, _STATE << 8 | _PROJECT, 0, state)
        fcntl.ioctl(fd, _GET_ATTRIBUTES, bytes(_ATTRIBUTES.size))
    except OSError as error:
        if error.errno in _NONE:
            return False
        raise
    finally:
        os.close(fd)
    return bool(struct.unpack_from("=H", state, 2)[0] & _ENFORCED)


def why_never() -> str:
    """What this kernel was built without, as it says of itself; "" when it has all, or says nothing. xfs has its own."""
    try:
        with gzip.open("/proc/config.gz", "rt") as file:
            rows = set(file.read().splitlines())
    except OSError:
        return ""
    return ", ".join(f"CONFIG_{name}" for name in _OPTIONS if not rows & {f"CONFIG_{name}=y", f"CONFIG_{name}=m"})


def assign(folder: Path, project: int) -> None:
    """An empty folder: what is made in it from now on is of this project. 0: of none."""
    fd = _open(folder)
    try:
        words = list(_ATTRIBUTES.unpack(fcntl.ioctl(fd, _GET_ATTRIBUTES, bytes(_ATTRIBUTES.size))))
        words[0] = words[0] | _INHERIT if project else words[0] & ~_INHERIT
        words[3] = project
        fcntl.ioctl(fd, _SET_ATTRIBUTES, _ATTRIBUTES.pack(*words))
    finally:
        os.close(fd)


def limit(folder: Path, project: int, size: int) -> None:
    """In bytes, which also say how many files; also live, and below what is used; 0: no limit."""
    fd = _open(folder)
    try:
        blocks, files = -(-size // 1024), max(_FILES_MIN, size // _BYTES_OF_A_FILE) if size else 0
        words = bytearray(_BLOCK.pack(blocks, blocks, 0, files, files, 0, 0, 0, _LIMITS))
        syscalls.quotactl_fd(fd, _SET << 8 | _PROJECT, project, words)
    finally:
        os.close(fd)


def used(folder: Path, project: int) -> tuple[int, int]:
    """(bytes used, bytes that are the limit); 0, 0 of a number that nobody ever had."""
    hard, _soft, space, *_rest = _asked(folder, project)
    return space, hard * 1024


def is_over(folder: Path, project: int) -> bool:
    """Whether it has more bytes or files than its limits, which whoever they do not hold has put there."""
    hard, _soft, space, files_hard, _files_soft, files, *_rest = _asked(folder, project)
    return 0 < hard * 1024 < space or 0 < files_hard < files


def _asked(folder: Path, project: int) -> tuple[int, ...]:
    fd = _open(folder)
    try:
        words = bytearray(_BLOCK.size)
        syscalls.quotactl_fd(fd, _GET << 8 | _PROJECT, project, words)
    finally:
        os.close(fd)
    return _BLOCK.unpack(words)


def _open(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
