"""A container's output on disk: the format, and its one writer.

    log/<n>.data    the bytes of stdout and stderr as they came, and nothing else
    log/<n>.idx     records of 32 bytes, little endian:

        time_ns u64 · offset u64 · length u64 · stream u8 · flags u8 · 2 spare · run u32

n counts up from 1; the greatest is being written. A record with stream 1 (stdout) or 2 (stderr) is a block: ``length``
bytes at ``offset``. A record with stream 0 is a mark, and its flag says which: a run begins, a run's output is complete,
or this segment is (n + 1 goes on).

The record of a block is written with length 0, then the bytes are spliced from the container's pipe into the file, then the
length follows, and inotify's IN_MODIFY tells followers. A byte is at every moment in the pipe or in the file, never
in this process: kill -9 loses none and doubles none. Afterwards the length of the last block is what the file holds beyond
its offset. A length of 0 in the last record is a block on its way (or a place kept for the next one), not an end.
"""

from __future__ import annotations

import os
import select
import struct
from typing import Final, NamedTuple

RECORD: Final = struct.Struct("<QQQBBHI")
LENGTH_AT: Final = 16
STREAM_AT: Final = 24
MARK: Final = 0  # stream numbers, as Docker's frames count
STDOUT: Final = 1
STDERR: Final = 2
BEGIN: Final = 1  # flags of a mark: a run begins
END: Final = 2  # its output is complete
NEXT: Final = 4  # the next segment goes on

_OPEN_FLAGS: Final = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
_LENGTH: Final = struct.Struct("<Q")
_CHUNK: Final = 1 << 20  # bytes a turn: all that a container's pipe holds
_LEAST: Final = 4096  # bytes that a segment may still take when it is nearly full


class Record(NamedTuple):
    time_ns: int
    offset: int
    length: int
    stream: int
    flags: int
    spare: int
    run: int


