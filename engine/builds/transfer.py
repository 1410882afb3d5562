"""COPY and ADD: which files are meant, what they are (their digests decide about the cache), and how they lie in the new layer.

moby's rules. A folder's content goes into the target, which is made if need be. A file goes into a target that is a folder or
ends with a slash, else it becomes the target. Links on the way to the target are followed inside of the image, links among what is
copied are copied. Files belong to root unless --chown says otherwise; those of another image keep their owners.
"""

from __future__ import annotations

import hashlib
import posixpath
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from engine.builds.dockerfile import modes
from engine.builds.files import File, FileTree, clean, follow, walk
from engine.builds.ignore import compile_pattern
from engine.builds.layout import Layout, Owner
from engine.builds.patterns import has_wildcards, matches
from engine.errors import InvalidArgument
from engine.images import tar
from engine.images.streams import Chunks, decompressed
from engine.images.tree import clean_name
from engine.model.tenant import IDS_PER_TENANT

_KINDS: Final = {
    tar.FILE: stat.S_IFREG, tar.FOLDER: stat.S_IFDIR, tar.SYMLINK: stat.S_IFLNK, tar.CHARACTER: stat.S_IFCHR,
    tar.BLOCK_DEVICE: stat.S_IFBLK, tar.FIFO: stat.S_IFIFO,
}  # fmt: skip
Excluded = Callable[[str], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One source. ``path`` is where it is in ``tree``, links followed; ``name`` what it is called at the target."""

    tree: FileTree
    path: str
    name: str
    digest: str  # file:…, dir:…
    unpacks: bool = False  # if it is an archive
    kept: str = ""  # of --parents: the path that it keeps below the target


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How the items are put. ``owner`` None: as they have it."""

    owner: Owner | None = (0, 0)
    mode: str = ""  # --chmod
    is_link: bool = False  # --link: the target is taken as it is written
    excluded: Excluded | None = None  # of --exclude

    @property
    def folder_mode(self) -> int:
        """Of folders that are made on the way: --chmod's, as BuildKit has it."""
        return modes.changed(self.mode, 0o755, True) if self.mode else 0o755


# -- which files -----------------------------------------------------------------------------------


def items_of(
    tree: FileTree, source: str, *, from_image: bool, unpacks: bool = False, keeps_parents: bool = False, excluded: Excluded | None = None
) -> list[Item]:
    """``source``: a path or a pattern. InvalidArgument in moby's words when it is not there; none for a pattern that nothing matches."""
    plain = source.lstrip("/").removeprefix("./")
    if not from_image and posixpath.normpath(plain).startswith("../"):
        raise InvalidArgument(f"forbidden path outside the build context: {source} ()")
    if has_wildcards(plain):
        pattern = posixpath.normpath(plain)
        fits = compile_pattern(pattern).matches if keeps_parents else partial(matches, pattern)  # ** is of --parents alone
        found = [path for path, _file in walk(tree, "") if fits(path)]
    else:
        found = [clean(plain.replace("\\", "") if "\\" in plain else plain)]
    pivot = _pivot(source) if keeps_parents else ""
    items = []
    for name in found:
        path = follow(tree, name)
        file = tree.find(path)
        if file is None:
            missing = f"stat {name}: file does not exist"
            raise InvalidArgument(missing if from_image else f"file not found in build context or excluded by .dockerignore: {missing}")
        kept = ""
        if keeps_parents:
            kept = name.removeprefix(pivot).lstrip("/") if pivot else name
        digest = _digest(tree, path, file, partial(_excluded_below, excluded, kept) if excluded and kept else excluded)
        items.append(Item(tree=tree, path=path, name=posixpath.basename(name), digest=digest, unpacks=unpacks, kept=kept))
    return items


def _excluded_below(excluded: Excluded, kept: str, path: str) -> bool:
    """Of --parents the patterns are for the paths that are kept."""
    return excluded(f"{kept}/{path}")


def _pivot(source: str) -> str:
    """What stands before ``/./`` in a source of --parents is not kept."""
    before, found, _after = source.partition("/./")
    return clean(before) if found else ""


def _digest(tree: FileTree, path: str, file: File, excluded: Excluded | None) -> str:
    if not file.is_folder:
        return f"file:{tree.digest(path)}"
    below = [tree.digest(path)] if path else []
    for each, _entry in walk(tree, path):
        if excluded is None or not excluded(_below(path, each)):
            below.append(tree.digest(each))
    return f"dir:{hashlib.sha256(','.join(sorted(below)).encode()).hexdigest()}"


def digest_of(items: Sequence[Item]) -> str:
    """What the history shows and the cache compares."""
    if len(items) == 1:
        return items[0].digest
    return f"multi:{hashlib.sha256(','.join(item.digest for item in items).encode()).hexdigest()}"


# -- how they lie ----------------------------------------------------------------------------------


def absolute_target(target: str, cwd: str) -> str:
    """A trailing slash stays: it says "the folder"."""
    whole = target if target.startswith("/") else posixpath.join("/", cwd, target)
    path = posixpath.normpath("/" + whole.lstrip("/"))
    return path + "/" if (target.endswith(("/", "/.")) or target in (".", "")) and path != "/" else path


def pieces(layout: Layout, items: Sequence[Item], target: str, manner: Manner) -> Iterator[bytes]:
    """The layer's tar without its end mark. ``target``: of ``absolute_target``. Raises layout.Repeated at the end."""
    for item in items:
        layout.new_item()
        wanted = f"{target.rstrip('/')}/{item.kept}" if item.kept else target
        base = wanted.strip("/") if manner.is_link else layout.resolve(wanted)
        file = item.tree.find(item.path)
        assert file is not None
        if item.kept:
            yield from _keep_parents(layout, item, target, manner)
        if file.is_folder:
            yield from _folder(layout, item, base, manner)
        elif item.unpacks and file.is_regular and is_archive(item.tree.read(item.path)):
            yield from _unpacked(layout, item.tree.read(item.path), base, manner)
        else:
            if not item.kept and (wanted.endswith("/") or layout.is_folder(base)):
                base = f"{base}/{item.name}" if base else item.name
            if manner.excluded is not None and manner.excluded(item.kept or item.name):
                continue
            yield from layout.put(
                base,
                _as_wanted(file, manner),
                _content(item.tree, item.path, file),
                parents=manner.owner or (0, 0),
                parents_mode=manner.folder_mode,
            )
    layout.finish()


def _keep_parents(layout: Layout, item: Item, target: str, manner: Manner) -> Iterator[bytes]:
    """The folders of a kept path look as in the source."""
    above = item.kept.split("/")[:-1]
    lead = item.path[: len(item.path) - len(item.kept)] if item.path.endswith(item.kept) else ""
    for depth in range(1, len(above) + 1):
        kept = "/".join(above[:depth])
        place = f"{target.strip('/')}/{kept}".strip("/")
        file = item.tree.find(lead + kept)
        if file is not None and file.is_folder and not layout.is_folder(place):
            yield from layout.put(place, _as_wanted(file, manner), parents=manner.owner or (0, 0), parents_mode=manner.folder_mode)


def _folder(layout: Layout, item: Item, base: str, manner: Manner) -> Iterator[bytes]:
    yield from layout.put_folder(base, manner.owner or (0, 0), manner.folder_mode)
    for path, file in walk(item.tree, item.path):
        inside = _below(item.path, path)
        if manner.excluded is not None and manner.excluded(f"{item.kept}/{inside}" if item.kept else inside):
            continue
        place = f"{base}/{inside}" if base else inside
        yield from layout.put(
            place,
            _as_wanted(file, manner),
            _content(item.tree, path, file),
            parents=manner.owner or (0, 0),
            parents_mode=manner.folder_mode,
        )


def _below(top: str, path: str) -> str:
    return path[len(top) + 1 :] if top else path


def _content(tree: FileTree, path: str, file: File) -> Iterator[bytes] | None:
    return tree.read(path) if file.is_regular else None


def _as_wanted(file: File, manner: Manner) -> File:
    if manner.owner is not None:
        file = replace(file, uid=manner.owner[0], gid=manner.owner[1])
    if manner.mode and not file.is_link:
        file = replace(file, mode=stat.S_IFMT(file.mode) | modes.changed(manner.mode, stat.S_IMODE(file.mode), file.is_folder))
    return file


# -- archives --------------------------------------------------------------------------------------


def is_archive(content: Chunks) -> bool:
    """A tar, compressed or not, with something in it."""
    try:
        return next(iter(tar.TarReader(decompressed(content))), None) is not None
    except InvalidArgument:
        return False


def _unpacked(layout: Layout, content: Chunks, base: str, manner: Manner) -> Iterator[bytes]:
    """Owners as in the archive, unless --chown says otherwise."""
    yield from layout.put_folder(base, manner.owner or (0, 0), manner.folder_mode)
    reader = tar.TarReader(decompressed(content))
    named: dict[str, tuple[str, File]] = {}
    manner = replace(manner, owner=None if manner.owner == (0, 0) else manner.owner)
    for entry in reader:
        name = clean_name(entry.name)
        if not name:
            continue
        for number in (entry.uid, entry.gid):
            if not 0 <= number < IDS_PER_TENANT:
                raise InvalidArgument(f"container ID {number} cannot be mapped to a host ID: {entry.name!r}")
        above, _slash, last = name.rpartition("/")
        parent = layout.resolve(f"{base}/{above}")
        place = f"{parent}/{last}" if parent else last
        if entry.kind == tar.HARD_LINK:
            target = named.get(clean_name(entry.link))
            if target is None:
                raise InvalidArgument(f"invalid hardlink {entry.name!r} -> {entry.link!r}: the target is not in this archive")
            yield from layout.put(place, target[1])
            continue
        file = File(
            mode=_KINDS[entry.kind] | (0o777 if entry.kind == tar.SYMLINK else entry.mode),
            uid=entry.uid,
            gid=entry.gid,
            size=entry.real_size if entry.extents is not None else entry.size,
            mtime_ns=entry.mtime_ns,
            link=entry.link if entry.kind == tar.SYMLINK else "",
            device=(entry.major, entry.minor),
            xattrs=entry.xattrs,
            inode=place,  # a later entry may be another name of it
        )
        file = _as_wanted(file, manner)
        if not file.is_folder:
            named[name] = (place, file)
        yield from layout.put(place, file if not file.is_folder else replace(file, inode=None), tar_data(entry, reader))


def tar_data(entry: tar.Entry, reader: tar.TarReader) -> Iterator[bytes]:
    """The bytes of the entry at hand, the holes of a sparse one filled with zeros."""
    if entry.extents is None:
        for piece in reader.data():
            yield bytes(piece)
        return
    at, data, left = 0, reader.data(), memoryview(b"")
    for offset, length in [*entry.extents, (entry.real_size, 0)]:
        while at < offset:
            zeros = bytes(min(1 << 18, offset - at))
            at += len(zeros)
            yield zeros
        while length:
            left = left or next(data)
            taken, left = left[:length], left[length:]
            at, length = at + len(taken), length - len(taken)
            yield bytes(taken)
