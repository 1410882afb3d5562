"""Mounts, in two halves: what the launcher (host root) prepares as detached mounts, and what a container's first process
attaches and makes by itself in its own mount namespace.

A detached mount is a descriptor: it is in nobody's tree, and gone when its last descriptor is closed.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from engine.kernel import syscalls
from engine.kernel.syscalls import AT_EMPTY_PATH, AT_FDCWD, AT_RECURSIVE, MS, MountAttr

OVERLAY_MAX_LAYERS: Final = 500  # the kernel's own limit (OVL_MAX_STACK)
_FSCONFIG_MAX: Final = 255  # bytes of one fsconfig(2) string
_PLACES: Final = "/tmp/slipway-"
_PLACE: Final = re.compile(_PLACES + "[0-9a-f]{16}")
_MOUNT_DATA_MAX: Final = 4095  # bytes of mount(2) data; the kernel cuts the rest off silently

# Attributes of untrusted layers must not redirect anything, whatever this kernel was built with
_OVERLAY_OPTIONS: Final = (("redirect_dir", "nofollow"), ("metacopy", "off"), ("index", "off"))

# mount(8) words, as the runtime-spec lists them: word → (set, clear)
_FLAGS: Final[dict[str, tuple[int, int]]] = {
    "defaults": (0, 0),
    "ro": (MS.RDONLY, 0), "rw": (0, MS.RDONLY),
    "nosuid": (MS.NOSUID, 0), "suid": (0, MS.NOSUID),
    "nodev": (MS.NODEV, 0), "dev": (0, MS.NODEV),
    "noexec": (MS.NOEXEC, 0), "exec": (0, MS.NOEXEC),
    "sync": (MS.SYNCHRONOUS, 0), "async": (0, MS.SYNCHRONOUS),
    "dirsync": (MS.DIRSYNC, 0), "mand": (MS.MANDLOCK, 0), "nomand": (0, MS.MANDLOCK), "silent": (MS.SILENT, 0), "loud": (0, MS.SILENT),
    "noatime": (MS.NOATIME, 0), "atime": (0, MS.NOATIME),
    "nodiratime": (MS.NODIRATIME, 0), "diratime": (0, MS.NODIRATIME),
    "relatime": (MS.RELATIME, 0), "norelatime": (0, MS.RELATIME),
    "strictatime": (MS.STRICTATIME, 0), "nostrictatime": (0, MS.STRICTATIME),
    "bind": (MS.BIND, 0), "rbind": (MS.BIND | MS.REC, 0),
}  # fmt: skip
_FLAGS.update({word: (int(wanted), int(unwanted)) for word, (wanted, unwanted) in _FLAGS.items()})  # see _BIND_TREE
_PROPAGATION: Final[dict[str, int]] = {
    "private": MS.PRIVATE, "rprivate": MS.PRIVATE | MS.REC, "slave": MS.SLAVE, "rslave": MS.SLAVE | MS.REC,
    "shared": MS.SHARED, "rshared": MS.SHARED | MS.REC, "unbindable": MS.UNBINDABLE, "runbindable": MS.UNBINDABLE | MS.REC,
}  # fmt: skip
_PROPAGATION.update({word: int(flag) for word, flag in _PROPAGATION.items()})
# Once, as plain numbers: an IntFlag's | is a Python call, and members pay for each page that Python touches
_BIND: Final = int(MS.BIND)
_BIND_TREE: Final = int(MS.BIND | MS.REC)
_REMOUNT: Final = int(MS.REMOUNT | MS.BIND)
_READ_ONLY: Final = int(MS.RDONLY)
_TO_PATH: Final = syscalls.MOVE_MOUNT_F_EMPTY_PATH | syscalls.MOVE_MOUNT_T_SYMLINKS
_SEALED: Final = int(MS.RDONLY | MS.NOSUID | MS.NODEV | MS.NOEXEC)
_ATTRIBUTES: Final = tuple(
    (int(flag), int(attribute))
    for flag, attribute in (
        (MS.RDONLY, MountAttr.RDONLY), (MS.NOSUID, MountAttr.NOSUID), (MS.NODEV, MountAttr.NODEV), (MS.NOEXEC, MountAttr.NOEXEC),
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Options:
    """What the words after a mount's ``-o`` mean. ``data`` is the file system's own part."""

    flags: int
    propagation: int
    data: str


def parse_options(words: Iterable[str]) -> Options:
    """runtime-spec "Linux mount options": the flags we know; all other words are the file system's."""
    flags, propagation, data = 0, 0, []
    for word in words:
        if word in _FLAGS:
            wanted, unwanted = _FLAGS[word]
            flags = (flags | wanted) & ~unwanted
        elif word in _PROPAGATION:
            propagation = _PROPAGATION[word]
        elif word:
            data.append(word)
    return Options(flags, propagation, ",".join(data))


