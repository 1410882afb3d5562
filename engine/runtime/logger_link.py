"""The keeper's end of the connection to the logger: handover once, then messages whose answers come in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from engine import errors
from engine.runtime import protocol
from engine.runtime.loop import Connection, Loop, close_all, say

HANDOVER_TIMEOUT_S: Final = 10.0  # a message; a logger that does not answer is no logger


class LoggerLink:
    """Without a logger messages are dropped: whoever starts the next logger adopts everything again."""

    def __init__(self, loop: Loop, path: Path, *, on_drained: Callable[[str, int], None]) -> None:
        self._loop, self._path, self._on_drained = loop, path, on_drained
        self._connection: Connection | None = None
        self._pending: deque[Callable[[], None]] = deque()
        self._known: set[tuple[str, int]] = set()

    def connect(self) -> list[tuple[dict[str, Any], dict[str, int]]]:
        """What the logger holds already: words of adopt, and the fds by name (the caller's to close)."""
        self.disconnect()
        sock = protocol.connect(self._path, timeout_s=HANDOVER_TIMEOUT_S)
        try:
            held = list(_handover(sock))
        except (errors.EngineError, OSError):
            sock.close()
            raise
        self._known = {(words["id"], words["run"]) for words, _fds in held}
        self._connection = Connection(self._loop, sock, on_message=self._heard, on_close=self._closed)
        return held

    def disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def has(self, container_id: str, run: int) -> bool:
        return (container_id, run) in self._known

    def adopt(self, words: dict[str, Any], fds: dict[str, int]) -> None:
        self._known.add((words["id"], words["run"]))
        self._tell({**words, "op": "adopt", "have": list(fds)}, tuple(fds.values()))

    def forget(self, container_id: str) -> None:
        self._tell({"op": "forget", "id": container_id})

    def close_stdin(self, container_id: str, then: Callable[[], None]) -> None:
        """``then`` is called when the logger has no copy any more, also because it died."""
        if self._connection is None:
            then()
        else:
            self._tell({"op": "close_stdin", "id": container_id}, then=then)

    def _tell(self, message: dict[str, Any], fds: tuple[int, ...] = (), then: Callable[[], None] = lambda: None) -> None:
        if self._connection is not None:
            self._pending.append(then)
            self._connection.send({"v": protocol.VERSION, **message}, fds)

    def _heard(self, _connection: Connection, message: dict[str, Any], fds: list[int]) -> None:
        close_all(fds)
        if message.get("event") == "drained":
            self._known.discard((message["id"], message["run"]))
            self._on_drained(message["id"], message["run"])
            return
        if "error" in message:
            say(f"logger: {message['error']['message']}")
        if self._pending:
            self._pending.popleft()()

    def _closed(self, _connection: Connection) -> None:
        self._connection = None
        self._known.clear()
        while self._pending:
            self._pending.popleft()()


def _handover(sock: Any) -> Iterator[tuple[dict[str, Any], dict[str, int]]]:
    words, fds = protocol.ask(sock, "handover")
    while words.pop("more"):
        yield words, dict(zip(words.pop("have"), fds, strict=True))
        answer = protocol.receive(sock)
        if answer is None:
            raise errors.Unavailable("handover: the logger went away")
        words, fds = answer[0]["ok"], answer[1]
