"""What a member says when something goes wrong that nobody foresaw: never where our code lies, and never an image's files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from engine import errors
from engine.kernel import cgroups
from engine.model.resources import Resources
from engine.runtime.client import launch

from .launching import Host, host, until

pytestmark = [pytest.mark.guest, pytest.mark.requires("root", "overlay", "userns", "cgroup", kernel="5.19")]


@pytest.fixture(scope="module")
def engine() -> Iterator[Host]:
    with host() as running:
        yield running


def test_a_fault_of_ours_shows_no_stack(engine: Host) -> None:
    def adjust(config: dict[str, Any]) -> None:
        config["hostname"] = "a\0b"

    error = engine.refused("true", adjust=adjust)
    assert isinstance(error, errors.Internal)
    assert error.message == "set host name and network: internal error; the launcher's log has more"


@pytest.mark.parametrize(
    ("tmpfs", "words"),
    [
        ({"/etc/passwd": ""}, "mount tmpfs on /etc/passwd: "),
        ({"/mnt": "foo=bar"}, "mount tmpfs on /mnt: "),
    ],
)
def test_what_the_request_brought_on_is_the_requests_fault(engine: Host, tmpfs: dict[str, str], words: str) -> None:
    error = engine.refused("true", tmpfs=tmpfs)
    assert isinstance(error, errors.InvalidArgument)
    assert error.message.startswith(words)


def test_a_working_folder_that_is_not_there_in_proc_is_the_requests_fault(engine: Host) -> None:
    assert isinstance(engine.refused("true", cwd="/proc/self/fd/77"), errors.InvalidArgument)


def test_a_limit_that_is_refused_does_not_tell_where_the_host_keeps_it(engine: Host) -> None:
    error = engine.refused("true", resources=Resources(cpuset_cpus="4000"))
    assert error.message.endswith("(cpuset.cpus)")
    assert "slipway-" not in error.message


def test_an_image_with_a_folder_where_a_file_belongs_is_refused(engine: Host) -> None:
    folder = engine.config.layers / "base" / "diff" / "etc" / "resolv.conf"
    folder.mkdir()
    try:
        error = engine.refused("true")
    finally:
        folder.rmdir()
    assert isinstance(error, errors.InvalidArgument)
    assert error.message.startswith("mount bind on /etc/resolv.conf: ")


def test_the_cgroup_of_a_launcher_that_was_killed_is_taken_over(engine: Host) -> None:
    words = engine.words("true")
    cgroup = words["config"]["linux"]["cgroupsPath"]
    cgroups.create(cgroup, Resources(), ())
    with launch(engine.config, **words) as launched:
        launched.start()
    until(lambda: engine.config.container(words["id"]).joinpath("exit.json").exists())


def test_the_cgroup_of_a_container_that_runs_is_not(engine: Host) -> None:
    with engine.running("sleep", "60") as running:
        words = engine.words("true")
        words["config"]["linux"]["cgroupsPath"] = running.cgroup
        with pytest.raises(errors.Unavailable), launch(engine.config, **words):
            pass
        assert cgroups.pids(running.cgroup) == [running.pid]
