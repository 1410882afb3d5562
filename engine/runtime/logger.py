"""The logger: carries the containers' output from pipes and ptys to log segments (engine.runtime.segments).

It may be killed at any time: bytes wait in pipes that the keeper holds too, and a new logger goes on where the old one
stopped. It holds a copy of *every* descriptor of each container, also those it has no use for (stdin, pidfd), so that a
keeper that replaces a killed one gets them all back by ``handover``.

A pty can't be handed on like a pipe: what is read from it is gone. So its bytes are spliced first into a *spool*, a pipe
that keeper and logger both hold, and from there into the file; splice(2) moves them inside the kernel in both steps.

Turns are fair: each round moves at most 1 MiB of each container, and a container that writes faster fills its own pipe and
waits; a tenant that floods goes on at a rate of its own (engine.runtime.allowance). After a round that moved little it sleeps a
millisecond, which makes ten small blocks one and costs a fifth of the time.
"""

from __future__ import annotations

import errno
import gc
import os
import socket
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from engine import errors
from engine.config import EngineConfig
from engine.kernel import capabilities
from engine.kernel.capabilities import CAP_SYS_RESOURCE
from engine.runtime import protocol
from engine.runtime.allowance import Allowances
from engine.runtime.log_ceiling import LogCeiling
from engine.runtime.loop import READABLE, Connection, Loop, Server, close_all, say
from engine.runtime.segments import BEGIN, STDERR, STDOUT, LogWriter

SMALL_ROUND: Final = 64 << 10  # bytes
PAUSE_S: Final = 0.001
DISK_RETRY_S: Final = 1.0  # the disk is full or ill: the container's writers wait meanwhile
PTY_RETRY_S: Final = 0.2  # nobody has the terminal open, but somebody may open it again
LAST_WORDS_S: Final = 2.0  # a pipe still open after the container's end belongs to a stranger: no longer than this
PTY_TURN: Final = 64 << 10  # bytes
LAST_BYTES: Final = 4 << 20  # of an ended container: more than its pipes hold. Whoever writes on then is a stranger
PLACE_LOOK_S: Final = 10.0
HANDOVER_LIMIT: Final = 1 << 20  # messages


class Output:
    """What one run of one container writes, and all its descriptors. Words are those of ``adopt``."""

    def __init__(self, words: dict[str, Any], fds: dict[str, int]) -> None:
        self.words, self.fds = words, fds
        self.id, self.run = str(words["id"]), int(words["run"])
        self.tenant = str(words.get("tenant", ""))
        self.writer: LogWriter | None = None
        self._begun = False
        self.open_streams = {name for name in ("stdout", "stderr", "pty") if name in fds}
        self.exited = False
        self.waits_for_disk = False
        self.closed = False

    def handover(self) -> tuple[dict[str, Any], tuple[int, ...]]:
        return {**self.words, "have": list(self.fds), "more": True}, tuple(self.fds.values())

    def writing(self) -> LogWriter:
        """Opens the log when it isn't yet. OSError: the disk; FileNotFoundError: the container was removed."""
        if self.writer is None:
            log = self.words["log"]
            self.writer = LogWriter(self.words["log_dir"], max_size_bytes=log["max_size_bytes"], max_files=log["max_files"])
        if not self._begun:
            if (self.writer.mark, self.writer.marked_run) != (BEGIN, self.run):  # else a killed logger wrote it
                self.writer.begin(self.run, time.time_ns())
            self._begun = True
        return self.writer

    def move(self, name: str) -> int:
        """One turn of one stream. 0 at its end; BlockingIOError when there is nothing; OSError: the disk."""
        writer = self.writing()
        if name != "pty":
            return writer.splice(self.fds[name], STDOUT if name == "stdout" else STDERR, time.time_ns())
        hung_up = False
        try:
            os.splice(self.fds["pty"], self.fds["spool_in"], PTY_TURN, flags=os.SPLICE_F_NONBLOCK)
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            hung_up = True
        try:
            return writer.splice(self.fds["spool_out"], STDOUT, time.time_ns())
        except BlockingIOError:
            if hung_up:
                return 0
            raise

    def close(self) -> None:
        self.closed = True
        close_all(list(self.fds.values()))
        self.fds.clear()
        if self.writer is not None:
            self.writer.close()


