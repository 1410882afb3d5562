"""What a build says, in Docker's lines. Stages run side by side, but their words come in the order of the Dockerfile.

{"stream": "Step 1/3 : FROM busybox"} {"stream": "\\n"} {"stream": " ---> 0123456789ab\\n"} … {"aux": {"ID": "sha256:…"}}
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

Line = dict[str, Any]
Sink = Callable[[Line], None]

_RED: Final = "\x1b[91m"  # as moby marks what a step wrote to stderr
_NORMAL: Final = "\x1b[0m"


class Screen:
    """``sink`` is called by one thread at a time."""

    def __init__(self, sink: Sink, stages: int) -> None:
        self._sink = sink
        self._lock = threading.Lock()
        self._waiting: list[list[Line]] = [[] for _ in range(stages)]
        self._ended = [False] * stages
        self._shown = 0  # the stage whose lines go out as they come

    def stage(self, index: int) -> Output:
        return Output(lambda line: self._say(index, line), lambda: self._end(index))

    def _say(self, index: int, line: Line) -> None:
        with self._lock:
            if index == self._shown:
                self._sink(line)
            else:
                self._waiting[index].append(line)

    def _end(self, index: int) -> None:
        """The next stage's words so far, and of those that have ended already all."""
        with self._lock:
            self._ended[index] = True
            while self._shown < len(self._ended) and self._ended[self._shown]:
                self._shown += 1
                if self._shown < len(self._waiting):
                    lines, self._waiting[self._shown] = self._waiting[self._shown], []
                    for line in lines:
                        self._sink(line)


class Output:
    """One stage's."""

    def __init__(self, say: Sink, end: Callable[[], None]) -> None:
        self.say = say
        self.end = end

    def text(self, text: str) -> None:
        self.say({"stream": text})

    def step(self, number: int, count: int, text: str) -> None:
        self.text(f"Step {number}/{count} : {text}")
        self.text("\n")

    def image(self, image_id: str) -> None:
        self.text(f" ---> {short(image_id)}\n")

    def error_text(self, text: str) -> None:
        """What a command wrote to stderr."""
        self.text(f"{_RED}{text}{_NORMAL}")


def short(image_id: str) -> str:
    return image_id.removeprefix("sha256:")[:12]
