"""A log as lines with their times, for who looks for words in it. engine.runtime.logs is for who wants all of it, fast.

A line has the time of the block in which it began, as ``logs --timestamps`` shows it. Lines of stdout and stderr come in the order in
which they ended; a line longer than LINE_MAX is given in pieces. What has no line end yet comes last.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from engine.runtime.log_search import find_time
from engine.runtime.segments import MARK, RECORD, STDERR, STDOUT, Record, Segment, segment_numbers

LINE_MAX: Final = 16 << 10  # bytes
_RECORDS: Final = 4096
_PIECE: Final = 1 << 20  # bytes read at once


class Line(NamedTuple):
    time_ns: int
    stream: int  # 1 stdout, 2 stderr
    text: bytes  # without its line end


class Lines:
    """Opens all segments at once, so that it can be read by a process that may not open them any more. ``bytes`` counts what was read."""

    def __init__(self, directory: str, *, since_ns: int = 0) -> None:
        self._since_ns = since_ns
        self._start = find_time(directory, since_ns) if since_ns else None
        self._segments: list[Segment] = []
        self.bytes = 0
        for number in segment_numbers(directory):
            if self._start is None or number >= self._start.segment:
                try:
                    self._segments.append(Segment(directory, number))
                except FileNotFoundError:
                    continue  # removed in this moment
        self._begun: dict[int, tuple[int, bytes]] = {}  # stream: (time, text) of a line without its end so far

    def close(self) -> None:
        while self._segments:
            self._segments.pop().close()

    def __iter__(self) -> Iterator[Line]:
        for segment in self._segments:
            first = self._start.record if self._start is not None and segment.number == self._start.segment else 0
            while records := segment.records(first, _RECORDS):
                first += len(records) // RECORD.size
                for record in map(Record._make, RECORD.iter_unpack(records)):
                    if record.stream != MARK:
                        yield from self._of_block(segment, record)
        for stream in (STDOUT, STDERR):
            if stream in self._begun:
                yield Line(self._begun[stream][0], stream, self._begun[stream][1])

    def _of_block(self, segment: Segment, record: Record) -> Iterator[Line]:
        offset, end = record.offset, record.offset + record.length
        while offset < end:
            data = segment.read(min(_PIECE, end - offset), offset)
            if not data:
                return  # removed before it could be opened
            offset += len(data)
            self.bytes += len(data)
            time_ns, begun = self._begun.pop(record.stream, (record.time_ns, b""))
            rows = data.split(b"\n")
            rows[0] = begun + rows[0]
            last = rows.pop()
            for row in rows:
                yield from _pieces(time_ns, record.stream, row)
                time_ns = record.time_ns
            while len(last) > LINE_MAX:
                yield Line(time_ns, record.stream, last[:LINE_MAX])
                last = last[LINE_MAX:]
            if last:
                self._begun[record.stream] = time_ns, last


def _pieces(time_ns: int, stream: int, row: bytes) -> Iterator[Line]:
    for start in range(0, max(1, len(row)), LINE_MAX):
        yield Line(time_ns, stream, row[start : start + LINE_MAX])
