"""What differs between two trees of layers: a container and its image (``docker diff``), or any two containers and images.

Only what lies in layers that one of the two does not have is looked at. Two entries differ when kind, mode, owner or device differ
and, of what is no folder, when size or time do: moby's rule, archive.statDifferent. Times of layers that came as tar have whole seconds.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from engine.errors import InvalidArgument
from engine.files.stack import Found, Roots, open_folder

MODIFIED: Final = 0
ADDED: Final = 1
DELETED: Final = 2
LETTERS: Final = "MAD"
MAX_CHANGES: Final = 1_000_000  # of one answer
_PATH_MAX: Final = 4096

# What every container gets before its first process runs; moby keeps these in a layer of their own that no diff shows
_OF_THE_RUNTIME: Final = frozenset({
    "dev", "dev/console", "dev/pts", "dev/shm", "proc", "sys", "etc", "etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab",
    ".dockerenv",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Change:
    """``path`` is absolute. ``before`` is None of what was added, ``after`` of what was deleted."""

    path: str
    kind: int
    before: os.stat_result | None
    after: os.stat_result | None
    what: tuple[str, ...] = ()  # of a modified one: kind, mode, owner, size, time, device; empty: only what is inside

    @property
    def key(self) -> list[str]:
        return self.path.split("/")


def is_of_the_runtime(path: str, status: os.stat_result, *, is_empty: bool) -> bool:
    """``path`` without the slash in front. A place to mount something at, and nothing that anybody put there."""
    if path not in _OF_THE_RUNTIME:
        return False
    return is_empty if stat.S_ISDIR(status.st_mode) else not stat.S_ISREG(status.st_mode) or status.st_size == 0


def compare(old: Roots, new: Roots, *, whole: bool = False) -> list[Change]:
    """From ``old`` to ``new``, sorted by path, with the folders on the way as modified.

    ``whole``: all that lay in a deleted folder, too. InvalidArgument for more than MAX_CHANGES.
    """
    found: dict[str, Change] = {}
    for change in _walk(old, new, whole):
        found[change.path] = change
        if len(found) > MAX_CHANGES:
            raise InvalidArgument(f"more than {MAX_CHANGES} files differ: compare folders of them instead")
    for change in list(found.values()):
        above = change.path.rpartition("/")[0]
        while above and above not in found:
            found[above] = Change(above, MODIFIED, None, None)
            above = above.rpartition("/")[0]
    return sorted(found.values(), key=lambda change: change.key)


def _walk(old: Roots, new: Roots, whole: bool) -> Iterator[Change]:
    waiting: list[tuple[str, Roots, Roots]] = [(".", old, new)]
    while waiting:
        path, old_layers, new_layers = waiting.pop()
        if len(os.fsencode(path)) >= _PATH_MAX:
            raise InvalidArgument(f"{path[:80]}…: file name too long")
        only_old, only_new = _without_common_tail(old_layers, new_layers)
        with ExitStack() as opened:
            before_in = opened.enter_context(open_folder(old_layers, path))
            after_in = opened.enter_context(open_folder(new_layers, path))
            for name in sorted(before_in.names(only_old) | after_in.names(only_new)):
                inner = name if path == "." else f"{path}/{name}"
                before, after = before_in.find(name), after_in.find(name)
                if all(found is None or _is_nobodys(inner, found) for found in (before, after)):
                    continue
                yield from _one(f"/{inner}", before, after)
                kept = before is not None and (whole or (after is not None and after.is_folder))
                below = before.layers if before is not None and kept else (), after.layers if after is not None else ()
                if below[0] != below[1]:
                    waiting.append((inner, *below))


def _without_common_tail(old: Roots, new: Roots) -> tuple[Roots, Roots]:
    common = 0
    while common < min(len(old), len(new)) and old[-1 - common] == new[-1 - common]:
        common += 1
    return old[: len(old) - common], new[: len(new) - common]


def _is_nobodys(path: str, found: Found) -> bool:
    if path not in _OF_THE_RUNTIME:
        return False
    is_empty = False
    if found.is_folder:
        with open_folder(found.layers, path) as inside:
            is_empty = all(
                (entry := inside.find(each)) is None or _is_nobodys(f"{path}/{each}", entry) for each in inside.names(found.layers)
            )
    return is_of_the_runtime(path, found.status, is_empty=is_empty)


def _one(path: str, before: Found | None, after: Found | None) -> Iterable[Change]:
    if before is None:
        return () if after is None else (Change(path, ADDED, None, after.status),)
    if after is None:
        return (Change(path, DELETED, before.status, None),)
    if before.holder == after.holder:
        return ()
    what = differences(before.status, after.status)
    return (Change(path, MODIFIED, before.status, after.status, what),) if what else ()


def differences(before: os.stat_result, after: os.stat_result) -> tuple[str, ...]:
    """Some of kind, mode, owner, device, size, time."""
    what = []
    if stat.S_IFMT(before.st_mode) != stat.S_IFMT(after.st_mode):
        what.append("kind")
    elif stat.S_IMODE(before.st_mode) != stat.S_IMODE(after.st_mode):
        what.append("mode")
    if (before.st_uid, before.st_gid) != (after.st_uid, after.st_gid):
        what.append("owner")
    if before.st_rdev != after.st_rdev:
        what.append("device")
    if not (stat.S_ISDIR(before.st_mode) and stat.S_ISDIR(after.st_mode)):
        if before.st_size != after.st_size:
            what.append("size")
        if not _same_time(before.st_mtime_ns, after.st_mtime_ns):
            what.append("time")
    return tuple(what)


def _same_time(one_ns: int, other_ns: int) -> bool:
    if one_ns == other_ns:
        return True
    return one_ns // 10**9 == other_ns // 10**9 and (one_ns % 10**9 == 0 or other_ns % 10**9 == 0)
