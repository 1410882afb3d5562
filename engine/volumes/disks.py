"""A size where the disk below has no quotas: a sparse file with an ext4 of its own.

The file is longer than what was asked for by what ext4 needs for itself; what is left over then is reserved, which only the host's root
could use: so the container's has to the block what it was promised, and not more.
"""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from engine.errors import FailedPrecondition, InvalidArgument, Unsupported
from engine.kernel import loop_devices

BLOCK: Final = 4096
_OWN: Final = 8 << 20  # journal, beside a tenth: below 512 MiB mke2fs makes an inode for each 4 KiB, and the kernel keeps a 50th
_JOURNAL: Final = 4  # MiB, the least; without a word it is a gigabyte of a large one, taken at once
_LARGE_JOURNAL: Final = 16
_LARGE: Final = 1 << 30
_RESIZE_FS: Final = 0x40086610  # EXT4_IOC_RESIZE_FS, linux/ext4.h
_ENVIRONMENT: Final = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}


def check_size(above: Path, size: int) -> None:
    """InvalidArgument for more than the whole disk that ``above`` lies on could hold."""
    status = os.statvfs(above)
    if size > (room := status.f_blocks * status.f_frsize):
        raise InvalidArgument(f"invalid size: {size} bytes are more than this host's whole disk for volumes, which has {room}")


def make(image: Path, size: int, *folders: str) -> None:
    """With empty ``folders`` in it, which count for nothing. Unsupported, saying what is missing, where this machine cannot."""
    if not loop_devices.is_here():
        raise Unsupported(
            "quota size requested but no quota support: root of this host mounts its disk with prjquota, or loads the kernel module loop"
        )
    fd = os.open(image, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(fd, _length(size))
    except OSError as error:
        raise _too_large(error, size) from error
    finally:
        os.close(fd)
    journal = f"size={_JOURNAL if size < _LARGE else _LARGE_JOURNAL}"
    lazy = "lazy_itable_init=1,lazy_journal_init=1,nodiscard"  # the file is all zeros
    _run("mkfs.ext4", "-q", "-F", "-b", str(BLOCK), "-m", "0", "-J", journal, "-E", lazy, str(image))
    with opened(image) as root:
        os.rmdir(f"/proc/self/fd/{root}/lost+found")
        for name in folders:
            os.mkdir(f"/proc/self/fd/{root}/{name}")
        free = _available(root)
    _reserve(image, (free - size) // BLOCK)


def resize(image: Path, before: int, size: int) -> None:
    """While containers have it mounted, or not. Room is taken back by keeping it from being used, down to half of the largest it was."""
    taken = used(image, before)
    if _length(size) > image.stat().st_size:
        _grow(image, _length(size))
    with opened(image) as root, loop_devices.device_of(image) as device:
        more = _reserved(device) + (_available(root) - max(0, size - taken)) // BLOCK
        if more > os.fstatvfs(root).f_blocks // 2:
            raise InvalidArgument("it cannot be made smaller than about half of what it was at its largest")
        _reserve(Path(device), max(0, more))


def _grow(image: Path, length: int) -> None:
    before = image.stat().st_size
    try:
        os.truncate(image, length)
    except OSError as error:
        raise _too_large(error, length) from error
    if _grow_mounted(image, length):
        return
    if loop_devices.is_attached(image):
        os.truncate(image, before)
        raise FailedPrecondition("this host can make it larger only while no container runs with it (it lacks CAP_SYS_RESOURCE)")
    _run("e2fsck", "-f", "-y", str(image), fine=(0, 1))  # resize2fs asks for it
    _run("resize2fs", str(image))


def _grow_mounted(image: Path, length: int) -> bool:
    with opened(image) as root, loop_devices.device_of(image):
        folder = os.open(f"/proc/self/fd/{root}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.ioctl(folder, _RESIZE_FS, (length // BLOCK).to_bytes(8, "little"))
        except PermissionError:
            return False
        finally:
            os.close(folder)
    return True


def _too_large(error: OSError, size: int) -> Exception:
    if error.errno not in (errno.EFBIG, errno.EINVAL):
        return error
    return InvalidArgument(f"invalid size: {size} bytes are more than one file may have on this host's disk")


def used(image: Path, size: int) -> int:
    """Bytes of ``size``, as the file system counts them: no tree is walked."""
    with opened(image) as root:
        return max(0, size - _available(root))


def is_over(root: int) -> bool:
    """Whether root of the host has written past the limit, into what is reserved."""
    status = os.fstatvfs(root)
    return status.f_bavail == 0 and status.f_bfree > 0


@contextmanager
def opened(image: Path) -> Iterator[int]:
    """Its root, as a detached mount."""
    root = loop_devices.mounted(image)
    try:
        yield root
    finally:
        os.close(root)


def _length(size: int) -> int:
    length = size + size // 10 + _OWN
    return length - length % BLOCK


def _available(root: int) -> int:
    status = os.fstatvfs(root)
    return status.f_bavail * status.f_frsize


def _reserved(device: str) -> int:
    """Blocks, of the superblock: s_r_blocks_count, low and high. Documentation/filesystems/ext4/super.rst."""
    fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        superblock = os.pread(fd, 1024, 1024)
    finally:
        os.close(fd)
    low, high = (int.from_bytes(superblock[at : at + 4], "little") for at in (0x8, 0x154))
    return low | high << 32


def _reserve(place: Path, blocks: int) -> None:
    _run("tune2fs", "-r", str(blocks), str(place))


def _run(*words: str, fine: tuple[int, ...] = (0,)) -> None:
    try:
        done = subprocess.run(words, env=_ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600, check=False)
    except FileNotFoundError:
        raise Unsupported(f"quota size requested but no quota support: this host lacks {words[0]} (package e2fsprogs)") from None
    if done.returncode not in fine:
        raise FailedPrecondition(f"{words[0]}: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else done.returncode}")
