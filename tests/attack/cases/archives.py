"""Tars as images and as copies: names, links, marks and sizes that are made to leave the tree or to fill the disk.

Each is given to our own unpacker. The control is the same unpacker with one thing less: gullible, it joins names and follows links.
"""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from engine.errors import EngineError
from engine.files.extract import extract
from engine.images import layers
from engine.images.limits import DEFAULT, Limits
from engine.images.streams import chunks
from engine.images.unpack import unpack
from tests.attack.attempt import Who, attempt
from tests.attack.ground import Ground
from tests.engine.images.archives import Member, device, digest, file, folder, hard_link, symlink, tar

NAMES = "that names are resolved in the tree by openat2"
BEFORE = "before"


@contextmanager
def gullible() -> Iterator[None]:
    def open_anyhow(root: int, path: str, flags: int, *, mode: int = 0) -> int:
        return os.open(path, flags, mode, dir_fd=root)

    with (
        patch("engine.images.tree.open_in_root", open_anyhow),
        patch("engine.files.extract.open_in_root", open_anyhow),
        patch("engine.images.unpack.clean_name", lambda name: name.rstrip("/")),
    ):
        yield


@dataclass(frozen=True)
class Trees:
    """``root`` is to be filled, ``victim`` lies beside it and is nobody's business."""

    root: Path
    victim: Path

    def harm(self) -> str:
        for path in self.victim.iterdir():
            if path.name != "file":
                return f"{path.name} was made outside of the tree"
        status = (self.victim / "file").stat()
        if status.st_nlink > 1 or (self.victim / "file").read_text() != BEFORE:
            return "a file outside of the tree was linked or changed"
        return ", ".join(f"{name} of a folder outside" for name in os.listxattr(self.victim) if name.startswith("trusted."))


def trees(ground: Ground) -> Trees:
    place = Path(tempfile.mkdtemp(dir=ground.folder))
    found = Trees(place / "root", place / "victim")
    found.root.mkdir()
    found.victim.mkdir()
    (found.victim / "file").write_text(BEFORE)
    return found


def _layer(name: str, what: str, members: Callable[[str], list[Member]], *, promise: str = "e") -> None:
    """``members``: of the layer, by the victim's path."""

    def act(ground: Ground, walled: bool) -> str:
        place = trees(ground)
        data = tar(*members(str(place.victim)))
        with nullcontext() if walled else gullible():
            try:
                unpack(chunks(io.BytesIO(data)), place.root, DEFAULT)
            except EngineError:
                pass
        return place.harm()

    attempt(promise, Who.AUTHOR, NAMES, quick=True, name=f"layer-{name}", what=what)(act)


_layer("name-that-climbs", "a file ../victim/new", lambda _victim: [file("../victim/new")])
_layer("absolute-name", "a file of an absolute name", lambda victim: [file(f"{victim}/new")])
_layer(
    "file-through-a-link",
    "a link to a folder of the host's, then a file through it",
    lambda victim: [symlink("up", victim), file("up/new")],
)
_layer("file-through-a-climbing-link", "the same with a link of ..", lambda _victim: [symlink("up", "../victim"), file("up/new")])
_layer("folder-that-becomes-a-link", "a folder, then a link of its name, then a file in it",
       lambda victim: [folder("etc"), file("etc/a"), symlink("etc", victim), file("etc/new")])  # fmt: skip
_layer("hard-link-out", "a hard link to a file of the host's", lambda victim: [hard_link("mine", f"{victim}/file")])
_layer("hard-link-through-a-link", "the same by a link to its folder", lambda victim: [symlink("up", victim), hard_link("mine", "up/file")])
_layer("whiteout-out-of-the-tree", "a whiteout in a folder outside", lambda _victim: [file("../victim/.wh.new")])
_layer("whiteout-through-a-link", "a whiteout through a link", lambda victim: [symlink("up", victim), file("up/.wh.new")])
_layer("opaque-mark-through-a-link", "an opaque mark on a folder outside", lambda victim: [symlink("up", victim), file("up/.wh..wh..opq")])
_layer("device-through-a-link", "a device in a folder outside", lambda victim: [symlink("up", victim), device("up/new", 1, 3)])


@attempt("b", Who.AUTHOR, "that ids stand below 65,536", quick=True)
def layer_with_ids_of_the_next_tenant(ground: Ground, walled: bool) -> str:
    """a setuid file of uid 65536, which would be the first id of whoever comes next"""
    place = trees(ground)
    with nullcontext() if walled else patch("engine.images.unpack.IDS_PER_TENANT", 1 << 32):
        try:
            unpack(chunks(io.BytesIO(tar(file("su", b"x", uid=65536, mode=0o4755)))), place.root, DEFAULT)
        except EngineError:
            return ""
    return f"uid {(place.root / 'su').stat().st_uid}"


@attempt("b", Who.AUTHOR, "that a layer is hashed before it is the host's, whoever brings it", quick=True)
def layer_under_the_digest_of_anothers(ground: Ground, walled: bool) -> str:
    """own bytes under the diffID of a layer that others will use, for the host keeps one copy for all"""
    place, wanted = trees(ground), digest(tar(file("bin/sh", b"theirs")))
    try:
        made = layers.prepare(io.BytesIO(tar(file("bin/sh", b"ours"))), place.root / "layer", DEFAULT, diff_id=wanted, trusted=not walled)
    except EngineError:
        return ""
    return f"{(place.root / 'layer/diff/bin/sh').read_text()} as {made.diff_id[:20]}…"


