"""Where in a log to begin: at its end, at a time, or so many lines before the end. For engine.runtime.logs."""

from __future__ import annotations

from bisect import bisect_left
from pathlib import Path
from typing import Final, NamedTuple

from engine.runtime.segments import RECORD, STDERR, STDOUT, STREAM_AT, Record, Segment, segment_numbers

_RECORDS: Final = 4096  # read at once
_SCAN: Final = 256 << 10  # bytes looked through at once for line ends


class Position(NamedTuple):
    """Before byte ``skip`` of record ``record`` of segment ``segment``."""

    segment: int
    record: int
    skip: int


FIRST: Final = Position(0, 0, 0)


def end_position(directory: Path) -> Position:
    """Behind all that is logged: where an attach begins."""
    for number in reversed(segment_numbers(str(directory))):
        try:
            segment = Segment(str(directory), number)
        except FileNotFoundError:
            continue
        try:
            return Position(number, segment.count(), 0)
        finally:
            segment.close()
    return FIRST


def find_time(directory: str, since_ns: int) -> Position:
    """The first block that is not earlier. Times rise within a log, as far as the clock was not set back."""
    found = FIRST
    for number in segment_numbers(directory):
        try:
            segment = Segment(directory, number)
        except FileNotFoundError:
            continue
        try:
            count = segment.count()
            index = bisect_left(range(count), since_ns, key=lambda index: segment.record(index).time_ns)
            found = Position(number, index, 0)
            if index < count:
                break
        finally:
            segment.close()
    return found


def find_tail(directory: str, wanted: frozenset[int], lines: int) -> Position:
    """Where the last ``lines`` lines of the wanted streams begin; a last line without an end is one, too.

    Reads backwards, so a long log costs no more than its tail. Of two streams that interrupt each other within a line, the
    line that begins before the cut comes without its beginning.
    """
    if lines == 0:
        return end_position(Path(directory))
    search = _LineSearch(lines)
    for number in reversed(segment_numbers(directory)):
        try:
            segment = Segment(directory, number)
        except FileNotFoundError:
            break
        try:
            found = _tail_in_segment(segment, wanted, search)
        finally:
            segment.close()
        if found is not None:
            return found
    return FIRST


class _LineSearch:
    """Counts line ends backwards over the pieces it is shown."""

    def __init__(self, lines: int) -> None:
        self._left = lines
        self._at_end = True  # the very last byte ends the last line, or belongs to it: either way it is no border

    def cut(self, data: bytes) -> int:
        """Where in ``data`` the wanted lines begin; -1: further ahead."""
        end = len(data)
        if self._at_end and end:
            end -= 1
            self._at_end = False
        ends = data.count(b"\n", 0, end)
        if ends < self._left:
            self._left -= ends
            return -1
        for _ in range(self._left):
            end = data.rfind(b"\n", 0, end)
        return end + 1


def _tail_in_segment(segment: Segment, wanted: frozenset[int], search: _LineSearch) -> Position | None:
    unwanted = bytes(stream for stream in (STDOUT, STDERR) if stream not in wanted)
    step = _RECORDS
    count = segment.count()
    for first in range((count - 1) // step * step, -1, -step):
        records = segment.records(first, min(step, count - first))
        # marks have no bytes, so a row of blocks and marks without unwanted ones is one range of the data file
        streams = records[STREAM_AT :: RECORD.size]
        stop = len(streams)
        while stop:
            begin = max((streams.rfind(stream, 0, stop) for stream in unwanted), default=-1) + 1
            if begin < stop:
                low = Record._make(RECORD.unpack_from(records, begin * RECORD.size)).offset
                last = Record._make(RECORD.unpack_from(records, (stop - 1) * RECORD.size))
                offset = _cut_in_range(segment, search, low, last.offset + last.length)
                if offset is not None:
                    return _position_of(segment, records, first, begin, stop, offset)
            stop = max(0, begin - 1)
    return None


def _cut_in_range(segment: Segment, search: _LineSearch, low: int, high: int) -> int | None:
    while high > low:
        start = max(low, high - _SCAN)
        cut = search.cut(segment.read(high - start, start))
        if cut >= 0:
            return start + cut
        high = start
    return None


def _position_of(segment: Segment, records: bytes, first: int, begin: int, stop: int, offset: int) -> Position:
    def end_of(index: int) -> int:
        record = Record._make(RECORD.unpack_from(records, index * RECORD.size))
        return record.offset + record.length

    index = begin + bisect_left(range(begin, stop), offset + 1, key=end_of)
    if index == stop:
        return Position(segment.number, first + stop, 0)
    record = Record._make(RECORD.unpack_from(records, index * RECORD.size))
    return Position(segment.number, first + index, offset - record.offset)
