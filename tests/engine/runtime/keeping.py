"""A keeper of its own for each test, and containers that are command lines of the host (cloner.py)."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engine import errors
from engine.config import EngineConfig
from engine.runtime import protocol
from engine.runtime.client import KeeperClient, start_foster
from engine.runtime.logs import LogReader

HOME = Path(__file__).parents[3]


def until(found: Callable[[], Any], *, timeout_s: float = 120.0, what: str = "") -> Any:
    """The first true answer; fails the test when none comes in time."""
    deadline = time.monotonic() + timeout_s
    while not (answer := found()):
        assert time.monotonic() < deadline, f"in {timeout_s} s: never {what or found}"
        time.sleep(0.005)
    return answer


class Keeping:
    """One run folder with foster, keeper, logger and cloner."""

    def __init__(self, base: Path) -> None:
        self.config = EngineConfig(base / "data", base / "run")
        self.client = KeeperClient(self.config)
        self.config.containers.mkdir(parents=True)

    def start(self) -> None:
        start_foster(self.config)
        self.wait_for("logger")
        self.client.supervise("cloner", [sys.executable, str(Path(__file__).parent / "cloner.py")], {"PYTHONPATH": str(HOME)})
        self.wait_for_cloner()

    def wait_for(self, part: str, *, other_than: int = 0) -> int:
        """The pid of a part that runs."""

        def pid() -> int:
            try:
                found = int(self.client.parts()[part]["pid"])
            except errors.Unavailable:
                return 0
            return 0 if found == other_than else found

        return int(until(pid, what=f"{part} other than {other_than}"))

    def wait_for_cloner(self) -> None:
        def answers() -> bool:
            try:
                protocol.connect(self.config.run / "cloner.sock").close()
            except errors.Unavailable:
                return False
            return True

        until(answers, what="cloner")

    def new_id(self) -> str:
        container_id = secrets.token_hex(32)
        self.log_dir(container_id).mkdir(parents=True)
        return container_id

    def log_dir(self, container_id: str) -> Path:
        return self.config.container(container_id) / "log"

    @contextmanager
    def launch(
        self,
        container_id: str,
        argv: list[str],
        *,
        run: int = 1,
        tty: bool = False,
        max_size: int = 64 << 20,
        max_files: int = 16,
        **words: Any,
    ) -> Iterator[Any]:
        with protocol.connect(self.config.run / "cloner.sock", timeout_s=30) as sock:
            message = {"id": container_id, "run": run, "argv": argv, "tty": tty, "log_dir": str(self.log_dir(container_id))}
            answer, _fds = protocol.ask(sock, "run", **message, log={"max_size_bytes": max_size, "max_files": max_files}, **words)
            yield sock, answer["pid"]

    def run(self, *argv: str, **words: Any) -> tuple[str, int]:
        """Starts a container; its id and pid."""
        container_id = self.new_id()
        with self.launch(container_id, list(argv), **words) as (_sock, pid):
            return container_id, pid

    def exit_record(self, container_id: str) -> dict[str, Any] | None:
        try:
            record: dict[str, Any] = json.loads((self.config.container(container_id) / "exit.json").read_bytes())
        except FileNotFoundError:
            return None
        return record

    def wait(self, container_id: str, *, run: int = 1, timeout_s: float = 120.0) -> dict[str, Any]:
        def ended() -> Any:
            record = self.exit_record(container_id)
            return record if record and record["run"] == run else None

        record: dict[str, Any] = until(ended, timeout_s=timeout_s, what="an exit")
        return record

    def stop(self) -> None:
        """Whatever state the test left it in."""
        try:
            for container in self.client.list():
                self.client.signal(container["id"], signal.SIGKILL)
            self.client.stop(containers=True)
        except errors.EngineError:
            for pid in self.processes():
                os.kill(pid, signal.SIGKILL)

    def processes(self) -> list[int]:
        """All that were started with this run folder, foster first: it would start others again."""
        word = f"SLIPWAY_RUN={self.config.run}".encode()
        found = []
        for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
            try:
                if word in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    found.append(pid)
            except OSError:
                continue
        return found


@contextmanager
def keeping(base: Path) -> Iterator[Keeping]:
    keeping = Keeping(base)
    try:
        keeping.start()
        yield keeping
    finally:
        log = keeping.config.data / "log" / "keeper.log"
        if log.exists():
            print(log.read_text()[-4000:])
        keeping.stop()
        shutil.rmtree(base, ignore_errors=True)


COUNTING = "for i in 0 1 2 3 4 5 6 7 8 9; do seq $((i*10000+1)) $(((i+1)*10000)); sleep 0.1; done; exit 7"
COUNTED = b"".join(b"%d\n" % number for number in range(1, 100001))


def output_of(keeping: Keeping, container_id: str, **words: Any) -> bytes:
    """What the log has now."""
    return b"".join(LogReader(keeping.log_dir(container_id), frames=False, **words))


def whole_output_of(keeping: Keeping, container_id: str, **words: Any) -> bytes:
    """All that is kept of what a container that has ended wrote: its exit is recorded before the last of the pipe is in the file."""
    for _ in LogReader(keeping.log_dir(container_id), frames=False, tail=0).follow():
        pass  # ends when the log says that it is complete
    return output_of(keeping, container_id, **words)
