"""A process that joins a container is what its first process is; and until it executes nobody in there gets hold of it."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import secrets
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from engine import errors
from engine.kernel import cgroups, syscalls
from engine.kernel.syscalls import Clone
from engine.runtime import client

from .launching import TIMEOUT_S, UID_START, Host, Running, host, until

pytestmark = [pytest.mark.guest, pytest.mark.requires("root", "overlay", "userns", "cgroup", kernel="5.19")]

EVERYTHING = int(Clone.NEWUSER | Clone.NEWPID | Clone.NEWNS | Clone.NEWNET | Clone.NEWIPC | Clone.NEWUTS | Clone.NEWCGROUP)


@pytest.fixture(scope="module")
def engine() -> Iterator[Host]:
    with host() as running:
        yield running


class Container:
    """One that runs, and what its config says."""

    def __init__(self, engine: Host, running: Running, config: dict[str, Any]) -> None:
        self.engine, self.running, self.config = engine, running, config

    def begin(self, *args: str, **process: Any) -> tuple[str, dict[str, int], int]:
        """(id, descriptors, pid) of an exec."""
        _target, pidfd = self.engine.keeper.join(self.running.id)
        words = {"process": {**self.config["process"], "args": list(args), **process}, "linux": dict(self.config["linux"])}
        for name in ("sysctl", "maskedPaths", "readonlyPaths", "resources"):
            words["linux"].pop(name, None)
        exec_id = secrets.token_hex(32)
        try:
            answer, fds = client.join(self.engine.config, pidfd, id=self.running.id, exec=exec_id, config=words, stdout=True, stderr=True)
        finally:
            os.close(pidfd)
        return exec_id, fds, int(answer["pid"])

    def exec(self, *args: str, **process: Any) -> tuple[int, str]:
        exec_id, fds, _pid = self.begin(*args, **process)
        output = b""
        while data := os.read(fds["stdout"], 65536):
            output += data
        while data := os.read(fds["stderr"], 65536):
            output += data
        for fd in fds.values():
            os.close(fd)
        return int(self.engine.keeper.exec_wait(self.running.id, exec_id)["exit_code"]), output.decode()

    def shell(self, script: str, **process: Any) -> str:
        return self.exec("sh", "-c", script, **process)[1]


@contextmanager
def container(engine: Host, **changes: Any) -> Iterator[Container]:
    configs: list[dict[str, Any]] = []
    with engine.running("sleep", "600", adjust=configs.append, **changes) as running:
        yield Container(engine, running, configs[0])


# -- what it is ------------------------------------------------------------------------------------


def test_it_lives_where_the_first_process_lives_with_the_same_rights(engine: Host) -> None:
    kinds = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
    with container(engine) as joined:
        script = "; ".join(f"readlink /proc/self/ns/{kind}; readlink /proc/1/ns/{kind}" for kind in kinds)
        lines = joined.shell(script).split()
        assert lines[::2] == lines[1::2] and len(lines) == 2 * len(kinds)
        limits = "cat /proc/{0}/cgroup /proc/{0}/limits /proc/{0}/oom_score_adj"
        rights = "busybox sed -n '/^Cap/p;/^Secc/p;/^NoNew/p;/^Uid/p;/^Groups/p' /proc/{0}/status"
        wanted = f"{limits}; {rights}"
        assert joined.shell(wanted.format("self")) == joined.shell(wanted.format("1"))
        exec_id, fds, pid = joined.begin("sleep", "600")
        assert pid in cgroups.pids(joined.running.cgroup)
        assert f"Uid:\t{UID_START}\t" in Path(f"/proc/{pid}/status").read_text()
        signal.pidfd_send_signal(fds["pidfd"], signal.SIGKILL)
        assert engine.keeper.exec_wait(joined.running.id, exec_id)["exit_code"] == 137
        for fd in fds.values():
            os.close(fd)


def test_it_dies_with_its_container(engine: Host) -> None:
    with container(engine) as joined:
        exec_id, fds, _pid = joined.begin("sleep", "600")
        engine.keeper.signal(joined.running.id, signal.SIGKILL)
        assert engine.keeper.exec_wait(joined.running.id, exec_id)["exit_code"] == 137
        engine.wait(joined.running.id)
        for fd in fds.values():
            os.close(fd)
        with pytest.raises(errors.NotFound):
            joined.begin("true")


def test_a_container_that_ends_just_now_is_not_joined(engine: Host) -> None:
    with container(engine) as joined:
        _target, pidfd = engine.keeper.join(joined.running.id)
        engine.keeper.signal(joined.running.id, signal.SIGKILL)
        engine.wait(joined.running.id)
        words = {"process": joined.config["process"], "linux": joined.config["linux"]}
        with pytest.raises(errors.FailedPrecondition, match="is not running"):
            client.join(engine.config, pidfd, id=joined.running.id, exec=secrets.token_hex(32), config=words)
        os.close(pidfd)


# -- attacks ---------------------------------------------------------------------------------------


def test_no_descriptor_of_the_platform_leads_anywhere_cve_2024_21626(engine: Host) -> None:
    (engine.config.layers / "base" / "diff" / "leak").symlink_to("/proc/self/fd/7")
    with container(engine) as joined:
        assert joined.shell("ls /proc/self/fd").split() == ["0", "1", "2", "3"], "3 is ls' own"
        for path in (*(f"/proc/self/fd/{number}" for number in range(3, 24)), "/proc/self/fd/7/../..", "/leak", "/leak/.."):
            with pytest.raises(errors.InvalidArgument) as refused:
                joined.begin("pwd", cwd=path)
            assert refused.value.message.startswith("OCI runtime exec failed: exec failed: unable to start container process: chdir to cwd")
        assert joined.exec("pwd", cwd="/proc/1/cwd") == (0, "/\n"), "the container's own"


def test_the_waiting_process_is_out_of_reach_of_the_containers_root_cve_2019_5736(engine: Host) -> None:
    """Held where it has become one of the container's, and has not executed: its keeper is stopped, and it waits for the word."""
    with container(engine) as joined:
        before = set(cgroups.pids(joined.running.cgroup))
        target, pidfd = engine.keeper.join(joined.running.id)
        words = {"process": joined.config["process"] | {"args": ["true"]}, "linux": joined.config["linux"]}
        asked = {"id": joined.running.id, "exec": secrets.token_hex(32), "config": words, "stdout": True}
        thread = threading.Thread(target=_join_and_close, args=(engine, pidfd, asked))
        keeper = engine.part("keeper")
        os.kill(keeper, signal.SIGSTOP)
        try:
            thread.start()
            (pid,) = until(lambda: set(cgroups.pids(joined.running.cgroup)) - before, what="the joiner")
            until(lambda: f"Uid:\t{UID_START}\t{UID_START}" in Path(f"/proc/{pid}/status").read_text(), what="its user")
            until(lambda: Path(f"/proc/{pid}/status").read_text().partition("Seccomp:\t")[2][:1] == "2", what="its filter")
            inside = int(Path(f"/proc/{pid}/status").read_text().partition("NSpid:")[2].splitlines()[0].split()[-1])
            refusals = _as_root_of(joined.running.pid, inside)
        finally:
            os.kill(keeper, signal.SIGCONT)
            thread.join(TIMEOUT_S)
            os.close(pidfd)
    assert target["run"] == 1
    assert refusals.pop("status") == "seen", "the attacker looked at the right one"
    assert set(refusals.values()) <= {"EPERM", "EACCES"}, refusals
    assert len(refusals) == 10


