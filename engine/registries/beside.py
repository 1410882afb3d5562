"""A stage of a stream in a thread of its own: hashlib, zlib and write(2) give up the interpreter lock, so stages work side by side."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from engine.images.streams import Chunks

_PIECES: Final = 4  # between two stages
_LOOK_S: Final = 0.05


@contextmanager
def beside(source: Chunks) -> Iterator[Chunks]:
    """The same chunks, and whatever ``source`` raises. Leaving earlier ends it at its next chunk, and waits for that."""
    pieces: queue.Queue[bytes | BaseException | None] = queue.Queue(_PIECES)
    left = threading.Event()

    def run() -> None:
        try:
            for piece in source:
                pieces.put(piece)
                if left.is_set():
                    return
            pieces.put(None)
        except BaseException as error:
            pieces.put(error)

    thread = threading.Thread(target=run, name=f"{threading.current_thread().name}+", daemon=True)
    thread.start()
    try:
        yield _chunks(pieces)
    finally:
        left.set()
        while thread.is_alive():
            try:
                pieces.get(timeout=_LOOK_S)  # it may wait for room
            except queue.Empty:
                pass


def _chunks(pieces: queue.Queue[bytes | BaseException | None]) -> Chunks:
    while (piece := pieces.get()) is not None:
        if isinstance(piece, BaseException):
            raise piece
        yield piece