def segment_numbers(directory: str) -> list[int]:
    """Ascending; of a missing folder none. A segment exists once its index does."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    return sorted(int(name[:-4]) for name in names if name.endswith(".idx") and name[:-4].isdecimal())


def last_mark(idx: int, size: int) -> tuple[int, int]:
    """Of the first ``size`` bytes of an index: (BEGIN or END, run) of its last such mark, or (0, 0)."""
    step = 2048 * RECORD.size
    while size:
        start = max(0, size - step)
        chunk = os.pread(idx, size - start, start)
        at = len(chunk) // RECORD.size
        while (at := chunk[STREAM_AT :: RECORD.size].rfind(MARK, 0, at)) >= 0:
            record = Record._make(RECORD.unpack_from(chunk, at * RECORD.size))
            if record.flags != NEXT:
                return record.flags, record.run
        size = start
    return 0, 0


class LogWriter:
    """Goes on where an earlier writer of the same folder stopped or was killed."""

    def __init__(self, directory: str, *, max_size_bytes: int, max_files: int) -> None:
        """A segment (data and index together) may be at most ``max_size_bytes``; of more than ``max_files`` the oldest go.

        FileNotFoundError: the container's folder is gone.
        """
        self._directory = directory
        self._max_size = max_size_bytes
        self._max_files = max(1, max_files)
        try:
            os.mkdir(directory, mode=0o700)  # not its parents: a container that was removed does not come back as a folder
        except FileExistsError:
            pass
        numbers = segment_numbers(directory)
        self._number = numbers[-1] if numbers else 1
        self._data = self._idx = -1
        self._size = self._idx_size = 0
        self._open()
        self.mark, self.marked_run = self._repair()
        if len(numbers) > 1:
            self._finish_rotation(numbers[-2])

    def close(self) -> None:
        if self._data >= 0:
            os.close(self._data)
        os.close(self._idx)

    def begin(self, run: int, time_ns: int) -> None:
        self._mark(BEGIN, run, time_ns)

    def end(self, run: int, time_ns: int) -> None:
        self._mark(END, run, time_ns)

    def splice(self, pipe: int, stream: int, time_ns: int) -> int:
        """Moves what is in the pipe, at most 1 MiB; 0 at its end. BlockingIOError when it is empty; OSError: the disk."""
        if self._size + self._idx_size >= self._max_size:
            self.renew(time_ns)
        if self._data < 0:
            if not _has_bytes(pipe):
                return 0
            self._data = os.open(self._path(self._number, "data"), _OPEN_FLAGS | os.O_CREAT, 0o600)
        room = max(_LEAST, min(_CHUNK, self._max_size - self._size - self._idx_size))
        os.pwrite(self._idx, RECORD.pack(time_ns, self._size, 0, stream, 0, 0, 0), self._idx_size)
        moved = os.splice(pipe, self._data, room, offset_dst=self._size, flags=os.SPLICE_F_NONBLOCK)
        if moved:
            os.pwrite(self._idx, _LENGTH.pack(moved), self._idx_size + LENGTH_AT)
            self._size += moved
            self._idx_size += RECORD.size
        return moved

    def _path(self, number: int, kind: str) -> str:
        return f"{self._directory}/{number}.{kind}"

    def _open(self) -> None:
        """The data file is made with its first byte: making files is what a short container's log costs."""
        idx = os.open(self._path(self._number, "idx"), _OPEN_FLAGS | os.O_CREAT, 0o600)
        try:
            self._data = os.open(self._path(self._number, "data"), _OPEN_FLAGS)
        except FileNotFoundError:
            self._data = -1
        except OSError:
            os.close(idx)
            raise
        self._idx = idx
        self._size = os.fstat(self._data).st_size if self._data >= 0 else 0
        self._idx_size = os.fstat(self._idx).st_size

    def _repair(self) -> tuple[int, int]:
        """The last block gets its length; returns the last mark (0: none) and its run.

        What a power loss took of the data, the index does not tell of any more: new bytes take its place.
        """
        whole = self._idx_size - self._idx_size % RECORD.size
        while whole and RECORD.unpack(os.pread(self._idx, RECORD.size, whole - RECORD.size))[1] > self._size:
            whole -= RECORD.size
        if whole < self._idx_size:
            os.ftruncate(self._idx, whole)
            self._idx_size = whole
        if self._idx_size:
            at = self._idx_size - RECORD.size
            last = Record._make(RECORD.unpack(os.pread(self._idx, RECORD.size, at)))
            if last.stream != MARK and self._size > last.offset:
                os.pwrite(self._idx, _LENGTH.pack(self._size - last.offset), at + LENGTH_AT)
            elif last.stream != MARK:
                self._idx_size = at  # a place kept for a block that never came
        return last_mark(self._idx, self._idx_size)

    def _mark(self, flag: int, run: int, time_ns: int) -> None:
        os.pwrite(self._idx, RECORD.pack(time_ns, self._size, 0, MARK, flag, 0, run), self._idx_size)
        self._idx_size += RECORD.size
        self.mark, self.marked_run = flag, run

    def renew(self, time_ns: int) -> None:
        """Another segment; the new segment exists before the old one says so: whoever reads NEXT finds it."""
        old_data, old_idx, old_size, old_idx_size, old_number = self._data, self._idx, self._size, self._idx_size, self._number
        self._number += 1
        try:
            self._open()
        except OSError:
            self._data, self._idx, self._size, self._idx_size, self._number = old_data, old_idx, old_size, old_idx_size, old_number
            raise
        self._mark(BEGIN, self.marked_run, time_ns)  # each segment says whose it is: the older ones may be gone
        os.pwrite(old_idx, RECORD.pack(time_ns, old_size, 0, MARK, NEXT, 0, 0), old_idx_size)
        if old_data >= 0:
            os.close(old_data)
        os.close(old_idx)
        self._remove_old()

    def _finish_rotation(self, number: int) -> None:
        """A writer killed in the middle of ``renew`` left NEXT unsaid, or too many segments."""
        fd = os.open(self._path(number, "idx"), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            size = os.fstat(fd).st_size // RECORD.size * RECORD.size
            last = Record._make(RECORD.unpack(os.pread(fd, RECORD.size, size - RECORD.size))) if size else None
            if last is None or last.flags != NEXT:
                kept_place = last is not None and last.stream != MARK and last.length == 0
                data_size = _size_of(self._path(number, "data"))
                os.pwrite(fd, RECORD.pack(last.time_ns if last else 0, data_size, 0, MARK, NEXT, 0, 0), size - RECORD.size * kept_place)
        finally:
            os.close(fd)
        self._remove_old()

    def _remove_old(self) -> None:
        for number in segment_numbers(self._directory)[: -self._max_files]:
            for kind in ("idx", "data"):
                try:
                    os.unlink(self._path(number, kind))
                except FileNotFoundError:
                    pass


def _has_bytes(pipe: int) -> bool:
    """False at the end of the stream; BlockingIOError when it is only empty."""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    events = dict(poll.poll(0)).get(pipe, 0)
    if not events:
        raise BlockingIOError
    return bool(events & select.POLLIN)


def _size_of(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


class Segment:
    """One segment opened for reading. FileNotFoundError when it was removed."""

    def __init__(self, directory: str, number: int) -> None:
        self.number = number
        self._data_path = f"{directory}/{number}.data"
        self._data = -1
        self.idx = os.open(f"{directory}/{number}.idx", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            self._open_data()
        except FileNotFoundError:
            pass  # nothing was written yet

    def close(self) -> None:
        os.close(self.idx)
        if self._data >= 0:
            os.close(self._data)

    def read(self, count: int, offset: int) -> bytes:
        """Of the data; empty when the file ends there, or was removed before anything of it was read."""
        try:
            return os.pread(self._data if self._data >= 0 else self._open_data(), count, offset)
        except FileNotFoundError:
            return b""

    def _open_data(self) -> int:
        self._data = os.open(self._data_path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        return self._data

    def count(self) -> int:
        """Records, without the last when it is no more than a place kept."""
        count = os.fstat(self.idx).st_size // RECORD.size
        return count - 1 if count and not self.records(count - 1, 1) else count

    def records(self, first: int, count: int) -> bytes:
        """At most ``count`` records from number ``first``; a last one that is not committed is left out."""
        records = os.pread(self.idx, count * RECORD.size, first * RECORD.size)
        records = records[: len(records) // RECORD.size * RECORD.size]
        if records:
            last = Record._make(RECORD.unpack_from(records, len(records) - RECORD.size))
            if last.length == 0 and (last.stream != MARK or last.flags == 0):
                return records[: -RECORD.size]
        return records

    def record(self, index: int) -> Record:
        return Record._make(RECORD.unpack(os.pread(self.idx, RECORD.size, index * RECORD.size)))
