"""The default profile and the compiler: against libseccomp as an oracle, against another project's profile, and in the kernel."""

from __future__ import annotations

import ctypes
import ctypes.util
import itertools
import json
import os
import random
import socket
import struct
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest

from engine.errors import InvalidArgument, Unsupported
from engine.model.capabilities import ALL, DEFAULT
from engine.spec.seccomp import compile_profile, default_profile, resolve_profile
from engine.spec.syscall_numbers import X32_BIT, table
from tests.isolation.filters import PODMANS, Filter, runs

ALLOW, ERRNO, KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
EPERM, ENOSYS = ERRNO | 1, ERRNO | 38
X86_64, I386, AARCH64, ARM = 0xC000003E, 0x40000003, 0xC00000B7, 0x40000028


class _Comparison(ctypes.Structure):
    """seccomp.h struct scmp_arg_cmp."""

    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


OPERATORS = {"NE": 1, "LT": 2, "LE": 3, "EQ": 4, "GE": 5, "GT": 6, "MASKED_EQ": 7}
ACTIONS = {"SCMP_ACT_ALLOW": ALLOW, "SCMP_ACT_ERRNO": ERRNO}
X32 = 0x4000003E  # libseccomp's own word; the kernel says x86-64
ARCHES = {"SCMP_ARCH_X86_64": X86_64, "SCMP_ARCH_X86": I386, "SCMP_ARCH_X32": X32, "SCMP_ARCH_AARCH64": AARCH64, "SCMP_ARCH_ARM": ARM}


def oracle(profile: dict[str, Any]) -> Filter:
    """The same profile compiled by libseccomp."""
    library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    errno = profile.get("defaultErrnoRet", 1)
    default = ACTIONS[profile["defaultAction"]] | (errno if profile["defaultAction"] == "SCMP_ACT_ERRNO" else 0)
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(default)))
    native = library.seccomp_arch_native() & 0xFFFFFFFF
    assert not library.seccomp_arch_remove(context, ctypes.c_uint32(native))
    for name in profile["architectures"]:
        assert not library.seccomp_arch_add(context, ctypes.c_uint32(ARCHES[name]))
    for rule in profile["syscalls"]:
        action = ACTIONS[rule["action"]] | (rule.get("errnoRet", 1) if rule["action"] == "SCMP_ACT_ERRNO" else 0)
        if action == default:
            continue
        conditions = [
            _Comparison(c["index"], OPERATORS[c["op"].removeprefix("SCMP_CMP_")], c["value"], c.get("valueTwo") or 0)
            for c in rule.get("args") or []
        ]
        array = (_Comparison * max(1, len(conditions)))(*conditions)
        for name in rule["names"]:
            number = library.seccomp_syscall_resolve_name(name.encode())
            if number != -1:  # __NR_SCMP_ERROR: newer than this libseccomp
                result = library.seccomp_rule_add_array(context, ctypes.c_uint32(action), number, len(conditions), array)
                assert result in (0, -22, -17, -33), (name, result)  # EINVAL, EEXIST, EDOM: not on these architectures
    with tempfile.TemporaryFile() as out:
        assert not library.seccomp_export_bpf(context, out.fileno())
        library.seccomp_release(context)
        out.seek(0)
        return runs(out.read())


needs_libseccomp = pytest.mark.skipif(ctypes.util.find_library("seccomp") is None, reason="libseccomp2 is not installed")


def number_by_libseccomp(abi: str, name: str) -> int:
    """Negative: this libseccomp does not know the call, or the ABI lacks it."""
    arch = {"x86_64": X86_64, "i386": I386, "x32": X32, "aarch64": AARCH64, "arm": ARM}[abi]
    return int(ctypes.CDLL("libseccomp.so.2").seccomp_syscall_resolve_name_arch(ctypes.c_uint32(arch), name.encode()))


def abis(machine: str) -> Iterator[tuple[int, str]]:
    yield from {"x86_64": [(X86_64, "x86_64"), (I386, "i386"), (X86_64, "x32")], "aarch64": [(AARCH64, "aarch64"), (ARM, "arm")]}[machine]