def set_flags(mount: int, flags: int) -> None:
    """Of a detached mount, these MS_ flags beside those that it has."""
    syscalls.mount_setattr(mount, "", AT_EMPTY_PATH, attr_set=_attributes(flags))


def _attributes(flags: int) -> int:
    return sum(attribute for flag, attribute in _ATTRIBUTES if flags & flag)


# -- the launcher's half: host root, in the keeper's mount namespace ------------------------------


def private_namespace() -> None:
    """A mount namespace of our own: what is mounted here is seen nowhere else; what the host unmounts goes here, too."""
    syscalls.unshare(syscalls.Clone.NEWNS)
    syscalls.mount("none", "/", "", MS.REC | MS.SLAVE)


def ensure_whole_proc(place: str) -> None:
    """Where a part of /proc is hidden by a mount (we are in somebody's container), the kernel lets no user namespace mount a proc,
    unless a whole one is visible too. So there is one at ``place``, made by host root.
    """
    with open("/proc/self/mountinfo") as lines:
        points = {line.split()[4] for line in lines}
    hidden = [point for point in points if point.startswith("/proc/") and point != "/proc/sys/fs/binfmt_misc"]
    if hidden and place not in points:
        os.makedirs(place, mode=0o700, exist_ok=True)
        syscalls.mount("proc", place, "proc", MS.NOSUID | MS.NODEV | MS.NOEXEC)


@contextmanager
def files_owned_by(uid: int, gid: int) -> Iterator[None]:
    """Files, pipes and file systems made inside belong to these ids.

    Only with SECBIT_NO_SETUID_FIXUP set are the file capabilities kept, which overlayfs needs to make its work folder.
    """
    syscalls.setfsgid(gid)
    syscalls.setfsuid(uid)
    try:
        yield
    finally:
        syscalls.setfsuid(0)
        syscalls.setfsgid(0)


def idmapped_clone(source: str, userns: int) -> int:
    """A detached copy of the mount at ``source`` in which id n of the files is what ``userns`` maps n to. Linux 5.12."""
    fd = syscalls.open_tree(AT_FDCWD, source, syscalls.OPEN_TREE_CLONE)
    try:
        attributes = MountAttr.IDMAP | MountAttr.NOSUID | MountAttr.NODEV
        # private: nothing that is mounted inside one tenant's view shows up in another's
        syscalls.mount_setattr(fd, "", AT_EMPTY_PATH, attr_set=attributes, propagation=MS.PRIVATE, userns_fd=userns)
    except BaseException:
        os.close(fd)
        raise
    return fd


def attach(mount: int, target: str) -> None:
    """Put a detached mount into the tree, at a path seen from this process; symlinks are followed."""
    syscalls.move_mount(mount, "", AT_FDCWD, target, _TO_PATH)


