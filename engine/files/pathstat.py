"""What Docker says of one path in a container: the JSON of ``X-Docker-Container-Path-Stat``, and its errors in moby's words."""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from engine.errors import EngineError, InvalidArgument, NotFound, PermissionDenied, Unavailable
from engine.files import links
from engine.kernel.paths import open_in_root

_ABSENT: Final = (errno.ENOENT, errno.ENXIO)

# Go's os.FileMode: the permission bits as in Unix, everything else at the top. pkg.go.dev/io/fs#FileMode
_GO_KINDS: Final = {
    stat.S_IFDIR: 1 << 31, stat.S_IFLNK: 1 << 27, stat.S_IFBLK: 1 << 26, stat.S_IFIFO: 1 << 25, stat.S_IFSOCK: 1 << 24,
    stat.S_IFCHR: 1 << 26 | 1 << 21, stat.S_IFREG: 0,
}  # fmt: skip
_GO_BITS: Final = ((stat.S_ISUID, 1 << 23), (stat.S_ISGID, 1 << 22), (stat.S_ISVTX, 1 << 20))


def go_mode(mode: int) -> int:
    """A Unix st_mode as Go has it."""
    return (mode & 0o777) | _GO_KINDS.get(stat.S_IFMT(mode), 1 << 19) | sum(go for unix, go in _GO_BITS if mode & unix)


def go_time(time_ns: int) -> str:
    """RFC 3339 with as many digits of a second as there are, as Go writes times."""
    seconds, rest = divmod(time_ns, 10**9)
    try:
        text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return "0001-01-01T00:00:00Z"  # beyond the calendar: files can claim that
    return f"{text}.{rest:09d}".rstrip("0") + "Z" if rest else text + "Z"


def base_name(path: str) -> str:
    """The last part as Go's filepath.Base has it: "/" of the root, "." of nothing."""
    if not path:
        return "."
    return path.rstrip("/").rpartition("/")[2] or "/"


def path_stat(path: str, status: os.stat_result, link_target: str = "") -> dict[str, Any]:
    return {
        "name": base_name(path),
        "size": status.st_size,
        "mode": go_mode(status.st_mode),
        "mtime": go_time(status.st_mtime_ns),
        "linkTarget": link_target,
    }


def follow(root: int, path: str) -> str:
    """Where a link ends, as an absolute path below ``root``; of a broken one, as far as it leads. InvalidArgument for a loop."""
    return "/" + links.follow(path, partial(_link, root))


def _link(root: int, path: str) -> str | None:
    try:
        fd = open_in_root(root, path, os.O_PATH | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        return os.readlink("", dir_fd=fd) if stat.S_ISLNK(os.fstat(fd).st_mode) else None
    finally:
        os.close(fd)


def absolute(path: str) -> str:
    """Cleaned as moby cleans: absolute, without ``..``; a trailing ``/`` or ``/.`` stays, because it says "the folder"."""
    clean = posixpath.normpath("/" + path.lstrip("/"))
    if path.endswith("/.") or path == ".":
        return clean.rstrip("/") + "/."
    if path.endswith("/") and clean != "/":
        return clean + "/"
    return clean


def explain(error: OSError, doing: str, path: str, container: str) -> EngineError:
    """``container`` as the caller named it."""
    if error.errno in _ABSENT:
        return NotFound(f"Could not find the file {path} in container {container}")
    words = os.strerror(error.errno or 0).lower()
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Unavailable(f"{doing} {path}: {words}")
    if error.errno in (errno.EPERM, errno.EACCES):
        return PermissionDenied(f"{doing} {path}: {words}")
    return InvalidArgument(f"{doing} {path}: {words}")
