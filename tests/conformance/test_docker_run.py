"""``docker run`` as people type it."""

from __future__ import annotations

import signal
import time
from typing import Any

import pytest

from tests.conformance.conftest import NEEDS, Docker
from tests.support import machine

pytestmark = NEEDS


@pytest.mark.guest
def test_output_comes_back(docker: Docker) -> None:
    done = docker("run", "--rm", "busybox", "sh", "-c", "echo hi; echo oh >&2")
    assert (done.stdout, done.stderr) == ("hi\n", "oh\n")
    assert docker.out("ps", "-aq") == ""


@pytest.mark.guest
def test_input_goes_in_and_its_end_too(docker: Docker) -> None:
    assert docker("run", "-i", "--rm", "busybox", "cat", stdin="x\n").stdout == "x\n"
    big = "0123456789abcdef" * 200_000
    assert docker("run", "-i", "--rm", "busybox", "cat", stdin=big).stdout == big


def test_input_that_nobody_reads_holds_nobody_up(docker: Docker) -> None:
    assert docker("run", "-i", "--rm", "busybox", "echo", "done", stdin="x" * 3_000_000).stdout == "done\n"


@pytest.mark.guest
@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("busybox", "true"), 0, ""),
        (("busybox", "sh", "-c", "exit 3"), 3, ""),
        (("127.0.0.9:1/nowhere", "true"), 125, "127.0.0.9 is this machine itself"),
        (("--memory", "1", "busybox", "true"), 125, "Minimum memory limit allowed is 6MB"),
        (("busybox", "/etc"), 126, "is a directory"),
        (("busybox", "no-such-command"), 127, "executable file not found in $PATH"),
        (("busybox", "/no/such/file"), 127, "no such file or directory"),
        (("busybox", "sh", "-c", "kill -9 -1; sleep 9 & kill -9 $!; wait $!"), 137, ""),
    ],
)
def test_exit_codes(docker: Docker, words: tuple[str, ...], code: int, says: str) -> None:
    done = docker("run", "--rm", *words, check=False)
    if says == "is a directory" and int(docker.out("version", "-f", "{{.Client.Version}}").split(".")[0]) < 23:
        code = 125  # the code is the client's doing, and that of Debian 12 does not know this sentence yet
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert docker.out("ps", "-aq") == ""


