"""The courier's desk: where a root process begins a session. One courier a process, started when first needed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from types import TracebackType
from typing import Any, Final, Self

from engine import errors
from engine.config import EngineConfig, RegistryConfig
from engine.images.streams import Readable
from engine.model.reference import DEFAULT_DOMAIN
from engine.registries import settings
from engine.registries.auth import Credentials
from engine.registries.reach import Reach
from engine.registries.settings import MAX_DOCUMENT
from engine.registries.wayout import WaysOut
from engine.runtime import protocol
from engine.runtime.helper import Helper

_PIPE: Final = 1 << 20  # bytes between courier and us
_ENDED: Final = "the connection to the registry was given up"

Tell = Callable[[dict[str, Any]], None]


class Desk:
    """For any number of threads."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._helper = Helper("engine.registries.courier", {}, bare=True)

    def session(self, domain: str, repository: str, credentials: Credentials, reach: Reach, *, push: bool = False) -> Session:
        """To be closed. Nothing is asked yet. Raises Unavailable."""
        try:
            config = RegistryConfig.from_environment()
            WaysOut(config)
        except ValueError as error:
            raise errors.Unavailable(f"the operator's settings of registries are wrong: {error}") from None
        places = [settings.host_of(domain).lower()]
        if domain == DEFAULT_DOMAIN and not push:
            places += [settings.authority(mirror) for mirror in config.mirrors]
        words = {
            "op": "session",
            "domain": domain,
            "repository": repository,
            "push": push,
            "credentials": {name: getattr(credentials, name) for name in ("username", "password", "identity_token", "registry_token")},
            "config": asdict(config),
            "reach": reach.to_words(),
            "certificates": {place: settings.certificates(self._config, place) for place in places},
        }
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            try:
                self._hand_over(words, its.fileno())
            except BaseException:
                ours.close()
                raise
        return Session(ours)

    def close(self) -> None:
        self._helper.close()

    def _hand_over(self, words: dict[str, Any], fd: int) -> None:
        try:
            self._helper.send(words, (fd,))
        except OSError as error:
            raise errors.Unavailable(f"the host cannot speak to registries just now: {error.strerror}") from error


class Session:
    """With one repository of one registry. For any number of threads; ``close`` from any of them ends what the others ask.

    Nothing that comes from here has been verified. Methods raise engine.errors in moby's words.
    """

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)  # also for a thread that is sending just now
        with self._lock:
            self._control.close()

    def manifest(self, reference: str) -> tuple[str, bytes]:
        """(media type as the registry calls it, the very bytes)."""
        with Blob(self, {"op": "manifest", "reference": reference}) as stream:
            data = bytearray()
            while piece := stream.read(MAX_DOCUMENT):
                data += piece
                if len(data) > MAX_DOCUMENT:
                    raise errors.InvalidArgument(f"the manifest is larger than {MAX_DOCUMENT} bytes, the limit of this host")
            return str(stream.ok["media_type"]), bytes(data)

    def blob(self, digest: str, size: int, tell: Tell = lambda _message: None) -> Blob:
        """``tell`` hears {"wait": seconds} before another try."""
        return Blob(self, {"op": "blob", "digest": digest, "size": size}, tell)

    def tags(self) -> list[str]:
        return list(self._ask({"op": "tags"})["tags"])

    def exists(self, digest: str) -> bool:
        return bool(self._ask({"op": "exists", "digest": digest})["exists"])

    def mount(self, digest: str, sources: Sequence[str]) -> str:
        """Which of these repositories of the same registry it was taken over from; empty: from none."""
        return str(self._ask({"op": "mount", "digest": digest, "mounts": list(sources)})["from"])

    def upload(self, digest: str, size: int, file: int, mounts: Sequence[str], tell: Tell) -> dict[str, str]:
        """``file`` is read at its offsets. {"how": "exists" | "mounted" | "pushed", "from"}. ``tell`` hears {"sent": bytes}, {"wait"}."""
        return dict(self._ask({"op": "upload", "digest": digest, "size": size, "mounts": list(mounts)}, file, tell))

    def upload_growing(self, file: int, grow: Callable[[Growth], None], tell: Tell) -> dict[str, str]:
        """Of a ``file`` that ``grow`` writes meanwhile, in another thread. What ``grow`` raises is raised here."""
        with self.begin({"op": "upload", "digest": "", "size": 0, "mounts": []}, file) as line, ThreadPoolExecutor(1, "grow") as pool:
            growing = pool.submit(_grow, grow, line)
            try:
                return dict(finish(line, tell))
            except errors.EngineError as error:
                line.shutdown(socket.SHUT_RDWR)
                failed = growing.exception()
                if failed is not None and not isinstance(failed, ConnectionError):  # else it only was not listened to any more
                    raise failed from error
                raise

    def put_manifest(self, reference: str, media_type: str, data: bytes) -> None:
        with os.fdopen(os.memfd_create("manifest"), "wb", buffering=0) as file:
            file.write(data)
            self._ask({"op": "put", "reference": reference, "media_type": media_type}, file.fileno())

    def login(self) -> str:
        """The identity token, if the registry's service gave one."""
        return str(self._ask({"op": "login"})["identity_token"])

    def _ask(self, words: dict[str, Any], data: int | None = None, tell: Tell = lambda _message: None) -> dict[str, Any]:
        if data is None:
            with open(os.devnull, "rb") as nothing:
                return self._ask(words, nothing.fileno(), tell)
        with self.begin(words, data) as line:
            return finish(line, tell)

    def begin(self, words: dict[str, Any], data: int) -> socket.socket:
        """The line of this question, to be closed. ``data`` stays the caller's."""
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            try:
                with self._lock:
                    protocol.send(self._control, words, (its.fileno(), data))
            except OSError:
                ours.close()
                raise errors.Unavailable(_ENDED) from None
        return ours