class Logger:
    def __init__(self, listener: socket.socket, config: EngineConfig) -> None:
        self._loop = Loop()
        self._server = Server(self._loop, listener, handle=self._handle, on_close=self._connection_closed)
        self._outputs: dict[tuple[str, int], Output] = {}
        self._keeper: Connection | None = None
        self._moved = 0
        self._allowances = Allowances()
        self._ceiling = LogCeiling(config)
        self._place = protocol.Place(Path(listener.getsockname()), listener)
        self._loop.after(PLACE_LOOK_S, self._look_at_place)

    def _look_at_place(self) -> None:
        if self._place.is_lost() and not self._outputs:
            say("another logger has taken this one's place: it ends")
            sys.stderr.flush()
            os._exit(0)
        self._loop.after(PLACE_LOOK_S, self._look_at_place)

    def run(self) -> None:
        self._loop.run(self._pause)

    def _pause(self) -> None:
        if 0 < self._moved < SMALL_ROUND:
            time.sleep(PAUSE_S)
        self._moved = 0

    # -- what the keeper says --------------------------------------------------------------------

    def _handle(self, connection: Connection, message: dict[str, Any], fds: list[int]) -> dict[str, Any] | None:
        op = message.get("op")
        if op == "adopt":
            return self._adopt(message, fds)
        close_all(fds)
        if op == "handover":
            return self._handover(connection)
        if op == "close_stdin":
            return self._close_stdin(str(message["id"]))
        if op == "forget":
            return self._forget(str(message["id"]))
        raise errors.Unsupported(f"the logger does not know {op!r}")

    def _connection_closed(self, connection: Connection) -> None:
        if connection is self._keeper:
            self._keeper = None

    def _adopt(self, message: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        words = {key: value for key, value in message.items() if key not in ("v", "op", "have")}
        output = Output(words, dict(zip(message["have"], fds, strict=True)))
        if (output.id, output.run) in self._outputs:
            close_all(fds)
            return {}
        for earlier in [other for other in self._outputs.values() if other.id == output.id]:
            self._finish(earlier)  # its run is over: the next one could not have begun otherwise
        self._outputs[output.id, output.run] = output
        for name in ("stdout", "stderr", "pty"):
            if name in output.fds:
                os.set_blocking(output.fds[name], False)
        self._watch(output)
        if not output.closed:
            self._loop.add(output.fds["pidfd"], READABLE, partial(self._exited, output))
        return {}

    def _handover(self, connection: Connection) -> dict[str, Any]:
        self._keeper = connection
        connection.limit = HANDOVER_LIMIT
        for output in self._outputs.values():
            words, fds = output.handover()
            connection.send({"ok": words}, fds)
        return {"more": False}

    def _close_stdin(self, container_id: str) -> dict[str, Any]:
        for output in self._outputs.values():
            if output.id == container_id and "stdin" in output.fds:
                os.close(output.fds.pop("stdin"))
        return {}

    def _forget(self, container_id: str) -> dict[str, Any]:
        for output in [output for output in self._outputs.values() if output.id == container_id]:
            self._finish(output)
        return {}

    # -- streams ---------------------------------------------------------------------------------

    def _watch(self, output: Output) -> None:
        """Begins the run's log and listens to its streams; again later when the disk does not let us."""
        output.waits_for_disk = False
        if self._on_disk(output, output.writing) is None:
            return
        self._listen(output)
        if "spool_out" in output.fds:
            self._turn(output, "pty")  # what a killed logger left in the spool

    def _listen(self, output: Output) -> None:
        if not output.closed and not output.waits_for_disk:
            self._unlisten(output)
            for name in output.open_streams:
                self._loop.add(output.fds[name], READABLE, partial(self._ready, output, name))

    def _unlisten(self, output: Output) -> None:
        for name in output.open_streams:
            self._loop.remove(output.fds[name])

    def _ready(self, output: Output, name: str, _events: int) -> None:
        if wait_s := self._allowances.wait_s(output.tenant, time.monotonic()):
            self._unlisten(output)
            self._loop.after(wait_s, partial(self._listen, output))
            return
        self._turn(output, name)
        if output.exited and not output.open_streams:
            self._finish(output)

    def _turn(self, output: Output, name: str) -> bool:
        """False when there was nothing to move, or the disk refused."""
        try:
            moved: int | None = self._on_disk(output, partial(output.move, name))
        except BlockingIOError:
            return False
        if moved is None:
            return False
        self._moved += moved
        self._allowances.take(output.tenant, moved, time.monotonic())
        if output.tenant:
            self._ceiling.take(output.tenant, moved, self._renew)
        if moved == 0:
            self._loop.remove(output.fds[name])
            output.open_streams.discard(name)
            if name == "pty" and not output.exited:
                self._loop.after(PTY_RETRY_S, partial(self._reopen, output))
        return moved > 0

    def _renew(self, container_id: str) -> bool:
        """A new segment for who has one open."""
        for output in self._outputs.values():
            if output.id == container_id and output.writer is not None:
                output.writer.renew(time.time_ns())
                return True
        return False

    def _on_disk(self, output: Output, act: Callable[[], Any]) -> Any | None:
        """What ``act`` returns; None when the disk refused: then the output rests for a while, its bytes stay in the pipe."""
        try:
            return act()
        except BlockingIOError:
            raise
        except FileNotFoundError:
            self._drop(output)
        except OSError as error:
            self._unlisten(output)
            if not output.waits_for_disk:
                say(f"log of {output.id[:12]}: {error}; its writers wait")
                output.waits_for_disk = True
                self._loop.after(DISK_RETRY_S, partial(self._retry, output))
        return None

    def _retry(self, output: Output) -> None:
        if not output.closed:
            self._watch(output)
            if output.exited and not output.waits_for_disk:
                self._finish(output)

    def _reopen(self, output: Output) -> None:
        if not output.closed and not output.exited and "pty" not in output.open_streams:
            output.open_streams.add("pty")
            self._loop.add(output.fds["pty"], READABLE, partial(self._ready, output, "pty"))

    # -- the end ---------------------------------------------------------------------------------

    def _exited(self, output: Output, _events: int) -> None:
        output.exited = True
        self._loop.remove(output.fds["pidfd"])
        if self._drain(output):
            self._finish(output)
        else:
            self._loop.after(LAST_WORDS_S, partial(self._finish, output))

    def _drain(self, output: Output) -> bool:
        """Moves all that is there now. True when every stream has ended."""
        limit = self._moved + LAST_BYTES
        for name in list(output.open_streams):
            while name in output.open_streams and self._moved < limit and self._turn(output, name):
                pass
        return not output.open_streams and not output.waits_for_disk

    def _finish(self, output: Output) -> None:
        if output.closed:
            return
        output.exited = True
        self._drain(output)
        if output.closed or output.waits_for_disk or self._on_disk(output, partial(self._write_end, output)) is None:
            return
        self._drop(output)

    def _write_end(self, output: Output) -> bool:
        output.writing().end(output.run, time.time_ns())
        return True

    def _drop(self, output: Output) -> None:
        """Every descriptor goes, and the keeper may let go of its own."""
        for fd in output.fds.values():
            self._loop.remove(fd)
        output.close()
        del self._outputs[output.id, output.run]
        if self._keeper is not None:
            self._keeper.send({"event": "drained", "id": output.id, "run": output.run})


def serve(listener: socket.socket, config: EngineConfig) -> None:
    capabilities.give_up(CAP_SYS_RESOURCE)  # who has it writes past every disk quota
    gc.freeze()
    Logger(listener, config).run()


def main() -> None:
    """``python -m engine.runtime.logger``; the keeper forks it instead and calls ``serve``."""
    config = EngineConfig.from_environment()
    serve(protocol.listen(config.logger_socket), config)


if __name__ == "__main__":
    main()
