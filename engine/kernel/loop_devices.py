"""loop(4): a file as a block device, and the file system in it as a detached mount.

A device lets go of its file with its last user (autoclear), so nothing is left of one but the file. Two devices of one file would be two
caches of one disk, which destroys it: who attaches holds the file's lock meanwhile, and takes the device that is there.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from engine.kernel import syscalls
from engine.kernel.syscalls import MountAttr

_CONTROL: Final = "/dev/loop-control"
_MAJOR: Final = 7
# linux/loop.h
_CTL_GET_FREE: Final = 0x4C82
_CONFIGURE: Final = 0x4C0A
_SET_CAPACITY: Final = 0x4C07
_GET_STATUS64: Final = 0x4C05
_AUTOCLEAR: Final = 4
_INFO64: Final = struct.Struct("=5Q4I64s64s32s2Q")
_CONFIG: Final = struct.Struct(f"=II{_INFO64.size}s8Q")
_ATTEMPTS: Final = 100
_EXT4: Final = "ext4"


def is_here() -> bool:
    """Whether this kernel lends us such devices."""
    return os.access(_CONTROL, os.R_OK | os.W_OK)


def attached(image: int) -> tuple[int, str]:
    """(descriptor, path) of the device of this file, given one when it has none. As long as the descriptor is open it keeps its file.

    ``image``: a descriptor that may write. OSError as the kernel says it.
    """
    fcntl.flock(image, fcntl.LOCK_EX)
    try:
        return _find(image) or _attach(image)
    finally:
        fcntl.flock(image, fcntl.LOCK_UN)


def _find(image: int) -> tuple[int, str] | None:
    wanted = os.fstat(image)
    for name in os.listdir("/sys/block"):
        if not name.startswith("loop") or not os.path.exists(f"/sys/block/{name}/loop/backing_file"):
            continue
        path = f"/dev/{name}"
        with suppress(OSError):
            device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                if _file_of(device) == (wanted.st_dev, wanted.st_ino):
                    found, device = device, -1
                    return found, path
            finally:
                if device >= 0:
                    os.close(device)
    return None


def _file_of(device: int) -> tuple[int, int]:
    """(st_dev, st_ino); OSError ENXIO for a device that has none."""
    words = _INFO64.unpack(fcntl.ioctl(device, _GET_STATUS64, bytes(_INFO64.size)))
    encoded = int(words[0])  # huge_encode_dev
    return os.makedev((encoded >> 8) & 0xFFF, (encoded & 0xFF) | ((encoded >> 12) & 0xFFF00)), int(words[1])


def _attach(image: int) -> tuple[int, str]:
    info = bytearray(_INFO64.size)
    struct.pack_into("=I", info, 5 * 8 + 3 * 4, _AUTOCLEAR)  # lo_flags
    words = _CONFIG.pack(image, 0, bytes(info), *[0] * 8)
    control = os.open(_CONTROL, os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(_ATTEMPTS):
            number = fcntl.ioctl(control, _CTL_GET_FREE)
            path = f"/dev/loop{number}"
            if not os.path.exists(path):  # a /dev that nobody keeps up with the kernel
                with suppress(FileExistsError):
                    os.mknod(path, stat.S_IFBLK | 0o600, os.makedev(_MAJOR, number))
            device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.ioctl(device, _CONFIGURE, words)
                return device, path
            except OSError as error:
                os.close(device)
                if error.errno != errno.EBUSY:  # another file was given it meanwhile
                    raise
    finally:
        os.close(control)
    raise OSError(errno.EBUSY, "no loop device was free", _CONTROL)


def mounted(image_path: str | Path) -> int:
    """The file system of a disk image, as a detached mount: gone when its descriptor, and what was made of it, is. nodev."""
    with device_of(image_path) as path:
        context = syscalls.fsopen(_EXT4)
        try:
            syscalls.fsconfig(context, syscalls.FSCONFIG_SET_STRING, "source", path)
            syscalls.fsconfig(context, syscalls.FSCONFIG_SET_FLAG, "discard")  # what is removed gives its room back to the host's disk
            syscalls.fsconfig(context, syscalls.FSCONFIG_CMD_CREATE)
            return syscalls.fsmount(context, MountAttr.NODEV)
        finally:
            os.close(context)


def is_attached(image_path: str | Path) -> bool:
    """Whether somebody has it as a device at this moment."""
    image = os.open(image_path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = _find(image)
    finally:
        os.close(image)
    if found is not None:
        os.close(found[0])
    return found is not None


@contextmanager
def device_of(image_path: str | Path) -> Iterator[str]:
    """The path of its device, as long as the block lasts; as long as the file is, if it has grown."""
    image = os.open(image_path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        device, path = attached(image)
    finally:
        os.close(image)
    try:
        fcntl.ioctl(device, _SET_CAPACITY)
        yield path
    finally:
        os.close(device)