class Growth:
    """Tells the courier how far a file has grown. Who is not listened to just now says it again later."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line

    def now(self, size: int) -> None:
        with contextlib.suppress(BlockingIOError):
            protocol.send(self._line, {"size": size}, flags=socket.MSG_DONTWAIT)

    def whole(self, size: int, digest: str) -> None:
        protocol.send(self._line, {"size": size, "digest": digest})


def _grow(grow: Callable[[Growth], None], line: socket.socket) -> None:
    try:
        grow(Growth(line))
    except BaseException:
        line.shutdown(socket.SHUT_RDWR)  # the courier waits for no more
        raise


class Blob(Readable):
    """Bytes that come: ``read`` until b"", which comes only when the registry has sent all. A context manager."""

    def __init__(self, session: Session, words: dict[str, Any], tell: Tell = lambda _message: None) -> None:
        self._tell = tell
        self._ended = False
        self._last: dict[str, Any] | None = None  # of the line, when it came before the end of the bytes
        self.ok: dict[str, Any] = {}
        self._fd, its = os.pipe2(os.O_CLOEXEC)
        try:
            with contextlib.suppress(OSError):  # more pipes than a user may have of that size
                fcntl.fcntl(its, fcntl.F_SETPIPE_SZ, _PIPE)
            self._line = session.begin(words, its)
            self._poll = select.poll()
            for each in (self._fd, self._line.fileno()):
                self._poll.register(each, select.POLLIN)
        except BaseException:
            os.close(self._fd)
            raise
        finally:
            os.close(its)

    def read(self, size: int = _PIPE, /) -> bytes:
        if self._ended:
            return b""
        while self._last is None:
            ready = dict(self._poll.poll())
            if self._fd in ready:
                break
            message = _next(self._line)
            if "wait" in message:
                self._tell(message)
            else:
                self._last = message
        data = os.read(self._fd, size)
        if not data:
            self.ok = _end(self._last) if self._last is not None else finish(self._line, self._tell)
            self._ended = True
        return data

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        os.close(self._fd)
        self._line.close()


def finish(line: socket.socket, tell: Tell) -> dict[str, Any]:
    """Reads a question's line to its end."""
    while True:
        message = _next(line)
        if "ok" in message or "error" in message:
            return _end(message)
        tell(message)


def _next(line: socket.socket) -> dict[str, Any]:
    """Whoever ends before it has read all that we said resets the line, and the kernel tells of that before what it said (unix(7))."""
    message = None
    try:
        try:
            message = protocol.receive(line)
        except ConnectionResetError:
            message = protocol.receive(line)
    except OSError:
        pass
    return message[0] if message is not None else {"error": errors.Unavailable(_ENDED).to_json()}


def _end(message: dict[str, Any]) -> dict[str, Any]:
    if "error" in message:
        raise errors.from_json(message["error"])
    return dict(message["ok"])
