"""An OCI seccomp profile → the classic BPF program that seccomp(2) loads. Pure; both byte orders of our machines are little.

For each ABI of the profile the program is a binary search over the numbers, so a call costs about ten comparisons (and from
Linux 5.11 none: the kernel caches what is always allowed). No jump goes further than its own branch, so no labels are needed:
every branch ends in a RET.

    ld  arch ── x86-64 ── nr has the x32 bit? ── x32 tree │ x86-64 tree
             ├─ i386   ── i386 tree
             └─ other  ── kill
    tree: nr > the newest call the profile knows → ENOSYS, as runc does: a C library falls back on ENOSYS, never on EPERM

Meaning of several rules for one call as in libseccomp: a rule without conditions wins; else the first that matches; else the
default action. Layouts: linux/filter.h (sock_filter), linux/seccomp.h (seccomp_data), linux/audit.h (AUDIT_ARCH_*).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final

from engine.errors import InvalidArgument, Unsupported
from engine.spec.syscall_numbers import X32_BIT, table

_INSTRUCTION: Final = struct.Struct("<HBBI")  # code, jump if true, jump if false, k
_LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
_AND: Final = 0x54  # BPF_ALU | BPF_AND | BPF_K
_JUMP: Final = 0x05  # BPF_JMP | BPF_JA
_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_GREATER: Final = 0x25  # BPF_JMP | BPF_JGT | BPF_K
_AT_LEAST: Final = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_RETURN: Final = 0x06  # BPF_RET | BPF_K
_MAX_INSTRUCTIONS: Final = 4096  # BPF_MAXINSNS

_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data

_ALLOW: Final = 0x7FFF_0000
_LOG: Final = 0x7FFC_0000
_TRACE: Final = 0x7FF0_0000
_ERRNO: Final = 0x0005_0000
_TRAP: Final = 0x0003_0000
_KILL_THREAD: Final = 0x0000_0000
_KILL_PROCESS: Final = 0x8000_0000
_EPERM, _ENOSYS = 1, 38
_MAX_ERRNO: Final = 4095

_ACTIONS: Final = {
    "SCMP_ACT_ALLOW": _ALLOW,
    "SCMP_ACT_LOG": _LOG,
    "SCMP_ACT_TRACE": _TRACE,
    "SCMP_ACT_ERRNO": _ERRNO,
    "SCMP_ACT_TRAP": _TRAP,
    "SCMP_ACT_KILL": _KILL_THREAD,
    "SCMP_ACT_KILL_THREAD": _KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": _KILL_PROCESS,
}

_ABIS: Final = {
    "SCMP_ARCH_X86_64": "x86_64",
    "SCMP_ARCH_X86": "i386",
    "SCMP_ARCH_X32": "x32",
    "SCMP_ARCH_AARCH64": "aarch64",
    "SCMP_ARCH_ARM": "arm",
}
_AUDIT_ARCH: Final = {"x86_64": 0xC000_003E, "i386": 0x4000_0003, "aarch64": 0xC000_00B7, "arm": 0x4000_0028}
_ARM_PRIVATE: Final = 0x000F_0000  # numbers above belong to no table that grows

_Code = list[tuple[int, int, int, int]]
_Condition = tuple[int, str, int, int]  # argument, operator, value, second value
_Rule = tuple[int, tuple[_Condition, ...]]  # BPF return value, conditions that must all hold


def compile_profile(profile: Mapping[str, Any]) -> bytes:
    """An array of struct sock_filter for an OCI ``linux.seccomp`` document.

    InvalidArgument for words the runtime-spec does not know; Unsupported for SCMP_ACT_NOTIFY and foreign architectures.
    Compiled once per different profile and process.
    """
    return _compile(json.dumps(profile))


@lru_cache(maxsize=64)
def _compile(document: str) -> bytes:
    profile = json.loads(document)
    default = _action(str(profile.get("defaultAction", "")), profile.get("defaultErrnoRet"))
    abis = _abis(profile.get("architectures") or [])
    rules = _rules_by_name(profile.get("syscalls") or [], default)
    code: _Code = [(_LOAD, 0, 0, _ARCH)]
    for abi in abis:
        if abi != "x32":
            branch: _Code = [(_LOAD, 0, 0, _NUMBER)]
            if abi == "x86_64":
                foreign = _tree(rules, "x32", default) if "x32" in abis else [_return(_KILL_PROCESS)]
                branch += _branch(_AT_LEAST, X32_BIT, foreign, [])
            branch += _tree(rules, abi, default)
            code += _branch(_EQUAL, _AUDIT_ARCH[abi], branch, [])
    code.append(_return(_KILL_PROCESS))
    if len(code) > _MAX_INSTRUCTIONS:
        raise InvalidArgument(f"seccomp profile is too long: {len(code)} instructions, the kernel takes {_MAX_INSTRUCTIONS}")
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in code)


# Profile → rules ---------------------------------------------------------------------------------------------------


def _abis(architectures: Iterable[str]) -> list[str]:
    """Ours are named; others of the list belong to other machines, and a profile for none of ours is an error."""
    abis = [_ABIS[name] for name in dict.fromkeys(architectures) if name in _ABIS]
    if not abis:
        raise Unsupported("seccomp profile names no architecture that this platform runs (x86-64, x86, x32, aarch64, arm)")
    return abis


def _rules_by_name(entries: Iterable[Mapping[str, Any]], default: int) -> dict[str, list[_Rule]]:
    rules: dict[str, list[_Rule]] = {}
    for entry in entries:
        action = _action(str(entry.get("action", "")), entry.get("errnoRet"))
        alternatives = _alternatives(entry.get("args") or [])
        for name in entry.get("names") or []:
            rules.setdefault(name, []).extend((action, conditions) for conditions in alternatives)
    for name, found in rules.items():
        always = [rule for rule in found if not rule[1]]
        rules[name] = always[:1] or [*found, (default, ())]
    return rules


def _alternatives(arguments: Iterable[Mapping[str, Any]]) -> list[tuple[_Condition, ...]]:
    """All conditions must hold; but one argument named twice means "or", as runc reads it."""
    conditions = [_condition(argument) for argument in arguments]
    if len({index for index, *_ in conditions}) < len(conditions):
        return [(condition,) for condition in conditions]
    return [tuple(conditions)]


def _condition(argument: Mapping[str, Any]) -> _Condition:
    index, operator = argument.get("index", 0), str(argument.get("op", ""))
    value, second = argument.get("value", 0), argument.get("valueTwo") or 0
    if operator not in _CHECKS or not isinstance(index, int) or not 0 <= index < 6:
        raise InvalidArgument(f"invalid seccomp condition: argument {index!r}, operator {operator!r}")
    for number in (value, second):
        if not isinstance(number, int) or not 0 <= number < 1 << 64:
            raise InvalidArgument(f"invalid seccomp value: {number!r}")
    return index, operator, value, second


def _action(name: str, errno: Any) -> int:
    if name == "SCMP_ACT_NOTIFY":
        raise Unsupported("seccomp action SCMP_ACT_NOTIFY needs a listener, which this platform does not offer")
    if name not in _ACTIONS:
        raise InvalidArgument(f"unknown seccomp action: {name!r}")
    action = _ACTIONS[name]
    if action not in (_ERRNO, _TRACE):
        return action
    number = _EPERM if errno is None else errno
    if not isinstance(number, int) or not 0 <= number <= _MAX_ERRNO:
        raise InvalidArgument(f"invalid seccomp errno: {errno!r}")
    return action | number


# Rules → code ------------------------------------------------------------------------------------------------------


def _tree(rules: Mapping[str, list[_Rule]], abi: str, default: int) -> _Code:
    """Code that has the number in the accumulator, and always returns."""
    numbers = table(abi)
    known = {numbers[name]: found for name, found in rules.items() if name in numbers}
    if not known:
        return [_return(default)]
    newest = max(number for number in known if abi != "arm" or number < _ARM_PRIVATE)
    unknown = _ERRNO | _ENOSYS if default & 0xFFFF_0000 in (_ERRNO, _KILL_THREAD, _KILL_PROCESS) else default
    ranges: list[tuple[int, list[_Rule]]] = [(0, [(default, ())])]  # from that number on
    for number in sorted(known):
        after: list[_Rule] = [(unknown if number >= newest else default, ())]
        if ranges[-1][0] == number:
            ranges.pop()
        ranges += [(number, known[number]), (number + 1, after)]
    merged = [ranges[0]]
    for start in ranges[1:]:
        if start[1] != merged[-1][1]:
            merged.append(start)
    return _search(merged)


def _search(ranges: list[tuple[int, list[_Rule]]]) -> _Code:
    if len(ranges) == 1:
        return [step for rule in ranges[0][1] for step in _rule(rule)]
    middle = len(ranges) // 2
    return _branch(_AT_LEAST, ranges[middle][0], _search(ranges[middle:]), _search(ranges[:middle]))


def _rule(rule: _Rule) -> _Code:
    """Return the action when every condition holds; else fall through to what follows."""
    action, conditions = rule
    code: _Code = [_return(action)]
    for index, operator, value, second in reversed(conditions):
        code = _CHECKS[operator](_ARGUMENTS + 8 * index, value, second, len(code)) + code
    return code


def _branch(test: int, value: int, yes: _Code, no: _Code) -> _Code:
    """Both must return. A conditional jump reaches 255 instructions, JA any number."""
    if len(yes) <= 255:
        return [(test, 0, len(yes), value), *yes, *no]
    return [(test, 1, 0, value), (_JUMP, 0, 0, len(yes)), *yes, *no]


def _return(action: int) -> tuple[int, int, int, int]:
    return (_RETURN, 0, 0, action)


# Checks of a 64-bit argument: code that falls through when it holds and skips ``rest`` instructions more when not ----


def _equal(at: int, value: int, _second: int, rest: int) -> _Code:
    return [(_LOAD, 0, 0, at + 4), (_EQUAL, 0, rest + 2, value >> 32), (_LOAD, 0, 0, at), (_EQUAL, 0, rest, value & 0xFFFF_FFFF)]


def _differs(at: int, value: int, _second: int, rest: int) -> _Code:
    return [(_LOAD, 0, 0, at + 4), (_EQUAL, 0, 2, value >> 32), (_LOAD, 0, 0, at), (_EQUAL, rest, 0, value & 0xFFFF_FFFF)]


def _masked(at: int, mask: int, value: int, rest: int) -> _Code:
    return [
        (_LOAD, 0, 0, at + 4), (_AND, 0, 0, mask >> 32), (_EQUAL, 0, rest + 3, value >> 32),
        (_LOAD, 0, 0, at), (_AND, 0, 0, mask & 0xFFFF_FFFF), (_EQUAL, 0, rest, value & 0xFFFF_FFFF),
    ]  # fmt: skip


def _ordered(low_test: int) -> Any:
    """Greater than, or at least: decided by the high halves, and by the low ones when those are equal."""

    def check(at: int, value: int, _second: int, rest: int) -> _Code:
        high, low = value >> 32, value & 0xFFFF_FFFF
        return [(_LOAD, 0, 0, at + 4), (_GREATER, 3, 0, high), (_EQUAL, 0, rest + 2, high), (_LOAD, 0, 0, at), (low_test, 0, rest, low)]

    return check


def _not_ordered(low_test: int) -> Any:
    """At most, or less than: the opposite of greater than, or at least."""

    def check(at: int, value: int, _second: int, rest: int) -> _Code:
        high, low = value >> 32, value & 0xFFFF_FFFF
        return [(_LOAD, 0, 0, at + 4), (_GREATER, rest + 3, 0, high), (_EQUAL, 0, 2, high), (_LOAD, 0, 0, at), (low_test, rest, 0, low)]

    return check


_CHECKS: Final = {
    "SCMP_CMP_EQ": _equal,
    "SCMP_CMP_NE": _differs,
    "SCMP_CMP_MASKED_EQ": _masked,
    "SCMP_CMP_GT": _ordered(_GREATER),
    "SCMP_CMP_GE": _ordered(_AT_LEAST),
    "SCMP_CMP_LE": _not_ordered(_GREATER),
    "SCMP_CMP_LT": _not_ordered(_AT_LEAST),
}
