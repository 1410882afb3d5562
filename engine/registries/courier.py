"""Courier: the only part of the platform that speaks to registries. It is started by root, becomes nobody, and forks for each session.

    desk → courier     {"op": "session", …the words of ``Asked``} + its end of the session's socket
    session → child    a message for each question: {"op", …words} + line, data: ends of a socket pair and of a pipe (or a file)
    child → line       {"wait": seconds} and {"sent": bytes} while it works, then {"ok": {…}} or {"error": {…}}; it closes both

    manifest   reference               data ← the very bytes; ok: {"media_type"}
    blob       digest, size            data ← the bytes, ``size`` of them, however often the connection broke
    tags       –                       ok: {"tags"}
    exists     digest                  ok: {"exists"}
    mount      digest, mounts          ok: {"from"}: the repository it was taken over from, or ""
    upload     digest, size, mounts    data → the blob's file; ok: {"how", "from"}. Without a digest the file is still being written:
                                       line → {"size"} now and then, and {"size", "digest"} when it is whole
    put        reference, media_type   data → the manifest's file; ok: {}
    login      –                       ok: {"identity_token"}

Why a process: what a registry sends is parsed here (TLS, HTTP, compressed names, JSON of errors and tokens), from servers that a
tenant chose. A hole in that gives an attacker a process without files, capabilities or keys, that knows one tenant's credentials
for one registry, and whose bytes root hashes again. The session's end of file ends its child, so nothing outlives who asked.
"""

from __future__ import annotations

import email.utils
import errno
import http.client
import io
import os
import resource
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from engine import errors
from engine.config import RegistryConfig
from engine.kernel import processes
from engine.registries import documents, settings
from engine.registries.auth import Credentials
from engine.registries.client import Registry
from engine.registries.connection import Pool, Trust, place_of
from engine.registries.download import download
from engine.registries.faults import Broken
from engine.registries.reach import Reach
from engine.registries.settings import MAX_DOCUMENT
from engine.registries.upload import Upload, exists, mount, upload
from engine.registries.wayout import WaysOut
from engine.runtime import protocol

NOBODY: Final = 65534
_MEMORY: Final = 1 << 30  # bytes of address space, of which threads' stacks are the most
_FILE: Final = 1 << 20  # bytes of a file it writes: certificates in memory
_MISSING: Final = (errors.NotFound, errors.PermissionDenied, errors.Unauthenticated)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a session is about: one registry, one repository of it, one tenant's credentials."""

    domain: str
    repository: str
    push: bool
    credentials: Credentials
    config: RegistryConfig
    reach: Reach
    certificates: Mapping[str, Any]  # by authority: settings.certificates

    @classmethod
    def from_words(cls, words: dict[str, Any]) -> Self:
        given: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in words["config"].items()}
        return cls(
            words["domain"],
            words["repository"],
            bool(words["push"]),
            Credentials.from_words(words["credentials"]),
            RegistryConfig(**given),
            Reach.from_words(words["reach"]),
            words["certificates"],
        )


def main(argv: Sequence[str]) -> int:
    """``python -S -m engine.registries.courier <descriptor of the desk's socket>``."""
    desk = socket.socket(fileno=int(argv[1]))
    desk.set_inheritable(False)
    _import_the_rest()
    _become_nobody()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while (message := protocol.receive(desk)) is not None:
        words, (control,) = message
        if os.fork() == 0:
            desk.close()
            _child(words, control)
        os.close(control)
    return 0


def _import_the_rest() -> None:
    """What the library imports at first use: nobody may not read everybody's interpreter."""
    "example".encode("idna").decode("idna")
    http.client.parse_headers(io.BytesIO(b"Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n")).get_all("Date")
    email.utils.parsedate_to_datetime("Thu, 01 Jan 1970 00:00:00 GMT")
    Trust().context()


def _become_nobody() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), min(hard, 4096)))
    for what, limit in ((resource.RLIMIT_AS, _MEMORY), (resource.RLIMIT_FSIZE, _FILE), (resource.RLIMIT_CORE, 0)):
        resource.setrlimit(what, (limit, limit))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    processes.forbid_new_privileges()
    processes.hide()


def _child(words: dict[str, Any], control: int) -> None:
    """Never returns. The end of the control socket, which is the end of who asks, ends it at once, whatever its threads do."""
    try:
        session = _Session(Asked.from_words(words))
        with socket.socket(fileno=control) as asker:
            while (message := protocol.receive(asker)) is not None:
                question, (line, data) = message
                threading.Thread(target=session.answer, args=(question, socket.socket(fileno=line), data), daemon=True).start()
    finally:
        os._exit(0)


