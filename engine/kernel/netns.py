"""Sockets inside other network namespaces, for a process with threads.

setns(2) changes the namespace of the calling thread alone, and a socket stays for ever in the namespace it was made in. So
one kept thread that does nothing else walks in, opens the socket, walks home and hands it over; no other thread ever changes
its namespace, and a thread that cannot get home is never used again. Entering needs CAP_SYS_ADMIN in the user namespace that
owns the target: host root has it.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from engine.kernel import netlink, syscalls

T = TypeVar("T")
_Answers = queue.SimpleQueue[Any]  # what was made, or the exception
_Requests = queue.SimpleQueue[tuple[int, Callable[[], Any], _Answers] | None]


class Opener:
    """Makes the sockets. Threads may share one; its own thread starts at the first use and ends with the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: _Requests | None = None

    def open(self, netns: int) -> netlink.Socket:
        """An rtnetlink socket in the namespace of the fd (/proc/<pid>/ns/net, or a pidfd of a process in it). OSError as setns(2)."""
        return netlink.Socket(self.make(netns, netlink.open_socket))

    def make(self, netns: int, make: Callable[[], T]) -> T:
        """What ``make`` returns, called in that namespace: sockets, by system calls that do not wait. Raises its OSError."""
        answers: _Answers = queue.SimpleQueue()
        with self._lock:
            if self._requests is None:
                self._requests = queue.SimpleQueue()
                threading.Thread(target=self._serve, args=(self._requests,), name="netns", daemon=True).start()
            self._requests.put((netns, make, answers))
        answer = answers.get()
        if isinstance(answer, Exception):
            raise answer
        made: T = answer
        return made

    def close(self) -> None:
        """Ends the thread; another use starts one again."""
        with self._lock:
            if self._requests is not None:
                self._requests.put(None)
                self._requests = None

    def _serve(self, requests: _Requests) -> None:
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            while (request := requests.get()) is not None:
                netns, make, answers = request
                try:
                    syscalls.setns(netns, syscalls.Clone.NEWNET)
                except OSError as error:
                    answers.put(error)
                    continue
                try:
                    answer = make()
                except Exception as error:
                    answer = error
                try:
                    syscalls.setns(home, syscalls.Clone.NEWNET)
                except OSError as error:
                    self._retire(requests, error)
                    return
                finally:
                    answers.put(answer)
        finally:
            os.close(home)

    def _retire(self, requests: _Requests, reason: OSError) -> None:
        """The thread is lost in a foreign namespace: the next request gets a new one."""
        with self._lock:
            if self._requests is requests:
                self._requests = None
            while not requests.empty():
                if (request := requests.get()) is not None:
                    request[2].put(reason)
