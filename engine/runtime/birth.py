"""A process that the launcher makes, until its execve: what a container's first process (launch.py) and a command in one (joining.py)
have in common, seen from the launcher. Its own half, and what the two say to each other, is engine.runtime.last_steps.
"""

from __future__ import annotations

import errno
import socket
import traceback
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

from engine import errors
from engine.kernel import processes
from engine.runtime import plan, protocol
from engine.runtime.last_steps import EXECUTE
from engine.runtime.loop import READABLE, close_all, say

if TYPE_CHECKING:
    from engine.runtime.launcher import Launcher

_SET_LIMITS: Final = "set the limits of the process"


class Birth(ABC):
    """``is_over`` once its answer is decided. A subclass makes the process in ``_make``, and says what follows from its words."""

    op: ClassVar[str]  # as the engine asks for it
    _no_room: ClassVar[str]  # for a process: cgroup v2 counts it before it exists

    def __init__(self, launcher: Launcher, words: dict[str, Any], fds: list[int]) -> None:
        """Owns ``fds``: the pidfd of the container that is joined, if any."""
        self._launcher, self.words, self._target = launcher, words, fds
        self.id = str(words.get("id"))
        self._step = "read the config"
        self._pid = 0
        self._pidfd = -1
        self._socket: socket.socket | None = None
        self._outer: dict[str, int] = {}  # the other ends of its standard streams
        self._told = False  # the keeper knows
        self._executing = False
        self.is_over = False

    def begin(self) -> None:
        try:
            self._make(plan.read(self.words["config"]))
        except errors.EngineError as error:
            self._fail(error)
        except OSError as error:
            self._fail(self._translated(error))
        except KeyError as error:
            self._fail(errors.InvalidArgument(f"{self.op}: no {error.args[0]}"))
        except Exception as error:
            say(f"{self.op} failed: {traceback.format_exc()}")
            self._fail(errors.Internal(f"{self._step}: {error!r}"))
        finally:
            close_all(self._target)
            self._target.clear()

    @abstractmethod
    def _make(self, planned: plan.Plan) -> None:
        """The process, up to where it waits for the keeper to know it."""

    @abstractmethod
    def _fail(self, error: errors.EngineError) -> None:
        """Answers with it, and leaves nothing. Only the first counts."""

    @abstractmethod
    def _ended(self) -> None:
        """Its socket is closed: it executes (``_executing``), or was killed."""

    def _heard(self, message: Mapping[str, Any], fds: list[int]) -> None:
        """On its way, beside "exec" and "error"."""
        if "pty" in message:
            (self._outer["pty"],) = fds

    def _make_socket(self) -> socket.socket:
        """Its end; the caller closes it."""
        self._socket, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        return its

    def _listen(self) -> None:
        assert self._socket is not None
        self._launcher.loop.add(self._socket.fileno(), READABLE, self._speaks)

    def _limit(self, planned: plan.Plan) -> None:
        self._step = _SET_LIMITS
        processes.set_limits(self._pid, planned.rlimits)
        if planned.oom_score_adj != self._launcher.own_oom_score_adj:
            processes.set_oom_score_adj(self._pid, planned.oom_score_adj)

    def _adoption_answered(self, error: errors.EngineError | None) -> None:
        """By the keeper."""
        if self.is_over:
            return
        if error is not None:
            self._told = False
            self._fail(error)
        else:
            self._adopted()

    @abstractmethod
    def _adopted(self) -> None:
        """The keeper knows it."""

    def _let_execute(self) -> None:
        assert self._socket is not None
        try:
            self._socket.send(EXECUTE)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has ended; what it said is to be read

    def _speaks(self, _events: int) -> None:
        while self._socket is not None and not self.is_over:
            try:
                received = protocol.receive(self._socket)
            except BlockingIOError:
                return
            except ConnectionResetError:
                continue  # said once when it ended with words of ours unread; what it said before that is behind it
            if received is None:
                self._ended()
                return
            message, fds = received
            if "exec" in message:
                self._executing = True
            elif "error" in message:
                if message.get("trace"):
                    say(f"{self.op} of {self.id}: {message['trace']}")
                self._fail(errors.from_json(message["error"]))
            else:
                self._heard(message, fds)

    def _release(self) -> None:
        """Every descriptor of ours."""
        if self._socket is not None:
            self._launcher.loop.remove(self._socket.fileno())
            self._socket.close()
            self._socket = None
        close_all([fd for fd in (self._pidfd, *self._outer.values()) if fd >= 0])
        self._pidfd = -1
        self._outer.clear()

    def _translated(self, error: OSError) -> errors.EngineError:
        """The kernel's refusal in the words of who can do something about it."""
        if self._step == "clone" and error.errno == errno.EAGAIN:
            return errors.QuotaExceeded(self._no_room, errno=error.errno)
        if self._step == _SET_LIMITS and isinstance(error, PermissionError):
            return errors.PermissionDenied(
                "raising a hard resource limit, or lowering oom_score_adj, needs CAP_SYS_RESOURCE, which this host's operator withholds",
                errno=error.errno,
            )
        where = f" ({error.filename})" if error.filename else ""
        return errors.Internal(f"{self._step}: {error.strerror}{where}", errno=error.errno)
