"""Unpacking layers of an archive while it is still being read: what looks like one is, nearly always.

    spool ─ every piece of a member ─▶ Feed ─ a short queue ─▶ a thread: decompress, hash, unpack into the staging folder

The archive's manifest, which may come last, decides afterwards what is used. What went wrong is told only then, and only of what is
a layer by its word.
"""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from engine.errors import EngineError
from engine.images import layers
from engine.images.layers import Prepared
from engine.images.limits import Limits
from engine.images.streams import Chunks, is_compressed

_WORTH: Final = 1 << 20  # bytes of a member that is unpacked ahead
_NAMES: Final = re.compile(r"(?:.*/)?layer\.tar|blobs/[a-z0-9]+/(?P<digits>[0-9a-f]+)|.+\.tar(?:\.[a-z]+)?")
_PIECES: Final = 8  # of 256 KiB, between reading and unpacking
_TAR: Final = slice(257, 262), b"ustar"


class _Stopped(Exception):
    """The archive ended in the midst of it."""


class Feed:
    """One member's bytes on their way into a layer. ``put`` waits when the unpacking is behind."""

    def __init__(self, folder: Path, limits: Limits, *, compressed: bool) -> None:
        self._folder, self._limits, self._compressed = folder, limits, compressed
        self._pieces: queue.Queue[bytes | None] = queue.Queue(_PIECES)
        self._sha256 = ""
        self._whole = False
        self._prepared: Prepared | None = None
        self._error: EngineError | OSError | None = None
        self.thread = threading.Thread(target=self._run, name="ahead", daemon=True)
        self.thread.start()

    def put(self, piece: memoryview) -> None:
        if self.thread.is_alive():
            self._pieces.put(bytes(piece))

    def end(self, sha256: str) -> None:
        """All of it has passed, and hashes to this."""
        self._sha256, self._whole = sha256, True
        self.stop()

    def stop(self) -> None:
        if self.thread.is_alive():
            self._pieces.put(None)

    def result(self) -> Prepared | None:
        """Waits for the thread. None: not all of it came. Raises why it could not be unpacked."""
        self.thread.join()
        if self._error is not None:
            raise self._error
        return self._prepared

    def _run(self) -> None:
        try:
            with suppress(_Stopped):
                if self._compressed:
                    self._prepared = layers.prepare(_Reader(self._source()), self._folder, self._limits)
                else:
                    self._prepared = layers.prepare_plain(self._source(), self._folder, self._limits, lambda: f"sha256:{self._sha256}")
        except (EngineError, OSError) as error:
            self._error = error
        finally:
            self._drain()

    def _source(self) -> Chunks:
        while (piece := self._pieces.get()) is not None:
            yield piece
        self._pieces.put(None)  # for ``_drain``
        if not self._whole:
            raise _Stopped

    def _drain(self) -> None:
        """Whoever puts must not wait for a thread that has given up."""
        while self._pieces.get() is not None:
            pass


class _Reader:
    """Pieces as a readable: each ``read`` is one of them."""

    def __init__(self, source: Chunks) -> None:
        self._source = source

    def read(self, _size: int = -1, /) -> bytes:
        return next(self._source, b"")


class Ahead:
    """Of one archive. ``has``: whether a blob of these digits is here already, so that its layer is, too."""

    def __init__(self, folder: Path, limits: Limits, *, has: Callable[[str], bool], at_once: int) -> None:
        self._folder, self._limits, self._has, self._at_once = folder, limits, has, at_once
        self._feeds: dict[Path, Feed] = {}

    def begin(self, name: str, path: Path, size: int, first: memoryview) -> Feed | None:
        """For a member that goes to ``path`` and begins with ``first``. None: not worth it, no layer, or too much is under way."""
        match = _NAMES.fullmatch(name)
        if size < _WORTH or match is None or (match["digits"] and self._has(match["digits"])):
            return None
        head = bytes(first[:512])
        compressed = is_compressed(head)
        if not compressed and head[_TAR[0]] != _TAR[1]:
            return None
        if sum(feed.thread.is_alive() for feed in self._feeds.values()) >= self._at_once:
            return None
        feed = self._feeds[path] = Feed(self._folder / f"ahead{len(self._feeds)}", self._limits, compressed=compressed)
        return feed

    def take(self, path: Path, diff_id: str) -> Prepared | None:
        """The layer that the member at ``path`` became, if it is this one. Waits for it. Once. Raises what was wrong with it."""
        feed = self._feeds.pop(path, None)
        prepared = feed.result() if feed else None
        return prepared if prepared and prepared.diff_id == diff_id else None

    def stop(self) -> None:
        """Threads end; what they made stays in the folder."""
        for feed in self._feeds.values():
            feed.stop()
        for feed in self._feeds.values():
            feed.thread.join()