def test_our_interpreter_cannot_be_written_by_a_container_that_got_hold_of_it(engine: Host) -> None:
    script = engine.config.layers / "base" / "diff" / "evil"
    script.write_text("#!/proc/self/exe\n")
    script.chmod(0o755)
    with container(engine) as joined:
        with pytest.raises(errors.InvalidArgument):  # it would be our interpreter, whose libraries are not there
            joined.begin("/evil")
        assert _as_root_of(joined.running.pid, 1, interpreter=sys.executable) == {"interpreter": "EACCES"}


def _join_and_close(engine: Host, pidfd: int, words: dict[str, Any]) -> None:
    _answer, fds = client.join(engine.config, pidfd, **words)
    for fd in fds.values():
        os.close(fd)


def _as_root_of(init: int, pid: int, *, interpreter: str = "") -> dict[str, str]:
    """What the container's root, with every capability over its user namespace, may do to process ``pid`` of the container: the
    name of the error for each thing tried, or "seen"."""
    reading, writing = os.pipe()
    pidfd = os.pidfd_open(init)
    held = os.open(os.path.realpath(interpreter), os.O_RDONLY) if interpreter else -1
    child = os.fork()
    if child == 0:
        try:
            syscalls.setns(pidfd, EVERYTHING)
            grandchild = os.fork()
            if grandchild == 0:
                os.setresgid(0, 0, 0)
                os.setresuid(0, 0, 0)
                os.write(writing, json.dumps(_attempts(pid, held)).encode())
                os._exit(0)
            os.waitpid(grandchild, 0)
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as said:
        answers: dict[str, str] = json.loads(said.read())
    os.close(pidfd)
    if held >= 0:
        os.close(held)
    return answers


def _attempts(pid: int, held: int) -> dict[str, str]:
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(16)

    class Vector(ctypes.Structure):
        _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))

    def call(result: int) -> None:
        if result < 0:
            raise OSError(ctypes.get_errno(), "refused")

    def open_(path: str, flags: int) -> None:
        os.close(os.open(path, flags))

    here, there = Vector(ctypes.addressof(buffer), 16), Vector(0x400000, 16)
    vectors = (ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
    process = f"/proc/{pid}"
    tries = {
        "status": lambda: open_(f"{process}/status", os.O_RDONLY),
        "exe": lambda: os.readlink(f"{process}/exe"),
        "open exe": lambda: open_(f"{process}/exe", os.O_RDONLY),
        "write exe": lambda: open_(f"{process}/exe", os.O_WRONLY),
        "memory": lambda: open_(f"{process}/mem", os.O_RDWR),
        "environment": lambda: open_(f"{process}/environ", os.O_RDONLY),
        "maps": lambda: os.close(os.open(f"{process}/maps", os.O_RDONLY)),
        "descriptors": lambda: os.listdir(f"{process}/fd"),
        "attach": lambda: call(libc.ptrace(16, pid, None, None)),
        "seize": lambda: call(libc.ptrace(0x4206, pid, None, None)),
        "vm": lambda: call(libc.process_vm_readv(pid, *vectors)),
    }
    if held >= 0:
        tries = {"interpreter": lambda: open_(f"/proc/self/fd/{held}", os.O_WRONLY)}
    found = {}
    for name, act in tries.items():
        try:
            act()
            found[name] = "seen"
        except OSError as error:
            found[name] = errno.errorcode[error.errno or 0]
    return found
