"""What the keeper answers, what it tells, and what it makes of launches that fail."""

from __future__ import annotations

import array
import fcntl
import os
import signal
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import errors
from engine.runtime import protocol
from engine.runtime.logs import LogReader, end_position

from .keeping import Keeping, keeping, output_of, until

pytestmark = [pytest.mark.guest, pytest.mark.requires("root")]


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeping]:
    with keeping(tmp_path) as running:
        yield running


def test_exit_code_signal_and_time_are_recorded(keeper: Keeping) -> None:
    before = time.time_ns()
    container, _pid = keeper.run("sh", "-c", "exit 7")
    record = keeper.wait(container)
    for moment in ("started_at_ns", "finished_at_ns"):  # who saw it begin may have looked at the clock after it had ended
        assert before < record.pop(moment) < time.time_ns()
    assert record == {"run": 1, "exit_code": 7, "signal": 0, "oom_killed": False}
    container, _pid = keeper.run("sleep", "1000")
    keeper.client.signal(container, signal.SIGKILL)
    record = keeper.wait(container)
    assert (record["exit_code"], record["signal"]) == (137, 9)


def test_watchers_hear_the_start_and_the_exit_whose_record_is_there(keeper: Keeping) -> None:
    with keeper.client.watch() as watch:
        container, pid = keeper.run("sh", "-c", "exit 3", late=0.2)  # ended before its launcher says that it started
        started, ended = next(watch), next(watch)
        assert keeper.exit_record(container) is not None
    assert (started["event"], started["id"], started["run"], started["pid"]) == ("started", container, 1, pid)
    assert (ended["event"], ended["exit_code"], ended["signal"], ended["oom_killed"]) == ("exited", 3, 0, False)


def test_list_comes_whole_in_chunks(keeper: Keeping) -> None:
    assert keeper.client.list() == []
    made = {}
    for _ in range(30):
        container, pid = keeper.run("sleep", "1000")
        made[container] = pid
    assert {found["id"]: found["pid"] for found in keeper.client.list()} == made


def test_descriptors_are_handed_out_and_stdin_can_be_closed(keeper: Keeping) -> None:
    container, _pid = keeper.run("sh", "-c", "cat; echo end; sleep 0.5; exit 5")
    fds = keeper.client.fds(container, ["stdin", "pty"])
    assert list(fds) == ["stdin"]
    os.write(fds["stdin"], b"hello\n")
    os.close(fds["stdin"])
    keeper.client.close_stdin(container)
    assert keeper.client.fds(container, ["stdin"]) == {}
    assert keeper.wait(container)["exit_code"] == 5
    assert output_of(keeper, container) == b"hello\nend\n"
    for act in (lambda: keeper.client.fds(container, ["stdin"]), lambda: keeper.client.close_stdin(container)):
        with pytest.raises(errors.NotFound, match="is not running"):
            act()


def test_a_terminal_takes_input_and_a_size(keeper: Keeping) -> None:
    container, _pid = keeper.run("sh", "-c", "read word; stty size; echo got $word", tty=True)
    (pty,) = keeper.client.fds(container, ["pty"]).values()
    fcntl.ioctl(pty, termios.TIOCSWINSZ, array.array("H", [33, 77, 0, 0]))
    os.write(pty, b"hello\n")
    os.close(pty)
    assert b"".join(LogReader(keeper.log_dir(container), frames=False).follow()) == b"hello\r\n33 77\r\ngot hello\r\n"


def test_signals_reach_the_container_and_no_other(keeper: Keeping) -> None:
    container, _pid = keeper.run("sh", "-c", "trap 'exit 55' USR1; echo ready; while :; do sleep 0.02; done")
    until(lambda: output_of(keeper, container) == b"ready\n")
    keeper.client.signal(container, signal.SIGUSR1)
    assert keeper.wait(container)["exit_code"] == 55
    with pytest.raises(errors.NotFound):
        keeper.client.signal(container, signal.SIGUSR1)
    with pytest.raises(errors.NotFound):
        keeper.client.signal("0" * 64, signal.SIGUSR1)
    container, _pid = keeper.run("sleep", "1000")
    with pytest.raises(errors.InvalidArgument):
        keeper.client.signal(container, 12345)


