"""A folder tree that is filled from names which strangers chose. Nothing outside of it is ever touched.

A name is split into folder and last component. The folder is resolved by openat2(RESOLVE_IN_ROOT), once, and its descriptor kept:
symbolic links on the way end inside the tree whatever they say, ``..`` stops at its root. The last component is only ever
the target of a ``…at`` call that does not follow it. The tree must be private to us: what the kernel resolved stays true
because nobody else renames things in it.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Final, Self

from engine import disk
from engine.errors import InvalidArgument
from engine.kernel.paths import open_in_root

_MAX_OPEN: Final = 64
_MAX_LINKS: Final = 40  # as the kernel: path_resolution(7)


def clean_name(name: str) -> str:
    """``name`` relative to the root of the tree, "" for the root itself. InvalidArgument for one that climbs."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise InvalidArgument(f"invalid tar entry {name!r}: a name with .. may leave the tree")
    return "/".join(parts)


class Tree:
    """Use as a context manager. ``implied`` are folders that nobody named but something lies in, in order of making."""

    def __init__(self, root: str | int) -> None:
        """A path, or the descriptor of a folder, which stays the caller's."""
        self._root = os.dup(root) if isinstance(root, int) else os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._open: dict[str, int] = {}
        self.implied: dict[str, None] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._forget()
        os.close(self._root)

    def folder(self, name: str) -> int:
        """An O_PATH descriptor of the folder, made with its parents if absent; ours: use it before the next call."""
        return self._folder(name, _MAX_LINKS) if name else self._root

    def find(self, name: str) -> int | None:
        """An O_PATH descriptor of what is there, not following a link at the end; the caller's to close. None: nothing is."""
        try:
            return open_in_root(self._root, name or ".", os.O_PATH | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return None
            raise

    def find_folder(self, name: str) -> int | None:
        """Like ``find``, but follows links to the end, below the root, and None for all but folders."""
        try:
            return open_in_root(self._root, name or ".", os.O_PATH | os.O_DIRECTORY)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return None
            raise

    def remove(self, parent: int, base: str) -> None:
        """Whatever is there goes, folders with all they hold. Fine when nothing is."""
        # What was resolved through it is no longer true. The parent that the caller holds lies above, and stays.
        self._forget(keep=parent)
        try:
            os.unlink(base, dir_fd=parent)
        except FileNotFoundError:
            pass
        except IsADirectoryError:
            disk.remove_tree(base, dir_fd=parent)

    def _folder(self, name: str, links: int) -> int:
        fd = self._open.pop(name, None)
        if fd is None:
            try:
                fd = self._resolve(name)
            except FileNotFoundError:
                self._make(name, links)
                fd = self._resolve(name)
            if len(self._open) >= _MAX_OPEN:
                os.close(self._open.pop(next(iter(self._open))))
        self._open[name] = fd  # the youngest is last
        return fd

    def _resolve(self, name: str) -> int:
        try:
            return open_in_root(self._root, name, os.O_PATH | os.O_DIRECTORY)
        except NotADirectoryError:
            raise InvalidArgument(f"invalid tar entry: {name!r} is needed as a folder, but the archive has something else there") from None

    def _make(self, name: str, links: int) -> None:
        """The folder and what lacks above it. No recursion over the depth: a name may have two thousand parts."""
        parts = name.split("/")
        missing = len(parts)
        while missing > 1 and not self._exists("/".join(parts[: missing - 1])):
            missing -= 1
        for depth in range(missing, len(parts) + 1):
            above = "/".join(parts[: depth - 1])
            parent = self._resolve(above or ".")
            try:
                self._make_one(parent, above, parts[depth - 1], links)
            finally:
                os.close(parent)

    def _exists(self, name: str) -> bool:
        try:
            os.close(self._resolve(name))
        except FileNotFoundError:
            return False
        return True

    def _make_one(self, parent: int, above: str, base: str, links: int) -> None:
        try:
            os.mkdir(base, 0o755, dir_fd=parent)
        except FileExistsError:
            # A link to a folder that is not there yet, like /var/run → /run: what it names is made, below our root.
            if not links:
                raise InvalidArgument(f"invalid tar entry: too many links on the way to {above}/{base!r}") from None
            target = os.readlink(base, dir_fd=parent)
            wanted = os.path.normpath(target if target.startswith("/") else f"/{above}/{target}").lstrip("/")
            if wanted:
                self._folder(wanted, links - 1)
            return
        os.chmod(base, 0o755, dir_fd=parent)  # whatever the umask
        os.chown(base, 0, 0, dir_fd=parent)  # whatever a set-group-id folder above wants
        self.implied[f"{above}/{base}".lstrip("/")] = None

    def _forget(self, keep: int = -1) -> None:
        kept = {}
        for name, fd in self._open.items():
            if fd == keep:
                kept[name] = fd
            else:
                os.close(fd)
        self._open = kept


def is_folder(parent: int, base: str) -> bool:
    """Of ``base`` itself: a link to a folder is none."""
    try:
        return stat.S_ISDIR(os.stat(base, dir_fd=parent, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False
