"""Reading a container's output (engine.runtime.segments): from any line or time, as Docker's frames or raw, to its end or on.

Whole runs of blocks are read from the page cache at once and go out in pieces of 256 KiB, so plain reading costs what copying
costs; lines are looked at only where a tail begins and where timestamps are wanted. A reader holds two descriptors, writes
nothing and slows nobody: when its segment is removed under it, it reads it to the end and goes on with the oldest there is.

    for piece in LogReader(folder, tail=10): …                    what there is
    for piece in LogReader(folder, start=end_position(folder)).follow(): …    from now until the container's end, blocking

An event loop calls ``read`` until it returns nothing, looks at ``complete``, and calls again when LogWatch says so.
"""

from __future__ import annotations

import json
import os
import select
import struct
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from engine.kernel import inotify
from engine.runtime.log_search import FIRST, Position, end_position, find_tail, find_time
from engine.runtime.segments import BEGIN, END, MARK, NEXT, RECORD, STDERR, STDOUT, STREAM_AT, Record, Segment, last_mark, segment_numbers

PIECE: Final = 256 << 10  # bytes of output, at most of one stream
ENOUGH: Final = 32 << 10  # bytes; smaller ones are joined
LAST_WORDS_S: Final = 5.0  # the logger's time between a container's exit and the mark that the log is complete
_RECORDS: Final = 4096  # read at once

__all__ = ["FIRST", "LogReader", "LogWatch", "Position", "docker_time", "end_position"]
_FRAME: Final = struct.Struct(">BxxxI")  # stream, length: the header of Docker's attach, logs and exec streams