def test_a_launch_that_is_given_up_leaves_no_exit(keeper: Keeping) -> None:
    container = keeper.new_id()
    with keeper.client.watch() as watch:
        with keeper.launch(container, ["sleep", "1000"], held=True) as (_sock, pid):
            assert keeper.client.list() == []
            assert os.path.exists(f"/proc/{pid}")
        until(lambda: not os.path.exists(f"/proc/{pid}"), what="the end of the child")
        assert keeper.exit_record(container) is None
        other, _pid = keeper.run("true")
        assert next(watch)["id"] == other  # the first thing heard


def test_a_command_that_does_not_exist_can_be_followed_by_one_that_does(keeper: Keeping) -> None:
    container = keeper.new_id()
    for _ in range(3):
        with pytest.raises(errors.InvalidArgument), keeper.launch(container, ["/nonexistent"]):
            pass
    with keeper.launch(container, ["echo", "at last"], run=1):
        assert keeper.wait(container)["exit_code"] == 0
    assert output_of(keeper, container) == b"at last\n"


def test_a_container_of_a_launcher_that_died_in_between_is_killed(keeper: Keeping) -> None:
    container = keeper.new_id()
    with keeper.launch(container, ["sleep", "1000"], held=True) as (_sock, pid):
        os.kill(keeper.wait_for("cloner"), signal.SIGKILL)
        until(lambda: not os.path.exists(f"/proc/{pid}"), what="the end of the child")
    assert keeper.exit_record(container) is None


def test_a_launch_whose_process_was_gone_before_it_was_told_of_is_forgotten(keeper: Keeping) -> None:
    """A member that fails at once may be reaped, as nobody's child, before its launcher's words are read."""
    child = os.posix_spawn("/bin/true", ["true"], {})
    pidfd = os.pidfd_open(child)
    os.waitpid(child, 0)
    words = {"id": keeper.new_id(), "run": 1, "pid": child, "log": {"max_size_bytes": 1 << 20, "max_files": 2}}
    words["log_dir"] = str(keeper.log_dir(words["id"]))
    with protocol.connect(keeper.config.keeper_socket, timeout_s=5) as sock:
        protocol.ask(sock, "adopt", (pidfd,), have=["pidfd"], **words)
        protocol.ask(sock, "failed", id=words["id"], run=1)
    os.close(pidfd)
    keeper.client.stop()  # with nothing to wait for


def test_a_removed_container_is_no_problem(keeper: Keeping) -> None:
    container, _pid = keeper.run("sleep", "1000")
    folder = keeper.config.container(container)
    folder.rename(folder.with_name("elsewhere"))
    with keeper.client.watch() as watch:
        keeper.client.signal(container, signal.SIGKILL)
        assert next(watch)["exit_code"] == 137
    assert not folder.exists()


def test_nonsense_is_answered_and_hurts_nobody(keeper: Keeping) -> None:
    with protocol.connect(keeper.config.keeper_socket, timeout_s=5) as sock:
        with pytest.raises(errors.Unsupported, match="does not know"):
            protocol.ask(sock, "dance")
        with pytest.raises(errors.Internal):
            protocol.ask(sock, "fds")
        protocol.send(sock, {"op": "list", "v": 99})
        answer = protocol.receive(sock)
        assert answer is not None and answer[0]["error"]["code"] == "unsupported"
        sock.send(b"no json")
        assert protocol.receive(sock) is None
    assert keeper.client.list() == []


def test_an_attach_hears_a_run_from_its_first_byte(keeper: Keeping) -> None:
    container, _pid = keeper.run("echo", "old")
    keeper.wait(container)
    output_of(keeper, container)
    reader = LogReader(keeper.log_dir(container), frames=False, start=end_position(keeper.log_dir(container)))
    with keeper.launch(container, ["echo", "new"], run=2):
        assert b"".join(reader.follow()) == b"new\n"
    keeper.wait(container, run=2)


def test_others_than_root_are_not_heard(keeper: Keeping) -> None:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.chmod(keeper.config.keeper_socket, 0o666)
            os.seteuid(65534)
            with protocol.connect(keeper.config.keeper_socket, timeout_s=5) as sock:
                protocol.ask(sock, "list")
        except errors.Unavailable:
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
