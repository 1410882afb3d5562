"""System calls that Python 3.11 does not have: one function per man page, same name, same argument order. Nothing clever.

``ctypes.PyDLL`` keeps the interpreter lock during the call: one atomic less on a path that makes a hundred calls, and the callers
are single-threaded. Functions raise OSError with errno, the name of the call, and the path where there is one.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Callable
from enum import IntEnum, IntFlag
from functools import partial
from typing import Any, Final

_libc: Final = ctypes.PyDLL(None, use_errno=True)
_int, _uint, _long, _ulong, _u64 = ctypes.c_int, ctypes.c_uint, ctypes.c_long, ctypes.c_ulong, ctypes.c_uint64
_str, _ptr = ctypes.c_char_p, ctypes.c_void_p

AT_FDCWD: Final = -100
AT_EMPTY_PATH: Final = 0x1000  # linux/fcntl.h
AT_RECURSIVE: Final = 0x8000


class Clone(IntFlag):
    """linux/sched.h."""

    NEWNS = 0x0002_0000
    NEWCGROUP = 0x0200_0000
    NEWUTS = 0x0400_0000
    NEWIPC = 0x0800_0000
    NEWUSER = 0x1000_0000
    NEWPID = 0x2000_0000
    NEWNET = 0x4000_0000
    PIDFD = 0x0000_1000
    PARENT = 0x0000_8000
    INTO_CGROUP = 0x2_0000_0000


class MS(IntFlag):
    """mount(2), linux/mount.h."""

    RDONLY = 1
    NOSUID = 2
    NODEV = 4
    NOEXEC = 8
    SYNCHRONOUS = 16
    REMOUNT = 32
    MANDLOCK = 64
    DIRSYNC = 128
    NOATIME = 1024
    NODIRATIME = 2048
    BIND = 4096
    MOVE = 8192
    REC = 16384
    SILENT = 32768
    UNBINDABLE = 1 << 17
    PRIVATE = 1 << 18
    SLAVE = 1 << 19
    SHARED = 1 << 20
    RELATIME = 1 << 21
    STRICTATIME = 1 << 24


class MountAttr(IntFlag):
    """mount_setattr(2), linux/mount.h."""

    RDONLY = 0x1
    NOSUID = 0x2
    NODEV = 0x4
    NOEXEC = 0x8
    NOATIME = 0x10
    STRICTATIME = 0x20
    ATIME = 0x70
    NODIRATIME = 0x80
    IDMAP = 0x10_0000


class Resolve(IntFlag):
    """openat2(2), linux/openat2.h."""

    NO_XDEV = 0x01
    NO_MAGICLINKS = 0x02
    NO_SYMLINKS = 0x04
    BENEATH = 0x08
    IN_ROOT = 0x10


class Prctl(IntEnum):
    """prctl(2), linux/prctl.h."""

    SET_PDEATHSIG = 1
    SET_DUMPABLE = 4
    SET_KEEPCAPS = 8
    CAPBSET_READ = 23
    CAPBSET_DROP = 24
    SET_SECUREBITS = 28
    SET_CHILD_SUBREAPER = 36
    SET_NO_NEW_PRIVS = 38
    CAP_AMBIENT = 47


PR_SET_CHILD_SUBREAPER: Final = Prctl.SET_CHILD_SUBREAPER
PR_CAP_AMBIENT_RAISE: Final = 2
SECBIT_NO_SETUID_FIXUP: Final = 4  # linux/securebits.h

MNT_DETACH: Final = 2
RENAME_EXCHANGE: Final = 2  # linux/fs.h
OPEN_TREE_CLONE: Final = 1  # linux/mount.h
OPEN_TREE_CLOEXEC: Final = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH: Final = 0x04
MOVE_MOUNT_T_SYMLINKS: Final = 0x10
MOVE_MOUNT_T_EMPTY_PATH: Final = 0x40
FSOPEN_CLOEXEC: Final = 1
FSMOUNT_CLOEXEC: Final = 1
FSCONFIG_SET_FLAG: Final = 0
FSCONFIG_SET_STRING: Final = 1
FSCONFIG_CMD_CREATE: Final = 6
CLOSE_RANGE_CLOEXEC: Final = 4  # linux/close_range.h, Linux 5.11
SECCOMP_SET_MODE_FILTER: Final = 1  # linux/seccomp.h
KEYCTL_JOIN_SESSION_KEYRING: Final = 1  # linux/keyctl.h
LAST_FD: Final = 0xFFFF_FFFF

# Numbers before 424 differ by architecture: asm/unistd_64.h and asm-generic/unistd.h
_OLD: Final = {
    "x86_64": {"pivot_root": 155, "keyctl": 250, "seccomp": 317, "bpf": 321, "rt_sigaction": 13, "sched_setattr": 314},
    "aarch64": {"pivot_root": 41, "keyctl": 219, "seccomp": 277, "bpf": 280, "rt_sigaction": 134, "sched_setattr": 274},
}.get(platform.machine(), {})
_NEW: Final = {
    "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "clone3": 435, "close_range": 436,
    "openat2": 437, "mount_setattr": 442, "quotactl_fd": 443,
}  # fmt: skip


class CloneArgs(ctypes.Structure):
    """struct clone_args, clone3(2)."""

    _fields_ = [
        (name, _u64)
        for name in (
            "flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size", "tls", "set_tid", "set_tid_size", "cgroup",
        )
    ]  # fmt: skip


class _MountAttr(ctypes.Structure):
    _fields_ = [("attr_set", _u64), ("attr_clr", _u64), ("propagation", _u64), ("userns_fd", _u64)]


class _OpenHow(ctypes.Structure):
    _fields_ = [("flags", _u64), ("mode", _u64), ("resolve", _u64)]


class SockFprog(ctypes.Structure):
    """struct sock_fprog, linux/filter.h: a classic BPF program of ``len`` instructions of 8 bytes."""

    _fields_ = [("len", ctypes.c_ushort), ("filter", _ptr)]


class _CapHeader(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", _int)]


class _CapData(ctypes.Structure):
    _fields_ = [("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32)]


_CAPABILITY_VERSION_3: Final = 0x2008_0522  # linux/capability.h


def _wrapper(name: str, *argtypes: Any, restype: Any = _int) -> Callable[..., int]:
    """A function of libc."""
    function = _libc[name]
    function.argtypes, function.restype = argtypes, restype
    return function


def _raw(name: str, *argtypes: Any) -> Callable[..., int]:
    """A system call by number. ENOSYS at the call where this architecture's number is not known here."""
    function = _libc["syscall"]
    function.argtypes, function.restype = (_long, *argtypes), _long
    return partial(function, _OLD.get(name) or _NEW.get(name, -1))


