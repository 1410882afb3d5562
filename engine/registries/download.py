"""A blob as a stream: when the connection breaks, the rest is asked for (Range), and whoever hashes it sees one stream."""

from __future__ import annotations

import os
import re
from typing import Final

from engine.errors import EngineError, InvalidArgument, Unavailable
from engine.registries.client import ATTEMPTS, Answer, Registry
from engine.registries.faults import RETRIED, Broken

_BREAKS: Final = 200  # of one blob, however much each try brought
_RANGE: Final = re.compile(r"bytes (\d{1,18})-\d{1,18}/(?:\d{1,18}|\*)", re.ASCII)


def download(registry: Registry, repository: str, digest: str, size: int, out: int) -> None:
    """Writes exactly ``size`` bytes to ``out`` or raises. The digest is for its reader to check."""
    job = _Download(registry, repository, digest, size, out)
    failures = 0
    for _break in range(_BREAKS):
        before = job.written
        try:
            job.go_on()
            return
        except Broken as broken:
            why: Exception = broken
            said = broken.message
        except EngineError as error:
            if error.detail.get("status") not in RETRIED:
                raise
            why, said = error, error.message
        failures = 1 if job.written > before else failures + 1
        if failures >= ATTEMPTS:
            if isinstance(why, EngineError):
                raise why
            raise Unavailable(said)
        registry.wait(failures - 1)
    raise Unavailable(f"the download of {digest} broke {_BREAKS} times")


class _Download:
    def __init__(self, registry: Registry, repository: str, digest: str, size: int, out: int) -> None:
        self._registry, self._repository, self._digest, self._size, self._out = registry, repository, digest, size, out
        self.written = 0

    def go_on(self) -> None:
        """From where it stands to the end. Raises Broken when the connection ends before."""
        headers = {"Range": f"bytes={self.written}-"} if self.written else {}
        answer = self._registry.call(
            "GET",
            f"/v2/{self._repository}/blobs/{self._digest}",
            scopes=(f"repository:{self._repository}:pull",),
            expect=(200, 206),
            headers={**headers, "Accept": "*/*"},
            patient=False,
        )
        try:
            self._copy(answer, self._begin(answer))
        finally:
            answer.close()

    def _begin(self, answer: Answer) -> int:
        """How many bytes of the answer are known already."""
        if answer.status == 206:
            found = _RANGE.fullmatch(answer.header("Content-Range"))
            if not found or int(found[1]) > self.written:
                raise InvalidArgument(f"the registry answered with another range of {self._digest} than it was asked for")
            return self.written - int(found[1])
        if answer.size >= 0 and answer.size != self._size:
            raise InvalidArgument(f"unexpected size of {self._digest}: {answer.size} bytes, and its manifest says {self._size}")
        return self.written

    def _copy(self, answer: Answer, skip: int) -> None:
        while data := answer.some():
            piece = memoryview(data)
            if skip:
                known = min(skip, len(data))
                piece, skip = piece[known:], skip - known
            if self.written + len(piece) > self._size:
                raise InvalidArgument(f"unexpected size of {self._digest}: more than the {self._size} bytes of its manifest")
            self.written += len(piece)
            while piece:
                piece = piece[os.write(self._out, piece) :]
        if self.written < self._size:
            raise Broken("unexpected EOF")
