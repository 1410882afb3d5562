"""File systems in memory: ``HostConfig.Tmpfs`` and the entries of ``HostConfig.Mounts`` that are such. PURE, with moby's sentences."""

from __future__ import annotations

from typing import Any, Final

from controlpanel.containers.fields import Object, flag, integer, obj, objects, string_map, text
from engine.errors import InvalidArgument

# tmpfs(5) and mount(8): what both moby and the kernel take; a word with a value ends in =
_OPTIONS: Final = frozenset({
    "async", "atime", "defaults", "dev", "diratime", "dirsync", "exec", "iversion", "mand", "noatime", "nodev", "nodiratime", "noexec",
    "noiversion", "nomand", "norelatime", "nostrictatime", "nosuid", "private", "rbind", "relatime", "remount", "ro", "rprivate",
    "rshared", "rslave", "runbindable", "rw", "shared", "slave", "strictatime", "suid", "sync", "unbindable", "gid=", "mode=", "mpol=",
    "nr_blocks=", "nr_inodes=", "size=", "uid=",
})  # fmt: skip


def read(host_config: Object) -> dict[str, str]:
    """Path → options, for both ways to ask. Mounts of other kinds are mounts.py's."""
    found = string_map(host_config, "Tmpfs")
    for path, options in found.items():
        _check_path(path)
        for option in options.split(","):
            name, equals, _value = option.partition("=")
            if option and name + equals not in _OPTIONS:
                raise InvalidArgument(f'invalid tmpfs option "{option}"')
    for mount in _mine(host_config):
        path, options = _mount(mount)
        if path in found:
            raise InvalidArgument(f"Duplicate mount point: {path}")
        found[path] = options
    return found


def mount_points(host_config: Object) -> list[dict[str, Any]]:
    """As ``inspect`` lists those of ``Mounts``; ``Tmpfs`` is not listed by moby."""
    return [
        {
            "Type": "tmpfs",
            "Source": "",
            "Destination": text(mount, "Target"),
            "Mode": "",
            "RW": not flag(mount, "ReadOnly"),
            "Propagation": "",
        }
        for mount in _mine(host_config)
    ]


def _mine(host_config: Object) -> list[dict[str, Any]]:
    return [mount for mount in objects(host_config, "Mounts") if text(mount, "Type") == "tmpfs"]


def _mount(mount: Object) -> tuple[str, str]:
    path = text(mount, "Target")
    wrong = 'invalid mount config for type "tmpfs": '
    if not path:
        raise InvalidArgument(f"{wrong}field Target must not be empty")
    if text(mount, "Source"):
        raise InvalidArgument(f"{wrong}field Source must not be specified")
    if not path.startswith("/"):
        raise InvalidArgument(f"{wrong}invalid mount path: '{path}' mount path must be absolute")
    options = obj(mount, "TmpfsOptions")
    size, mode = integer(options, "SizeBytes"), integer(options, "Mode")
    if size < 0 or not 0 <= mode <= 0o7777:
        raise InvalidArgument(f"{wrong}the size is a number of bytes, the mode one of 0 to 07777")
    words = ["ro"] if flag(mount, "ReadOnly") else []
    words += [f"size={size}"] if size else []
    words += [f"mode={mode:o}"] if mode else []
    return path, ",".join(words)


def _check_path(path: str) -> None:
    if not path.startswith("/"):
        raise InvalidArgument(f"invalid mount path: '{path}' mount path must be absolute")