_clone3 = _raw("clone3", ctypes.POINTER(CloneArgs), _ulong)
_close_range = _raw("close_range", _uint, _uint, _uint)
_openat2 = _raw("openat2", _int, _str, ctypes.POINTER(_OpenHow), _ulong)
_open_tree = _raw("open_tree", _int, _str, _uint)
_move_mount = _raw("move_mount", _int, _str, _int, _str, _uint)
_mount_setattr = _raw("mount_setattr", _int, _str, _uint, ctypes.POINTER(_MountAttr), _ulong)
_fsopen = _raw("fsopen", _str, _uint)
_fsconfig = _raw("fsconfig", _int, _uint, _str, _str, _int)
_fsmount = _raw("fsmount", _int, _uint, _uint)
_pivot_root = _raw("pivot_root", _str, _str)
_seccomp = _raw("seccomp", _uint, _uint, _ptr)
_bpf = _raw("bpf", _int, _ptr, _uint)
_keyctl = _raw("keyctl", _int, _ptr)
_sched_setattr = _raw("sched_setattr", _int, _str, _uint)
_rt_sigaction = _raw("rt_sigaction", _int, _str, _ptr, _ulong)
_mount = _wrapper("mount", _str, _str, _str, _ulong, _str)
_quotactl_fd = _raw("quotactl_fd", _uint, _uint, _uint, _ptr)
_renameat2 = _wrapper("renameat2", _int, _str, _int, _str, _uint)
_umount2 = _wrapper("umount2", _str, _int)
_unshare = _wrapper("unshare", _int)
_setns = _wrapper("setns", _int, _int)
_prctl = _wrapper("prctl", _int, _ulong, _ulong, _ulong, _ulong)
_capset = _wrapper("capset", _ptr, _ptr)
_capget = _wrapper("capget", _ptr, _ptr)
_setfsuid = _wrapper("setfsuid", _uint)
_setfsgid = _wrapper("setfsgid", _uint)
_setdomainname = _wrapper("setdomainname", _str, _ulong)


