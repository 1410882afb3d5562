"""What both versions of cgroups share: reading and writing their files, and the values that go in and come out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from engine.model.resources import Resources

DEFAULT_CPU_PERIOD_US = 100_000
STOP_S = 10.0  # how long freezing may take before it is an error


@dataclass(frozen=True, slots=True)
class DeviceRule:
    """runtime-spec ``linux.resources.devices``: the last rule that matches decides. ``type`` a, b or c; numbers None = any."""

    allow: bool
    type: str = "a"
    major: int | None = None
    minor: int | None = None
    access: str = "rwm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Counters since the cgroup was made, of it and all below. 0 as a limit = none."""

    cpu_ns: int = 0
    cpu_user_ns: int = 0
    cpu_system_ns: int = 0
    cpu_periods: int = 0
    cpu_throttled_periods: int = 0
    cpu_throttled_ns: int = 0
    memory_bytes: int = 0  # with the page cache
    memory_peak_bytes: int = 0  # 0: this kernel doesn't say
    memory_limit_bytes: int = 0
    memory_inactive_file_bytes: int = 0  # what Docker's CLI takes off memory_bytes
    memory_stat: dict[str, int] = field(default_factory=dict)  # memory.stat as the kernel writes it
    memory_failures: int = 0  # times the limit was hit
    oom_kills: int = 0
    pids: int = 0
    pids_limit: int = 0
    cpu_of_each_ns: tuple[int, ...] = ()  # of each cpu; version 1 alone
    io: tuple[tuple[int, int, str, int, int], ...] = ()  # major, minor, kind in the kernel's words, bytes, operations


def cpu_quota_us(limits: Resources) -> tuple[int, int]:
    """(quota, period); a quota of 0 = none."""
    if limits.nano_cpus:
        return limits.nano_cpus // 10_000, DEFAULT_CPU_PERIOD_US
    return max(limits.cpu_quota_us, 0), limits.cpu_period_us or DEFAULT_CPU_PERIOD_US


def swap_bytes(limits: Resources) -> int:
    """What may be swapped out beside the memory: -1 = no limit, 0 = nothing."""
    if not limits.memory_bytes or limits.memory_swap_bytes < 0:
        return -1
    return (limits.memory_swap_bytes or 2 * limits.memory_bytes) - limits.memory_bytes


def write(folder: str, name: str, value: int | str) -> None:
    """One write(2), as the kernel wants it. The error names the file and the value."""
    path = f"{folder}/{name}"
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, str(value).encode())
    except OSError as error:
        raise OSError(error.errno, f"{os.strerror(error.errno or 0)} (value {value!r})", path) from None
    finally:
        os.close(fd)


def write_if_there(folder: str, name: str, value: int | str) -> None:
    """For what not every kernel has (swap accounting)."""
    try:
        write(folder, name, value)
    except FileNotFoundError:
        pass


def read(folder: str, name: str) -> str:
    fd = os.open(f"{folder}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(fd, 65536):
            parts.append(part)
    finally:
        os.close(fd)
    return b"".join(parts).decode()


def read_int(folder: str, name: str) -> int:
    """0 for ``max`` and for a file that this kernel does not have."""
    try:
        text = read(folder, name).strip()
    except FileNotFoundError:
        return 0
    return 0 if text == "max" else int(text)


def read_flat(folder: str, name: str) -> dict[str, int]:
    """``key value`` lines; none for a file that this kernel does not have."""
    try:
        lines = read(folder, name).splitlines()
    except FileNotFoundError:
        return {}
    pairs = (line.split() for line in lines)
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].lstrip("-").isdigit()}


def below(folder: str) -> Iterator[str]:
    """All folders below and it itself, the deepest first. Missing: none."""
    try:
        children = [entry.path for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return
    for child in children:
        yield from below(child)
    yield folder


def make(folder: str, prepare: Callable[[str], None]) -> None:
    """mkdir with its missing parents; ``prepare`` is called for each that is new, the highest first. FileExistsError: is there."""
    try:
        os.mkdir(folder, 0o755)
    except FileNotFoundError:
        try:
            make(os.path.dirname(folder), prepare)
        except FileExistsError:
            pass  # another process made it meanwhile
        os.mkdir(folder, 0o755)
    prepare(folder)


def remove_tree(folder: str) -> None:
    """rmdir from below. Missing is fine."""
    try:
        os.rmdir(folder)
    except FileNotFoundError:
        return
    except OSError:  # EBUSY, also for one that has children
        for child in below(folder):
            try:
                os.rmdir(child)
            except FileNotFoundError:
                pass


def remove_empty_folder(folder: str) -> bool:
    """Whether it is gone."""
    try:
        os.rmdir(folder)
    except FileNotFoundError:
        return True
    except OSError:  # EBUSY
        return False
    return True


def list_pids(folder: str) -> list[int]:
    found = []
    for child in below(folder):
        try:
            found += [int(line) for line in read(child, "cgroup.procs").split()]
        except FileNotFoundError:
            pass
    return found