class LogReader:
    def __init__(
        self,
        directory: Path,
        *,
        stdout: bool = True,
        stderr: bool = True,
        tail: int = -1,
        since_ns: int = 0,
        until_ns: int = 0,
        timestamps: bool = False,
        details: str | None = None,
        frames: bool = True,
        start: Position | None = None,
    ) -> None:
        """``tail`` lines of the wanted streams, -1 = all; times are unix time in ns, 0 = no bound. ``frames``: Docker's 8-byte
        headers, else raw (what a tty's container has). ``start`` takes the place of ``tail`` and ``since_ns``. ``details`` and a
        space come before each line, behind its time."""
        self._directory = str(directory)
        self._wanted = frozenset(([STDOUT] if stdout else []) + ([STDERR] if stderr else []))
        self._until_ns, self._timestamps, self._frames = until_ns, timestamps, frames
        self._details = b"" if details is None else details.encode() + b" "
        self._by_line = timestamps or details is not None
        self._at_line_start = {STDOUT: True, STDERR: True}
        self._segment: Segment | None = None
        self._records = b""  # committed ones, the first is number self._first of the segment, the next to look at self._next
        self._streams = b""  # their stream bytes
        self._first = self._next = 0
        self._skip = 0
        self._pending: tuple[int, int, int, int] | None = None  # stream, time, from and to in the data file
        self._ended = False
        if start is None:
            start = self._find_start(tail, since_ns)
            self._ended = _ends_before(self._directory, start)
        self._start = start

    @property
    def complete(self) -> bool:
        """Nothing will follow: the run's output ended and has been read, or ``until_ns`` is over."""
        return self._ended and self._pending is None

    def read(self) -> bytes:
        """The next piece; empty when there is none now."""
        pieces, size = [], 0
        while size < ENOUGH:
            if self._pending is not None:
                piece = self._take()
                size += len(piece)
                pieces.append(piece)
            elif not self._next_run():
                break
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def __iter__(self) -> Iterator[bytes]:
        """What there is. Of a container that has ended all there is, though the logger may need another moment for it."""
        try:
            deadline = 0.0
            while True:
                while piece := self.read():
                    yield piece
                if (self.complete or not deadline) and not _awaits_end(self._directory):
                    return
                deadline = deadline or time.monotonic() + LAST_WORDS_S
                if time.monotonic() > deadline:
                    return
                time.sleep(0.001)
        finally:
            self.close()

    def follow(self) -> Iterator[bytes]:
        """What there is and what comes, until the container's output ends. Blocks."""
        with LogWatch() as watch:
            watch.add(Path(self._directory), lambda: None)
            poll = select.poll()
            poll.register(watch.fileno(), select.POLLIN)
            try:
                while True:
                    while piece := self.read():
                        yield piece
                    if self.complete or (self._until_ns and time.time_ns() > self._until_ns):
                        return
                    poll.poll(max(0, self._until_ns - time.time_ns()) // 10**6 + 1 if self._until_ns else None)
                    watch.dispatch()
            finally:
                self.close()

    def close(self) -> None:
        if self._segment is not None:
            self._segment.close()
            self._segment = None
        self._pending = None

    # -- forward ---------------------------------------------------------------------------------

    def _next_run(self) -> bool:
        """Puts the next blocks of one stream into ``_pending``, or passes marks and unwanted blocks; False: nothing there."""
        if self._next == len(self._streams) and not self._load():
            return False
        first = last = self._record_at(self._next)
        count = 1
        if first.stream != MARK and not self._by_line:
            streams = self._streams[self._next :]
            count = len(streams) - len(streams.lstrip(streams[:1]))
            last = self._record_at(self._next + count - 1)
        if self._until_ns and last.time_ns > self._until_ns:
            count = self._count_until(count)
            if count == 0:
                self._ended = True
                return False
            last = self._record_at(self._next + count - 1)
        skip, self._skip = self._skip, 0
        self._next += count
        if first.stream == MARK:
            self._pass_mark(first.flags)
            return True
        self._ended = False
        if first.stream in self._wanted:
            self._pending = first.stream, first.time_ns, first.offset + skip, last.offset + last.length
        return True

    def _pass_mark(self, flags: int) -> None:
        if flags == NEXT:
            assert self._segment is not None
            self._open_after(self._segment.number)
        else:
            self._ended = flags == END

    def _load(self) -> bool:
        """Reads committed records behind those that were passed."""
        if self._segment is None:
            segment = self._open_after(self._start.segment - 1)
            if segment is None:
                return False
            if segment.number == self._start.segment:
                self._first, self._skip = self._start.record, self._start.skip
        else:
            segment = self._segment
        self._first += self._next
        self._next = 0
        self._records = segment.records(self._first, _RECORDS)
        self._streams = self._records[STREAM_AT :: RECORD.size]
        return bool(self._records)

    def _open_after(self, number: int) -> Segment | None:
        """Goes on with the next segment there is; None: the present one stays."""
        for following in segment_numbers(self._directory):
            if following > number:
                try:
                    segment = Segment(self._directory, following)
                except FileNotFoundError:
                    continue  # removed in this moment
                if self._segment is not None:
                    self._segment.close()
                self._segment, self._records, self._streams = segment, b"", b""
                self._first = self._next = self._skip = 0
                return segment
        return None

    def _record_at(self, index: int) -> Record:
        return Record._make(RECORD.unpack_from(self._records, index * RECORD.size))

    def _count_until(self, count: int) -> int:
        """How many of the next ``count`` records are not later than ``until_ns``."""
        return bisect_left(range(count), True, key=lambda index: self._record_at(self._next + index).time_ns > self._until_ns)

    def _take(self) -> bytes:
        assert self._segment is not None and self._pending is not None
        stream, time_ns, start, end = self._pending
        data = self._segment.read(min(PIECE, end - start), start)
        start += len(data)
        self._pending = (stream, time_ns, start, end) if data and start < end else None
        if self._by_line and data:
            data = self._stamp(stream, time_ns, data)
        return _FRAME.pack(stream, len(data)) + data if self._frames and data else data

    def _stamp(self, stream: int, time_ns: int, data: bytes) -> bytes:
        """The block's time, if wanted, and the details before each line that begins in it."""
        stamp = (docker_time(time_ns).encode() + b" " if self._timestamps else b"") + self._details
        begins, self._at_line_start[stream] = self._at_line_start[stream], data.endswith(b"\n")
        stamped = data[:-1].replace(b"\n", b"\n" + stamp) + data[-1:]
        return stamp + stamped if begins else stamped

    # -- where to begin --------------------------------------------------------------------------

    def _find_start(self, tail: int, since_ns: int) -> Position:
        start = FIRST
        if tail >= 0:
            start = max(start, find_tail(self._directory, self._wanted, tail))
        if since_ns:
            start = max(start, find_time(self._directory, since_ns))
        return start


class LogWatch:
    """One inotify instance for any number of followers in one event loop: their number per user is small (128)."""

    def __init__(self) -> None:
        self._fd = inotify.inotify_init()
        self._wakers: dict[int, list[Callable[[], None]]] = {}

    def fileno(self) -> int:
        """Readable when ``dispatch`` has something to do."""
        return self._fd

    def add(self, directory: Path, wake: Callable[[], None]) -> int:
        """Calls ``wake`` (from ``dispatch``) after output was logged there. FileNotFoundError: no such log folder."""
        watch = inotify.inotify_add_watch(self._fd, str(directory), inotify.IN_MODIFY | inotify.IN_CREATE | inotify.IN_DELETE_SELF)
        self._wakers.setdefault(watch, []).append(wake)
        return watch

    def remove(self, watch: int, wake: Callable[[], None]) -> None:
        """What ``add`` returned and was given; a folder that is gone meanwhile is fine."""
        wakers = self._wakers.get(watch, [])
        if wake in wakers:
            wakers.remove(wake)
            if not wakers:
                del self._wakers[watch]
                try:
                    inotify.inotify_rm_watch(self._fd, watch)
                except OSError:
                    pass

    def dispatch(self) -> None:
        """Wakes those whose log has grown; never blocks."""
        woken: set[int] = set()
        for event in inotify.read_events(self._fd):
            if event.mask & inotify.IN_Q_OVERFLOW:
                woken.update(self._wakers)
            elif not event.name.endswith(b".data"):  # the index says when
                woken.add(event.watch)
        for watch in woken:
            for wake in list(self._wakers.get(watch, ())):
                wake()

    def close(self) -> None:
        os.close(self._fd)

    def __enter__(self) -> LogWatch:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def _ends_before(directory: str, start: Position) -> bool:
    """Whether the last thing before ``start`` is the end of a run (and nothing follows it yet, which reading will show)."""
    if not start.record:
        return False
    try:
        segment = Segment(directory, start.segment)
    except FileNotFoundError:
        return False
    try:
        record = segment.record(start.record - 1)
    finally:
        segment.close()
    return record.stream == MARK and record.flags == END and start.skip == 0


def _awaits_end(directory: str) -> bool:
    """The container has ended (exit.json says so), its output is not yet marked as complete: the logger may not even have begun."""
    try:
        with open(f"{directory}/../exit.json", "rb") as file:
            ended = int(json.load(file)["run"])
    except FileNotFoundError:
        return False
    numbers = segment_numbers(directory)
    if not numbers:
        return True
    try:
        idx = os.open(f"{directory}/{numbers[-1]}.idx", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        mark, run = last_mark(idx, os.fstat(idx).st_size // RECORD.size * RECORD.size)
    finally:
        os.close(idx)
    return run < ended or (run == ended and mark == BEGIN)


def docker_time(time_ns: int) -> str:
    """RFC 3339 with nine digits, in UTC, as dockerd prints it."""
    seconds, nanoseconds = divmod(time_ns, 10**9)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{nanoseconds:09d}Z"