@attempt("e", Who.AUTHOR, "the list of attributes that an image may set", quick=True)
def layer_that_redirects_overlayfs(ground: Ground, walled: bool) -> str:
    """trusted.overlay.redirect in a layer, by which overlayfs would look elsewhere"""
    place = trees(ground)
    info, data = folder("moved")
    info.pax_headers = {"SCHILY.xattr.trusted.overlay.redirect": "/etc"}
    with nullcontext() if walled else patch("engine.images.unpack._XATTRS", ("user.", "trusted.")):
        unpack(chunks(io.BytesIO(tar((info, data)))), place.root, DEFAULT)
    return ", ".join(os.listxattr(place.root / "moved"))


def _copy(name: str, what: str, prepare: Callable[[Trees], None], members: list[Member]) -> None:
    """``docker cp`` into a folder that the container has prepared."""

    def act(ground: Ground, walled: bool) -> str:
        place = trees(ground)
        (place.root / "w").mkdir()
        prepare(place)
        root = os.open(place.root, os.O_PATH | os.O_DIRECTORY)
        try:
            with nullcontext() if walled else gullible():
                extract(io.BytesIO(tar(*members)), root, "/w", container="cage")
        except EngineError:
            pass
        finally:
            os.close(root)
        return place.harm()

    attempt("e", Who.AUTHOR, NAMES, quick=True, name=f"copy-{name}", what=what)(act)


_copy(
    "through-a-link",
    "docker cp into a folder that is a link",
    lambda place: (place.root / "w" / "up").symlink_to(place.victim),
    [file("up/new")],
)
_copy(
    "through-a-climbing-link",
    "the same with a link of ..",
    lambda place: (place.root / "w" / "up").symlink_to("../../victim"),
    [file("up/new")],
)
_copy("hard-link-through-a-link", "docker cp of a hard link to a file behind a link",
      lambda place: (place.root / "w" / "up").symlink_to(place.victim), [hard_link("mine", "up/file")])  # fmt: skip


# -- what takes room ---------------------------------------------------------------------------------------


def _zeros(mebibytes: int) -> bytes:
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        info = tarfile.TarInfo("zeros")
        info.size = mebibytes << 20
        archive.addfile(info, io.BytesIO(bytes(info.size)))
    return layer.getvalue()


@attempt("c", Who.AUTHOR, "that runs of zeros become holes", quick=True)
def bomb_of_zeros(ground: Ground, walled: bool) -> str:
    """16 MiB of zeros in 16 KiB: what of the disk do they take?"""
    place = trees(ground)
    with nullcontext() if walled else patch("engine.images.unpack._HOLE", 1 << 60):
        layers.prepare(io.BytesIO(gzip.compress(_zeros(16))), place.root / "layer", DEFAULT)
    taken = (place.root / "layer" / "diff" / "zeros").stat().st_blocks * 512 >> 20
    return f"{taken} MiB" if taken > 4 else ""


@attempt("c", Who.AUTHOR, "that runs of zeros become holes", quick=False)
def bomb_of_a_sparse_file(ground: Ground, walled: bool) -> str:
    """a GNU sparse file of 10 GB in one kilobyte (as plain zeros, the control takes 64 MiB of them)"""
    place = trees(ground)
    if walled:
        layers.prepare(io.BytesIO(_sparse(10 << 30)), place.root / "layer", DEFAULT)
    else:
        with patch("engine.images.unpack._HOLE", 1 << 60):
            layers.prepare(io.BytesIO(gzip.compress(_zeros(64))), place.root / "layer", DEFAULT)
    taken = (place.root / "layer" / "diff" / "zeros").stat().st_blocks * 512 >> 20
    return f"{taken} MiB" if taken > 32 else ""


def _sparse(size: int) -> bytes:
    """PAX 1.0 sparse: a map of no pieces, and the real size."""
    info = tarfile.TarInfo("zeros")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "zeros", "GNU.sparse.realsize": str(size)}
    body = b"1\n%d\n0\n" % size
    body += bytes(-len(body) % 512)
    return tar((_sized(info, body), body))


def _sized(info: tarfile.TarInfo, body: bytes) -> tarfile.TarInfo:
    info.size = len(body)
    return info


def _limited(name: str, what: str, data: Callable[[], bytes], tight: Limits) -> None:
    def act(ground: Ground, walled: bool) -> str:
        place = trees(ground)
        try:
            layers.prepare(io.BytesIO(data()), place.root / "layer", tight if walled else DEFAULT)
        except EngineError:
            return ""
        return "it was unpacked"

    attempt("c", Who.AUTHOR, "the limit of one layer", quick=True, name=name, what=what)(act)


_limited("bomb-of-bytes", "a layer of more bytes than one may have", lambda: gzip.compress(_zeros(8)), Limits(layer_bytes=4 << 20))
_limited(
    "bomb-of-names",
    "a layer of more files than one may have",
    lambda: tar(*(file(f"d/{n}") for n in range(600))),
    Limits(layer_entries=500),
)