@needs_libseccomp
@pytest.mark.parametrize("abi", ["x86_64", "i386", "x32", "aarch64", "arm"])
def test_numbers_are_libseccomps(abi: str) -> None:
    theirs = {name: number_by_libseccomp(abi, name) for name in table(abi)}
    known = {name: number for name, number in theirs.items() if number >= 0}
    assert len(known) > 300
    assert known == {name: number for name, number in table(abi).items() if name in known}


@needs_libseccomp
@pytest.mark.guest
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("capabilities", [DEFAULT, ALL, ()], ids=["default", "all", "none"])
def test_every_call_is_answered_as_libseccomp_would(machine: str, capabilities: tuple[str, ...]) -> None:
    profile = default_profile(capabilities, machine=machine)
    ours, theirs = runs(compile_profile(profile)), oracle(profile)
    conditional = {name for rule in profile["syscalls"] if rule.get("args") for name in rule["names"]}
    values = (0, 1, 8, 16, 38, 39, 40, 45, 46, 0x20000, 0x20008, 0x10000000, 0xFFFFFFFF, 1 << 32 | 38, 0x7E020000, 0x11 | 1 << 40)
    for arch, abi in abis(machine):
        for name, number in table(abi).items():
            if number_by_libseccomp(abi, name) >= 0:
                for value in values if name in conditional else (0,):
                    if abi not in ("x86_64", "aarch64") and value >> 32:
                        continue  # no upper half in a 32-bit process; in an x32 one libseccomp overlooks it and we refuse
                    arguments = (value, value)
                    assert ours(arch, number, *arguments) == theirs(arch, number, *arguments), (abi, name, hex(value))


@needs_libseccomp
def test_every_comparison_of_64_bits_is_libseccomps() -> None:
    interesting = (0, 1, 5, 0xFFFFFFFF, 1 << 32, 1 << 32 | 5, 5 << 32, (1 << 64) - 1)
    for operator, value in itertools.product(OPERATORS, interesting):
        for second in (0, value) if operator == "MASKED_EQ" else (0,):
            conditions = [
                {"index": 1, "op": f"SCMP_CMP_{operator}", "value": value, "valueTwo": second},
                {"index": 4, "op": "SCMP_CMP_NE", "value": 7},
            ]
            profile = {
                "defaultAction": "SCMP_ACT_ERRNO",
                "architectures": ["SCMP_ARCH_X86_64"],
                "syscalls": [
                    {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": conditions},
                    {"names": ["io_uring_setup"], "action": "SCMP_ACT_ALLOW"},
                ],
            }
            ours, theirs = runs(compile_profile(profile)), oracle(profile)
            for one, other in itertools.product(interesting, (7, 8)):
                arguments = (9, one, 9, 9, other)
                assert ours(X86_64, 0, *arguments) == theirs(X86_64, 0, *arguments), (operator, value, second, arguments)


@needs_libseccomp
def test_random_allow_lists_are_answered_as_libseccomp_would() -> None:
    chooser = random.Random(1)
    names = [name for name in table("x86_64") if number_by_libseccomp("x86_64", name) >= 0]
    for _ in range(20):
        profile = {
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrnoRet": 13,
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{"names": chooser.sample(names, chooser.randrange(1, 300)), "action": "SCMP_ACT_ALLOW"}],
        }
        ours, theirs = runs(compile_profile(profile)), oracle(profile)
        newest = max(table("x86_64")[name] for name in profile["syscalls"][0]["names"])
        for number in range(newest + 1):
            assert ours(X86_64, number) == theirs(X86_64, number)
        assert ours(X86_64, newest + 1) == ENOSYS


