"""Whether each part really works: a round trip through it, not only a pid."""

from __future__ import annotations

import http.client
import json
import secrets
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from engine import errors
from engine.runtime import protocol
from engine.runtime.client import KeeperClient
from workers import contract
from workers.envelope import envelope
from workers.platform import parts, sockets
from workers.platform.places import Places
from workers.resp import Address, Redis, RedisError

PATIENCE_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class PartHealth:
    name: str
    pid: int | None
    healthy: bool
    detail: str  # why not; empty when healthy

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "pid": self.pid, "healthy": self.healthy, "detail": self.detail}


def check(places: Places, *, patience_s: float = PATIENCE_S) -> list[PartHealth]:
    """All parts, asked at the same time."""
    supervised = supervisor_parts(places)
    kept = _keeper_parts(places)
    rounds: dict[str, Callable[[], None]] = {
        "redis": lambda: _ping_redis(places, patience_s),
        "web": lambda: _ping_web(places, patience_s),
        "panel-worker": lambda: _ping_worker(places, contract.PANEL_QUEUE, patience_s),
        "host-worker": lambda: _ping_worker(places, contract.host_queue(places.host), patience_s),
        "keeper": lambda: None,  # it answered "parts"
        "launcher": lambda: _connect(places.engine.launcher_socket, patience_s),
        "logger": lambda: _connect(places.engine.logger_socket, patience_s),
        "netd": lambda: _ask_netd(places, patience_s),
        "agent": lambda: _ping_agent(places, patience_s),
    }
    results: dict[str, str] = {}

    def ask(name: str) -> None:
        try:
            rounds[name]()
            results[name] = ""
        except (OSError, RedisError, errors.EngineError, http.client.HTTPException, ValueError) as error:
            results[name] = str(error) or type(error).__name__

    # daemons: one that hangs must not hold the answer
    threads = [threading.Thread(target=ask, args=(name,), daemon=True) for name in rounds]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + patience_s + 1.0
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return [_verdict(name, supervised, kept, results.get(name, f"no answer in {patience_s:.0f} s"), places) for name in parts.ALL]


def supervisor_parts(places: Places) -> dict[str, Any] | None:
    """The supervisor's own account (workers/platform/supervisor.py), None when none runs."""
    try:
        with protocol.connect(places.supervisor_socket, timeout_s=PATIENCE_S) as sock:
            answer, _ = protocol.ask(sock, "parts")
    except (OSError, errors.EngineError):
        return None
    return dict(answer)


def _keeper_parts(places: Places) -> dict[str, Any]:
    try:
        return dict(KeeperClient(places.engine).parts())
    except (OSError, errors.EngineError):
        return {}


def _verdict(name: str, supervisor: dict[str, Any] | None, kept: dict[str, Any], fault: str, places: Places) -> PartHealth:
    if name in parts.KEPT:
        own = kept.get(name) or {}
        pid = own.get("pid") or None
        if pid is None:
            fault = f"not running{_last(own)}" if kept else f"no keeper answers at {places.engine.keeper_socket}"
        return PartHealth(name, pid, not fault, fault)
    if name in parts.elsewhere(places):
        return PartHealth(name, None, not fault, fault)
    if supervisor is None:
        return PartHealth(name, None, False, "the platform is not running: ./manage.py up starts it")
    own = next(part for part in supervisor["parts"] if part["name"] == name)
    if not own["pid"]:
        fault = f"not running{_last(own)}; its log: {places.log / name}.log"
    return PartHealth(name, own["pid"], not fault, fault)


def _last(own: dict[str, Any]) -> str:
    """The supervisor says it in words, the keeper in numbers."""
    last = own.get("last_exit")
    if isinstance(last, dict):
        last = f"signal {last['signal']}" if last.get("signal") else f"exit code {last.get('exit_code')}"
    return f", last ended by {last}" if last else ""


def _redis(places: Places, patience_s: float) -> Redis:
    return Redis(Address.parse(places.redis_url("admin")), timeout_s=patience_s)


def _ping_redis(places: Places, patience_s: float) -> None:
    redis = _redis(places, patience_s)
    redis.execute(("PING",))
    redis.close()


def _ping_web(places: Places, patience_s: float) -> None:
    host, port = sockets.split(places.http)
    connection = http.client.HTTPConnection(host or "127.0.0.1", port, timeout=patience_s)
    try:
        connection.request("GET", "/_ping")
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            raise ValueError(f"GET /_ping answered {answer.status} {answer.reason}")
    finally:
        connection.close()


def _ping_worker(places: Places, queue: str, patience_s: float) -> None:
    """slipway.ping on its queue, as the panel sends any task."""
    redis = _redis(places, patience_s + 1)
    operation, reply_to = (str(uuid.uuid4()), f"{contract.REPLY_PREFIX}{secrets.token_hex(8)}")
    words = {"operation": operation, "reply_to": reply_to, "payload": {}, "expires_at": time.time() + patience_s}
    message = envelope(queue, contract.PING, words, task_id=operation, key=operation)
    try:
        # LPUSH and BRPOP in one write, so that an answer is never waited for twice
        _, answer = redis.execute(("LPUSH", queue, message), ("BRPOP", reply_to, int(patience_s) or 1), timeout_s=patience_s + 1)
    finally:
        redis.close()
    if answer is None:
        raise TimeoutError(f"queue {queue} did not answer slipway.ping in {patience_s:.0f} s")
    outcome = json.loads(answer[1])
    if "error" in outcome:
        raise errors.from_json(outcome["error"])


def _connect(path: Path, patience_s: float) -> None:
    with protocol.connect(path, timeout_s=patience_s):
        pass


def _ask_netd(places: Places, patience_s: float) -> None:
    with protocol.connect(places.engine.netd_socket, timeout_s=patience_s) as sock:
        protocol.ask(sock, "status")


def _ping_agent(places: Places, patience_s: float) -> None:
    """Any question: it answers one line, also to one it doesn't know."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(patience_s)
        sock.connect(str(places.engine.agent_socket))
        sock.sendall(json.dumps({"v": protocol.VERSION, "ticket": "", "op": "ping", "tenant": "", "id": ""}).encode() + b"\n")
        line = b""
        while not line.endswith(b"\n"):
            data = sock.recv(4096)
            if not data:
                raise ConnectionResetError("the agent closed the connection without an answer")
            line += data
    json.loads(line)
