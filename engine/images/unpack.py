"""One layer's tar into an empty private folder, as overlayfs wants a lower layer. image-spec 1.1 "layer.md", Applying Changesets.

Kept: owner, mode with set-id bits, times to the nanosecond, links, devices, fifos, holes, user xattrs, file capabilities and access lists.
A later entry replaces an earlier one of the same name. Whiteouts (``.wh.<name>`` → device 0:0, ``.wh..wh..opq`` → an xattr)
speak of lower layers only: they are applied last, so their place in the archive does not matter.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine.errors import EngineError, Internal, InvalidArgument, Unavailable
from engine.images import tar
from engine.images.limits import Limits
from engine.images.streams import Chunks
from engine.images.tree import Tree, clean_name, is_folder
from engine.model.tenant import IDS_PER_TENANT

_WHITEOUT: Final = ".wh."
_OPAQUE: Final = ".wh..wh..opq"
_AUFS: Final = ".wh..wh."  # other marks of that file system: nothing for us
_OPAQUE_XATTR: Final = "trusted.overlay.opaque"
# The rest of security.* speaks to this host's own modules, trusted.overlay.* to overlayfs: not an image's to say.
_XATTRS: Final = ("user.", "security.capability", "system.posix_acl_access", "system.posix_acl_default")
_NOT_XATTRS: Final = ("user.overlay.",)
_HOLE: Final = 64 << 10  # bytes
_ZEROS: Final = bytes(1 << 20)  # as long as the longest piece that streams make
_MAX_MAJOR: Final = 1 << 12  # MKDEV in include/linux/kdev_t.h: 12 and 20 bits
_MAX_MINOR: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Unpacked:
    """``implied``: folders the archive did not name though something lies in them; ``inherit`` gives them their look."""

    size_bytes: int
    entries: int
    implied: tuple[str, ...]


def unpack(source: Chunks, root: Path, limits: Limits) -> Unpacked:
    """Reads the archive up to its end marks. ``root`` is an empty folder; on an error it holds a part of the layer."""
    root.chmod(0o755)
    with Tree(str(root)) as tree:
        job = Job(tree, tar.TarReader(source), fresh=True)
        for entry in job.reader:
            job.entries += 1
            if job.entries > limits.layer_entries:
                raise InvalidArgument(f"the layer has more than {limits.layer_entries} entries, the limit of this host")
            try:
                job.apply(entry)
            except OSError as error:
                raise explain(error, f"unpack {entry.name!r}") from error
        try:
            job.finish()
        except OSError as error:
            raise explain(error, "unpack the layer") from error
        return Unpacked(job.size_bytes, job.entries, tuple(tree.implied))


def explain(error: OSError, doing: str) -> EngineError:
    """What the kernel refused, as a sentence that says whose business it is."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Unavailable(f"{doing}: no space left on this host's disk: its operator has to make room")
    if error.errno in (errno.EIO, errno.EROFS, errno.EPERM, errno.EACCES, errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        return Internal(f"{doing}: {error.strerror}")
    return InvalidArgument(f"{doing}: {error.strerror}")


class Job:
    """Entries become files of ``tree``. ``engine.files.extract`` has other rules for names that are there already."""

    def __init__(self, tree: Tree, reader: tar.TarReader, *, fresh: bool = False) -> None:
        """``fresh``: all of the tree is of our making, so that what root makes is root's."""
        self.reader = reader
        self._fresh = fresh
        self.size_bytes = 0
        self.entries = 0
        self.tree = tree
        self.folder_times: dict[str, int] = {}  # set last: filling a folder changes its time
        self._whiteouts: list[str] = []
        self._opaque: list[str] = []

    def apply(self, entry: tar.Entry) -> None:
        name = clean_name(entry.name)
        above, _slash, base = name.rpartition("/")
        if base.startswith(_WHITEOUT):
            self._remember_whiteout(entry.name, above, base)
            return
        for number in (entry.uid, entry.gid):
            if not 0 <= number < IDS_PER_TENANT:
                raise InvalidArgument(f"failed to register layer: container ID {number} cannot be mapped to a host ID: {entry.name!r}")
        if not name:
            if entry.kind == tar.FOLDER:
                self.set_folder(self.tree.folder(""), ".", name, entry)
            return
        parent = self.tree.folder(above)
        if entry.kind == tar.FILE:
            self.file(parent, base, entry)
        elif entry.kind == tar.FOLDER:
            self.folder(parent, base, name, entry)
        elif entry.kind == tar.HARD_LINK:
            self.hard_link(parent, base, name, entry)
        else:
            self.special(parent, base, entry)

    def finish(self) -> None:
        for name in self._whiteouts:
            above, _slash, base = name.rpartition("/")
            parent = self.tree.folder(above)
            if is_folder(parent, base):
                self._opaque.append(name)  # a new folder of that name hides the lower one's content
                continue
            try:
                os.mknod(base, stat.S_IFCHR, 0, dir_fd=parent)
            except FileExistsError:
                pass  # the layer brings its own
        for name in self._opaque:
            os.setxattr(_by_fd(self.tree.folder(name)), _OPAQUE_XATTR, b"y")
            self.tree.implied.pop(name, None)
        for name, mtime_ns in self.folder_times.items():
            fd = self.tree.find(name)
            if fd is not None:
                try:
                    if stat.S_ISDIR(os.fstat(fd).st_mode):
                        os.utime(_by_fd(fd), ns=(mtime_ns, mtime_ns))
                finally:
                    os.close(fd)

    def _remember_whiteout(self, written: str, above: str, base: str) -> None:
        if base == _OPAQUE:
            self._opaque.append(above)
        elif not base.startswith(_AUFS):
            hidden = base.removeprefix(_WHITEOUT)
            if hidden in ("", ".", ".."):
                raise InvalidArgument(f"invalid tar entry {written!r}: a whiteout of nothing")
            self._whiteouts.append(f"{above}/{hidden}" if above else hidden)

    def file(self, parent: int, base: str, entry: tar.Entry) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(base, flags, 0o600, dir_fd=parent)
        except FileExistsError:
            self.tree.remove(parent, base)
            fd = os.open(base, flags, 0o600, dir_fd=parent)
        try:
            if entry.extents is None:
                self._data(fd, entry)
            else:
                self._sparse(fd, entry)
            if entry.uid or entry.gid or not self._fresh:
                os.fchown(fd, entry.uid, entry.gid)  # before the mode: it clears set-id bits, and capabilities
            os.fchmod(fd, entry.mode)
            if entry.xattrs:
                set_xattrs(fd, entry)
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(fd)
        self.size_bytes += entry.size

    def _data(self, fd: int, entry: tar.Entry) -> None:
        """Long runs of zeros become holes: a bomb of ten gigabytes of them takes no room."""
        if entry.size < _HOLE:
            for piece in self.reader.data():
                _write(fd, piece)
            return
        for piece in self.reader.data():
            if len(piece) >= _HOLE and not piece[0] and not piece[-1] and bytes(piece) == _ZEROS[: len(piece)]:
                os.lseek(fd, len(piece), os.SEEK_CUR)
            else:
                _write(fd, piece)
        os.ftruncate(fd, entry.size)

    def _sparse(self, fd: int, entry: tar.Entry) -> None:
        os.ftruncate(fd, entry.real_size)
        data = self.reader.data()
        piece = memoryview(b"")
        for offset, length in entry.extents or ():
            os.lseek(fd, offset, os.SEEK_SET)
            while length:
                piece = piece or next(data)
                _write(fd, piece[:length])
                done = min(length, len(piece))
                piece, length = piece[done:], length - done

    def folder(self, parent: int, base: str, name: str, entry: tar.Entry) -> None:
        try:
            os.mkdir(base, 0o700, dir_fd=parent)
        except FileExistsError:
            if not is_folder(parent, base):
                self.tree.remove(parent, base)
                os.mkdir(base, 0o700, dir_fd=parent)
        self.set_folder(parent, base, name, entry)

    def set_folder(self, parent: int, base: str, name: str, entry: tar.Entry) -> None:
        os.chown(base, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        os.chmod(base, entry.mode, dir_fd=parent)
        if entry.xattrs:
            set_xattrs(f"{_by_fd(parent)}/{base}", entry)
        if entry.mode & stat.S_ISGID:
            self._fresh = False  # what is made in it gets its group
        self.tree.implied.pop(name, None)
        self.folder_times[name] = entry.mtime_ns

    def hard_link(self, parent: int, base: str, name: str, entry: tar.Entry) -> None:
        if ".." in entry.link.split("/"):
            raise InvalidArgument(f"invalid hardlink {entry.name!r} -> {entry.link!r}: a target with .. may leave the tree")
        target = clean_name(entry.link)
        if target == name:
            return
        above, _slash, last = target.rpartition("/")
        folder = self.tree.find_folder(above)
        if folder is None or not last:
            raise InvalidArgument(f"invalid hardlink {entry.name!r} -> {entry.link!r}: the target is not in this layer")
        try:
            self._link(folder, last, parent, base)
        except FileNotFoundError:
            raise InvalidArgument(f"invalid hardlink {entry.name!r} -> {entry.link!r}: the target is not in this layer") from None
        except PermissionError:
            raise InvalidArgument(f"invalid hardlink {entry.name!r} -> {entry.link!r}: the target is a folder") from None
        finally:
            os.close(folder)

    def _link(self, folder: int, last: str, parent: int, base: str) -> None:
        try:
            os.link(last, base, src_dir_fd=folder, dst_dir_fd=parent, follow_symlinks=False)
        except FileExistsError:
            old, new = (os.stat(at, dir_fd=fd, follow_symlinks=False) for at, fd in ((base, parent), (last, folder)))
            if (old.st_dev, old.st_ino) == (new.st_dev, new.st_ino):
                return
            self.tree.remove(parent, base)
            os.link(last, base, src_dir_fd=folder, dst_dir_fd=parent, follow_symlinks=False)

    def special(self, parent: int, base: str, entry: tar.Entry) -> None:
        try:
            _make_special(parent, base, entry)
        except FileExistsError:
            self.tree.remove(parent, base)
            _make_special(parent, base, entry)
        if entry.kind == tar.SYMLINK:
            self.size_bytes += len(entry.link.encode(errors="surrogateescape"))  # as lstat(2) says, and dockerd counts
        os.chown(base, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        if entry.kind != tar.SYMLINK:
            os.chmod(base, entry.mode, dir_fd=parent)
        os.utime(base, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=parent, follow_symlinks=False)


def inherit(root: Path, implied: Sequence[str], lowers: Sequence[Path]) -> None:
    """Folders that a layer implies look as in the layers below (top first): overlayfs shows the upper one's owner and mode."""
    if not implied:
        return
    with Tree(str(root)) as tree:
        for name in implied:
            fd = tree.find(name)
            if fd is None:
                continue
            try:
                if stat.S_ISDIR(os.fstat(fd).st_mode):
                    _inherit_one(fd, name, lowers)
            finally:
                os.close(fd)


def _inherit_one(fd: int, name: str, lowers: Sequence[Path]) -> None:
    for lower in lowers:
        with Tree(str(lower)) as below:
            there = below.find(name)
            if there is None:
                continue
            try:
                look = os.fstat(there)
                if stat.S_ISDIR(look.st_mode):
                    ours = _by_fd(fd)
                    os.chown(ours, look.st_uid, look.st_gid)
                    os.chmod(ours, stat.S_IMODE(look.st_mode))
                    os.utime(ours, ns=(look.st_mtime_ns, look.st_mtime_ns))
            finally:
                os.close(there)
            return


def _make_special(parent: int, base: str, entry: tar.Entry) -> None:
    if entry.kind == tar.SYMLINK:
        os.symlink(entry.link, base, dir_fd=parent)
    elif entry.kind == tar.FIFO:
        os.mkfifo(base, 0o600, dir_fd=parent)
    else:
        if not (0 <= entry.major < _MAX_MAJOR and 0 <= entry.minor < _MAX_MINOR):
            raise InvalidArgument(f"invalid tar entry {entry.name!r}: no device {entry.major}:{entry.minor}")
        kind = stat.S_IFCHR if entry.kind == tar.CHARACTER else stat.S_IFBLK
        os.mknod(base, kind | 0o600, os.makedev(entry.major, entry.minor), dir_fd=parent)


def set_xattrs(file: int | str, entry: tar.Entry) -> None:
    """Those that an archive may bring."""
    for name, value in entry.xattrs.items():
        if not name.startswith(_XATTRS) or name.startswith(_NOT_XATTRS) or "\0" in name:
            continue
        try:
            os.setxattr(file, name, value)
        except OSError as error:
            # A file system without user xattrs or access lists costs nothing that runs; a lost capability would.
            if error.errno != errno.ENOTSUP or name == "security.capability":
                raise


def _write(fd: int, data: memoryview) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _by_fd(fd: int) -> str:
    """A path for the calls that take no O_PATH descriptor."""
    return f"/proc/self/fd/{fd}"
