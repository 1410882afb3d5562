"""Devices of the host that a container asked for: granted by its tenant's ceiling, and turned into numbers.

What every container has in its /dev anyway (null, zero, full, random, urandom, tty) may be asked for by anybody.
"""

from __future__ import annotations

import os
import posixpath
import re
import stat
from typing import Any, Final

from engine.ceilings import Ceiling
from engine.errors import InvalidArgument, PermissionDenied
from engine.model.container import ContainerSpec, Device
from engine.model.grants import EVERYBODYS_DEVICES, device_letters

_PLACES: Final = ("/dev/pts", "/dev/shm", "/dev/mqueue")  # covered by mounts of their own
_MADE: Final = frozenset({"/dev/console", "/dev/ptmx", "/dev/core", "/dev/fd", "/dev/stdin", "/dev/stdout", "/dev/stderr"})
_RULE: Final = re.compile(r"([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})")


def nodes(spec: ContainerSpec, ceiling: Ceiling) -> list[dict[str, Any]]:
    """runtime-spec ``linux.devices``, each with the ``access`` that was asked for; they belong to the container's root.

    PermissionDenied for what the ceiling does not grant, before anything of the device is looked at.
    """
    found, seen = [], set()
    for device in spec.devices:
        place = _place(device)
        if place in seen:
            raise InvalidArgument(f"device {place} is named twice")
        seen.add(place)
        _check_granted(device, ceiling)
        if device.path_on_host == place and place in EVERYBODYS_DEVICES:
            continue
        found.append(_node(device, place))
    return found


def rules(spec: ContainerSpec, ceiling: Ceiling) -> list[dict[str, Any]]:
    """runtime-spec ``linux.resources.devices`` of ``--device-cgroup-rule``: each must be about one device that the ceiling grants."""
    granted: list[tuple[str, int, int, str]] = []
    for words in ceiling.devices:
        path = words.partition(":")[0]
        try:
            kind, major, minor, _mode = _numbers(path)
        except InvalidArgument:
            continue  # unplugged, or its module is not loaded
        granted.append((kind, major, minor, device_letters(path, ceiling.devices)))
    made = []
    for words in spec.device_rules:
        found = _RULE.fullmatch(words)
        if found is None:
            raise InvalidArgument(f"invalid device cgroup rule format: '{words}'")
        kind, major_word, minor_word, access = found.groups()
        allowed = next((letters for k, a, b, letters in granted if (k, str(a), str(b)) == (kind, major_word, minor_word)), "")
        if not allowed or not set(access) <= set(allowed):
            raise PermissionDenied(
                f"device rule '{words}' is not allowed: this host's ceiling for the tenant does not grant it", rule="DeviceCgroupRules"
            )
        made.append({"allow": True, "type": kind, "major": int(major_word), "minor": int(minor_word), "access": access})
    return made


def _place(device: Device) -> str:
    place = posixpath.normpath(device.path_in_container or device.path_on_host)
    if not set(device.permissions) <= set("rwm") or not device.permissions:
        raise InvalidArgument(f"invalid device permissions {device.permissions!r}: use some of r, w and m")
    if not place.startswith("/dev/") or "\0" in place:
        raise InvalidArgument(f"device {device.path_on_host} can only be given below /dev, not at {place}")
    if place in _MADE or any(place == busy or place.startswith(f"{busy}/") for busy in _PLACES):
        raise InvalidArgument(f"device {device.path_on_host} cannot be given at {place}: the container has its own there")
    if place in EVERYBODYS_DEVICES and device.path_on_host != place:
        raise InvalidArgument(f"device {device.path_on_host} cannot be given at {place}: the container has its own there")
    return place


def _check_granted(device: Device, ceiling: Ceiling) -> None:
    if device.path_on_host in EVERYBODYS_DEVICES:
        return
    if not set(device.permissions) <= set(device_letters(device.path_on_host, ceiling.devices)):
        raise PermissionDenied(
            f"device {device.path_on_host} ({device.permissions}) is not allowed: this host's ceiling for the tenant does not grant it",
            rule="Devices",
        )


def _node(device: Device, place: str) -> dict[str, Any]:
    kind, major, minor, mode = _numbers(device.path_on_host)
    return {
        "path": place,
        "type": kind,
        "major": major,
        "minor": minor,
        "fileMode": mode,
        "uid": 0,
        "gid": 0,
        "access": device.permissions,
    }


def _numbers(path: str) -> tuple[str, int, int, int]:
    """(c or b, major, minor, permission bits)."""
    sentence = f'error gathering device information while adding custom device "{path}": '
    try:
        status = os.stat(path, follow_symlinks=False)
    except OSError as error:
        raise InvalidArgument(sentence + os.strerror(error.errno or 0).lower()) from None
    if not (stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)):
        raise InvalidArgument(f"{sentence}not a device node")
    kind = "c" if stat.S_ISCHR(status.st_mode) else "b"
    return kind, os.major(status.st_rdev), os.minor(status.st_rdev), stat.S_IMODE(status.st_mode) & 0o666