def attach_at(mount: int, target: int) -> None:
    """As ``attach``, onto an open O_PATH descriptor."""
    syscalls.move_mount(mount, "", target, "", syscalls.MOVE_MOUNT_F_EMPTY_PATH | syscalls.MOVE_MOUNT_T_EMPTY_PATH)


def clear_nosuid(mount: int) -> None:
    """Of a detached mount: set-uid files are what they are for the user namespace that the mount's files belong to."""
    syscalls.mount_setattr(mount, "", AT_EMPTY_PATH, attr_clr=MountAttr.NOSUID)


def map_ids(mount: int, userns: int, *, recursive: bool) -> None:
    """Of a detached mount: id n of the files is what ``userns`` maps n to."""
    recursion = AT_RECURSIVE if recursive else 0
    syscalls.mount_setattr(mount, "", AT_EMPTY_PATH | recursion, attr_set=MountAttr.IDMAP, userns_fd=userns)


def bind_copy(source: int, *, recursive: bool, flags: int = 0, propagation: int = int(MS.PRIVATE)) -> int:
    """A detached copy of what the O_PATH descriptor names, with these MS_ flags."""
    recursion = AT_RECURSIVE if recursive else 0
    fd = syscalls.open_tree(source, "", syscalls.OPEN_TREE_CLONE | AT_EMPTY_PATH | recursion)
    try:
        syscalls.mount_setattr(fd, "", AT_EMPTY_PATH | recursion, attr_set=_attributes(flags), propagation=propagation)
    except BaseException:
        os.close(fd)
        raise
    return fd


