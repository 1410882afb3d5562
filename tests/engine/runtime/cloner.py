"""A launcher for keeper tests: runs a command line of the host as a "container" with a pid namespace and nothing else.

The keeper supervises it, so it is the keeper's child and its clones (CLONE_PARENT) are the keeper's children. One request a
connection on <run>/cloner.sock: the words of adopt without fds, and "argv", "tty", "stdin"; "held": answer after adopt and wait for another
message (or the end of the connection) before execve.
"""

from __future__ import annotations

import ctypes
import os
import pty
import sys
import time
from pathlib import Path

from engine.config import EngineConfig
from engine.runtime import protocol

CLONE3 = 435
CLONE_PIDFD, CLONE_PARENT, CLONE_NEWPID = 0x1000, 0x8000, 0x20000000
libc = ctypes.CDLL(None, use_errno=True)


def clone() -> tuple[int, int]:
    pidfd = ctypes.c_int(-1)
    words = (ctypes.c_uint64 * 11)(CLONE_PIDFD | CLONE_PARENT | CLONE_NEWPID, ctypes.addressof(pidfd))
    pid = libc.syscall(CLONE3, ctypes.byref(words), ctypes.sizeof(words))
    if pid < 0:
        raise OSError(ctypes.get_errno(), "clone3")
    return pid, pidfd.value


def child(words: dict, gate: int, report: int, stdio: list[int]) -> None:
    try:
        if os.read(gate, 1) != b"g":
            os._exit(1)
        os.setsid()
        if words.get("tty"):
            import fcntl
            import termios

            fcntl.ioctl(stdio[0], termios.TIOCSCTTY, 0)
        for number, fd in enumerate(stdio):
            os.dup2(fd, number)
        os.set_inheritable(report, False)
        os.execvp(words["argv"][0], words["argv"])
    except BaseException as error:
        os.write(report, str(error).encode())
    os._exit(127)


def run(client, keeper, words: dict) -> None:
    if words.get("tty"):
        master, slave = pty.openpty()
        ours, theirs, names = [master], [slave, slave, slave], ["pty"]
    else:
        stdin_read, stdin_write = os.pipe()
        out_read, out_write = os.pipe()
        err_read, err_write = os.pipe()
        ours, theirs, names = [stdin_write, out_read, err_read], [stdin_read, out_write, err_write], ["stdin", "stdout", "stderr"]
    gate_read, gate_write = os.pipe()
    report_read, report_write = os.pipe()
    pid, pidfd = clone()
    if pid == 0:
        for fd in (gate_write, report_read, *ours):
            os.close(fd)
        child(words, gate_read, report_write, theirs)
    for fd in (gate_read, report_write, *set(theirs)):
        os.close(fd)
    common = {"id": words["id"], "run": words["run"]}
    try:
        protocol.ask(
            keeper,
            "adopt",
            (pidfd, *ours),
            **common,
            pid=pid,
            tty=bool(words.get("tty")),
            tenant=words.get("tenant", ""),
            cgroup="",
            log_dir=words["log_dir"],
            log=words["log"],
            have=["pidfd", *names],
        )
        if words.get("held"):
            protocol.send(client, {"ok": {"pid": pid}})
            if protocol.receive(client) is None:
                protocol.ask(keeper, "failed", **common)
                return
        os.write(gate_write, b"g")
        problem = os.read(report_read, 4096)
        if problem:
            protocol.ask(keeper, "failed", **common)
            protocol.send(client, {"error": {"code": "invalid_argument", "message": problem.decode()}})
            return
        time.sleep(words.get("late", 0.0))
        protocol.ask(keeper, "started", **common, started_at_ns=time.time_ns())
        protocol.send(client, {"ok": {"pid": pid}})
    finally:
        for fd in (pidfd, gate_write, report_read, *ours):
            os.close(fd)


def main() -> None:
    libc.prctl(1, 9, 0, 0, 0)  # PR_SET_PDEATHSIG: as the real one
    config = EngineConfig(Path(os.environ["SLIPWAY_DATA"]), Path(os.environ["SLIPWAY_RUN"]))
    keeper = protocol.connect(config.keeper_socket)
    server = protocol.listen(config.run / "cloner.sock")
    while True:
        client, _address = server.accept()
        with client:
            received = protocol.receive(client)
            if received:
                try:
                    run(client, keeper, received[0])
                except Exception as error:
                    print(f"cloner: {error!r}", file=sys.stderr, flush=True)
                    protocol.send(client, {"error": {"code": "internal", "message": repr(error)}})


if __name__ == "__main__":
    main()