@pytest.mark.skipif(not PODMANS.exists(), reason=f"no {PODMANS} to compare with")
def test_it_differs_from_podmans_profile_only_where_docker_does() -> None:
    theirs_document = json.loads(PODMANS.read_text())

    def allowed(profile: dict[str, Any]) -> set[str]:
        return {name for rule in profile["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]}

    theirs, ours = allowed(resolve_profile(theirs_document, DEFAULT)), allowed(default_profile(DEFAULT))
    numbered = set().union(*(table(abi) for abi in ("x86_64", "i386", "x32")))
    nesting = """mount umount umount2 mount_setattr move_mount open_tree fsopen fsconfig fsmount fspick pivot_root clone3 unshare setns
        keyctl reboot syslog pidfd_getfd mbind get_mempolicy set_mempolicy readdir sigaction signal sigpending sigsuspend"""
    assert theirs & numbered - ours == set(nesting.split())
    reference = {name for rule in theirs_document["syscalls"] for name in rule["names"]}
    assert ours & reference - theirs == {"vmsplice", "io_pgetevents"}


@pytest.mark.parametrize("arch", [X86_64, I386])
def test_what_docker_refuses_is_refused(arch: int) -> None:
    numbers = table({X86_64: "x86_64", I386: "i386"}[arch])
    answer = runs(compile_profile(default_profile(DEFAULT, machine="x86_64")))
    refused = (
        "acct add_key bpf clock_settime delete_module finit_module init_module io_uring_setup io_uring_enter io_uring_register iopl ioperm "
        "kcmp kexec_load keyctl lookup_dcookie mbind mount move_pages nfsservctl open_by_handle_at perf_event_open pivot_root quotactl "
        "reboot request_key setns settimeofday swapon swapoff sysfs syslog umount2 unshare uselib userfaultfd ustat pidfd_getfd"
    )
    for name in refused.split():
        assert answer(arch, numbers[name]) == EPERM, name


def test_conditions_of_the_default_profile() -> None:
    numbers = table("x86_64")
    answer = runs(compile_profile(default_profile(DEFAULT, machine="x86_64")))
    assert answer(X86_64, numbers["clone3"]) == ENOSYS
    assert answer(X86_64, numbers["clone"], 0x01200011) == ALLOW, "fork"
    for flag in (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        assert answer(X86_64, numbers["clone"], flag | 0x11) == EPERM, hex(flag)
    for family, expected in ((1, ALLOW), (2, ALLOW), (16, ALLOW), (17, ALLOW), (38, EPERM), (39, ALLOW), (40, EPERM), (44, ALLOW)):
        assert answer(X86_64, numbers["socket"], family) == expected
        assert answer(X86_64, numbers["socket"], 1 << 32 | 38) == EPERM, "the kernel ignores the upper half of an int"
    for personality, expected in ((0, ALLOW), (8, ALLOW), (0xFFFFFFFF, ALLOW), (0x0040000, EPERM)):
        assert answer(X86_64, numbers["personality"], personality) == expected
    assert answer(X86_64, numbers["chroot"]) == ALLOW, "CAP_SYS_CHROOT is a default capability"
    assert answer(X86_64, 1000) == ENOSYS, "a call of a kernel to come"
    assert answer(X86_64, numbers["open_tree_attr"]) == ENOSYS, "newer than all that the profile names"


def test_foreign_architectures_are_killed_and_x32_is_known() -> None:
    answer = runs(compile_profile(default_profile(DEFAULT, machine="x86_64")))
    assert answer(AARCH64, 0) == KILL_PROCESS
    assert answer(X86_64, X32_BIT | 0) == ALLOW
    assert answer(X86_64, X32_BIT | 520) == ALLOW, "x32's own execve"
    assert answer(X86_64, X32_BIT | 528) == EPERM, "x32's own kexec_load"
    assert answer(X86_64, 0xFFFFFFFF) == ENOSYS, "a tracer's skipped call"
    only = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": []}
    assert runs(compile_profile(only))(X86_64, X32_BIT | 0) == KILL_PROCESS


def test_capabilities_bring_their_calls() -> None:
    numbers = table("x86_64")
    answer = runs(compile_profile(default_profile([*DEFAULT, "CAP_SYS_ADMIN", "CAP_SYS_TIME"], machine="x86_64")))
    for name in ("mount", "clone3", "unshare", "bpf", "clock_settime"):
        assert answer(X86_64, numbers[name]) == ALLOW
    assert answer(X86_64, numbers["clone"], 0x10000000) == ALLOW
    assert answer(X86_64, numbers["reboot"]) == EPERM


def test_a_users_profile_is_taken() -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
        "syscalls": [
            {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95},
            {"name": "rmdir", "action": "SCMP_ACT_KILL_PROCESS"},
            {"names": ["unlink"], "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_CHOWN"]}},
            {"names": ["chmod"], "action": "SCMP_ACT_ERRNO", "includes": {"caps": ["CAP_CHOWN"], "arches": ["amd64"]}},
            {"names": ["close"], "action": "SCMP_ACT_TRAP", "includes": {"arches": ["arm64"]}},
            {"names": ["dup2"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": v, "op": "SCMP_CMP_EQ"} for v in (3, 5)]},
        ],
    }
    numbers = table("x86_64")
    answer = runs(compile_profile(resolve_profile(profile, ["CAP_CHOWN"], machine="x86_64")))
    assert answer(X86_64, numbers["mkdir"]) == ERRNO | 95
    assert answer(X86_64, numbers["rmdir"]) == KILL_PROCESS
    assert answer(X86_64, numbers["unlink"]) == ALLOW
    assert answer(X86_64, numbers["chmod"]) == EPERM
    assert answer(X86_64, numbers["close"]) == ALLOW
    assert [answer(X86_64, numbers["dup2"], fd) for fd in (3, 4, 5)] == [EPERM, ALLOW, EPERM], "one argument twice means or"
    assert answer(X86_64, 1000) == ALLOW


def _reading(condition: dict[str, Any]) -> dict[str, Any]:
    return {"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [condition]}


@pytest.mark.parametrize(
    ("profile", "error"),
    [
        ({}, InvalidArgument),
        ({"defaultAction": "SCMP_ACT_WHAT"}, InvalidArgument),
        ({"defaultAction": "SCMP_ACT_NOTIFY"}, Unsupported),
        ({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 70000}, InvalidArgument),
        ({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_S390X"]}, Unsupported),
        ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [_reading({"index": 6, "op": "SCMP_CMP_EQ"})]}, InvalidArgument),
        ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [_reading({"index": 0, "op": "EQ"})]}, InvalidArgument),
    ],
)
def test_a_bad_profile_is_said(profile: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        resolve_profile(profile, DEFAULT, machine="x86_64")


@pytest.mark.guest
def test_the_kernel_takes_the_default_filter() -> None:
    program = compile_profile(default_profile(DEFAULT))
    libc = ctypes.CDLL(None, use_errno=True)
    numbers = table({"x86_64": "x86_64", "aarch64": "aarch64"}[os.uname().machine])

    def errno_of(name: str, *arguments: int) -> int:
        ctypes.set_errno(0)
        libc.syscall(numbers[name], *(ctypes.c_long(argument) for argument in arguments))
        return ctypes.get_errno()

    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            code = ctypes.create_string_buffer(program, len(program))
            fprog = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(code))
            libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
            loaded = libc.syscall(numbers["seccomp"], 1, 0, ctypes.create_string_buffer(fprog, len(fprog)))  # SECCOMP_SET_MODE_FILTER
            results = [
                loaded,
                errno_of("unshare", 0),
                errno_of("clone3", 0, 0),
                errno_of("bpf", 0, 0, 0),
                errno_of("socket", socket.AF_ALG, socket.SOCK_SEQPACKET, 0),
                errno_of("socket", socket.AF_INET, socket.SOCK_STREAM, 0),
                errno_of("getpid"),
            ]
            os.write(writing, json.dumps(results).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answers:
        assert json.load(answers) == [0, 1, 38, 1, 1, 0, 0]
    os.waitpid(child, 0)