def test_failed_start_leaves_a_created_container_that_says_why(docker: Docker) -> None:
    assert docker("run", "--name", "broken", "busybox", "no-such-command", check=False).returncode == 127
    assert docker.out("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "broken") == "created 127"
    assert "no-such-command" in docker.out("inspect", "-f", "{{.State.Error}}", "broken")


@pytest.mark.guest
def test_killed_is_137(docker: Docker) -> None:
    docker("run", "-d", "--name", "victim", "busybox", "sleep", "600")
    docker("kill", "victim")
    assert docker.out("wait", "victim") == "137"
    assert docker.out("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}} {{.State.Running}}", "victim") == "exited 137 false"


@pytest.mark.guest
def test_terminal_has_the_clients_size_and_follows_it(terminal: Any) -> None:
    shell = terminal("run", "-it", "--rm", "busybox", "sh", rows=33, columns=101)
    shell.until("# ")
    # asked until it is so: clients before 23 tell the size after the start, and a slow machine takes its time
    shell.type("tty; until stty size 2>/dev/null | grep -x '33 101'; do sleep 0.1; done; echo first-$((40+2))\n")
    assert "/dev/pts/0" in shell.until("first-42")
    shell.resize(20, 70)
    shell.type("until stty size | grep -x '20 70'; do sleep 0.1; done; echo second-$((40+2))\n")
    deadline = time.monotonic() + 20 * machine.slowness()
    while b"second-42" not in shell.seen:  # again and again: a client may not listen yet when its size is right from the start
        assert time.monotonic() < deadline, shell.seen
        shell.process.send_signal(signal.SIGWINCH)
        shell.look(0.5)
    shell.until("second-42")
    shell.type("exit 5\n")
    assert shell.close() == 5


def test_detach_keys_leave_it_running_and_attach_comes_back(docker: Docker, terminal: Any) -> None:
    first = terminal("run", "-it", "--name", "shell", "busybox", "sh")
    first.until("# ")
    first.type("\x10\x11")
    assert first.close() == 0
    assert docker.out("inspect", "-f", "{{.State.Running}}", "shell") == "true"
    second = terminal("attach", "shell")
    second.type("\necho again-$((40+2))\n")
    second.until("again-42")
    second.type("exit\n")
    assert second.close() == 0


def test_signals_are_passed_on(docker: Docker) -> None:
    process = docker.start("run", "--rm", "--name", "trap", "busybox", "sh", "-c", "trap 'exit 9' TERM; while :; do sleep 0.1; done")
    deadline = time.monotonic() + 20
    while docker("ps", "-q", "--filter", "name=trap").stdout == "":
        assert time.monotonic() < deadline
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 9


def test_stop_waits_for_the_end_and_kills_after_the_timeout(docker: Docker) -> None:
    docker("run", "-d", "--name", "polite", "busybox", "sh", "-c", "trap 'exit 4' TERM; while :; do sleep 0.1; done")
    docker("run", "-d", "--name", "deaf", "busybox", "sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")
    docker("stop", "polite")
    assert docker.out("inspect", "-f", "{{.State.ExitCode}}", "polite") == "4"
    began = time.monotonic()
    docker("stop", "-t", "1", "deaf")
    assert 0.8 < time.monotonic() - began < 8
    assert docker.out("inspect", "-f", "{{.State.ExitCode}}", "deaf") == "137"


def test_start_attached_and_started_again(docker: Docker) -> None:
    docker("create", "--name", "twice", "busybox", "sh", "-c", "echo run; exit 2")
    for _ in range(2):
        done = docker("start", "-a", "twice", check=False)
        assert (done.stdout, done.returncode) == ("run\n", 2)
    assert docker("logs", "twice").stdout == "run\nrun\n"


def test_name_is_free_when_rm_has_returned(docker: Docker) -> None:
    for _ in range(5):
        assert docker("run", "--rm", "--name", "again", "busybox", "echo", "x").stdout == "x\n"


def test_what_was_asked_holds_inside(docker: Docker) -> None:
    shown = docker.out(
        "run", "--rm", "-h", "box", "-e", "A=b c", "-w", "/tmp", "-u", "1000:1001", "--tmpfs", "/scratch:size=1m",
        "--add-host", "db:10.0.0.9", "busybox",
        "sh", "-c", 'hostname; echo "$A"; pwd; id -u; id -g; grep -c scratch /proc/mounts; grep db /etc/hosts',
    ).split("\n")  # fmt: skip
    assert shown[:6] == ["box", "b c", "/tmp", "1000", "1001", "1"]
    assert shown[6].split() == ["10.0.0.9", "db"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("-v", "/tmp:/x"), "root of this host grants folders"),
        (("--storage-opt", "size=1000p"), "no disk has so much"),
        (("--storage-opt", "speed=1g"), "Unknown option speed"),
        (("--privileged",), "privileged containers are not allowed in tenant stock: rule policy.privileged"),
        (("--cap-add", "SYS_ADMIN"), "capability SYS_ADMIN is not allowed in tenant stock: rule policy.capabilities"),
        (("--cap-add", "ALL"), "capability ALL is not allowed in tenant stock: rule policy.capabilities"),
        (("--security-opt", "seccomp=unconfined"), "seccomp=unconfined is not allowed in tenant stock: rule policy.seccomp"),
        (("--pid", "host"), "PID mode host is not allowed: rule policy.host_namespaces"),
        (("--network", "host"), "the host's network is not allowed in tenant stock: rule policy.host_network"),
        (("--network", "nosuch"), "network nosuch not found"),
        (("--restart", "sometimes"), "unknown policy 'sometimes'"),
        (("--device", "/dev/mem"), "device /dev/mem (rwm) is not allowed in tenant stock: rule policy.devices"),
    ],
)
def test_what_is_not_there_is_refused_and_leaves_nothing(docker: Docker, words: tuple[str, ...], says: str) -> None:
    done = docker("run", *words, "busybox", "true", check=False)
    assert done.returncode == 125 and says in done.stderr
    assert docker.out("ps", "-aq") == ""
