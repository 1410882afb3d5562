"""inotify(7): what happens to files below some folders, through one descriptor."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

IN_MODIFY: Final = 0x2  # sys/inotify.h
IN_CREATE: Final = 0x100
IN_DELETE_SELF: Final = 0x400
IN_IGNORED: Final = 0x8000  # the watch is gone: its folder was removed
IN_Q_OVERFLOW: Final = 0x4000  # events were dropped; ``watch`` is -1

_EVENT: Final = struct.Struct("=iIII")  # wd, mask, cookie, length of the name
_libc = ctypes.CDLL(None, use_errno=True)


class FileEvent(NamedTuple):
    watch: int
    mask: int
    name: bytes


def inotify_init() -> int:
    """A non-blocking, close-on-exec descriptor. EMFILE: /proc/sys/fs/inotify/max_user_instances."""
    return _check(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), "inotify_init1")


def inotify_add_watch(fd: int, path: str, mask: int) -> int:
    """The watch's number; the same for the same folder. ENOSPC: /proc/sys/fs/inotify/max_user_watches."""
    return _check(_libc.inotify_add_watch(fd, os.fsencode(path), ctypes.c_uint32(mask)), path)


def inotify_rm_watch(fd: int, watch: int) -> None:
    """EINVAL when the folder was removed already."""
    _check(_libc.inotify_rm_watch(fd, watch), "inotify_rm_watch")


def read_events(fd: int) -> Iterator[FileEvent]:
    """All that have happened; nothing when none has."""
    try:
        data = os.read(fd, 1 << 16)
    except BlockingIOError:
        return
    at = 0
    while at < len(data):
        watch, mask, _cookie, length = _EVENT.unpack_from(data, at)
        at += _EVENT.size
        yield FileEvent(watch, mask, data[at : at + length].rstrip(b"\0"))
        at += length


def _check(result: int, subject: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), subject)
    return result