def _check(result: int, name: str, path: str | bytes | None = None) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}", path)
    return result


def clone3(args: CloneArgs) -> int:
    """The child's pid, 0 in the child. clone3(2); Linux 5.3. No fork handlers run: only for single-threaded callers."""
    return _check(_clone3(args, ctypes.sizeof(args)), "clone3")


def close_range(first: int, last: int, flags: int = 0) -> None:
    """close_range(2); Linux 5.9. An empty range is fine."""
    if first <= last:
        _check(_close_range(first, last, flags), "close_range")


def openat2(dirfd: int, path: str | bytes, flags: int, *, mode: int = 0, resolve: int = 0) -> int:
    """A close-on-exec descriptor. openat2(2); Linux 5.6. Retried when a rename somewhere raced with ``..`` (EAGAIN)."""
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    encoded = os.fsencode(path)
    while (fd := _openat2(dirfd, encoded, how, ctypes.sizeof(how))) < 0:
        if ctypes.get_errno() not in (4, 11):  # EINTR, EAGAIN
            _check(fd, "openat2", path)
    return fd


def open_tree(dirfd: int, path: str, flags: int) -> int:
    """A descriptor of a mount, with OPEN_TREE_CLONE of a detached copy. open_tree(2); Linux 5.2."""
    return _check(_open_tree(dirfd, os.fsencode(path), flags | OPEN_TREE_CLOEXEC), "open_tree", path)


def move_mount(from_dirfd: int, from_path: str, to_dirfd: int, to_path: str, flags: int) -> None:
    """move_mount(2); Linux 5.2."""
    _check(_move_mount(from_dirfd, os.fsencode(from_path), to_dirfd, os.fsencode(to_path), flags), "move_mount", to_path)


def mount_setattr(
    dirfd: int, path: str, flags: int, *, attr_set: int = 0, attr_clr: int = 0, propagation: int = 0, userns_fd: int = 0
) -> None:
    """mount_setattr(2); Linux 5.12."""
    attr = _MountAttr(attr_set, attr_clr, propagation, userns_fd)
    _check(_mount_setattr(dirfd, os.fsencode(path), flags, attr, ctypes.sizeof(attr)), "mount_setattr", path)


def fsopen(fstype: str) -> int:
    """fsopen(2); Linux 5.2."""
    return _check(_fsopen(fstype.encode(), FSOPEN_CLOEXEC), "fsopen", fstype)


def fsconfig(fd: int, command: int, key: str | None = None, value: str | None = None) -> None:
    """fsconfig(2); Linux 5.2. A value has 255 bytes at most (EINVAL)."""
    encoded = None if key is None else key.encode(), None if value is None else os.fsencode(value)
    _check(_fsconfig(fd, command, *encoded, 0), "fsconfig", key)


def fsmount(fd: int, attributes: int = 0) -> int:
    """The descriptor of a detached mount. fsmount(2); Linux 5.2."""
    return _check(_fsmount(fd, FSMOUNT_CLOEXEC, attributes), "fsmount")


def mount(source: str, target: str, fstype: str, flags: int = 0, data: str = "") -> None:
    """mount(2). ``data`` beyond 4,095 bytes would be cut silently by the kernel: the caller looks at its length."""
    result = _mount(os.fsencode(source), os.fsencode(target), fstype.encode(), flags, os.fsencode(data))
    _check(result, f"mount {fstype or source}", target)


