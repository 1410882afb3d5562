"""A writable layer as the tar of an image layer: overlayfs' marks become the image-spec's. image-spec 1.1 layer.md, Whiteouts."""

from __future__ import annotations

import os

from engine.files.compare import is_of_the_runtime
from engine.files.packing import Packer, Pieces
from engine.files.stack import is_opaque, is_whiteout
from engine.images import headers

_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"


class LayerPacker(Packer):
    """What the runtime put there to mount things at is left out, as in the list of changes."""

    def file(self, folder: int, base: str, name: bytes, status: os.stat_result) -> Pieces:
        if not is_whiteout(status):
            yield from super().file(folder, base, name, status)
            return
        above, slash, last = name.rpartition(b"/")
        yield _mark(above + slash + _WHITEOUT + last, status)

    def marks(self, folder: int, name: bytes) -> Pieces:
        if is_opaque(folder):
            yield _mark(name + _OPAQUE, os.fstat(folder))

    def leaves_out(self, path: str, status: os.stat_result) -> bool:
        return not is_whiteout(status) and is_of_the_runtime(path, status, is_empty=True)


def _mark(name: bytes, status: os.stat_result) -> bytes:
    return headers.header(name, b"0", mode=0, uid=0, gid=0, size=0, mtime_s=status.st_mtime_ns // 10**9)