def below_detached(mount: int, path: str, *, flags: int = 0, resolve: Callable[[int], int] | None = None) -> int:
    """A detached copy of the folder ``path`` in a detached mount, which is closed. ``resolve``: of what it finds from there.

    It is put into our tree for a moment.
    """
    try:
        with attached(mount) as place:
            folder = os.open(f"{place}/{path}", os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                source = resolve(folder) if resolve is not None else os.dup(folder)
                try:
                    return bind_copy(source, recursive=False, flags=flags)
                finally:
                    os.close(source)
            finally:
                os.close(folder)
    finally:
        os.close(mount)


def tmpfs(options: Options, first_id: int) -> int:
    """A detached one, nodev; its ids are a user namespace's whose root is ``first_id``. OSError EINVAL for words that it does not know."""
    words = {"mode": "1777", "uid": "0", "gid": "0"} | dict(word.split("=", 1) for word in options.data.split(",") if word)
    context = syscalls.fsopen("tmpfs")
    try:
        syscalls.fsconfig(context, syscalls.FSCONFIG_SET_STRING, "source", "tmpfs")
        for name, value in words.items():
            number = str(first_id + int(value)) if name in ("uid", "gid") else value
            syscalls.fsconfig(context, syscalls.FSCONFIG_SET_STRING, name, number)
        syscalls.fsconfig(context, syscalls.FSCONFIG_CMD_CREATE)
        return syscalls.fsmount(context, _attributes(options.flags) | MountAttr.NODEV)
    finally:
        os.close(context)


@contextmanager
def attached(mount: int) -> Iterator[str]:
    """The place of a detached mount in our tree, as long as the block lasts: before Linux 6.15 it is copied, or a layer, only there."""
    with tmpfs_directory() as place:
        attach(mount, place)
        try:
            yield place
        finally:
            syscalls.umount2(place, syscalls.MNT_DETACH)


def clear_places() -> None:
    """What who was killed in such a block left in this mount namespace, in which nobody else is in one."""
    with open("/proc/self/mountinfo") as lines:
        places = [place for line in lines if _PLACE.fullmatch(place := line.split()[4])]
    for place in places:
        syscalls.umount2(place, syscalls.MNT_DETACH)
        with suppress(OSError):
            os.rmdir(place)


def overlay(lower: Sequence[int], upper: int, work: int) -> int:
    """A detached overlay mount, nodev, of O_PATH descriptors (top layer first), which stay the caller's.

    Named as numbers in /proc/self/fd, so that the store's paths do not show in the container's mountinfo, and so that 500 layers
    fit: fsconfig(2) takes 255 bytes, mount(2) a page. Raises OSError EROFS where the kernel would only mount it read-only.
    """
    fd = _overlay((("lowerdir", ":".join(map(str, lower))), ("upperdir", str(upper)), ("workdir", str(work)), *_OVERLAY_OPTIONS))
    if os.fstatvfs(fd).f_flag & os.ST_RDONLY:
        os.close(fd)
        raise OSError(errno.EROFS, "overlay is read-only: its work folder could not be made (see dmesg)")
    return fd


def overlay_to_read(lower: Sequence[int]) -> int:
    """As ``overlay`` with nothing to write to. One layer alone is that layer's own folder, which the kernel makes no overlay of."""
    if len(lower) == 1:
        return bind_copy(lower[0], recursive=False, flags=int(MS.RDONLY | MS.NODEV))
    return _overlay((("lowerdir", ":".join(map(str, lower))), *_OVERLAY_OPTIONS))


def _overlay(settings: Sequence[tuple[str, str]]) -> int:
    here = os.open(".", os.O_PATH | os.O_CLOEXEC)
    try:
        os.chdir("/proc/self/fd")
        by_fsopen = all(len(value) <= _FSCONFIG_MAX for _key, value in settings)
        return _overlay_by_fsopen(settings) if by_fsopen else _overlay_by_mount(settings)
    finally:
        os.fchdir(here)
        os.close(here)


def _overlay_by_fsopen(settings: Iterable[tuple[str, str]]) -> int:
    context = syscalls.fsopen("overlay")
    try:
        syscalls.fsconfig(context, syscalls.FSCONFIG_SET_STRING, "source", "overlay")
        for key, value in settings:
            syscalls.fsconfig(context, syscalls.FSCONFIG_SET_STRING, key, value)
        syscalls.fsconfig(context, syscalls.FSCONFIG_CMD_CREATE)
        return syscalls.fsmount(context, MountAttr.NODEV)
    finally:
        os.close(context)


def _overlay_by_mount(settings: Iterable[tuple[str, str]]) -> int:
    """mount(2) needs a place for a moment: the root, on top of which nobody looks by then."""
    data = ",".join(f"{key}={value}" for key, value in settings)
    if len(data) > _MOUNT_DATA_MAX:
        raise OSError(errno.E2BIG, f"overlay of {data.count(':') + 1} layers: its options do not fit a page")
    with tmpfs_directory() as place:
        syscalls.mount("overlay", place, "overlay", MS.NODEV, data)
        try:
            return syscalls.open_tree(AT_FDCWD, place, syscalls.OPEN_TREE_CLONE)
        finally:
            syscalls.umount2(place, syscalls.MNT_DETACH)


@contextmanager
def tmpfs_directory() -> Iterator[str]:
    """An empty folder to mount something on for a moment."""
    place = f"{_PLACES}{os.urandom(8).hex()}"
    os.mkdir(place, 0o700)
    try:
        yield place
    finally:
        os.rmdir(place)


@dataclass(frozen=True, slots=True)
class Node:
    """A device node below /dev: ``path`` from there (``net/tun``), ``mode`` with its type (S_IFCHR, S_IFBLK)."""

    path: str
    mode: int
    major: int
    minor: int


def device_tmpfs(options: Options, nodes: Iterable[Node] = ()) -> int:
    """A detached tmpfs for /dev, made by host root so that device nodes in it work (one made in a user namespace is nodev).

    ``nodes`` are there beside the usual ones. With ``files_owned_by`` around it the container's root owns all of it. What may be
    opened is the cgroup's device rule's to say.
    """
    context = syscalls.fsopen("tmpfs")
    try:
        syscalls.fsconfig(context, syscalls.FSCONFIG_SET_STRING, "source", "tmpfs")
        for word in options.data.split(","):
            key, _, value = word.partition("=")
            if key:
                syscalls.fsconfig(context, syscalls.FSCONFIG_SET_STRING, key, value)
        syscalls.fsconfig(context, syscalls.FSCONFIG_CMD_CREATE)
        fd = syscalls.fsmount(context, _attributes(options.flags) & ~MountAttr.NODEV)
    finally:
        os.close(context)
    mask = os.umask(0)
    try:
        for name, major, minor in _DEVICES:
            os.mknod(name, stat.S_IFCHR | 0o666, os.makedev(major, minor), dir_fd=fd)
        for node in nodes:
            for end in (at for at, char in enumerate(node.path) if char == "/"):
                try:
                    os.mkdir(node.path[:end], 0o755, dir_fd=fd)
                except FileExistsError:
                    pass
            os.mknod(node.path, node.mode, os.makedev(node.major, node.minor), dir_fd=fd)
        for name, target in _DEVICE_LINKS:
            if name == "core" and not os.path.exists(target):
                continue  # a kernel without CONFIG_PROC_KCORE
            os.symlink(target, name, dir_fd=fd)
        for name in ("pts", "shm", "mqueue"):
            os.mkdir(name, 0o755, dir_fd=fd)
    except BaseException:
        os.close(fd)
        raise
    finally:
        os.umask(mask)
    return fd


# runtime-spec "Default Devices" and "Dev symbolic links"; the numbers are Documentation/admin-guide/devices.txt's
_DEVICES: Final = (("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0))
_DEVICE_LINKS: Final = (
    ("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1"), ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"), ("ptmx", "pts/ptmx"),
)  # fmt: skip


# -- the member's half: container root, in a mount namespace of its own ---------------------------


def kernel_filesystem(kind: str, options: Options) -> int:
    """A detached proc or sysfs of the caller's namespaces.

    The kernel lets a user namespace have one only while such a mount is visible in its tree: so before ``enter_root``.
    """
    context = syscalls.fsopen(kind)
    try:
        syscalls.fsconfig(context, syscalls.FSCONFIG_SET_STRING, "source", kind)
        syscalls.fsconfig(context, syscalls.FSCONFIG_CMD_CREATE)
        return syscalls.fsmount(context, _attributes(options.flags))
    finally:
        os.close(context)


def enter_root(root: int) -> None:
    """Make the detached mount ``root`` this namespace's root, and the working folder; nothing of the old one is left.

    No path of an image may be walked before: while the old root lies upon the new one, ``/..`` leads into it.
    """
    attach(root, "/")  # on top of the old root; nobody but us walks there, we go by descriptor
    os.fchdir(root)
    syscalls.pivot_root(".", ".")
    syscalls.umount2(".", syscalls.MNT_DETACH)  # pivot_root(2), NOTES


def make_read_only(path: str, flags: int) -> None:
    """A bind mount of the path on itself, read-only; ``flags`` are those that the mount below has. A missing path is fine."""
    try:
        syscalls.mount(path, path, "", _BIND_TREE)
    except FileNotFoundError:
        return
    syscalls.mount("none", path, "", _REMOUNT | _READ_ONLY | flags)


def mask(paths: Iterable[str]) -> None:
    """Nothing is to be read there: /dev/null over files, one empty read-only tmpfs over folders. Missing paths are fine."""
    empty = ""
    for path in paths:
        try:
            mode = os.stat(path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            continue
        if not stat.S_ISDIR(mode):
            syscalls.mount("/dev/null", path, "", _BIND)
        elif empty:
            syscalls.mount(empty, path, "", _BIND)
        else:
            syscalls.mount("tmpfs", path, "tmpfs", _SEALED, "nr_inodes=1")
            empty = path


def remount(path: str, flags: int) -> None:
    """Change this mount's flags alone, not the file system's."""
    syscalls.mount("none", path, "", _REMOUNT | flags)
