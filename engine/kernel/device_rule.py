"""Which devices a version 2 cgroup's processes may open or make: a BPF program of type CGROUP_DEVICE, as the version has no file for it.

The program lives as long as the cgroup. It is the only barrier between container and device nodes in its /dev, so the default is no.

    context (struct bpf_cgroup_dev_ctx):  u32 access << 16 | type · u32 major · u32 minor
    type    1 block, 2 character          access  1 mknod, 2 read, 4 write
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from engine.kernel import syscalls
from engine.kernel.cgroup_files import DeviceRule

_PROG_LOAD: Final = 5  # linux/bpf.h
_PROG_ATTACH: Final = 8
_PROG_TYPE_CGROUP_DEVICE: Final = 15
_CGROUP_DEVICE: Final = 6
_ALLOW_MULTI: Final = 2

_TYPES: Final = {"b": 1, "c": 2}
_ACCESS: Final = {"m": 1, "r": 2, "w": 4}
_TYPE, _ASKED, _MAJOR, _MINOR, _SCRATCH = 2, 3, 4, 5, 6  # registers
_NOTHING: Final = DeviceRule(False)
_LOAD, _AND, _RIGHT, _COPY, _SET, _EXIT = 0x61, 0x57, 0x77, 0xBF, 0xB7, 0x95
_IF_NOT, _IF_EQUAL = 0x55, 0x15


def attach(folder: str, rules: Sequence[DeviceRule]) -> None:
    """bpf(2) BPF_PROG_ATTACH. With several programs (the host's own above us) all must allow."""
    cgroup = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syscalls.bpf(_PROG_ATTACH, struct.pack("=IIII", cgroup, _load(tuple(rules)), _CGROUP_DEVICE, _ALLOW_MULTI))
    finally:
        os.close(cgroup)


@lru_cache(maxsize=32)
def _load(rules: tuple[DeviceRule, ...]) -> int:
    """The descriptor of the loaded program, kept for the next container with the same rules."""
    code = ctypes.create_string_buffer(program(rules))
    licence = ctypes.create_string_buffer(b"MIT")
    count = (len(code) - 1) // 8
    words = struct.pack("=IIQQ", _PROG_TYPE_CGROUP_DEVICE, count, ctypes.addressof(code), ctypes.addressof(licence))
    return syscalls.bpf(_PROG_LOAD, words)


def program(rules: Sequence[DeviceRule]) -> bytes:
    """The instructions. The last rule that matches decides, so they are asked from the end; when none matches, nothing is allowed."""
    code = [_instruction(_LOAD, _TYPE, 1, 0, 0), _instruction(_COPY, _ASKED, _TYPE, 0, 0)]
    code += [_instruction(_AND, _TYPE, 0, 0, 0xFFFF), _instruction(_RIGHT, _ASKED, 0, 0, 16)]
    code += [_instruction(_LOAD, _MAJOR, 1, 4, 0), _instruction(_LOAD, _MINOR, 1, 8, 0)]
    for rule in reversed((_NOTHING, *rules)):
        code += _rule(rule)
        if rule.type == "a" and rule.access == _NOTHING.access:
            break  # what would follow is never reached, and the verifier refuses such code
    return b"".join(code)


def _rule(rule: DeviceRule) -> list[bytes]:
    """Tests, each of which jumps behind the rule when it fails, then the verdict."""
    access = sum(_ACCESS[letter] for letter in rule.access) or 7
    tests: list[tuple[int, int, int]] = []  # operation, register, value
    if rule.type != "a":
        tests.append((_IF_NOT, _TYPE, _TYPES[rule.type]))
    if rule.major is not None:
        tests.append((_IF_NOT, _MAJOR, rule.major))
    if rule.minor is not None:
        tests.append((_IF_NOT, _MINOR, rule.minor))
    body = []
    if access != 7:
        # allowed: nothing but these was asked for; refused: any of these was
        body += [_instruction(_COPY, _SCRATCH, _ASKED, 0, 0), _instruction(_AND, _SCRATCH, 0, 0, 7 & ~access if rule.allow else access)]
        tests.append((_IF_NOT if rule.allow else _IF_EQUAL, _SCRATCH, 0))
    verdict = [_instruction(_SET, 0, 0, 0, int(rule.allow)), _instruction(_EXIT, 0, 0, 0, 0)]
    rest = len(tests) + len(verdict)
    return body + [_instruction(op, register, 0, rest - at - 1, value) for at, (op, register, value) in enumerate(tests)] + verdict


def _instruction(code: int, destination: int, source: int, offset: int, value: int) -> bytes:
    """struct bpf_insn, linux/bpf.h."""
    return struct.pack("=BBhi", code, destination | source << 4, offset, value)
