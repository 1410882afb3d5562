"""Copying in: a tar archive into a folder of a container, with moby's rules. Runs as root of the tenant's user namespace alone.

Against a layer's archive (engine.images.unpack): whiteouts are ordinary files, names are below the destination, links inside the
container lead where they lead inside, a device is refused by the kernel, and what is there already is replaced with care.
"""

from __future__ import annotations

import os
import posixpath
import stat
from contextlib import suppress
from typing import Final

from engine.errors import InvalidArgument
from engine.files.pathstat import explain
from engine.images import tar
from engine.images.streams import Chunks, Readable, chunks, decompressed, drain
from engine.images.tree import Tree
from engine.images.unpack import Job, set_xattrs
from engine.kernel.paths import open_in_root
from engine.model.tenant import IDS_PER_TENANT

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


def extract(
    stream: Readable, root: int, destination: str, *, container: str, no_overwrite: bool = False, owner: tuple[int, int] | None = None
) -> None:
    """Reads the archive, compressed or not, to its end. ``destination`` is a folder, absolute and without links.

    ``no_overwrite``: a folder never replaces something else, nor the other way round. ``owner`` gets all of it when given. On an
    error what was complete stays, the file at hand goes.
    """
    source = decompressed(chunks(stream))
    try:
        _extract(source, root, destination, container, no_overwrite, owner)
    except tar.CutShort:
        raise InvalidArgument("unexpected EOF") from None
    drain(source)  # whoever sends is not cut off in its padding


def _extract(source: Chunks, root: int, destination: str, container: str, no_overwrite: bool, owner: tuple[int, int] | None) -> None:
    with Tree(root) as tree:
        job = _CopyIn(tree, tar.TarReader(source), root, destination, no_overwrite=no_overwrite, owner=owner)
        for entry in job.reader:
            try:
                job.apply(entry)
            except OSError as error:
                raise explain(error, "copy", entry.name, container) from error
        job.finish()


class _CopyIn(Job):
    def __init__(
        self, tree: Tree, reader: tar.TarReader, root: int, destination: str, *, no_overwrite: bool, owner: tuple[int, int] | None
    ) -> None:
        super().__init__(tree, reader)
        self._root = root
        self._destination = destination.strip("/")
        self._no_overwrite = no_overwrite
        self._owner = owner

    def apply(self, entry: tar.Entry) -> None:
        clean = posixpath.normpath(entry.name) if entry.name else "."
        inside = posixpath.normpath(clean.lstrip("/")) if clean.strip("/") else "."
        if inside == ".." or inside.startswith("../"):
            raise InvalidArgument(f'"{clean}" is outside of "/{self._destination}"')
        if self._owner is not None:
            entry.uid, entry.gid = self._owner
        for number in (entry.uid, entry.gid):
            if not 0 <= number < IDS_PER_TENANT:
                raise InvalidArgument(f"container ID {number} cannot be mapped to a host ID: {entry.name!r}")
        name = "/".join(part for part in (self._destination, "" if inside == "." else inside) if part)
        if inside == ".":
            if clean != "." and entry.kind == tar.FOLDER:
                self.set_folder(self.tree.folder(name), ".", name, entry)
            return
        above, _slash, base = name.rpartition("/")
        parent = self.tree.folder(above)
        self._make_way(parent, base, inside, entry)
        if entry.kind == tar.FILE:
            self.file(parent, base, entry)
        elif entry.kind == tar.FOLDER:
            self.folder(parent, base, name, entry)
        elif entry.kind == tar.HARD_LINK:
            self._hard_link_below(parent, base, name, inside, entry)
        else:
            if entry.kind == tar.SYMLINK:
                self._check_symlink(inside, entry)
            self.special(parent, base, entry)

    def _make_way(self, parent: int, base: str, inside: str, entry: tar.Entry) -> None:
        """Two folders are merged; everything else that is there goes, unless the caller wants it kept."""
        try:
            there = os.stat(base, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return
        is_folder, becomes_folder = stat.S_ISDIR(there.st_mode), entry.kind == tar.FOLDER
        if is_folder and becomes_folder:
            return
        if self._no_overwrite and is_folder != becomes_folder:
            kinds = ("directory", "non-directory") if is_folder else ("non-directory", "directory")
            raise InvalidArgument(f'cannot overwrite {kinds[0]} "/{self._where(inside)}" with {kinds[1]} "/{self._destination}"')
        self.tree.remove(parent, base)

    def file(self, parent: int, base: str, entry: tar.Entry) -> None:
        try:
            super().file(parent, base, entry)
        except BaseException:  # also an archive that is cut off: half a file is nobody's wish
            with suppress(OSError):
                os.unlink(base, dir_fd=parent)
            raise

    def set_folder(self, parent: int, base: str, name: str, entry: tar.Entry) -> None:
        """By a descriptor of its own: there is no /proc of ours where this runs."""
        fd = os.open(base, _FOLDER | os.O_CLOEXEC, dir_fd=parent) if base != "." else open_in_root(self._root, name or ".", _FOLDER)
        try:
            os.fchown(fd, entry.uid, entry.gid)
            os.fchmod(fd, entry.mode)
            if entry.xattrs:
                set_xattrs(fd, entry)
        finally:
            os.close(fd)
        self.tree.implied.pop(name, None)
        self.folder_times[name] = entry.mtime_ns

    def finish(self) -> None:
        for name, mtime_ns in self.folder_times.items():
            with suppress(OSError):  # replaced meanwhile, by the archive or the container
                fd = open_in_root(self._root, name or ".", _FOLDER)
                try:
                    os.utime(fd, ns=(mtime_ns, mtime_ns))
                finally:
                    os.close(fd)

    def _hard_link_below(self, parent: int, base: str, name: str, inside: str, entry: tar.Entry) -> None:
        target = posixpath.normpath(entry.link.lstrip("/")) if entry.link else ".."
        if target == ".." or target.startswith("../"):
            raise InvalidArgument(f'invalid hardlink "/{self._where(inside)}" -> "{entry.link}"')
        entry.link = f"{self._destination}/{target}"
        self.hard_link(parent, base, name, entry)

    def _check_symlink(self, inside: str, entry: tar.Entry) -> None:
        """Where it leads matters to nobody but the container; moby refuses one that climbs out of the destination, and so do we."""
        top = posixpath.join("/", self._destination)
        leads = posixpath.normpath(f"{top}/{posixpath.dirname(inside)}/{entry.link}")
        if top not in ("/", leads) and not leads.startswith(top + "/"):
            raise InvalidArgument(f'invalid symlink "/{self._where(inside)}" -> "{entry.link}"')

    def _where(self, inside: str) -> str:
        return f"{self._destination}/{inside}" if self._destination else inside
