"""Clients that use containers while parts die, each with containers of its own and a memory of what it was promised.

A client is patient: while a part is down (no connection, an answer cut off, 503) it asks again, and everything else that does not
fit is a finding. An act without an answer may have happened, so a start that was asked for twice may have run twice, as with dockerd.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.nets import NetActs, is_published
from tests.support.raw import ask

API = "/v1.51"
RETRY_S = 60.0  # a part is back sooner
SWEPT_S = 150.0  # a create whose web process died holds its name until the sweeper has asked the host
DOWN = (502, 503, 504)
LONG = "trap 'echo bye; exit 33' TERM; echo up; i=0; while :; do i=$((i+1)); echo $i; sleep 0.05 & wait $!; done"
GONE = -1


class Finding(AssertionError):
    """Something that must not be."""


@dataclass
class Made:
    """One container as its client knows it. ``codes``: exit codes that are right for its last run."""

    name: str
    id: str
    body: dict[str, Any]
    lines: int  # of a short one's run; 0: it runs until it is stopped
    starts: int = 0  # asked for
    codes: set[int] = field(default_factory=set)
    running: bool = False


@dataclass
class Seen:
    """What all clients saw together."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    acts: Counter[str] = field(default_factory=Counter)
    retried: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)  # of failures: what a client got instead of an answer
    longest_s: dict[str, float] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)

    def done(self, verb: str, seconds: float) -> None:
        with self.lock:
            self.acts[verb] += 1
            self.longest_s[verb] = max(seconds, self.longest_s.get(verb, 0.0))

    def failed(self, verb: str, what: str) -> None:
        with self.lock:
            self.retried[verb] += 1
            self.answers[what[:110]] += 1

    def found(self, what: str) -> None:
        with self.lock:
            self.findings.append(what)


