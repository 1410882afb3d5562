"""What does not start: Docker's sentence for it, nothing outside the store is touched, and nothing is left."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import errors
from engine.kernel import cgroups
from engine.runtime.client import launch

from .launching import UID_START, Host, host, until

pytestmark = [pytest.mark.guest, pytest.mark.requires("root", "overlay", "userns", "cgroup", kernel="5.19")]

OCI = (
    "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: "
    "unable to start container process: "
)


@pytest.fixture(scope="module")
def engine() -> Iterator[Host]:
    with host() as running:
        yield running


@pytest.mark.parametrize(
    ("command", "sentence", "exit_code"),
    [
        ("nope", 'exec: "nope": executable file not found in $PATH', 127),
        ("", 'exec: "": executable file not found in $PATH', 127),
        ("/nope", 'exec: "/nope": stat /nope: no such file or directory', 127),
        ("./nope", 'exec: "./nope": stat ./nope: no such file or directory', 127),
        ("/etc/passwd", 'exec: "/etc/passwd": permission denied', 126),
        ("/etc", 'exec: "/etc": is a directory', 126),
    ],
)
def test_a_command_that_is_not_there_is_dockers_sentence(engine: Host, command: str, sentence: str, exit_code: int) -> None:
    error = engine.refused(command, "argument")
    assert isinstance(error, errors.InvalidArgument)
    assert error.message == f"{OCI}{sentence}"
    assert error.detail["exit_code"] == exit_code


def test_a_file_that_is_no_program_is_refused(engine: Host) -> None:
    program = engine.config.layers / "base" / "diff" / "bin" / "broken"
    program.write_bytes(b"\x7fELFnonsense")
    program.chmod(0o755)
    error = engine.refused("broken")
    assert error.message == f"{OCI}exec /bin/broken: exec format error"
    assert error.detail["exit_code"] == 126


@pytest.mark.parametrize(
    ("user", "sentence"),
    [
        ("nope", "unable to find user nope: no matching entries in passwd file"),
        ("bob:nope", "unable to find group nope: no matching entries in group file"),
        ("65536", "user 65536:0 is not mapped: a container's ids end at 65535"),
    ],
)
def test_a_user_that_is_not_there_is_dockers_sentence(engine: Host, user: str, sentence: str) -> None:
    assert engine.refused("id", user=user).message == sentence


def test_a_folder_of_the_host_is_never_bound(engine: Host) -> None:
    def adjust(config: dict[str, Any]) -> None:
        config["mounts"].append({"destination": "/mnt", "type": "bind", "source": "/root", "options": ["rbind"]})

    assert isinstance(engine.refused("true", adjust=adjust), errors.PermissionDenied)


def test_a_path_that_leaves_the_store_is_refused(engine: Host) -> None:
    words = engine.words("true")
    for path in ("../../../etc", "/etc", "rootfs/../../../etc"):
        words["rootfs"]["upper"] = path
        with pytest.raises(errors.EngineError), launch(engine.config, **words):
            pass
    engine.assert_nothing_left(words["id"], words["config"]["linux"]["cgroupsPath"])


def test_an_engine_that_goes_away_before_the_start_leaves_nothing(engine: Host) -> None:
    descriptors = engine.launcher_fds()
    with engine.launched("sleep", "60") as (launched, container_id):
        assert Path(f"/proc/{launched.pid}/ns/net").exists(), "the network is attached now"
    until(lambda: not Path(f"/proc/{launched.pid}").exists(), what="the end of the process")
    until(lambda: not cgroups.exists(f"{engine.cgroup}/alice/{container_id}"), what="the end of the cgroup")
    until(lambda: engine.launcher_fds() <= descriptors, what="the launcher's descriptors closed")
    assert not (engine.config.container(container_id) / "exit.json").exists()


def test_nothing_is_left_after_many_starts_and_failures(engine: Host) -> None:
    engine.run("true")
    descriptors = engine.launcher_fds()
    tree = Path(f"/proc/{engine.part('launcher')}/mountinfo").read_text()
    for _ in range(5):
        engine.run("true")
        engine.refused("nope")
        engine.refused("true", user="nope")
    until(lambda: engine.launcher_fds() <= descriptors, what="the launcher's descriptors closed")
    assert Path(f"/proc/{engine.part('launcher')}/mountinfo").read_text() == tree


def test_a_member_that_is_killed_before_it_executes_is_an_error(engine: Host) -> None:
    with engine.launched("sleep", "60") as (launched, container_id):
        os.kill(launched.pid, signal.SIGKILL)
        with pytest.raises(errors.EngineError):
            launched.start()
        engine.assert_nothing_left(container_id, f"{engine.cgroup}/alice/{container_id}")


def test_the_waiting_member_can_not_be_read_by_its_neighbours(engine: Host) -> None:
    """Not dumpable: /proc/<pid> belongs to the host's root although the process has the tenant's id."""
    with engine.launched("sleep", "60") as (launched, _container_id):
        status = Path(f"/proc/{launched.pid}/status")
        until(lambda: f"Uid:\t{UID_START}" in status.read_text(), what="the change of ids")
        assert os.stat(f"/proc/{launched.pid}/fd").st_uid == 0
