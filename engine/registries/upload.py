"""A blob to a registry: there already, mounted from another repository, or sent in chunks that go on where they broke."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple
from urllib.parse import quote, urlsplit

from engine.errors import EngineError, InvalidArgument, NotFound, PermissionDenied, Unauthenticated, Unavailable
from engine.registries.client import ATTEMPTS, Answer, Bytes, Registry
from engine.registries.faults import RETRIED, Broken

CHUNK: Final = 16 << 20  # bytes of one PATCH; a registry may ask for more (OCI-Chunk-Min-Length)
_SMALL: Final = 64 << 10  # up to here in one request with its digest
_PIECE: Final = 1 << 20  # between two words of progress
_TELL_S: Final = 0.1
_MOUNTS: Final = 3  # repositories that are tried, as docker does
_RANGE: Final = re.compile(r"(?:bytes=)?0-(\d{1,18})", re.ASCII)


class Upload(NamedTuple):
    """``file`` is read from its beginning; ``tell`` hears how many bytes have gone. Of one that is still written ``digest`` is empty and
    ``size`` what is there; ``more`` returns both anew, and waits for that if it is told to."""

    repository: str
    digest: str
    size: int
    file: int
    mounts: Sequence[str] = ()
    tell: Callable[[int], None] = lambda _sent: None
    more: Callable[[bool], tuple[str, int]] | None = None


def upload(registry: Registry, job: Upload) -> dict[str, str]:
    """{"how": "exists" | "mounted" | "pushed", "from": repository it was mounted from}."""
    if job.digest and exists(registry, job.repository, job.digest, push=True):
        return {"how": "exists", "from": ""}
    source, session = _try_mounts(registry, job) if job.digest else ("", "")
    if source:
        return {"how": "mounted", "from": source}
    is_sent = _Sending(registry, job, session).run()
    return {"how": "pushed" if is_sent else "exists", "from": ""}


def mount(registry: Registry, job: Upload) -> str:
    """The repository of ``job.mounts`` from which the registry took it over; empty: from none of them."""
    source, session = _try_mounts(registry, job)
    if session:
        _drop(registry, job, session)
    return source


def _try_mounts(registry: Registry, job: Upload) -> tuple[str, str]:
    """(the repository it was mounted from, ""), or ("", an upload that began instead, if one did)."""
    session = ""
    for repository in [each for each in job.mounts if each != job.repository][:_MOUNTS]:
        try:
            answer = _begin(registry, job, mount=repository)
        except (Unauthenticated, PermissionDenied, NotFound, InvalidArgument):
            continue  # that repository is none of ours any more
        begun = answer.link(answer.header("Location"))
        answer.read(CHUNK)
        answer.close()
        if session:
            _drop(registry, job, session)
        if answer.status == 201:
            return repository, ""
        session = begun
    return "", session


def _drop(registry: Registry, job: Upload, session: str) -> None:
    try:
        registry.call("DELETE", session, scopes=(_scope(job.repository),), expect=(204, 202), patient=False).close()
    except (Broken, EngineError):
        pass  # the registry clears it by itself some day


def exists(registry: Registry, repository: str, digest: str, *, push: bool = False) -> bool:
    scope = _scope(repository) if push else f"repository:{repository}:pull"
    try:
        answer = registry.call("HEAD", f"/v2/{repository}/blobs/{digest}", scopes=(scope,), expect=(200,))
    except NotFound:
        return False
    except (PermissionDenied, Unauthenticated) as error:
        if "status" not in error.detail:
            raise
        return False  # an answer to HEAD has no words: what it refuses, the next request explains
    answer.close()
    return True


def _scope(repository: str) -> str:
    return f"repository:{repository}:pull,push"


def _begin(registry: Registry, job: Upload, mount: str = "") -> Answer:
    """202 with a Location to send to, or 201 when it was mounted."""
    where, scopes = f"/v2/{job.repository}/blobs/uploads/", [_scope(job.repository)]
    if mount:
        where += f"?mount={quote(job.digest)}&from={quote(mount)}"
        scopes.append(f"repository:{mount}:pull")
    return registry.call("POST", where, scopes=scopes, expect=(201, 202) if mount else (202,))


class _IsThere(Exception):
    """The registry has the blob, as was seen when its digest was known."""


class _Sending:
    def __init__(self, registry: Registry, job: Upload, session: str) -> None:
        self._registry, self._job = registry, job
        self._session, self._sent = session, 0
        self._digest, self._there = job.digest, job.size
        self._chunk = CHUNK

    def run(self) -> bool:
        """False: the registry has it already, which was seen when its digest was known and much was left to send."""
        failures, best = 0, 0
        while True:
            try:
                return self._go_on()
            except _IsThere:
                if self._session:
                    _drop(self._registry, self._job, self._session)
                return False
            except Broken as broken:
                error: Exception = Unavailable(broken.message)
            except EngineError as refused:
                error = refused
                if refused.detail.get("status") not in (*RETRIED, 404, 416):
                    raise
            failures = 1 if self._sent > best else failures + 1
            best = max(best, self._sent)
            if failures >= ATTEMPTS:
                raise error
            self._registry.wait(failures - 1)
            self._find_out()

    def _go_on(self) -> bool:
        job = self._job
        while self._await_chunk():
            self._ensure_session()
            if self._digest and self._there <= _SMALL and not self._sent:
                return self._finish(Bytes(os.pread(job.file, self._there, 0)))
            part = _Part(job, self._sent, min(self._chunk, self._there - self._sent))
            headers = {"Content-Type": "application/octet-stream", "Content-Range": f"{part.start}-{part.start + part.size - 1}"}
            answer = self._call("PATCH", self._session, (202, 204), headers, part)
            self._sent = part.start + part.size
            self._follow(answer)
        self._ensure_session()
        return self._finish(Bytes(b""))

    def _ensure_session(self) -> None:
        if not self._session:
            answer = _begin(self._registry, self._job)
            self._follow(answer)
            self._chunk = max(CHUNK, _number(answer.header("OCI-Chunk-Min-Length")))
            self._await_chunk()

    def _await_chunk(self) -> bool:
        """Until a chunk may be read, or the rest; False: all has gone. _IsThere: the digest tells that nothing more need go."""
        while not self._digest and self._job.more is not None:
            has_chunk = self._there >= self._sent + self._chunk
            self._digest, self._there = self._job.more(not has_chunk)
            saves = self._digest and (not self._sent or self._there - self._sent > self._chunk)
            if saves and exists(self._registry, self._job.repository, self._digest, push=True):
                raise _IsThere
            if has_chunk:
                break
        return self._sent < self._there

    def _finish(self, body: Bytes) -> bool:
        """``PUT`` with the digest; a registry that saw other bytes refuses it. True, for ``run``."""
        mark = "&" if urlsplit(self._session).query else "?"
        headers = {"Content-Type": "application/octet-stream"}
        answer = self._call("PUT", f"{self._session}{mark}digest={quote(self._digest)}", (201, 204), headers, body)
        answer.close()
        return True

    def _find_out(self) -> None:
        """How much of it is there. A session that is not known any more begins again."""
        try:
            answer = self._call("GET", self._session, (204, 200)) if self._session else None
        except (Broken, EngineError):
            answer = None
        found = _RANGE.fullmatch(answer.header("Range")) if answer is not None else None
        if answer is None or not found:
            self._session, self._sent = "", 0
            return
        there = int(found[1]) + 1
        self._sent = there if 1 < there <= self._there else 0
        self._follow(answer)

    def _call(
        self, method: str, url: str, expect: tuple[int, ...], headers: dict[str, str] | None = None, body: _Part | Bytes | None = None
    ) -> Answer:
        return self._registry.call(
            method, url, scopes=(_scope(self._job.repository),), expect=expect, headers=headers, body=body, patient=False
        )

    def _follow(self, answer: Answer) -> None:
        self._session = answer.link(answer.header("Location")) or self._session
        answer.read(CHUNK)
        answer.close()


class _Part:
    """A part of the file as a request's body; it may be sent again."""

    def __init__(self, job: Upload, start: int, size: int) -> None:
        self._job, self.start, self.size = job, start, size

    def write(self, sock: socket.socket) -> None:
        due = 0.0
        with os.fdopen(os.dup(self._job.file), "rb", buffering=0) as file:
            at, end = self.start, self.start + self.size
            while at < end:
                sent = sock.sendfile(file, at, min(_PIECE, end - at))
                if not sent:
                    raise OSError("the file of a layer became shorter")
                at += sent
                if time.monotonic() >= due or at == end:
                    due = time.monotonic() + _TELL_S
                    self._job.tell(at)


def _number(text: str) -> int:
    return min(int(text), 1 << 40) if text.isdecimal() and text.isascii() else 0
