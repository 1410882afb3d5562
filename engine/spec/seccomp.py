"""Which system calls a container may make: Docker's default profile in our own words, and profiles that users bring. Pure.

Equal in effect to what moby 28 ships (docs.docker.com "Seccomp security profiles"), with its later hardening: AF_ALG sockets
are refused like AF_VSOCK ones. What is not named here is refused with EPERM: bpf, keyctl, add_key, request_key, userfaultfd,
io_uring_*, perf_event_open, mount and its family, kexec, swapon, move_pages, acct, reboot … unless a capability brings it.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from typing import Any, Final

from engine.errors import InvalidArgument
from engine.spec.bpf import compile_profile

__all__ = ["compile_profile", "default_profile", "resolve_profile"]

_EPERM, _ENOSYS = 1, 38
_CLONE_NAMESPACES: Final = 0x7E02_0000  # NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET, linux/sched.h
_AF_ALG, _AF_VSOCK = 38, 40  # host's crypto code; host and its virtual machines, which no network namespace keeps apart
_NEWEST_FAMILY: Final = 45  # AF_MCTP
# PER_LINUX, PER_LINUX32, each with UNAME26, and the query. ADDR_NO_RANDOMIZE would weaken what runs set-user-ID.
_PERSONALITIES: Final = (0x0, 0x8, 0x2_0000, 0x2_0008, 0xFFFF_FFFF)

_ARCHITECTURES: Final = {
    "x86_64": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    "aarch64": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
}
_GOARCH: Final = {"x86_64": "amd64", "aarch64": "arm64"}  # the words of Docker's profiles

# One line a subject; a call of 32-bit ABIs stands beside its sibling.
_ALWAYS: Final = """
    read readv pread64 preadv preadv2 write writev pwrite64 pwritev pwritev2 lseek _llseek close close_range
    open openat openat2 creat dup dup2 dup3 fcntl fcntl64 flock ioctl fadvise64 fadvise64_64 fallocate readahead
    copy_file_range sendfile sendfile64 splice tee vmsplice sync syncfs fsync fdatasync sync_file_range msync cachestat
    stat stat64 lstat lstat64 fstat fstat64 fstatat64 newfstatat statx statfs statfs64 fstatfs fstatfs64 access faccessat faccessat2
    chmod fchmod fchmodat fchmodat2 chown chown32 fchown fchown32 lchown lchown32 fchownat umask
    truncate truncate64 ftruncate ftruncate64 utime utimes futimesat utimensat utimensat_time64
    link linkat symlink symlinkat readlink readlinkat unlink unlinkat rename renameat renameat2 mkdir mkdirat rmdir mknod mknodat
    chdir fchdir getcwd getdents getdents64 name_to_handle_at statmount listmount
    getxattr lgetxattr fgetxattr getxattrat setxattr lsetxattr fsetxattr setxattrat listxattr llistxattr flistxattr listxattrat
    removexattr lremovexattr fremovexattr removexattrat
    inotify_init inotify_init1 inotify_add_watch inotify_rm_watch fanotify_mark
    poll ppoll ppoll_time64 select _newselect pselect6 pselect6_time64 eventfd eventfd2 pipe pipe2
    epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_wait epoll_wait_old epoll_pwait epoll_pwait2
    io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents io_pgetevents_time64 ioprio_get ioprio_set
    brk mmap mmap2 munmap mremap mprotect madvise mincore mlock mlock2 munlock mlockall munlockall membarrier remap_file_pages
    memfd_create memfd_secret pkey_alloc pkey_free pkey_mprotect mseal map_shadow_stack
    fork vfork execve execveat exit exit_group wait4 waitid waitpid restart_syscall prctl uname sysinfo
    process_vm_readv process_vm_writev ptrace process_mrelease pidfd_open pidfd_send_signal uretprobe
    kill tkill tgkill pause rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_tgsigqueueinfo rt_sigreturn rt_sigsuspend
    rt_sigtimedwait rt_sigtimedwait_time64 sigaltstack signalfd signalfd4 sigprocmask sigreturn
    futex futex_time64 futex_waitv futex_wait futex_wake futex_requeue set_robust_list get_robust_list rseq set_tid_address
    set_thread_area get_thread_area gettid getpid getppid getpgid getpgrp setpgid getsid setsid getcpu getrandom
    getuid getuid32 geteuid geteuid32 getgid getgid32 getegid getegid32 getresuid getresuid32 getresgid getresgid32
    getgroups getgroups32 setuid setuid32 setgid setgid32 setreuid setreuid32 setregid setregid32 setresuid setresuid32
    setresgid setresgid32 setfsuid setfsuid32 setfsgid setfsgid32 setgroups setgroups32 capget capset
    seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self
    getpriority setpriority getrlimit ugetrlimit setrlimit prlimit64 getrusage times sched_yield sched_getaffinity sched_setaffinity
    sched_getattr sched_setattr sched_getparam sched_setparam sched_getscheduler sched_setscheduler
    sched_get_priority_max sched_get_priority_min sched_rr_get_interval sched_rr_get_interval_time64
    time gettimeofday adjtimex clock_gettime clock_gettime64 clock_getres clock_getres_time64 clock_adjtime clock_adjtime64
    nanosleep clock_nanosleep clock_nanosleep_time64 alarm getitimer setitimer timer_create timer_delete timer_getoverrun
    timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime
    timerfd_settime64
    socketcall socketpair bind connect listen accept accept4 shutdown getsockname getpeername getsockopt setsockopt
    send sendto sendmsg sendmmsg recv recvfrom recvmsg recvmmsg recvmmsg_time64
    ipc semget semctl semop semtimedop semtimedop_time64 shmget shmat shmdt shmctl msgget msgctl msgsnd msgrcv
    mq_open mq_unlink mq_notify mq_getsetattr mq_timedsend mq_timedsend_time64 mq_timedreceive mq_timedreceive_time64