def umount2(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    _check(_umount2(os.fsencode(target), flags), "umount2", target)


def pivot_root(new_root: str, put_old: str) -> None:
    """Swap the root mount of this mount namespace. pivot_root(2); Linux 2.3.41; needs CAP_SYS_ADMIN."""
    _check(_pivot_root(os.fsencode(new_root), os.fsencode(put_old)), "pivot_root", new_root)


def quotactl_fd(fd: int, command: int, number: int, words: bytearray) -> None:
    """Of the file system that ``fd`` is in; ``words`` is the command's structure, in and out. quotactl_fd(2); Linux 5.14."""
    buffer = (ctypes.c_char * len(words)).from_buffer(words)
    _check(_quotactl_fd(fd, command, number, ctypes.addressof(buffer)), "quotactl_fd")


def exchange(one: str | os.PathLike[str], other: str | os.PathLike[str]) -> None:
    """Each has the other's place, at once. renameat2(2), RENAME_EXCHANGE; Linux 3.15."""
    _check(_renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE), "renameat2", os.fspath(one))


def unshare(flags: int) -> None:
    """unshare(2)."""
    _check(_unshare(flags), "unshare")


def setns(fd: int, nstype: int) -> None:
    """setns(2)."""
    _check(_setns(fd, nstype), "setns")


def prctl(option: int, arg2: int = 0, arg3: int = 0) -> int:
    """prctl(2)."""
    return _check(_prctl(option, arg2, arg3, 0, 0), "prctl")


def capset(*, effective: int, permitted: int, inheritable: int) -> None:
    """The calling thread's sets, as bit masks. capset(2)."""
    header = _CapHeader(_CAPABILITY_VERSION_3, 0)
    data = (_CapData * 2)()
    for index, shift in enumerate((0, 32)):
        data[index] = _CapData(*(mask >> shift & 0xFFFF_FFFF for mask in (effective, permitted, inheritable)))
    _check(_capset(ctypes.byref(header), ctypes.byref(data)), "capset")


def capget() -> tuple[int, int, int]:
    """Effective, permitted, inheritable of the calling thread, as bit masks. capget(2)."""
    header = _CapHeader(_CAPABILITY_VERSION_3, 0)
    data = (_CapData * 2)()
    _check(_capget(ctypes.byref(header), ctypes.byref(data)), "capget")
    low, high = data
    return (
        low.effective | high.effective << 32,
        low.permitted | high.permitted << 32,
        low.inheritable | high.inheritable << 32,
    )


def setfsuid(uid: int) -> None:
    """setfsuid(2): whose files are made. It reports no error; a caller with CAP_SETUID gets what it asks for."""
    _setfsuid(uid)


def setfsgid(gid: int) -> None:
    """setfsgid(2). As ``setfsuid``."""
    _setfsgid(gid)


def setdomainname(name: str) -> None:
    """The NIS domain of this UTS namespace. setdomainname(2)."""
    encoded = name.encode()
    _check(_setdomainname(encoded, len(encoded)), "setdomainname")


def seccomp(operation: int, flags: int, program: SockFprog) -> None:
    """seccomp(2); Linux 3.17."""
    _check(_seccomp(operation, flags, ctypes.addressof(program)), "seccomp")


def bpf(command: int, attributes: bytes) -> int:
    """bpf(2). ``attributes`` is a packed union bpf_attr; what it points to must outlive the call."""
    buffer = ctypes.create_string_buffer(attributes, max(len(attributes), 128))  # the kernel wants unknown tails to be zero
    return _check(_bpf(command, ctypes.addressof(buffer), len(buffer)), "bpf")


def reset_signal(number: int) -> None:
    """SIG_DFL, also for the two that libc keeps from its callers (32, 33). rt_sigaction(2)."""
    _check(_rt_sigaction(number, bytes(32), None, 8), "rt_sigaction")  # struct kernel_sigaction, all zero


def sched_setattr(attributes: bytes) -> None:
    """Of this thread; ``attributes``: struct sched_attr. sched_setattr(2)."""
    _check(_sched_setattr(0, attributes, 0), "sched_setattr")


def join_session_keyring() -> None:
    """A new, empty, nameless one. keyctl(2), KEYCTL_JOIN_SESSION_KEYRING. OSError ENOSYS on a kernel without keys."""
    _check(_keyctl(KEYCTL_JOIN_SESSION_KEYRING, None), "keyctl")
