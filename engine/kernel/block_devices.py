"""Limits of block devices: the paths that people write, the numbers that cgroups want.

A number must come from the kernel, never from a user: version 2's ``io.max`` makes an md device of an unknown one with major 9 [m].
"""

from __future__ import annotations

import dataclasses
import errno
import os
import stat

from engine.model.resources import DeviceRate, Resources


def numbered(limits: Resources) -> Resources:
    """The same with ``major:minor`` in the place of each path. OSError ENOTBLK, in the same words whatever else is there."""
    return dataclasses.replace(
        limits,
        blkio_weight_device=_numbered(limits.blkio_weight_device),
        blkio_read_bps=_numbered(limits.blkio_read_bps),
        blkio_write_bps=_numbered(limits.blkio_write_bps),
        blkio_read_iops=_numbered(limits.blkio_read_iops),
        blkio_write_iops=_numbered(limits.blkio_write_iops),
    )


def _numbered(rates: tuple[DeviceRate, ...]) -> tuple[DeviceRate, ...]:
    return tuple(DeviceRate(path=number(rate.path), rate=rate.rate) for rate in rates)


def number(path: str) -> str:
    """``major:minor`` of the disk at ``path``; of a partition that of its whole disk, the kernel limits no others."""
    try:
        real = os.path.realpath(path, strict=True)
        found = os.stat(real)
    except (OSError, ValueError):
        raise _none(path) from None
    if not real.startswith("/dev/") or not stat.S_ISBLK(found.st_mode):
        raise _none(path)
    known = f"/sys/dev/block/{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"
    folder = os.path.realpath(known)
    if os.path.exists(f"{folder}/partition"):
        folder = os.path.dirname(folder)
    try:
        with open(f"{folder}/dev") as file:
            return file.read().strip()
    except FileNotFoundError:
        raise _none(path) from None


def _none(path: str) -> OSError:
    return OSError(errno.ENOTBLK, "no such block device on this host", path)