class _Session:
    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._lock = threading.Lock()
        self._left: list[Registry] | None = None  # the first answers; None: nobody was asked yet
        self._lines = threading.local()
        self._ops: dict[str, Callable[[dict[str, Any], int], dict[str, Any]]] = {
            "manifest": self._manifest,
            "blob": self._blob,
            "tags": self._tags,
            "exists": self._exists,
            "mount": self._mount,
            "upload": self._upload,
            "put": self._put,
            "login": self._login,
        }

    def answer(self, words: dict[str, Any], line: socket.socket, data: int) -> None:
        self._lines.line = line
        try:
            said: dict[str, Any] = {"ok": self._ops[words["op"]](words, data)}
        except Broken as broken:
            said = {"error": errors.Unavailable(broken.message).to_json()}
        except errors.EngineError as error:
            said = {"error": error.to_json()}
        except OSError as error:  # who reads the data has gone; or no memory, no descriptors
            said = {"error": errors.Unavailable(f"the registry client failed: {error.strerror}").to_json()}
        except Exception as error:
            said = {"error": errors.Internal(f"the registry client failed: {type(error).__name__}: {error}").to_json()}
        finally:
            os.close(data)
        self._say(said)
        line.close()

    def _say(self, message: dict[str, Any]) -> None:
        try:
            protocol.send(self._lines.line, message)
        except OSError:
            pass  # it is not wanted any more

    # -- where to ask ----------------------------------------------------------------------------

    def _registry(self) -> Registry:
        """The first endpoint that answers; the choice holds for the session."""
        with self._lock:
            if self._left is None:
                self._left = self._endpoints()
                self._find()
            return self._left[0]

    def _endpoints(self) -> list[Registry]:
        asked = self._asked
        found = settings.endpoints(asked.config, asked.domain, mirrors=not asked.push)
        trust = {}
        for endpoint in found:
            pem = asked.certificates.get(settings.authority(endpoint.url)) or {"authorities": "", "own": []}
            own = tuple((certificate, key) for certificate, key in pem["own"])
            trust[place_of(endpoint.url).authority.lower()] = Trust(endpoint.verify, pem["authorities"], own)
        pool = Pool(asked.reach, trust, WaysOut(asked.config), asked.config.silence_s)
        nobody = Credentials()
        return [Registry(each, pool, nobody if each.mirror else asked.credentials, self._waits) for each in found]

    def _find(self) -> None:
        """Drops endpoints that don't answer. The last one's reason is the reason."""
        assert self._left is not None
        while True:
            try:
                self._left[0].ping()
                return
            except (Broken, errors.EngineError):
                if len(self._left) == 1:
                    self._left = None
                    raise
                del self._left[0]

    def _next(self, failed: Registry) -> bool:
        """Away from a mirror that has not what is asked for."""
        with self._lock:
            if not failed.endpoint.mirror or self._left is None:
                return False
            if self._left[0] is failed:
                del self._left[0]
                self._find()
            return True

    def _waits(self, seconds: float) -> None:
        self._say({"wait": seconds})

    # -- what is asked ---------------------------------------------------------------------------

    def _manifest(self, words: dict[str, Any], data: int) -> dict[str, Any]:
        while True:
            registry = self._registry()
            try:
                media_type, document = documents.manifest(registry, self._asked.repository, words["reference"])
                break
            except (Broken, errors.EngineError):
                if not self._next(registry):
                    raise
        view = memoryview(document)
        while view:
            view = view[os.write(data, view) :]
        return {"media_type": media_type}

    def _blob(self, words: dict[str, Any], data: int) -> dict[str, Any]:
        while True:
            registry = self._registry()
            try:
                download(registry, self._asked.repository, words["digest"], words["size"], data)
                return {}
            except _MISSING:  # nothing of it has been written
                if not self._next(registry):
                    raise

    def _tags(self, _words: dict[str, Any], _data: int) -> dict[str, Any]:
        return {"tags": documents.tags(self._registry(), self._asked.repository)}

    def _exists(self, words: dict[str, Any], _data: int) -> dict[str, Any]:
        return {"exists": exists(self._registry(), self._asked.repository, words["digest"])}

    def _upload(self, words: dict[str, Any], data: int) -> dict[str, Any]:
        def tell(sent: int) -> None:
            self._say({"sent": sent})

        more = None if words["digest"] else _Growing(self._lines.line).more
        job = Upload(self._asked.repository, words["digest"], words["size"], data, words["mounts"], tell, more)
        return dict(upload(self._registry(), job))

    def _mount(self, words: dict[str, Any], data: int) -> dict[str, Any]:
        return {"from": mount(self._registry(), Upload(self._asked.repository, words["digest"], 0, data, words["mounts"]))}

    def _put(self, words: dict[str, Any], data: int) -> dict[str, Any]:
        document = os.pread(data, MAX_DOCUMENT, 0)
        documents.put_manifest(self._registry(), self._asked.repository, words["reference"], words["media_type"], document)
        return {}

    def _login(self, _words: dict[str, Any], _data: int) -> dict[str, Any]:
        registry = self._registry()
        answer = registry.call("GET", "/v2/", scopes=(), expect=(200,))
        answer.read(MAX_DOCUMENT)
        answer.close()
        return {"identity_token": registry.authorizer.refresh_token}


class _Growing:
    """What its asker says of a file while it writes it, on the question's line: {"size"} so far, at last {"size", "digest"}."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._digest, self._size = "", 0

    def more(self, wait: bool) -> tuple[str, int]:
        while not self._digest and (wait or select.select([self._line], [], [], 0)[0]):
            message = protocol.receive(self._line)
            if message is None:
                raise OSError(errno.EPIPE, "nobody writes the blob any more")
            self._size, self._digest = int(message[0]["size"]), str(message[0].get("digest", ""))
            wait = False
        return self._digest, self._size


if __name__ == "__main__":
    sys.exit(main(sys.argv))