class Client(threading.Thread, NetActs):
    """``over`` ends it after its present act; what it made and did not remove is in ``containers``."""

    def __init__(self, number: int, path: Path, chance: random.Random, seen: Seen, over: threading.Event) -> None:
        super().__init__(daemon=True, name=f"client-{number}")
        self._number, self._path, self._chance, self._seen, self._over = number, path, chance, seen, over
        self.containers: dict[str, Made] = {}
        self._count = 0

    def run(self) -> None:
        usual = (self._short, self._short, self._long, self._stop_one, self._kill_one, self._restart_one, self._exec_one, self._follow_one)
        acts = (*usual, lambda: self.web(LONG), self.reach_one, self.move_one)
        while not self._over.is_set():
            act = self._chance.choice(acts)
            try:
                act()
            except Finding as finding:
                self._seen.found(f"{self.name}: {finding}")
            except Exception as error:
                self._seen.found(f"{self.name}: {getattr(act, '__name__', act)}: {error!r}")
            if len(self.containers) > 8:
                self._guarded_remove()

    # -- what it does ----------------------------------------------------------------------------

    def _short(self) -> None:
        """docker run of something that ends by itself: its exit code and every line."""
        lines, code = self._chance.choice((1, 10, 3000)), self._chance.randrange(100)
        half = max(1, lines // 2)
        script = f"seq 1 {half}; sleep 0.{self._chance.randrange(3)}; [ {half} = {lines} ] || seq {half + 1} {lines}; exit {code}"
        made = self._make(["sh", "-c", script], lines)
        self._start(made)
        self._wait(made, {code})
        self.check_log(made)
        if self._chance.random() < 0.7:
            self._remove(made)

    def _long(self) -> None:
        made = self._make(["sh", "-c", LONG], 0)
        self._start(made)

    def _stop_one(self) -> None:
        made = self._one(running=True)
        if made is not None and self._said_up(made):
            self.insist("stop", "POST", f"/containers/{made.name}/stop?t=20", fine=(204, 304))
            made.running, made.codes = False, {33}
            self._wait(made, {33})
            self.check_log(made)

    def _kill_one(self) -> None:
        made = self._one(running=True)
        if made is not None:
            self.insist("kill", "POST", f"/containers/{made.name}/kill", fine=(204, 409))
            made.running, made.codes = False, {137}
            self._wait(made, {137})
            self.check_log(made)

    def _restart_one(self) -> None:
        made = self._one(running=False)
        if made is not None:
            self._start(made)

    def _exec_one(self) -> None:
        made = self._one(running=True)
        if made is None:
            return
        word = f"exec-{self._chance.randrange(10**6)}"
        body = {"Cmd": ["sh", "-c", f"echo {word}; exit 5"], "AttachStdout": True, "AttachStderr": True}
        status, said = self.insist("exec", "POST", f"/containers/{made.name}/exec", body, fine=(201, 404, 501))
        if status != 201:
            return  # a build without exec
        number = json.loads(said)["Id"]
        try:
            status, said = ask(self._path, "POST", f"{API}/exec/{number}/start", {"Detach": False, "Tty": False}, timeout_s=RETRY_S)
        except Exception as error:  # its stream was cut off by a kill: the exec itself may have run or not
            self._seen.failed("exec", repr(error))
            return
        if status in DOWN:
            self._seen.failed("exec", f"{status} {said.decode(errors='replace')}")
        elif status == 200:
            text = frames(said)
            if text not in (f"{word}\n".encode(), b""):
                raise Finding(f"exec in {made.name} said {text!r} instead of {word!r}")
            if text:
                self._seen.done("exec output", 0.0)

    def _follow_one(self) -> None:
        """logs -f for a while: numbers without a gap, whatever dies under it."""
        made = self._one(running=True)
        if made is None:
            return
        began, data = time.monotonic(), b""
        try:
            with contextlib.closing(socket.socket(socket.AF_UNIX)) as sock:
                sock.settimeout(2.0)
                sock.connect(str(self._path))
                sock.sendall(f"GET {API}/containers/{made.name}/logs?follow=1&stdout=1 HTTP/1.0\r\nHost: docker\r\n\r\n".encode())
                while time.monotonic() - began < 1.5 and (more := sock.recv(1 << 16)):
                    data += more
        except OSError as error:
            self._seen.failed("follow", repr(error))
        head, _, body = data.partition(b"\r\n\r\n")
        if b" 200 " in head.split(b"\r\n")[0]:
            text = frames(body, cut=True).decode()
            check_runs(made, text[: text.rfind("\n") + 1])
            self._seen.done("follow", time.monotonic() - began)

    def _guarded_remove(self) -> None:
        try:
            self._remove(self._chance.choice(list(self.containers.values())))
        except Exception as finding:
            self._seen.found(f"{self.name}: {finding!r}")

    # -- verbs -----------------------------------------------------------------------------------

    def _make(self, command: list[str], lines: int, **words: Any) -> Made:
        self._count += 1
        name = f"k{self._number}-{self._count}"
        body = {"Image": "busybox", "Cmd": command, **words}
        status, said = self.insist("create", "POST", f"/containers/create?name={name}", body, fine=(201, 409))
        made = Made(name, json.loads(said)["Id"] if status == 201 else "", body, lines)
        self.containers[name] = made
        return made

    def _start(self, made: Made) -> None:
        """Again only after a look: a start without an answer may have happened."""
        deadline = time.monotonic() + SWEPT_S
        while True:
            made.starts += 1
            made.running = made.lines == 0
            made.codes = set()
            status, said = self.try_once("start", "POST", f"/containers/{made.name}/start")
            if status in (204, 304):
                return
            if status == 404:  # its create never reached the host
                self.insist("create", "POST", f"/containers/create?name={made.name}", made.body, fine=(201, 409))
            elif status not in DOWN:
                raise Finding(f"start {made.name}: {status} {said!r}")
            time.sleep(0.5)
            status, said = self.insist("inspect", "GET", f"/containers/{made.name}/json", fine=(200, 404))
            state = json.loads(said)["State"] if status == 200 else {}
            if state.get("Status") == "running" or (state.get("Status") == "exited" and made.lines):
                return
            if time.monotonic() > deadline:
                raise Finding(f"start {made.name} did not succeed in {SWEPT_S:.0f} s: {status} {said!r}")

    def _wait(self, made: Made, codes: set[int]) -> None:
        _, said = self.insist("wait", "POST", f"/containers/{made.name}/wait", fine=(200,))
        code = json.loads(said)["StatusCode"]
        made.codes = codes
        if code not in codes:
            raise Finding(f"{made.name} ended with {code}, not {codes}")

    def _remove(self, made: Made) -> None:
        self.insist("rm", "DELETE", f"/containers/{made.name}?force=1", fine=(204, 404, 409))
        deadline = time.monotonic() + SWEPT_S
        while self.insist("inspect", "GET", f"/containers/{made.name}/json", fine=(200, 404))[0] != 404:
            if time.monotonic() > deadline:
                raise Finding(f"{made.name} is not removed in {SWEPT_S:.0f} s")
            time.sleep(0.5)
            self.insist("rm", "DELETE", f"/containers/{made.name}?force=1", fine=(204, 404, 409))
        del self.containers[made.name]

    def check_log(self, made: Made) -> None:
        """Whole lines of whole runs, none twice, none missing.

        A start without an answer may have got as far as its first lines: a keeper that is killed before it has noted that the program
        executes leaves it to the next one, which ends what nobody was told of.
        """
        _, said = self.insist("logs", "GET", f"/containers/{made.name}/logs?stdout=1&stderr=1", fine=(200,))
        text = frames(said).decode()
        if made.lines == 0:
            check_runs(made, text)
            return
        once = [str(number) for number in range(1, made.lines + 1)]
        runs = [run.split("\n") for run in re.split(r"(?m)^(?=1$)", text.removesuffix("\n")) if run]
        runs = [run[:-1] if run[-1] == "" else run for run in runs]
        if not 1 <= len(runs) <= made.starts or runs[-1] != once or any(run != once[: len(run)] for run in runs):
            lengths = [len(run) for run in runs]
            raise Finding(f"log of {made.name} ({made.starts} starts): runs of {lengths} lines, the last not {made.lines}, or not in order")

    def _said_up(self, made: Made) -> bool:
        """The trap is set once it speaks; a signal before that is dropped, for it is the first process of its namespace."""
        deadline = time.monotonic() + RETRY_S
        while time.monotonic() < deadline:
            _, said = self.insist("logs", "GET", f"/containers/{made.name}/logs?stdout=1&tail=2", fine=(200,))
            if (tail := frames(said).split()) and tail[-1] != b"bye":
                return True
            time.sleep(0.1)
        raise Finding(f"{made.name} runs and says nothing")

    def finding(self, what: str) -> Finding:
        return Finding(what)

    def _all(self) -> list[Made]:
        return list(self.containers.values())

    def _one(self, *, running: bool, published: bool = False) -> Made | None:
        fitting = [made for made in self._all() if made.running == running and (is_published(made.body) or not published)]
        return self._chance.choice(fitting) if fitting else None

    # -- asking ----------------------------------------------------------------------------------

    def try_once(self, verb: str, method: str, target: str, body: object = None) -> tuple[int, bytes]:
        began = time.monotonic()
        try:
            status, said = ask(self._path, method, f"{API}{target}", body, timeout_s=RETRY_S)
        except Exception as error:  # web was killed in the midst of its answer, or is just being started
            status, said = 503, repr(error).encode()
        if status in DOWN:
            self._seen.failed(verb, said.decode(errors="replace"))
        else:
            self._seen.done(verb, time.monotonic() - began)
        return status, said

    def insist(self, verb: str, method: str, target: str, body: object = None, *, fine: tuple[int, ...]) -> tuple[int, bytes]:
        deadline = time.monotonic() + RETRY_S
        while True:
            status, said = self.try_once(verb, method, target, body)
            if status in fine:
                return status, said
            if status not in DOWN:
                raise Finding(f"{verb} {target}: {status} {said!r}")
            if time.monotonic() > deadline:
                raise Finding(f"{verb} {target}: not answered in {RETRY_S:.0f} s: {said!r}")
            time.sleep(0.2)


def check_runs(made: Made, text: str) -> None:
    """Of a long one: each run says up, counts from 1 without a gap, and may say bye."""
    runs, following = 0, -1
    for line in text.splitlines():
        if line == "up":
            runs, following = runs + 1, 1
        elif line == "bye":
            following = -1
        elif following < 0 or line != str(following):
            raise Finding(f"log of {made.name}: {line!r} where {following} was due (run {runs} of {made.starts})")
        else:
            following += 1
    if runs > made.starts:
        raise Finding(f"log of {made.name} tells of {runs} runs, {made.starts} were asked for")


def frames(data: bytes, *, cut: bool = False) -> bytes:
    """The payloads of Docker's frames; of one that was cut off nothing."""
    text, at = bytearray(), 0
    while at + 8 <= len(data):
        end = at + 8 + int.from_bytes(data[at + 4 : at + 8], "big")
        if end > len(data):
            break
        text += data[at + 8 : end]
        at = end
    if at != len(data) and not cut:
        raise Finding(f"a stream ended in the midst of a frame: {len(data) - at} bytes")
    return bytes(text)