"""

_ON_MACHINE: Final = {
    "x86_64": "arch_prctl modify_ldt",
    "aarch64": "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
}

_WITH_CAPABILITY: Final = {
    "CAP_SYS_ADMIN": """
        mount umount umount2 mount_setattr move_mount open_tree fsopen fsconfig fsmount fspick unshare setns clone clone3
        sethostname setdomainname quotactl quotactl_fd fanotify_init bpf perf_event_open syslog lookup_dcookie
        lsm_get_self_attr lsm_set_self_attr lsm_list_modules
    """,
    "CAP_BPF": "bpf",
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_PERFMON": "perf_event_open",
    "CAP_SYSLOG": "syslog",
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "init_module finit_module delete_module",
    "CAP_SYS_NICE": "mbind get_mempolicy set_mempolicy set_mempolicy_home_node",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise",
    "CAP_SYS_RAWIO": "iopl ioperm",
    "CAP_SYS_TIME": "settimeofday stime clock_settime clock_settime64",
    "CAP_SYS_TTY_CONFIG": "vhangup",
}


def default_profile(capabilities: Collection[str], *, machine: str | None = None) -> dict[str, Any]:
    """OCI ``linux.seccomp`` for a process with these capabilities (CAP_…) on ``machine`` (uname -m; None = this one).

    The same document for the same words: don't change it.
    """
    return _default(frozenset(_WITH_CAPABILITY).intersection(capabilities), machine or os.uname().machine)


@lru_cache(maxsize=256)
def _default(capabilities: frozenset[str], machine: str) -> dict[str, Any]:
    allowed = f"{_ALWAYS} {_ON_MACHINE[_known(machine)]}".split()
    for capability in sorted(capabilities):
        allowed += _WITH_CAPABILITY[capability].split()
    rules = [_rule(dict.fromkeys(allowed))]
    # Allowed families one by one: in a comparison "is not AF_ALG" the upper half of the register, which the kernel ignores, would decide.
    rules.append(_rule(["socket"], (0, _AF_ALG, "LT")))
    for family in range(_AF_ALG + 1, _NEWEST_FAMILY + 1):
        if family != _AF_VSOCK:
            rules.append(_rule(["socket"], (0, family, "EQ")))
    for personality in _PERSONALITIES:
        rules.append(_rule(["personality"], (0, personality, "EQ")))
    if "CAP_SYS_ADMIN" not in capabilities:
        rules.append(_rule(["clone"], (0, _CLONE_NAMESPACES, "MASKED_EQ")))
        # Its flags lie behind a pointer, out of a filter's sight. ENOSYS: every C library then takes clone.
        rules.append({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS})
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": _EPERM,
        "architectures": _ARCHITECTURES[machine],
        "syscalls": rules,
    }


def _rule(names: Iterable[str], condition: tuple[int, int, str] | None = None) -> dict[str, Any]:
    rule: dict[str, Any] = {"names": list(names), "action": "SCMP_ACT_ALLOW"}
    if condition is not None:
        index, value, operator = condition
        rule["args"] = [{"index": index, "value": value, "op": f"SCMP_CMP_{operator}"}]
    return rule


def resolve_profile(profile: Mapping[str, Any], capabilities: Collection[str], *, machine: str | None = None) -> dict[str, Any]:
    """A profile in Docker's form (``--security-opt seccomp=FILE``: archMap, includes, excludes) → the OCI form, for one process.

    InvalidArgument with the reason when it is no such profile.
    """
    machine = _known(machine or os.uname().machine)
    if not isinstance(profile, Mapping) or "defaultAction" not in profile:
        raise InvalidArgument("invalid seccomp profile: no defaultAction")
    architectures = list(profile.get("architectures") or [])
    for entry in profile.get("archMap") or []:
        if entry.get("architecture") == _ARCHITECTURES[machine][0]:
            architectures += [entry["architecture"], *(entry.get("subArchitectures") or [])]
    rules = []
    for entry in profile.get("syscalls") or []:
        includes, excludes = entry.get("includes") or {}, entry.get("excludes") or {}
        if _applies(includes, excludes, frozenset(capabilities), _GOARCH[machine]):
            rule = {word: entry[word] for word in ("action", "errnoRet", "args") if entry.get(word) is not None}
            rules.append({"names": entry.get("names") or [entry["name"]], **rule})
    resolved: dict[str, Any] = {
        "defaultAction": profile["defaultAction"],
        "architectures": architectures or _ARCHITECTURES[machine][:1],
        "syscalls": rules,
    }
    if profile.get("defaultErrnoRet") is not None:
        resolved["defaultErrnoRet"] = profile["defaultErrnoRet"]
    compile_profile(resolved)  # says what is wrong with it now, not at the start of a container
    return resolved


def _applies(includes: Mapping[str, Any], excludes: Mapping[str, Any], capabilities: frozenset[str], arch: str) -> bool:
    """minKernel is always met: the oldest kernel we run on is newer than any that a profile names."""
    return (
        (not includes.get("arches") or arch in includes["arches"])
        and set(includes.get("caps") or ()) <= capabilities
        and arch not in (excludes.get("arches") or ())
        and not capabilities & set(excludes.get("caps") or ())
    )


def _known(machine: str) -> str:
    if machine not in _ARCHITECTURES:
        raise InvalidArgument(f"no seccomp profile for machine {machine!r}")
    return machine
