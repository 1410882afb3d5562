"""Seccomp filters of running processes, and what they answer: read out of the kernel, so it is the effect that is compared.

python -m tests.isolation.filters --against unix:///run/docker.sock    prints the table, call by call, ours beside Docker's
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.model.capabilities import DEFAULT
from engine.spec.seccomp import compile_profile, default_profile, resolve_profile
from engine.spec.syscall_numbers import table

PODMANS = Path("/usr/share/containers/seccomp.json")  # Debian: golang-github-containers-common
X86_64 = 0xC000003E
I386 = 0x40000003
# First arguments at which some rule of Docker's decides: flags of clone, families of socket, personalities
ARGUMENTS = {
    "clone": (0, 0x11, 0x10000000, 0x20000, 0x40000000, 0x02000000),
    "socket": (1, 2, 10, 16, 17, 38, 39, 40, 41, 45),
    "personality": (0, 8, 0x20000, 0x20008, 0xFFFFFFFF, 0x40000),
}

Filter = Callable[..., int]
_SEIZE, _INTERRUPT, _DETACH, _GET_FILTER = 0x4206, 0x4207, 17, 0x420C  # linux/ptrace.h
_WALL = 0x40000000


def runs(program: bytes) -> Filter:
    """The program as a function of (arch, number, arguments): what the kernel would return. linux/filter.h, as far as seccomp uses it."""
    code = list(struct.iter_unpack("<HBBI", program))

    def answer(arch: int, number: int, *arguments: int) -> int:
        data = struct.pack("<IIQ6Q", number, arch, 0, *(*arguments, *[0] * (6 - len(arguments))))
        at, accumulator = 0, 0
        while True:
            operation, yes, no, value = code[at]
            at += 1
            if operation == 0x20:
                accumulator = struct.unpack_from("<I", data, value)[0]
            elif operation == 0x54:
                accumulator &= value
            elif operation == 0x05:
                at += value
            elif operation == 0x06:
                return int(value)
            else:
                holds = {0x15: accumulator == value, 0x25: accumulator > value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}
                at += yes if holds[operation] else no

    return answer


def of_process(pid: int) -> list[bytes]:
    """Its filters, the oldest first. PTRACE_SECCOMP_GET_FILTER, ptrace(2): for a root without a filter of its own.

    OSError EINVAL: this kernel was built without CONFIG_CHECKPOINT_RESTORE.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
    libc.ptrace.restype = ctypes.c_long

    def ptrace(request: int, address: int = 0, data: object = None) -> int:
        result = int(libc.ptrace(request, pid, address, data))
        if result < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return result

    found: list[bytes] = []
    ptrace(_SEIZE)
    try:
        ptrace(_INTERRUPT)
        os.waitpid(pid, _WALL)
        while True:
            try:
                length = ptrace(_GET_FILTER, len(found))
            except FileNotFoundError:
                return found
            buffer = ctypes.create_string_buffer(length * 8)
            ptrace(_GET_FILTER, len(found), ctypes.cast(buffer, ctypes.c_void_p))
            found.append(buffer.raw)
    finally:
        ptrace(_DETACH)


def podmans() -> Filter | None:
    """Debian's own profile in Docker's form; None where the package is not installed."""
    if not PODMANS.exists():
        return None
    return runs(compile_profile(resolve_profile(json.loads(PODMANS.read_text()), DEFAULT)))


def ours() -> Filter:
    return runs(compile_profile(default_profile(DEFAULT)))


@contextmanager
def docker_container(endpoint: str, *, image: str = "") -> Iterator[int]:
    """The pid of a container's first process on another engine; of its first image when none is named."""

    def docker(*words: str) -> str:
        return subprocess.run(["docker", "-H", endpoint, *words], check=True, capture_output=True, text=True).stdout.strip()

    image = image or docker("images", "-q").split()[0]
    container = docker("run", "-d", "--network", "none", image, "sleep", "600")
    try:
        yield int(docker("inspect", "-f", "{{.State.Pid}}", container))
    finally:
        docker("rm", "-f", container)


def calls() -> Iterator[tuple[int, str, str, tuple[int, ...]]]:
    """(arch, abi, name with its arguments, arguments) of everything that is asked."""
    for arch, abi in ((X86_64, "x86_64"), (I386, "i386")):
        for name, _number in sorted(table(abi).items()):
            for value in ARGUMENTS.get(name, (None,)):
                yield arch, abi, name, () if value is None else (value,)


def word(answer: int) -> str:
    kind, number = answer & 0xFFFF0000, answer & 0xFFFF
    if kind == 0x7FFF0000:
        return "allow"
    return {1: "EPERM", 38: "ENOSYS"}.get(number, f"errno {number}") if kind == 0x00050000 else f"{answer:#x}"


def compare(filters: dict[str, Filter]) -> list[tuple[str, str, dict[str, str]]]:
    """(abi, call, answer by whose) of all."""
    rows = []
    for arch, abi, name, arguments in calls():
        number = table(abi)[name]
        shown = f"{name}({arguments[0]:#x})" if arguments else name
        rows.append((abi, shown, {who: word(each(arch, number, *arguments)) for who, each in filters.items()}))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", default="", metavar="unix:///…", help="another engine of Docker's API")
    parser.add_argument("--all", action="store_true", help="also where all agree")
    asked = parser.parse_args()
    filters: dict[str, Filter] = {"slipway": ours()}
    if (theirs := podmans()) is not None:
        filters["podman"] = theirs
    if asked.against:
        with docker_container(asked.against) as pid:
            filters["docker"] = runs(of_process(pid)[0])
    rows = compare(filters)
    differing = 0
    print(f"{'abi':8}{'call':32}" + "".join(f"{who:10}" for who in filters))
    for abi, call, answers in rows:
        differs = len(set(answers.values())) > 1
        differing += answers["slipway"] != answers.get("docker", answers["slipway"])
        if differs or asked.all:
            print(f"{abi:8}{call:32}" + "".join(f"{answer:10}" for answer in answers.values()))
    print(f"{len(rows)} calls; {differing} answered otherwise than Docker answers them", file=sys.stderr)


if __name__ == "__main__":
    main()
